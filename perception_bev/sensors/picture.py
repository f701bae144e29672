"""Sensors: size and wholeness of a JPEG or PNG, told from its markers before it is decoded.

A header may promise 65535 x 65535 pixels, and a decoder may fill what was cut off with grey:
both are refused here. Markers: ITU-T T.81 annex B; chunks: the PNG specification, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from perception_bev.errors import BadMessage

_MAX_SEGMENTS = 2_000  # of a JPEG before its scan; ordinary files have 5 to 20
_FRAME_STARTS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 .. SOF15
_NO_LENGTH = frozenset(range(0xD0, 0xD9)) | {0x01}  # RST0 .. RST7, SOI, TEM
_START_OF_SCAN, _END_OF_IMAGE, _FILL = 0xDA, 0xD9, 0xFF


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What a compressed picture says about itself."""

    kind: Literal["jpeg", "png"]
    width: int  # [px]
    height: int  # [px]


def read_header(data: np.ndarray) -> PictureHeader:
    """The header of a whole picture, (n,) uint8.

    Raises BadMessage: "empty", "bad_encoding" (neither JPEG nor PNG), "truncated", "undecodable".
    """
    view = memoryview(data)
    start = bytes(view[:8])
    if not start:
        raise BadMessage("empty", "compressed image without data")
    if start.startswith(b"\xff\xd8\xff"):
        return _jpeg(view)
    if start == b"\x89PNG\r\n\x1a\n":
        return _png(view)
    raise BadMessage("bad_encoding", f"neither JPEG nor PNG: begins with {start.hex(' ')}")


def _jpeg(view: memoryview) -> PictureHeader:
    size, at = None, 2
    for _ in range(_MAX_SEGMENTS):
        marker, length = _segment(view, at)
        if marker in _FRAME_STARTS:
            size = _jpeg_size(view, at)
        if marker == _START_OF_SCAN:
            break
        at += length
    else:
        raise BadMessage("undecodable", f"JPEG without a scan in {_MAX_SEGMENTS} segments")
    if size is None:
        raise BadMessage("undecodable", "JPEG scan before any frame header")
    _require_end(view[at:], b"\xff\xd9", "JPEG")  # a thumbnail in the header has its own
    return PictureHeader("jpeg", *size)


def _segment(view: memoryview, at: int) -> tuple[int, int]:
    """(marker, bytes to the next one) of the segment at `at`."""
    if at + 4 > len(view):
        raise BadMessage("truncated", f"JPEG of {len(view)} bytes ends in its header")
    marker = view[at + 1]
    if view[at] != _FILL or marker in (0, _END_OF_IMAGE):
        raise BadMessage("undecodable", f"no JPEG segment at byte {at}")
    if marker == _FILL:
        return marker, 1
    if marker in _NO_LENGTH:
        return marker, 2
    return marker, 2 + int.from_bytes(view[at + 2:at + 4], "big")


def _jpeg_size(view: memoryview, at: int) -> tuple[int, int]:
    if at + 9 > len(view):
        raise BadMessage("truncated", f"JPEG of {len(view)} bytes ends in its frame header")
    height, width = (int.from_bytes(view[at + i:at + i + 2], "big") for i in (5, 7))
    return width, height


def _png(view: memoryview) -> PictureHeader:
    if len(view) < 24:
        raise BadMessage("truncated", f"PNG of {len(view)} bytes ends in its header")
    if bytes(view[12:16]) != b"IHDR":
        raise BadMessage("undecodable", "PNG does not begin with IHDR")
    _require_end(view[24:], b"IEND\xaeB`\x82", "PNG")  # with its checksum
    width, height = (int.from_bytes(view[i:i + 4], "big") for i in (16, 20))
    return PictureHeader("png", width, height)


def _require_end(view: memoryview, mark: bytes, kind: str) -> None:
    """What follows the mark is padding of a fixed-size buffer, or a second picture."""
    if bytes(view).rfind(mark) < 0:
        raise BadMessage("truncated", f"{kind} without its end marker")
