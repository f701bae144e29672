"""Messages: tensors that cross between hosts, in std_msgs/UInt8MultiArray on `features/<engine>`.

A call is a request and an answer. Both are a prefix that no version changes, a head, a table of
tensors, and their bytes:

    prefix   magic, version, kind, flags, epoch (the caller's life), sequence (number of the call)
    head     identity (of engine, file and specs), microseconds spent, whole size, tensors
    table    name, type, coding, shape, first byte, bytes; one a tensor
    bytes    of each tensor, row by row, little-endian, each from a multiple of 64 on

A float32 tensor may travel as float16, which the table says and `decode` undoes: within 2^-11 of
each value, beyond ±65504 the nearest that float16 has. Who reads compares every length with the
bytes that are there before using it. BadMessage says what was wrong, and nothing else is raised.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple, NoReturn

import numpy as np

from perception_bev.errors import BadMessage

VERSION = 1
MAGIC = b"BEVF"
PREFIX = struct.Struct("<4sHBBQQ")  # magic, version, kind, flags, epoch, sequence
HEAD = struct.Struct("<16sIIHH")  # identity, spent [us], size, tensors, 0
ENTRY = struct.Struct("<BBBB")  # bytes of the name, type, coding, dimensions
PLACE = struct.Struct("<II")  # first byte, bytes
ENVELOPE = struct.Struct("<BBBBIII")  # CDR: little-endian; no dimensions, offset 0, bytes of data
WANTS_HALF = 1  # flag of a request: the answer may be float16
ALIGNMENT = 64  # [bytes] from the begin of the data
MOST_TENSORS, MOST_DIMENSIONS, LONGEST_NAME = 64, 8, 100
LARGEST = 1 << 30  # [bytes] of one message
HALF_LIMIT = np.float32(65504.0)
DTYPES = tuple(np.dtype(code) for code in ("<f4", "<f2", "<i4", "<i8", "u1", "?"))
PLAIN, HALF = 0, 1  # codings
TEXT = "text"  # the one tensor of a refusal or a failure


class Kind(IntEnum):
    REQUEST = 1
    ANSWER = 2
    REFUSED = 3  # the request is not for this engine, or no request at all
    FAILED = 4  # the engine raised


class Prefix(NamedTuple):
    """What every version says first, so that a foreign one can be told so."""

    version: int
    kind: int
    flags: int
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Message:
    """One request or answer."""

    kind: Kind
    epoch: int  # the caller's life: numbers of an earlier one mean nothing
    sequence: int
    identity: bytes  # 16
    flags: int = 0
    spent_us: int = 0  # of an answer: from the request's receipt until it was encoded
    tensors: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Of a refusal or a failure."""
        return self.tensors[TEXT].tobytes().decode(errors="replace") if TEXT in self.tensors else ""


def identity_of(engine: str, file_sha256: str, specs: Iterable[Iterable[Any]]) -> bytes:
    """16 bytes that differ when name, file, or any input or output does.

    Args:
        specs: of the inputs, then of the outputs; each with name, shape and dtype.
    """
    said = [engine, file_sha256]
    for group in specs:
        said += [f"{spec.name}:{tuple(spec.shape)}:{np.dtype(spec.dtype).str}" for spec in group]
        said.append("|")
    return hashlib.sha256("\n".join(said).encode()).digest()[:16]


def as_text(text: str) -> dict[str, np.ndarray]:
    """The tensors of a refusal or a failure."""
    return {TEXT: np.frombuffer(text.encode()[:4096], np.uint8)}


class Encoder:
    """Writes serialized UInt8MultiArray messages into memory of its own, used again and again."""

    def __init__(self) -> None:
        self._memory = np.zeros(0, np.uint8)

    def encode(self, message: Message, half: bool = False) -> np.ndarray:
        """(n,) uint8, good until the next call. half: float32 tensors as float16."""
        table, places, size = _laid_out(message.tensors, half)
        whole = self._room(ENVELOPE.size + size)
        ENVELOPE.pack_into(whole, 0, 0, 1, 0, 0, 0, 0, size)
        data = whole[ENVELOPE.size:]
        PREFIX.pack_into(data, 0, MAGIC, VERSION, message.kind, message.flags, message.epoch,
                         message.sequence)
        HEAD.pack_into(data, PREFIX.size, message.identity, message.spent_us, size,
                       len(message.tensors), 0)
        data[PREFIX.size + HEAD.size:][:len(table)] = np.frombuffer(table, np.uint8)
        for array, (start, count, dtype) in zip(message.tensors.values(), places, strict=True):
            _put(data[start:start + count].view(dtype), array)
        return whole

    def _room(self, size: int) -> np.ndarray:
        if size > LARGEST:
            raise BadMessage("too_large", f"{size} bytes in one message; at most {LARGEST}")
        if len(self._memory) < size:
            self._memory = np.zeros(size, np.uint8)
        return self._memory[:size]


