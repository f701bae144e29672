"""Recordings: reading rosbag2 bags: SQLite and MCAP, split or compressed, with or without
metadata.yaml. What is readable of a damaged bag comes first, then a RecordingError says how far.

The storage files are read by `bag_mcap` and `bag_sqlite` and deserialised with rosbags. rosbags'
own reader is not used: version 0.11.9 rejects bags whose metadata names no storage, returns no
messages for some that have them, and nothing of a torn file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from perception_bev.errors import RecordingError
from perception_bev.recordings.bag_metadata import Metadata, TopicInfo, read_metadata
from perception_bev.recordings.bag_storage import Record, Storage, open_storage
from perception_bev.recordings.bag_types import TypeBook

_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")


class RawMessage(NamedTuple):
    """One message as it is stored."""

    topic: str
    type: str
    stamp_ns: int  # log time: when it was recorded
    data: bytes  # CDR, with its encapsulation header
    address: tuple[int, ...]  # for `BagReader.fetch`


class _Unreadable:
    """Stands for a file that could not be opened: no messages, then the error."""

    start_ns = end_ns = None
    compression = ""

    def __init__(self, error: RecordingError) -> None:
        self.topics: dict[str, TopicInfo] = {}
        self.damage = str(error)

    def records(self) -> Iterator[Record]:
        raise RecordingError(self.damage)
        yield

    def fetch(self, address: tuple[int, ...]) -> bytes:
        raise RecordingError(self.damage)

    def close(self) -> None:
        return


class BagReader:
    """A bag: a folder, or one .mcap or .db3 file. Use as a context manager.

    Attributes after opening:
        topics: by name, with the counts that are really there.
        notes: what was odd but harmless, for the user.
        types: the bag's message types.
        damage: what is wrong with the files as far as seen by now, or None.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.topics: dict[str, TopicInfo] = {}
        self.notes: list[str] = []
        self.metadata: Metadata | None = None
        self.files: list[Path] = []
        self.types = TypeBook()
        self._storages: list[Storage] = []
        self._stack = ExitStack()

    def __enter__(self) -> BagReader:
        try:
            self.files = self._find_files()
            for file in self.files:
                self._storages.append(self._open(file))
        except BaseException:
            self.close()
            raise
        self._merge_topics()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()
        self._storages.clear()

    @property
    def damage(self) -> str | None:
        return next((s.damage for s in self._storages if s.damage), None)

    @property
    def start_ns(self) -> int:
        """Log time of the first message; 0 for an empty bag."""
        return min((s.start_ns for s in self._storages if s.start_ns is not None), default=0)

    @property
    def end_ns(self) -> int:
        """Log time of the last message; 0 for an empty bag."""
        return max((s.end_ns for s in self._storages if s.end_ns is not None), default=0)

    @property
    def duration(self) -> float:
        """[s] from the first to the last message."""
        return (self.end_ns - self.start_ns) * 1e-9

    @property
    def message_count(self) -> int:
        return sum(info.count for info in self.topics.values())

    @property
    def compression(self) -> str:
        """"", "zstd (file)", "zstd (message)", or "zstd", "lz4" of chunks in MCAP files."""
        of_bag = self.metadata.compression if self.metadata else ""
        return of_bag or next((s.compression for s in self._storages if s.compression), "")

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files if file.exists())

    def raw_messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Messages in the order of log time (split files one after the other), not deserialised.

        Raises RecordingError after the readable part of a damaged bag.
        """
        wanted = None if topics is None else set(topics)
        seen, last_ns = 0, None
        try:
            for number, storage in enumerate(self._storages):
                for record in storage.records():
                    seen, last_ns = seen + 1, record.stamp_ns
                    if wanted is None or record.topic in wanted:
                        yield RawMessage(*record[:4], (number, *record.address))
        except RecordingError as err:
            raise RecordingError(f"{self.path}: {err}; {self._how_far(seen, last_ns)}") from err

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, int, Any]]:
        """(topic, log time [ns], message) in the order of log time; see `raw_messages`."""
        for raw in self.raw_messages(topics):
            yield raw.topic, raw.stamp_ns, self.deserialize(raw.data, raw.type)

    def deserialize(self, data: bytes, msgtype: str) -> Any:
        """A message from its CDR bytes, by the bag's own definition of the type."""
        return self.types.deserialize(data, msgtype)

    def fetch(self, address: tuple[int, ...]) -> bytes:
        """The bytes of one message again, by the address that `raw_messages` gave."""
        return self._storages[address[0]].fetch(address[1:])

    def _how_far(self, seen: int, last_ns: int | None) -> str:
        if last_ns is None:
            return "no message before it was readable"
        return (f"{seen} messages before it were readable, up to stamp "
                f"{last_ns // 10**9}.{last_ns % 10**9:09d} "
                f"({(last_ns - self.start_ns) * 1e-9:.3f} s into the bag)")

    def _find_files(self) -> list[Path]:
        path = self.path.parent if self.path.name == "metadata.yaml" else self.path
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise RecordingError(f"{self.path}: no such bag")
        if (path / "metadata.yaml").exists():
            try:
                self.metadata = read_metadata(path / "metadata.yaml")
                return [path / name for name in self.metadata.files]
            except RecordingError as err:
                self.notes.append(f"{err}; the files in the folder were taken instead")
        else:
            self.notes.append("no metadata.yaml; the files in the folder were taken instead")
        found = sorted((f for f in path.iterdir() if f.name.endswith(_SUFFIXES)), key=_natural)
        if not found:
            raise RecordingError(f"{path}: no {' or '.join(_SUFFIXES[:2])} file in it")
        return found

    def _open(self, file: Path) -> Storage:
        try:
            return open_storage(file, self.types, self._stack.callback)
        except RecordingError as err:
            return _Unreadable(err)

    def _merge_topics(self) -> None:
        for storage in self._storages:
            for name, info in storage.topics.items():
                before = self.topics[name].count if name in self.topics else 0
                self.topics[name] = replace(self.topics.get(name, info), count=before + info.count)
        said = self.metadata.topics if self.metadata else {}
        for name, info in said.items():
            self.topics.setdefault(name, replace(info, count=0))
        promised = sum(info.count for info in said.values())
        if said and promised != self.message_count:
            self.notes.append(f"metadata.yaml promises {promised} messages, the files hold "
                              f"{self.message_count}")


def _natural(path: Path) -> list[int | str]:
    """Sort key that puts bag_2 before bag_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
