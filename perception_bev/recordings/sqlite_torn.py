"""Recordings: rows of a SQLite table in a file whose end is missing. SQLite itself reads zeros
where pages are missing, so messages would be silently wrong. Format: sqlite.org/fileformat2."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from perception_bev.errors import RecordingError

Row = tuple[int, list[int | bytes | None]]  # row id, columns (integers and blobs; others as bytes)

_INTERIOR, _LEAF = 0x05, 0x0D  # of table b-trees
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)  # by serial type
_MAX_DEPTH = 20


class TornTable:
    """One table of a torn file, from its root page."""

    def __init__(self, path: Path, root_page: int) -> None:
        self._file = path.open("rb")
        head = self._file.read(100)
        if len(head) < 100:
            raise RecordingError(f"the file ends after {len(head)} bytes")
        size, reserved = struct.unpack_from(">H", head, 16)[0], head[20]
        self._page_size = 65536 if size == 1 else size
        self._usable = self._page_size - reserved
        self._pages = path.stat().st_size // self._page_size
        self._root = root_page

    def close(self) -> None:
        self._file.close()

    def rows(self) -> Iterator[Row]:
        """Rows in the order of their ids; RecordingError at the first missing page."""
        yield from self._rows(self._root, 0)

    def _rows(self, number: int, depth: int) -> Iterator[Row]:
        page = self._page(number)
        head = 100 if number == 1 else 0
        kind, _, cells = struct.unpack_from(">BHH", page, head)
        if kind not in (_INTERIOR, _LEAF) or depth > _MAX_DEPTH:
            raise RecordingError(f"page {number} is damaged")
        first = head + (12 if kind == _INTERIOR else 8)
        for place in struct.unpack_from(f">{cells}H", page, first):
            if kind == _LEAF:
                yield self._row(page, place)
            else:
                yield from self._rows(*struct.unpack_from(">I", page, place), depth + 1)
        if kind == _INTERIOR:
            yield from self._rows(*struct.unpack_from(">I", page, head + 8), depth + 1)

    def _row(self, page: bytes, place: int) -> Row:
        size, place = _varint(page, place)
        row, place = _varint(page, place)
        local = self._local_size(size)
        payload = bytearray(page[place:place + local])
        if local < size:
            (following,) = struct.unpack_from(">I", page, place + local)
            self._add_overflow(payload, size, following)
        return row, _columns(bytes(payload))

    def _local_size(self, size: int) -> int:
        """How much of a payload lies in the leaf page itself."""
        most = self._usable - 35
        if size <= most:
            return size
        least = (self._usable - 12) * 32 // 255 - 23
        wanted = least + (size - least) % (self._usable - 4)
        return wanted if wanted <= most else least

    def _add_overflow(self, payload: bytearray, size: int, number: int) -> None:
        while len(payload) < size:
            page = self._page(number)
            (number,) = struct.unpack_from(">I", page)
            payload += page[4:4 + min(self._usable - 4, size - len(payload))]

    def _page(self, number: int) -> bytes:
        if not 1 <= number <= self._pages:
            raise RecordingError(f"page {number} of {self._pages} is missing")
        self._file.seek((number - 1) * self._page_size)
        return self._file.read(self._page_size)


def _columns(payload: bytes) -> list[int | bytes | None]:
    head, at = _varint(payload, 0)
    kinds = []
    while at < head:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[int | bytes | None] = []
    for kind in kinds:
        length = _length(kind)
        values.append(_value(kind, payload[at:at + length]))
        at += length
    return values


def _length(kind: int) -> int:
    if kind < 7:
        return _INTEGER_BYTES[kind]
    return 8 if kind == 7 else (kind - 12) // 2 if kind >= 12 else 0


def _value(kind: int, data: bytes) -> int | bytes | None:
    if kind == 0:
        return None
    if kind < 7:
        return int.from_bytes(data, "big", signed=True)
    return kind - 8 if kind in (8, 9) else data


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, place after it): up to eight bytes of seven bits, then one of eight."""
    value = 0
    for i in range(9):
        byte = data[at + i]
        if i == 8:
            return (value << 8) | byte, at + 9
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            return value, at + i + 1
    raise AssertionError  # the loop always returns