def _laid_out(tensors: Mapping[str, np.ndarray], half: bool) -> tuple[bytes, list, int]:
    """The table, (first byte, bytes, dtype) of each tensor, the whole size."""
    entries, places = [], []
    table = sum(ENTRY.size + len(name.encode()) + 4 * array.ndim + PLACE.size
                for name, array in tensors.items())
    end = PREFIX.size + HEAD.size + table
    for name, array in tensors.items():
        coding = HALF if half and array.dtype == np.float32 else PLAIN
        dtype = np.dtype("<f2") if coding == HALF else array.dtype
        start = -(-end // ALIGNMENT) * ALIGNMENT
        end = start + array.size * dtype.itemsize
        label = name.encode()
        entries.append(ENTRY.pack(len(label), DTYPES.index(array.dtype), coding, array.ndim) + label
                       + struct.pack(f"<{array.ndim}I", *array.shape)
                       + PLACE.pack(start, end - start))
        places.append((start, end - start, dtype))
    return b"".join(entries), places, end


def _put(room: np.ndarray, array: np.ndarray) -> None:
    flat = array.reshape(-1)
    if room.dtype != flat.dtype:  # not left to the cast, whose overflow is infinite
        flat = np.clip(flat, -HALF_LIMIT, HALF_LIMIT)
    np.copyto(room, flat, casting="same_kind")


def prefix_of(serialized: np.ndarray) -> Prefix:
    """What a message of any version says first. BadMessage when it is none of ours."""
    data = _data(serialized)
    if len(data) < PREFIX.size:
        _refuse("truncated", f"{len(data)} bytes; a prefix has {PREFIX.size}")
    magic, *rest = PREFIX.unpack_from(data)
    if magic != MAGIC:
        _refuse("bad_magic", f"begins with {magic!r}, not with {MAGIC!r}")
    return Prefix(*rest)


def decode(serialized: np.ndarray) -> Message:
    """(n,) uint8 of a serialized UInt8MultiArray -> views on it, or copies of what was halved."""
    prefix, data = prefix_of(serialized), _data(serialized)
    if prefix.version != VERSION:
        _refuse("foreign_version", f"version {prefix.version} of the features' format; this is "
                                   f"version {VERSION}: install the same package on both hosts")
    if prefix.kind not in iter(Kind):
        _refuse("bad_layout", f"kind {prefix.kind} is none of ours")
    if len(data) < PREFIX.size + HEAD.size:
        _refuse("truncated", f"{len(data)} bytes; the head ends at {PREFIX.size + HEAD.size}")
    identity, spent_us, size, count, _ = HEAD.unpack_from(data, PREFIX.size)
    if size != len(data):
        _refuse("truncated", f"{len(data)} bytes of {size}")
    return Message(Kind(prefix.kind), prefix.epoch, prefix.sequence, identity, prefix.flags,
                   spent_us, _tensors(data, count))


def _data(serialized: np.ndarray) -> np.ndarray:
    """The array's bytes, out of its serialized message."""
    if len(serialized) < ENVELOPE.size:
        _refuse("truncated", f"{len(serialized)} bytes are no UInt8MultiArray")
    _, order, _, _, dimensions, offset, size = ENVELOPE.unpack_from(serialized)
    if order != 1 or dimensions or offset:
        _refuse("bad_layout", "not a plain little-endian UInt8MultiArray without dimensions")
    data = serialized[ENVELOPE.size:]
    if size > len(data):
        _refuse("truncated", f"{len(data)} bytes of {size}")
    return data[:size]  # CDR may pad what follows


def _tensors(data: np.ndarray, count: int) -> dict[str, np.ndarray]:
    if count > MOST_TENSORS:
        _refuse("bad_layout", f"{count} tensors; at most {MOST_TENSORS}")
    found: dict[str, np.ndarray] = {}
    at = PREFIX.size + HEAD.size
    for _ in range(count):
        name, dtype, coding, shape, at = _entry(data, at)
        if name in found:
            _refuse("bad_layout", f"tensor '{name}' twice")
        found[name], at = _tensor(data, at, name, dtype, coding, shape)
    return found


def _entry(data: np.ndarray, at: int) -> tuple[str, np.dtype, int, tuple[int, ...], int]:
    """One row of the table without its place, and where it ends."""
    length, kind, coding, dimensions = _unpacked(ENTRY, data, at)
    at += ENTRY.size
    if length > LONGEST_NAME or kind >= len(DTYPES) or dimensions > MOST_DIMENSIONS:
        _refuse("bad_layout", f"a name of {length}, type {kind}, {dimensions} dimensions")
    if coding not in (PLAIN, HALF) or (coding == HALF and DTYPES[kind] != np.float32):
        _refuse("bad_layout", f"coding {coding} of {DTYPES[kind]}")
    if at + length > len(data):
        _refuse("truncated", "the table goes beyond the end")
    name = data[at:at + length].tobytes().decode(errors="replace")
    shape = _unpacked(struct.Struct(f"<{dimensions}I"), data, at + length)
    return name, DTYPES[kind], coding, shape, at + length + 4 * dimensions


def _tensor(data: np.ndarray, at: int, name: str, dtype: np.dtype, coding: int,
            shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    start, size = _unpacked(PLACE, data, at)
    sent = np.dtype("<f2") if coding == HALF else dtype
    if math.prod(n or 1 for n in shape) > LARGEST:  # an empty one can still be too wide for NumPy
        _refuse("bad_layout", f"tensor '{name}': {shape}")
    if math.prod(shape) * sent.itemsize != size:
        _refuse("bad_layout", f"tensor '{name}': {size} bytes are not {shape} {sent}")
    if start % ALIGNMENT or start + size > len(data):
        _refuse("truncated", f"tensor '{name}': bytes {start} to {start + size} of {len(data)}")
    array = data[start:start + size].view(sent).reshape(shape)
    return array.astype(dtype, copy=False), at + PLACE.size


def _unpacked(layout: struct.Struct, data: np.ndarray, at: int) -> tuple:
    if at + layout.size > len(data):
        _refuse("truncated", "the table goes beyond the end")
    return layout.unpack_from(data, at)


def _refuse(reason: str, text: str) -> NoReturn:
    raise BadMessage(reason, text)
