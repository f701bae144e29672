"""Recordings: writing MCAP bags that `ros2 bag` and Foxglove read: one file with metadata.yaml of
version 9 (Jazzy), message definitions inside. The same messages give the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml
from mcap.writer import CompressionType, Writer

from perception_bev.errors import RecordingError
from perception_bev.recordings.bag_metadata import Qos, TopicInfo, metadata_text, qos_entries
from perception_bev.recordings.bag_types import definition, jazzy

Compression = Literal["zstd", "lz4", "none"]
LATCHED = Qos("reliable", "transient_local", "keep_last", 1)
_LATCHED_TOPICS = ("/tf_static", "/epoch")
_CHUNK_BYTES = 1 << 20
_LIBRARY = "perception_bev"


class BagWriter:
    """Writes a bag folder that must not exist yet. Use as a context manager.

    Args:
        path: the folder; its file is <name>_0.mcap, as rosbag2 names it.
        compression: of the chunks.
        custom: short texts for metadata.yaml, such as the rig's name; more may be added to the
            attribute until `close`.
        define: (text, hash) of a type; default: Jazzy's. For bytes of another bag, its own.
    """

    def __init__(self, path: str | Path, compression: Compression = "zstd",
                 custom: dict[str, str] | None = None,
                 define: Callable[[str], tuple[str, str]] = definition) -> None:
        self.path = Path(path)
        self.topics: dict[str, TopicInfo] = {}
        self.custom = dict(custom or {})
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._hashes: dict[str, str] = {}
        self._span: tuple[int, int] | None = None
        self._define = define
        if compression not in ("zstd", "lz4", "none"):
            raise RecordingError(f"unknown compression '{compression}'; known: zstd, lz4, none")
        try:
            self.path.mkdir(parents=True)
        except OSError as err:
            raise RecordingError(f"{path}: cannot be made ({err.strerror}); a bag is only written "
                                 "to a new folder") from err
        self._file_name = f"{self.path.name}_0.mcap"
        self._file = (self.path / self._file_name).open("wb")
        self._mcap = Writer(self._file, chunk_size=_CHUNK_BYTES,
                            compression=CompressionType[compression.upper()])
        self._mcap.start(profile="ros2", library=_LIBRARY)

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, topic: str, msgtype: str, message: Any, stamp_ns: int,
              qos: Qos | None = None) -> None:
        """Write one message (rosbags' class, or CDR bytes) at log time `stamp_ns`.

        Relative topics become absolute. `qos` counts at a topic's first message; default: reliable,
        and transient local for /tf_static and /epoch.
        """
        name = absolute(topic)
        if name not in self._channels:
            self._add_channel(name, msgtype, qos)
        if self.topics[name].type != msgtype:
            raise RecordingError(f"{name} carries {self.topics[name].type}, not {msgtype}")
        data = message if isinstance(message, bytes) else bytes(
            jazzy().serialize_cdr(message, msgtype))
        count = self.topics[name].count
        self._mcap.add_message(self._channels[name], stamp_ns, data, stamp_ns, count)
        self.topics[name] = replace(self.topics[name], count=count + 1)
        first, last = self._span or (stamp_ns, stamp_ns)
        self._span = (min(first, stamp_ns), max(last, stamp_ns))

    def close(self) -> None:
        """Finish the file and write metadata.yaml; again is harmless."""
        if self._file.closed:
            return
        text = metadata_text(self._file_name, self.topics, self._hashes, self._span or (0, 0),
                             self.custom)
        self._mcap.add_metadata("rosbag2", {"serialized_metadata": text})
        self._mcap.finish()
        self._file.close()
        (self.path / "metadata.yaml").write_text(text)

    def _add_channel(self, name: str, msgtype: str, qos: Qos | None) -> None:
        offered = qos or (LATCHED if name in _LATCHED_TOPICS else Qos())
        text, digest = self._define(msgtype)
        if msgtype not in self._schemas:
            self._schemas[msgtype] = self._mcap.register_schema(msgtype, "ros2msg", text.encode())
            self._hashes[msgtype] = digest
        self._channels[name] = self._mcap.register_channel(
            name, "cdr", self._schemas[msgtype],
            {"offered_qos_profiles": yaml.safe_dump(qos_entries(offered), sort_keys=False),
             "topic_type_hash": digest})
        self.topics[name] = TopicInfo(msgtype, 0, offered)


def absolute(topic: str) -> str:
    """A topic as a bag names it."""
    return topic if topic.startswith("/") else f"/{topic}"
