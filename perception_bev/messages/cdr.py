"""Messages: the sensors' serialized messages straight to raw frames; the bytes stay where they are.

Plain CDR of OMG DDS-XTypes 1.3 (7.4.3, "XCDR version 1"), which Fast DDS and Cyclone DDS send for
these types: four bytes of encapsulation, then values, each aligned to its own size, in the order of
the .msg file. Only the head of a message is walked; its data becomes a view. Every length is
compared with the bytes that are there before it is used. What a message says about itself is judged
by `read`, so that a typed and a serialized message give the same frame or the same BadMessage.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Any, NamedTuple

from perception_bev.errors import BadMessage
from perception_bev.messages import read
from perception_bev.messages.fields import MAX_FIELDS, PlainFields
from perception_bev.raw import EncodedImage, RawCloud, RawImage

MAX_TEXT = 65_536  # [bytes] of one string: a frame, an encoding, the name of a field
ENCAPSULATION = 4  # [bytes] before the first value; alignment is counted from behind them
_ORDERS = {0x0000: ">", 0x0001: "<"}  # CDR_BE, CDR_LE
_STAMP = {order: struct.Struct(order + "iI") for order in "<>"}
_UINT32 = {order: [struct.Struct(order + "I" * n) for n in range(4)] for order in "<>"}
_POSE, _TWIST = ({order: struct.Struct(order + "d" * n) for order in "<>"} for n in (7, 6))
COVARIANCE = 36 * 8  # [bytes]


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
    data: memoryview


class Image(NamedTuple):
    """sensor_msgs/Image as `read` wants it."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


class PointCloud2(NamedTuple):
    """sensor_msgs/PointCloud2 as `read` wants it."""

    header: Header
    height: int
    width: int
    fields: PlainFields
    is_bigendian: bool
    point_step: int
    row_step: int
    data: memoryview
    is_dense: bool


class Vector(NamedTuple):
    x: float
    y: float
    z: float


class Quaternion(NamedTuple):
    x: float
    y: float
    z: float
    w: float


class Pose(NamedTuple):
    position: Vector
    orientation: Quaternion


class Twist(NamedTuple):
    linear: Vector
    angular: Vector


class UncertainPose(NamedTuple):
    pose: Pose


class UncertainTwist(NamedTuple):
    twist: Twist


class Odometry(NamedTuple):
    """nav_msgs/Odometry as `read` wants it; covariances are passed over."""

    header: Header
    child_frame_id: str
    pose: UncertainPose
    twist: UncertainTwist


def read_compressed_image(serialized: Any) -> EncodedImage:
    """Bytes of a sensor_msgs/CompressedImage. BadMessage as of `read`, bad_cdr or truncated."""
    values = _Values(serialized)
    return read.read_compressed_image(
        CompressedImage(_header(values), values.text(), values.octets()))


def read_image(serialized: Any) -> RawImage:
    """Bytes of a sensor_msgs/Image; `rows` is a view. BadMessage as above."""
    v = _Values(serialized)
    return read.read_image(Image(_header(v), *v.uint32s(2), v.text(), v.uint8(), v.uint32(),
                                 v.octets()))


def read_cloud(serialized: Any) -> RawCloud:
    """Bytes of a sensor_msgs/PointCloud2; `points` is a view. BadMessage as above."""
    v = _Values(serialized)
    header, (height, width, count) = _header(v), v.uint32s(3)
    return read.read_cloud(PointCloud2(header, height, width, _layouts.fields(v, count),
                                       bool(v.uint8()), *v.uint32s(2), v.octets(),
                                       bool(v.uint8())))


def odometry(serialized: Any) -> Odometry:
    """Bytes of a nav_msgs/Odometry, for `read.read_odometry`. BadMessage: bad_cdr, truncated."""
    v = _Values(serialized)
    header, child = _header(v), v.text()
    x, y, z, *quaternion = v.doubles(_POSE)
    v.skip(COVARIANCE)
    twist = v.doubles(_TWIST)
    v.skip(COVARIANCE)
    return Odometry(header, child,
                    UncertainPose(Pose(Vector(x, y, z), Quaternion(*quaternion))),
                    UncertainTwist(Twist(Vector(*twist[:3]), Vector(*twist[3:]))))


