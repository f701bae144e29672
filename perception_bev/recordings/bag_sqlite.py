"""Recordings: reading one SQLite file of rosbag2, schema versions 1 to 4, whole or torn."""

from __future__ import annotations

import sqlite3
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from perception_bev.errors import RecordingError
from perception_bev.recordings.bag_metadata import TopicInfo, read_qos
from perception_bev.recordings.bag_storage import Record, unpacked
from perception_bev.recordings.bag_types import TypeBook
from perception_bev.recordings.sqlite_torn import TornTable

_Row = tuple[int, int, int, bytes]  # id, topic, log time, data


class SqliteFile:
    """One .db3 file; see `bag_storage.Storage`."""

    compression = ""

    def __init__(self, path: Path, types: TypeBook) -> None:
        self._path = path
        self.damage = _torn(path)
        self._database = _connect(path, self.damage is not None)
        self.start_ns: int | None = None
        self.end_ns: int | None = None
        try:
            self._take_definitions(types)
            self._names, self.topics = self._read_topics()
            self._count()
        except sqlite3.Error as err:
            self.close()
            raise RecordingError(f"{path}: the bag's tables are not readable ({err}); no message "
                                 "of it can be read") from err

    def close(self) -> None:
        self._database.close()

    def records(self) -> Iterator[Record]:
        for row, topic, stamp, data in self._torn_rows() if self.damage else self._rows():
            if topic not in self._names:
                raise RecordingError(f"{self._path.name}: message {row} has no topic")
            yield Record(*self._names[topic], stamp, unpacked(bytes(data)), (row,))

    def fetch(self, address: tuple[int, ...]) -> bytes:
        try:
            row = self._database.execute("SELECT data FROM messages WHERE id = ?",
                                         address).fetchone()
        except sqlite3.Error as err:
            raise RecordingError(f"{self._path.name}: message {address[0]} is damaged ({err})"
                                 ) from err
        if row is None:
            raise RecordingError(f"{self._path.name}: message {address[0]} is not there")
        return unpacked(bytes(row[0]))

    def _rows(self) -> Iterator[_Row]:
        try:
            yield from self._database.execute(
                "SELECT id, topic_id, timestamp, data FROM messages ORDER BY timestamp, id")
        except sqlite3.Error as err:
            raise RecordingError(f"{self._path.name}: damaged ({err})") from err

    def _torn_rows(self) -> Iterator[_Row]:
        """A torn file has lost the index by time first; rows lie in the order of recording."""
        (root,), = self._database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'messages'")
        table = TornTable(self._path, root)
        try:
            for row, columns in table.rows():
                yield row, *columns[1:4]
        except (RecordingError, struct.error, IndexError, ValueError) as err:
            raise RecordingError(f"{self._path.name}: {self.damage} ({err})") from err
        finally:
            table.close()
        raise RecordingError(f"{self._path.name}: {self.damage}; only its index is affected")

    def _take_definitions(self, types: TypeBook) -> None:
        tables = {name for (name,) in self._database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "message_definitions" not in tables:
            return
        for row in self._database.execute("SELECT topic_type, encoding, encoded_message_definition "
                                          "FROM message_definitions"):
            types.add(*row)

    def _read_topics(self) -> tuple[dict[int, tuple[str, str]], dict[str, TopicInfo]]:
        columns = {row[1] for row in self._database.execute("PRAGMA table_info(topics)")}
        qos = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
        names: dict[int, tuple[str, str]] = {}
        topics: dict[str, TopicInfo] = {}
        for number, name, kind, form, profiles in self._database.execute(
                f"SELECT id, name, type, serialization_format, {qos} FROM topics ORDER BY id"):
            names[number] = (name, kind)
            topics.setdefault(name, TopicInfo(kind, 0, read_qos(profiles), form or "cdr"))
        return names, topics

    def _count(self) -> None:
        """Counts and span; of a torn file those that can still be reached."""
        counts: Counter[int] = Counter()
        rows = (row[1:3] for row in self._torn_rows()) if self.damage else (
            self._database.execute("SELECT topic_id, timestamp FROM messages"))
        try:
            for topic, stamp in rows:
                counts[topic] += 1
                self.start_ns = stamp if self.start_ns is None else min(stamp, self.start_ns)
                self.end_ns = stamp if self.end_ns is None else max(stamp, self.end_ns)
        except RecordingError:
            pass  # the damage is known, and `records` tells it
        for number, (name, _) in self._names.items():
            info = self.topics[name]
            self.topics[name] = replace(info, count=info.count + counts[number])


def _connect(path: Path, torn: bool) -> sqlite3.Connection:
    """Read-only; without locks unless a write-ahead log lies beside it, which holds messages."""
    mode = "mode=ro" if _has_log(path) else "mode=ro&immutable=1"
    database = sqlite3.connect(f"file:{quote(str(path.resolve()))}?{mode}", uri=True,
                               check_same_thread=False)
    if torn:  # else SQLite refuses a file that is shorter than its header says
        database.execute("PRAGMA writable_schema = ON")
    return database


def _has_log(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def _torn(path: Path) -> str | None:
    """The file format's header knows page size (bytes 16, 17) and count (28 to 31)."""
    with path.open("rb") as file:
        head = file.read(100)
    if len(head) < 100:
        return f"the file ends after {len(head)} bytes"
    (page,) = struct.unpack_from(">H", head, 16)
    (pages,) = struct.unpack_from(">I", head, 28)
    expected, actual = (65536 if page == 1 else page) * pages, path.stat().st_size
    if actual >= expected or _has_log(path):
        return None
    return f"the file is torn: it ends at byte {actual} of {expected}"
