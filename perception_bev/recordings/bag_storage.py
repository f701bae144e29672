"""Recordings: what one storage file of a bag gives, whatever its format; opening the right one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from perception_bev.errors import RecordingError
from perception_bev.recordings.bag_metadata import TopicInfo
from perception_bev.recordings.bag_types import TypeBook

MCAP_MAGIC = b"\x89MCAP0\r\n"
SQLITE_MAGIC = b"SQLite format 3\x00"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MAX_MESSAGE_BYTES = 1 << 30  # decompressed; more is taken for damage, not allocated


class Record(NamedTuple):
    """One message as it is stored."""

    topic: str
    type: str
    stamp_ns: int  # log time: when it was recorded
    data: bytes  # CDR
    address: tuple[int, ...]  # for `Storage.fetch`


class Storage(Protocol):
    """One file of a bag."""

    topics: dict[str, TopicInfo]
    start_ns: int | None
    end_ns: int | None
    compression: str  # of what is inside: "", "zstd", "lz4"
    damage: str | None  # what is wrong with the file, as far as was seen when it was opened

    def records(self) -> Iterator[Record]:
        """All messages in the order of log time; after the readable part RecordingError."""

    def fetch(self, address: tuple[int, ...]) -> bytes:
        """The bytes of one message again."""

    def close(self) -> None: ...


def open_storage(path: Path, types: TypeBook, keep: Callable[[Callable[[], None]], object]
                 ) -> Storage:
    """Open one file by its first bytes (names may lie). `keep` is told what to call at the end."""
    magic = _first_bytes(path)
    if magic.startswith(ZSTD_MAGIC):
        return _open_compressed(path, types, keep)
    if magic == SQLITE_MAGIC:
        from perception_bev.recordings.bag_sqlite import SqliteFile as Format
    elif magic.startswith(MCAP_MAGIC):
        from perception_bev.recordings.bag_mcap import McapFile as Format
    else:
        raise RecordingError(f"{path}: neither MCAP nor SQLite (begins with {magic[:8]!r}); "
                             "no message of it is readable")
    storage = Format(path, types)
    keep(storage.close)
    return storage


def unpacked(data: bytes) -> bytes:
    """A message, decompressed where the recorder compressed single messages (CDR never begins
    with zstd's magic number)."""
    if data[:4] != ZSTD_MAGIC:
        return data
    import zstandard
    try:
        size = zstandard.frame_content_size(data)
        if size > MAX_MESSAGE_BYTES:
            raise RecordingError(f"a compressed message claims {size} bytes")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_MESSAGE_BYTES
                                                       if size < 0 else size)
    except zstandard.ZstdError as err:
        raise RecordingError(f"a compressed message is damaged: {err}") from err


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as err:
        raise RecordingError(f"{path}: not readable: {err.strerror}") from err


def _open_compressed(path: Path, types: TypeBook, keep: Callable) -> Storage:
    """A file compressed as a whole: unpack it beside us; a torn end leaves what came before."""
    import zstandard
    folder = Path(tempfile.mkdtemp(prefix="perception_bev_bag_"))
    keep(lambda: shutil.rmtree(folder, ignore_errors=True))
    plain, torn = folder / path.stem, None
    with path.open("rb") as packed, plain.open("wb") as out:
        reader = zstandard.ZstdDecompressor().stream_reader(packed)
        try:
            shutil.copyfileobj(reader, out, 1 << 20)
        except zstandard.ZstdError as err:
            torn = f"compressed data is damaged: {err}"
    storage = open_storage(plain, types, keep)
    storage.damage = storage.damage or torn
    return storage
