"""Recordings: a short drive as an endless one. Lap follows lap without a gap, stamps go on, and
each lap begins where the vehicle was when the last one ended: a stack that is watched for hours
sees one drive, and at a seam only the surroundings change."""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from perception_bev.errors import ConfigError, RecordingError
from perception_bev.geometry import SE3
from perception_bev.messages.read import read_odometry
from perception_bev.recordings.bag_reader import BagReader, RawMessage
from perception_bev.recordings.bag_write import absolute
from perception_bev.recordings.playback import Restamper
from perception_bev.recordings.player import Filter, NoFilter, is_epoch, is_latched
from perception_bev.rig import Rig
from perception_bev.temporal.ego import EgoMotion

_AROUND_NS = 1_000_000_000  # odometry that tells a pose
_TOLERANCE = 0.05  # of a period that the recording's length may be off a whole number of them


class Laps:
    """A player's filter that never ends: bag time goes on over the laps.

    A lap is the bag from a period before its first reference sweep to its last one. What is latched
    and the announcement of an epoch are played in the first lap only, and of every topic a stamp is
    played once. Other filters (the faults of a scenario) see the endless drive.
    """

    def __init__(self, reader: BagReader, rig: Rig, topics: set[str],
                 inner: Filter | None = None) -> None:
        """
        Args:
            topics: those that are played.

        Raises:
            ConfigError: the rig's ego motion is not on an odometry topic.
            RecordingError: the bag lacks reference sweeps, or its lap is no whole number of them.
        """
        if rig.odometry_topic is None:
            raise ConfigError(f"endless play needs an odometry topic; rig '{rig.name}' has none")
        self._reader, self._topics = reader, topics
        self._odometry = absolute(rig.odometry_topic)
        self._inner: Filter = inner or NoFilter()
        self.counts: Counter[tuple[str, str]] = self._inner.counts
        self._restamper = Restamper(reader.types)
        self._begin_ns, self._length_ns = _lap(
            reader, absolute(rig.sensors[rig.reference.sensor].topic),
            round(rig.reference.period_ms * 1e6))
        self._begin_from_end = self._way_of_a_lap()
        self._once = {name for name in topics if is_latched(name, reader.topics[name])
                      or is_epoch(name, reader.topics[name])}

    def apply(self, messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
        return self._inner.apply(self._endless(messages))

    def clock_shift_ns(self, log_ns: int) -> int:
        return self._inner.clock_shift_ns(log_ns)

    def _endless(self, first: Iterable[RawMessage]) -> Iterator[RawMessage]:
        last: dict[str, int] = {}  # stamp by topic
        for lap in itertools.count():
            messages = first if lap == 0 else self._reader.raw_messages(self._topics)
            for raw in self._within(messages, lap):
                if raw.stamp_ns > last.get(raw.topic, -1):
                    last[raw.topic] = raw.stamp_ns
                    yield raw

    def _within(self, messages: Iterable[RawMessage], lap: int) -> Iterator[RawMessage]:
        """A lap's messages where they belong in the endless drive."""
        shift_ns = lap * self._length_ns
        odom_from_odom = _power(self._begin_from_end, lap)
        for raw in messages:
            if raw.topic in self._once:
                if lap == 0:
                    yield raw._replace(stamp_ns=max(raw.stamp_ns, self._begin_ns))
            elif 0 <= raw.stamp_ns - self._begin_ns <= self._length_ns:
                data = self._restamper.shift(raw.data, raw.type, shift_ns)
                if raw.topic == self._odometry:
                    data = moved_odometry(data, odom_from_odom)
                yield raw._replace(stamp_ns=raw.stamp_ns + shift_ns, data=data)

    def _way_of_a_lap(self) -> SE3:
        """odom_from_odom: moves the pose at a lap's begin to where the vehicle is at its end."""
        begin, end = (self._pose(self._begin_ns + ns) for ns in (0, self._length_ns))
        if begin is None or end is None:
            raise RecordingError(f"{self._reader.path}: {self._odometry} does not reach from a "
                                 "period before the first reference sweep to the last")
        return end @ begin.inverse()

    def _pose(self, stamp_ns: int) -> SE3 | None:
        """odom_from_base then, of the odometry around it."""
        ego = EgoMotion()
        for raw in self._reader.raw_messages({self._odometry}):
            if abs(raw.stamp_ns - stamp_ns) < _AROUND_NS:
                ego.push(*read_odometry(self._reader.types.deserialize(raw.data, raw.type)))
        return ego.at(stamp_ns)


def _lap(reader: BagReader, reference: str, period_ns: int) -> tuple[int, int]:
    """(begin, length) [ns] of what is played over and over."""
    stamps = [raw.stamp_ns for raw in reader.raw_messages({reference})]
    if len(stamps) < 2:
        raise RecordingError(f"{reader.path}: {reference} has {len(stamps)} messages; endless play "
                             "needs two")
    length = stamps[-1] - stamps[0] + period_ns
    if abs(length / period_ns - round(length / period_ns)) > _TOLERANCE:
        raise RecordingError(f"{reader.path}: {reference} lasts {length / 1e9:.3f} s, no whole "
                             f"number of periods of {period_ns / 1e6:g} ms: its end does not fit "
                             "its beginning")
    return stamps[0] - period_ns, length


def _power(pose: SE3, times: int) -> SE3:
    """The pose applied so many times."""
    result = SE3.identity()
    for _ in range(times):
        result = pose @ result
    return result


def moved_odometry(data: bytes, odom_from_odom: SE3) -> bytes:
    """A serialised nav_msgs/Odometry whose pose is seen from another odom frame. The twist is the
    vehicle's own and stays. Only seven numbers are written, nothing is decoded."""
    order, at = "<" if data[1] & 1 else ">", _pose_at(data)
    values = np.array(struct.unpack_from(order + "7d", data, at))
    pose = odom_from_odom @ SE3.from_quaternion(values[:3], values[3:])
    patched = bytearray(data)
    struct.pack_into(order + "7d", patched, at, *pose.translation, *pose.quaternion)
    return bytes(patched)


def _pose_at(data: bytes) -> int:
    """Where the position begins: after the header and the child's name. CDR aligns numbers to their
    size, counted from behind the encapsulation's four bytes."""
    order, at = "<" if data[1] & 1 else ">", 12
    for _ in ("frame_id", "child_frame_id"):
        at += -at % 4
        at += 4 + struct.unpack_from(order + "I", data, at)[0]
    return at + (4 - at) % 8
