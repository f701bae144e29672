"""Recordings: reading one MCAP file, whole, unindexed or torn. Format: mcap.dev/spec.

The file's records are walked once by their headers, chunks unopened; no summary has to be there
or be right. Chunks are then opened in the order of time, so memory holds those that overlap.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.records import Channel, Schema

from perception_bev.errors import RecordingError
from perception_bev.recordings.bag_metadata import TopicInfo, read_qos
from perception_bev.recordings.bag_storage import MCAP_MAGIC, Record, unpacked
from perception_bev.recordings.bag_types import TypeBook

_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _INDEX, _DATA_END = 2, 3, 4, 5, 6, 7, 15
_HEADER = struct.Struct("<BQ")  # opcode, length of the content
_MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_CHUNK_HEAD = struct.Struct("<QQQI")  # first and last log time, size and CRC when unpacked
_INDEX_HEAD = struct.Struct("<HI")  # channel, bytes of the list of (log time, offset)
_SPAN_BYTES = 1 << 20  # messages outside of chunks are read in spans of this size
_MAX_CHUNK_BYTES = 1 << 31  # unpacked; more is taken for damage, not allocated
_KEPT_PIECES = 4  # unpacked, for `fetch`


@dataclass
class _Piece:
    """Consecutive records of the data section: the content of one chunk, or a span outside."""

    begin: int  # in the file
    end: int
    chunk: bool
    start_ns: int  # earliest log time
    counted: bool = False  # its messages are in the counts


class _Message(NamedTuple):
    """One message within an unpacked piece."""

    stamp_ns: int
    channel: int
    begin: int  # of its data in the piece
    end: int


class McapFile:
    """One MCAP file; see `bag_storage.Storage`."""

    def __init__(self, path: Path, types: TypeBook) -> None:
        self._name = path.name
        self._file = path.open("rb")
        self._size = path.stat().st_size
        self._types = types
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._counts: Counter[int] = Counter()  # messages by channel
        self._pieces: list[_Piece] = []
        self._unpacked: OrderedDict[int, bytes] = OrderedDict()
        self.start_ns: int | None = None
        self.end_ns: int | None = None
        self.damage: str | None = None
        self.compression = ""  # of the first chunk that has one
        self._walk()
        if not all(p.counted for p in self._pieces) or set(self._counts) - set(self._channels):
            self._count_all()
        self.topics = self._topics()

    def close(self) -> None:
        self._unpacked.clear()
        self._file.close()

    def records(self) -> Iterator[Record]:
        order = sorted(range(len(self._pieces)), key=lambda i: (self._pieces[i].start_ns, i))
        waiting, heap, damage = deque(order), [], self.damage
        while waiting or heap:
            while waiting and (not heap or self._pieces[waiting[0]].start_ns <= heap[0][0]):
                index = waiting.popleft()
                data, messages, torn = self._open(index)
                for number, message in enumerate(messages):
                    heappush(heap, (message.stamp_ns, index, number, message, data))
                if torn:
                    waiting.clear()
                    damage = damage or torn
            if heap:
                _, index, _, message, data = heappop(heap)
                yield self._record(index, message, data)
        if damage:
            raise RecordingError(f"{self._name}: {damage}")

    def fetch(self, address: tuple[int, ...]) -> bytes:
        index, begin, end = address
        if index not in self._unpacked:
            self._unpacked[index] = self._open(index)[0]
            while len(self._unpacked) > _KEPT_PIECES:
                self._unpacked.popitem(last=False)
        self._unpacked.move_to_end(index)
        return unpacked(self._unpacked[index][begin:end])

    def _record(self, index: int, message: _Message, data: bytes) -> Record:
        channel = self._channels[message.channel]
        return Record(channel.topic, self._type_of(channel), message.stamp_ns,
                      unpacked(data[message.begin:message.end]),
                      (index, message.begin, message.end))

    # -- the walk over the file's headers --------------------------------------------------------

    def _walk(self) -> None:
        """Find all pieces, the channels outside of chunks, and how far the file is good."""
        ended = closed = False
        position = len(MCAP_MAGIC)
        for opcode, begin, end in _headers(self._file, position, self._size):
            inside = min(end, self._size)
            if opcode == _CHUNK:
                self._add_chunk(begin, inside)
            elif opcode == _MESSAGE:
                self._add_loose(begin, inside)
            elif end <= self._size and opcode in (_SCHEMA, _CHANNEL, _INDEX):
                self._file.seek(begin)
                self._take(opcode, self._file.read(end - begin))
            ended |= opcode == _DATA_END and end <= self._size
            closed = opcode == _FOOTER and end + len(MCAP_MAGIC) <= self._size
            position = end if end <= self._size else begin - _HEADER.size
        if not closed:
            self.damage = (f"the file is torn or damaged at byte {position} of {self._size}"
                           + ("; only its index is affected" if ended else ""))

    def _add_chunk(self, begin: int, end: int) -> None:
        if end - begin < _CHUNK_HEAD.size:
            return
        self._file.seek(begin)
        start, stop, _, _ = _CHUNK_HEAD.unpack(self._file.read(_CHUNK_HEAD.size))
        self.compression = self.compression or _compression_name(self._file.read(16))
        self._pieces.append(_Piece(begin, end, True, start))
        self._span(start, stop)

    def _add_loose(self, begin: int, end: int) -> None:
        """A message outside of a chunk: lengthen the span before it, or begin a new one."""
        if end - begin < _MESSAGE_HEAD.size:
            return
        self._file.seek(begin)
        channel, _, stamp, _ = _MESSAGE_HEAD.unpack(self._file.read(_MESSAGE_HEAD.size))
        last, start = self._pieces[-1] if self._pieces else None, begin - _HEADER.size
        if last and not last.chunk and last.end == start and start - last.begin < _SPAN_BYTES:
            last.end, last.start_ns = end, min(last.start_ns, stamp)
        else:
            self._pieces.append(_Piece(start, end, False, stamp, counted=True))
        self._counts[channel] += 1
        self._span(stamp, stamp)

    def _span(self, start: int, stop: int) -> None:
        self.start_ns = start if self.start_ns is None else min(start, self.start_ns)
        self.end_ns = stop if self.end_ns is None else max(stop, self.end_ns)

    def _take(self, opcode: int, body: bytes) -> None:
        """A schema, channel or message index. A broken one is left out: it is missed later."""
        try:
            if opcode == _SCHEMA:
                schema = Schema.read(ReadDataStream(BytesIO(body)))
                self._schemas.setdefault(schema.id, schema)
                self._types.add(schema.name, schema.encoding, schema.data.decode())
            elif opcode == _CHANNEL:
                channel = Channel.read(ReadDataStream(BytesIO(body)))
                self._channels.setdefault(channel.id, channel)
            elif self._pieces and self._pieces[-1].chunk:
                channel_id, size = _INDEX_HEAD.unpack_from(body)
                self._counts[channel_id] += size // 16
                self._pieces[-1].counted = True
        except (McapError, struct.error, UnicodeDecodeError):
            return

    def _count_all(self) -> None:
        """Open every chunk: for files without message indexes, and for torn ones."""
        self._counts.clear()
        self.start_ns = self.end_ns = None
        for index in range(len(self._pieces)):
            _, messages, torn = self._open(index)
            for message in messages:
                self._counts[message.channel] += 1
                self._span(message.stamp_ns, message.stamp_ns)
            if torn:
                self.damage = self.damage or torn
                return

    def _topics(self) -> dict[str, TopicInfo]:
        topics: dict[str, TopicInfo] = {}
        for channel in self._channels.values():
            known = topics.get(channel.topic)
            topics[channel.topic] = TopicInfo(
                known.type if known else self._type_of(channel),
                (known.count if known else 0) + self._counts[channel.id],
                read_qos(channel.metadata.get("offered_qos_profiles")), channel.message_encoding)
        return topics

    def _type_of(self, channel: Channel) -> str:
        schema = self._schemas.get(channel.schema_id)
        return schema.name if schema else ""

    # -- pieces ----------------------------------------------------------------------------------

    def _open(self, index: int) -> tuple[bytes, list[_Message], str | None]:
        """The unpacked content of a piece, its messages, and what is wrong with it."""
        piece = self._pieces[index]
        self._file.seek(piece.begin)
        body = self._file.read(piece.end - piece.begin)
        where = f"damaged at byte {piece.begin} of {self._size}"
        data, torn = _unpack_chunk(body) if piece.chunk else (body, None)
        messages, position = [], 0
        for opcode, begin, end in _headers(BytesIO(data), 0, len(data)):
            if end > len(data):
                break
            position = end
            if opcode in (_SCHEMA, _CHANNEL):
                self._take(opcode, data[begin:end])
            elif opcode == _MESSAGE and end - begin >= _MESSAGE_HEAD.size:
                channel, _, stamp, _ = _MESSAGE_HEAD.unpack_from(data, begin)
                if channel not in self._channels:
                    return data, messages, f"{where}: a message of the unknown channel {channel}"
                messages.append(_Message(stamp, channel, begin + _MESSAGE_HEAD.size, end))
        if position < len(data):
            torn = torn or "a record is torn"
        return data, messages, f"{where}: {torn}" if torn else None


def _headers(file: BinaryIO, position: int, size: int) -> Iterator[tuple[int, int, int]]:
    """(opcode, begin, end of the content) of records, up to the footer or the first that does not
    fit into `size`. Opcode 0 does not exist: it ends the walk as damage does."""
    while position + _HEADER.size <= size:
        file.seek(position)
        opcode, length = _HEADER.unpack(file.read(_HEADER.size))
        begin, end = position + _HEADER.size, position + _HEADER.size + length
        if opcode == 0:
            return
        yield opcode, begin, end
        if end > size or opcode == _FOOTER:
            return
        position = end


def _unpack_chunk(body: bytes) -> tuple[bytes, str | None]:
    """The records of a chunk, as far as they are there, and what is wrong with it."""
    try:
        _, _, size, crc = _CHUNK_HEAD.unpack_from(body)
        (name_length,) = struct.unpack_from("<I", body, _CHUNK_HEAD.size)
        begin = _CHUNK_HEAD.size + 4 + name_length
        compression = body[_CHUNK_HEAD.size + 4:begin].decode()
        (packed_size,) = struct.unpack_from("<Q", body, begin)
    except (struct.error, UnicodeDecodeError):
        return b"", "a chunk's head is torn"
    if size > _MAX_CHUNK_BYTES:
        return b"", f"a chunk claims {size} bytes"
    packed = memoryview(body)[begin + 8:begin + 8 + packed_size]
    data, torn = _decompress(compression, packed, size)
    if torn is None and len(packed) < packed_size:
        torn = "a chunk is torn"
    if torn is None and (len(data) != size or (crc and zlib.crc32(data) != crc)):
        return b"", "a chunk's checksum or size is wrong"
    return data, torn


def _compression_name(head: bytes) -> str:
    """The length-prefixed name, or "" when it is none of a chunk's."""
    name = head[4:4 + int.from_bytes(head[:4], "little")]
    return name.decode() if name in (b"zstd", b"lz4") else ""


def _decompress(compression: str, packed: memoryview, size: int) -> tuple[bytes, str | None]:
    """At most `size` bytes, as far as the data goes, and what is wrong with it."""
    if compression in ("", "none"):
        return bytes(packed), None
    if compression == "zstd":
        return _pump(_zstd_reader(packed), size)
    if compression == "lz4":
        return _pump(_lz4_reader(packed), size)
    raise RecordingError(f"chunks are compressed with '{compression}'; known: zstd, lz4, none")


def _zstd_reader(packed: memoryview) -> BinaryIO:
    import zstandard
    return zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)


def _lz4_reader(packed: memoryview) -> BinaryIO:
    import lz4.frame
    return lz4.frame.open(BytesIO(packed))


def _pump(reader: BinaryIO, size: int) -> tuple[bytes, str | None]:
    """Read in blocks, so that what comes before a damage is kept."""
    blocks, left = [], size + 1  # one more than promised shows a wrong promise
    try:
        while left > 0 and (block := reader.read(min(left, 1 << 16))):
            blocks.append(block)
            left -= len(block)
    except Exception as err:  # zstandard, lz4 and EOFError have no common base
        return b"".join(blocks), f"a chunk does not unpack: {err}"
    return b"".join(blocks), None
