"""Messages: the sensors' serialized messages straight to raw frames; the bytes stay where they are.

Plain CDR of OMG DDS-XTypes 1.3 (7.4.3, "XCDR version 1"), which Fast DDS and Cyclone DDS send for
these types: four bytes of encapsulation, then values of at most four bytes, each aligned to its own
size, in the order of the .msg file. Only the head of a message is walked; its data becomes a view.
Every length is compared with the bytes that are there before it is used. What a message says about
itself is judged by `read`, so that a typed and a serialized message give the same frame or the same
BadMessage.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

from perception_bev.errors import BadMessage
from perception_bev.messages import read
from perception_bev.messages.fields import MAX_FIELDS
from perception_bev.raw import EncodedImage, RawCloud, RawImage

MAX_TEXT = 65_536  # [bytes] of one string: a frame, an encoding, the name of a field
ENCAPSULATION = 4  # [bytes] before the first value; alignment is counted from behind them
_ORDERS = {0x0000: ">", 0x0001: "<"}  # CDR_BE, CDR_LE
_NUMBERS = {order: (struct.Struct(order + "i"), struct.Struct(order + "I")) for order in "<>"}


class Time(NamedTuple):
    sec: int
    nanosec: int


class Header(NamedTuple):
    stamp: Time
    frame_id: str


class CompressedImage(NamedTuple):
    """sensor_msgs/CompressedImage as `read` wants it."""

    header: Header
    format: str
    data: np.ndarray


class Image(NamedTuple):
    """sensor_msgs/Image as `read` wants it."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: np.ndarray


class PointField(NamedTuple):
    name: str
    offset: int
    datatype: int
    count: int


class PointCloud2(NamedTuple):
    """sensor_msgs/PointCloud2 as `read` wants it."""

    header: Header
    height: int
    width: int
    fields: tuple[PointField, ...]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: np.ndarray
    is_dense: bool


def read_compressed_image(serialized: Any) -> EncodedImage:
    """Bytes of a sensor_msgs/CompressedImage. BadMessage as of `read`, bad_cdr or truncated."""
    values = _Values(serialized)
    return read.read_compressed_image(
        CompressedImage(_header(values), values.text(), values.octets()))


def read_image(serialized: Any) -> RawImage:
    """Bytes of a sensor_msgs/Image; `rows` is a view. BadMessage as above."""
    v = _Values(serialized)
    return read.read_image(Image(_header(v), v.uint32(), v.uint32(), v.text(), v.uint8(),
                                 v.uint32(), v.octets()))


def read_cloud(serialized: Any) -> RawCloud:
    """Bytes of a sensor_msgs/PointCloud2; `points` is a view. BadMessage as above."""
    v = _Values(serialized)
    return read.read_cloud(PointCloud2(_header(v), v.uint32(), v.uint32(), _fields(v),
                                       bool(v.uint8()), v.uint32(), v.uint32(), v.octets(),
                                       bool(v.uint8())))


def _header(values: _Values) -> Header:
    return Header(Time(values.int32(), values.uint32()), values.text())


def _fields(values: _Values) -> tuple[PointField, ...]:
    count = values.uint32()
    if count > MAX_FIELDS:
        raise BadMessage("bad_layout", f"{count} fields; at most {MAX_FIELDS}")
    return tuple(PointField(values.text(), values.uint32(), values.uint8(), values.uint32())
                 for _ in range(count))


class _Values:
    """Takes one value after the other. BadMessage("truncated") where the bytes end first."""

    __slots__ = ("_bytes", "_at", "_int32", "_uint32")

    def __init__(self, serialized: Any) -> None:
        message = _flat(serialized)
        if message.size < ENCAPSULATION:
            raise BadMessage("truncated", f"a serialized message of {message.size} bytes")
        kind = int(message[0]) << 8 | int(message[1])
        if kind not in _ORDERS:
            raise BadMessage("bad_cdr", f"representation 0x{kind:04x}; known: plain CDR, 0 and 1")
        self._bytes, self._at = message[ENCAPSULATION:], 0
        self._int32, self._uint32 = _NUMBERS[_ORDERS[kind]]

    def uint8(self) -> int:
        return int(self._bytes[self._claim(1)])

    def int32(self) -> int:
        return self._int32.unpack_from(self._bytes, self._claim(4, align=4))[0]

    def uint32(self) -> int:
        return self._uint32.unpack_from(self._bytes, self._claim(4, align=4))[0]

    def text(self) -> str:
        """A string: its length counts the zero at its end, which some writers leave out."""
        length = self.uint32()
        if length > MAX_TEXT:
            raise BadMessage("too_large", f"a text of {length} bytes; limit {MAX_TEXT}")
        at = self._claim(length)
        return self._bytes[at:at + length].tobytes().removesuffix(b"\0").decode(errors="replace")

    def octets(self) -> np.ndarray:
        """A sequence of bytes, (n,) uint8: a view."""
        length = self.uint32()
        at = self._claim(length)
        return self._bytes[at:at + length]

    def _claim(self, length: int, align: int = 1) -> int:
        """Where the next `length` bytes begin; they are there."""
        at = -(-self._at // align) * align
        if length > self._bytes.size - at:
            raise BadMessage("truncated", f"{length} bytes at byte {ENCAPSULATION + at} of a "
                                          f"message of {ENCAPSULATION + self._bytes.size}")
        self._at = at + length
        return at


def _flat(serialized: Any) -> np.ndarray:
    """(n,) uint8, a view of any buffer of bytes."""
    try:
        view = memoryview(serialized)
        return np.asarray(view if view.format == "B" and view.ndim == 1 else view.cast("B"))
    except (TypeError, ValueError) as err:
        raise BadMessage("bad_data", f"not a buffer of bytes: {err}") from err