def _header(values: _Values) -> Header:
    return Header(values.stamp(), values.text())


class _Layouts:
    """Lists of fields that were read lately. A driver's never changes, and walking it takes most of
    the time that a cloud takes."""

    KEPT, MAX_BYTES = 16, 4096

    def __init__(self) -> None:
        self._known: deque[tuple[str, int, bytes, PlainFields]] = deque(
            maxlen=self.KEPT)

    def fields(self, values: _Values, count: int) -> PlainFields:
        """The next `count` fields."""
        for order, known, block, fields in tuple(self._known):
            if (order, known) == (values.order, count) and values.passed(block):
                return fields
        if count > MAX_FIELDS:
            raise BadMessage("bad_layout", f"{count} fields; at most {MAX_FIELDS}")
        begin = values.at
        fields = PlainFields((values.text(), values.uint32(), values.uint8(), values.uint32())
                             for _ in range(count))
        if values.at - begin <= self.MAX_BYTES:
            self._known.append((values.order, count, values.since(begin), fields))
        return fields


_layouts = _Layouts()


class _Values:
    """Takes one value after the other. BadMessage("truncated") where the bytes end first."""

    __slots__ = ("order", "at", "_bytes")

    def __init__(self, serialized: Any) -> None:
        message = _flat(serialized)
        if len(message) < ENCAPSULATION:
            raise BadMessage("truncated", f"a serialized message of {len(message)} bytes")
        kind = message[0] << 8 | message[1]
        if kind not in _ORDERS:
            raise BadMessage("bad_cdr", f"representation 0x{kind:04x}; known: plain CDR, 0 and 1")
        self._bytes, self.at, self.order = message[ENCAPSULATION:], 0, _ORDERS[kind]

    def uint8(self) -> int:
        return self._bytes[self._claim(1)]

    def uint32(self) -> int:
        return self.uint32s(1)[0]

    def uint32s(self, count: int) -> tuple[int, ...]:
        return _UINT32[self.order][count].unpack_from(self._bytes, self._claim(4 * count, align=4))

    def stamp(self) -> Time:
        return Time(*_STAMP[self.order].unpack_from(self._bytes, self._claim(8, align=4)))

    def doubles(self, kind: dict[str, struct.Struct]) -> tuple[float, ...]:
        found = kind[self.order]
        return found.unpack_from(self._bytes, self._claim(found.size, align=8))

    def text(self) -> str:
        """A string: its length counts the zero at its end, which some writers leave out."""
        length = self.uint32()
        if length > MAX_TEXT:
            raise BadMessage("too_large", f"a text of {length} bytes; limit {MAX_TEXT}")
        at = self._claim(length)
        return bytes(self._bytes[at:at + length]).removesuffix(b"\0").decode(errors="replace")

    def octets(self) -> memoryview:
        """A sequence of bytes: a view."""
        length = self.uint32()
        at = self._claim(length)
        return self._bytes[at:at + length]

    def skip(self, length: int) -> None:
        self._claim(length)

    def passed(self, block: bytes) -> bool:
        """Whether `block` comes next; it is passed over then."""
        found = self._bytes[self.at:self.at + len(block)] == block
        self.at += len(block) if found else 0
        return found

    def since(self, begin: int) -> bytes:
        """What was read from there on."""
        return bytes(self._bytes[begin:self.at])

    def _claim(self, length: int, align: int = 1) -> int:
        """Where the next `length` bytes begin; they are there."""
        at = -(-self.at // align) * align
        if length > len(self._bytes) - at:
            raise BadMessage("truncated", f"{length} bytes at byte {ENCAPSULATION + at} of a "
                                          f"message of {ENCAPSULATION + len(self._bytes)}")
        self.at = at + length
        return at


def _flat(serialized: Any) -> memoryview:
    """The bytes of any buffer, one after the other."""
    try:
        view = memoryview(serialized)
        return view if view.format == "B" and view.ndim == 1 and view.contiguous else (
            view.cast("B"))
    except (TypeError, ValueError) as err:
        raise BadMessage("bad_data", f"not a buffer of bytes: {err}") from err
