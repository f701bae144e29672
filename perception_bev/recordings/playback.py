"""Recordings: playing a bag, the part without ROS: when each message is due, which stamps it gets
and where a new epoch begins. Time is an argument; the node waits and publishes."""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from perception_bev.errors import RecordingError
from perception_bev.recordings.bag_reader import RawMessage
from perception_bev.recordings.bag_types import TypeBook, full_name

Stamps = Literal["original", "fresh"]

_TIME, _HEADER = "builtin_interfaces/msg/Time", "std_msgs/msg/Header"
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Pace:
    """An affine map between bag time, the monotonic clock and (for fresh stamps) ROS time.

    It is anchored where playing began, began again (loop) or could not keep up.
    """

    bag_ns: int  # log time at the anchor
    mono_ns: int  # monotonic clock at the anchor
    ros_ns: int  # ROS time at the anchor
    rate: float = 1.0  # bag seconds per second
    stamps: Stamps = "original"

    def due_mono_ns(self, log_ns: int) -> int:
        """When a message logged at `log_ns` is to be published."""
        return self.mono_ns + self._elapsed(log_ns)

    def shift_ns(self, log_ns: int) -> int:
        """What to add to the stamps inside a message: 0, or so much that it was logged when it is
        published. The distance from stamp to log time stays what it was, at any rate."""
        if self.stamps == "original":
            return 0
        return self.ros_ns + self._elapsed(log_ns) - log_ns

    def clock_ns(self, log_ns: int) -> int:
        """What /clock says when a message logged at `log_ns` is published."""
        return log_ns + self.shift_ns(log_ns)

    def bag_time_ns(self, mono_ns: int) -> int:
        """The log time that is due now."""
        return self.bag_ns + round((mono_ns - self.mono_ns) * self.rate)

    def anchored(self, log_ns: int, mono_ns: int, ros_ns: int) -> Pace:
        """The same pace, with `log_ns` due now."""
        return Pace(log_ns, mono_ns, ros_ns, self.rate, self.stamps)

    def _elapsed(self, log_ns: int) -> int:
        return round((log_ns - self.bag_ns) / self.rate)


class Epochs:
    """Counts epochs over the whole replay: one at its start and at each loop's, one where the bag
    announces one, one where the data has a gap. They are announced once even where several agree.
    """

    def __init__(self, max_gap_ns: int, epoch_topics: Collection[str], latched: Collection[str]
                 ) -> None:
        self.number = -1
        self._max_gap_ns = max_gap_ns
        self._epoch_topics = frozenset(epoch_topics)
        self._latched = frozenset(latched)  # may come at any time and do not fill a gap
        self._last_ns: int | None = None
        self._announced = False  # and nothing but announcements since

    def before(self, raw: RawMessage) -> int | None:
        """The epoch's number when one begins before this message. The bag's own announcements are
        to be dropped: this takes their place."""
        mark = raw.topic in self._epoch_topics
        if raw.topic in self._latched and not mark and self._last_ns is not None:
            return None
        begins = self._gap(raw.stamp_ns) or (mark and not self._announced)
        self._last_ns = raw.stamp_ns
        self._announced = mark or (begins and raw.topic in self._latched)
        self.number += begins
        return self.number if begins else None

    def restart(self) -> None:
        """The bag begins again: so does an epoch."""
        self._last_ns, self._announced = None, False

    def _gap(self, stamp_ns: int) -> bool:
        return self._last_ns is None or abs(stamp_ns - self._last_ns) > self._max_gap_ns


class Restamper:
    """Moves the stamps in serialised messages. Where the only one is that of a header at the
    beginning, as in all sensor messages, four plus four bytes are rewritten and nothing is decoded.
    """

    def __init__(self, types: TypeBook) -> None:
        self._types = types
        self._kinds: dict[str, str] = {}

    def shift(self, data: bytes, msgtype: str, shift_ns: int) -> bytes:
        """CDR bytes with all stamps moved (those that are 0 mean none and stay)."""
        kind = self._kind(msgtype)
        if shift_ns == 0 or kind == "none":
            return data
        if kind == "leading":
            return _shift_leading(data, shift_ns)
        message = self._types.deserialize(data, msgtype)
        _shift_all(message, shift_ns)
        return bytes(self._types.store(msgtype).serialize_cdr(message, full_name(msgtype)))

    def _kind(self, msgtype: str) -> str:
        if msgtype not in self._kinds:
            self._kinds[msgtype] = _kind_of(self._types.store(msgtype), full_name(msgtype))
        return self._kinds[msgtype]


def leading_stamp(data: bytes) -> int:
    """The stamp [ns] of a serialised message that begins with a header."""
    if len(data) < 12:
        raise RecordingError(f"{len(data)} bytes hold no header")
    sec, nanosec = struct.unpack_from(_order(data) + "iI", data, 4)
    return sec * _NS + nanosec


def _shift_leading(data: bytes, shift_ns: int) -> bytes:
    stamp = leading_stamp(data)
    if stamp == 0:
        return data
    moved = struct.pack(_order(data) + "iI", *divmod(max(stamp + shift_ns, 0), _NS))
    return b"".join((data[:4], moved, memoryview(data)[12:]))  # sweeps are large: one copy


def _order(data: bytes) -> str:
    """Byte order by the encapsulation header: bit 0 of byte 1 says little-endian."""
    return "<" if data[1] & 1 else ">"


def _kind_of(store: Typestore, msgtype: str) -> str:
    """"none", "leading" (one stamp, in the header that comes first) or "inside"."""
    fields = store.fielddefs[msgtype][1]
    times = [_has_time(store, kind) for _, kind in fields]
    if not any(times):
        return "none"
    first = fields[0][1]
    leads = first[0] is Nodetype.NAME and first[1] == _HEADER
    return "leading" if leads and not any(times[1:]) else "inside"


def _has_time(store: Typestore, kind: Any) -> bool:
    if kind[0] is Nodetype.BASE:
        return False
    if kind[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        return _has_time(store, kind[1][0])
    return kind[1] == _TIME or any(_has_time(store, sub) for _, sub in store.fielddefs[kind[1]][1])


def _shift_all(message: Any, shift_ns: int) -> None:
    for name in _fields(type(message)):
        value = getattr(message, name)
        for item in value if isinstance(value, list) else (value,):
            if getattr(item, "__msgtype__", "") == _TIME:
                _shift_time(item, shift_ns)
            elif hasattr(item, "__msgtype__"):
                _shift_all(item, shift_ns)


@cache
def _fields(kind: type) -> tuple[str, ...]:
    return tuple(name for name in kind.__dataclass_fields__ if name != "__msgtype__")


def _shift_time(time: Any, shift_ns: int) -> None:
    if time.sec or time.nanosec:
        sec, nanosec = divmod(max(time.sec * _NS + time.nanosec + shift_ns, 0), _NS)
        object.__setattr__(time, "sec", sec)
        object.__setattr__(time, "nanosec", nanosec)
