"""Commands: a recorded drive in memory, pushed into a running `Perception` at any rate, as sensors
that are so fast would do it: everything that lies between two sweeps is stretched or squeezed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perception_bev.errors import RecordingError
from perception_bev.geometry import SE3
from perception_bev.pipeline.perception import Perception
from perception_bev.raw import RawCloud, RawFrame
from perception_bev.recordings.base import OdometrySample
from perception_bev.recordings.convert import log_time
from perception_bev.rig import Rig
from perception_bev.sync.clock import Now

ODOMETRY = ""  # in the place of a sensor's name
WAIT_MS = 25.0  # at most, for sensors after t_ref


@dataclass(frozen=True, slots=True)
class Event:
    """One message of a lap."""

    at_ns: int  # its arrival, from the lap's begin
    stamp_ns: int  # from the lap's begin
    sensor: str
    what: RawFrame | OdometrySample


@dataclass(frozen=True)
class Drive:
    """A lap in order of arrival; it can be driven over and over (recordings/laps.py)."""

    events: list[Event]
    length_ns: int
    begin_from_end: SE3  # moves odom so that the next lap begins where this one ends
    reference: str

    def at(self, load_hz: float, rig: Rig) -> Drive:
        """With sweeps at `load_hz`; `rig` is the recorded one's."""
        factor = 1e3 / (load_hz * rig.reference.period_ms)
        return Drive([_stretched(event, factor, rig) for event in self.events],
                     round(self.length_ns * factor), self.begin_from_end, self.reference)


def load_drive(bag: Path, rig: Rig, samples: int) -> Drive:
    """The first samples of a bag.

    Raises:
        RecordingError: there are not so many, or there is no odometry.
    """
    from perception_bev.recordings.bag import BagRecording

    recording = BagRecording(bag, rig)
    try:
        if len(recording) < samples + 1:
            raise RecordingError(f"{bag}: {len(recording)} samples; {samples + 1} are needed")
        taken = [recording[index] for index in range(samples + 1)]
    finally:
        recording.close()
    begin, end = taken[0], taken[-1]
    if begin.odom_from_base is None or end.odom_from_base is None:
        raise RecordingError(f"{bag}: no odometry at its reference stamps")
    events = {(event.sensor, event.stamp_ns): event  # a frame may serve two samples
              for sample in taken[1:] for event in _events(sample, rig, begin.t_ref_ns)}
    return Drive(sorted((e for e in events.values() if e.at_ns >= 0), key=lambda e: e.at_ns),
                 end.t_ref_ns - begin.t_ref_ns,
                 end.odom_from_base @ begin.odom_from_base.inverse(), rig.reference.sensor)


def _events(sample, rig: Rig, begin_ns: int) -> Iterator[Event]:
    for name, frames in sample.raw.items():
        for raw in frames:
            arrival = log_time(rig.sensors[name], raw.stamp_ns)
            yield Event(arrival - begin_ns, raw.stamp_ns - begin_ns, name, raw)
    for known in sample.odometry:
        yield Event(known.stamp_ns - begin_ns, known.stamp_ns - begin_ns, ODOMETRY, known)


def _stretched(event: Event, factor: float, rig: Rig) -> Event:
    what = event.what
    if isinstance(what, OdometrySample):
        what = replace(what, linear=what.linear / factor, angular=what.angular / factor)
    elif event.sensor in rig.lidars and isinstance(what, RawCloud):
        what = _with_times(what, factor, rig.lidars[event.sensor].point_time)
    return Event(round(event.at_ns * factor), round(event.stamp_ns * factor), event.sensor, what)


def _with_times(raw: RawCloud, factor: float, point_time) -> RawCloud:
    """Points that were measured faster; absolute times stay, they are few sensors'."""
    if point_time is None or point_time.origin != "stamp":
        return raw
    points = raw.points.copy()
    points[point_time.field] = (points[point_time.field] * factor).astype(
        points.dtype[point_time.field])
    return replace(raw, points=points)


def rig_at(rig: Rig, load_hz: float) -> Rig:
    """The rig of sensors that are so fast; its limits that are times go with them."""
    factor = 1e3 / (load_hz * rig.reference.period_ms)

    def faster(sensors):
        return {name: replace(sensor, period_ms=sensor.period_ms * factor, max_age_ms=None
                              if sensor.max_age_ms is None else sensor.max_age_ms * factor)
                for name, sensor in sensors.items()}

    reference = replace(rig.reference, period_ms=rig.reference.period_ms * factor,
                        wait_ms=min(WAIT_MS, rig.reference.wait_ms * factor))
    return replace(rig, reference=reference, cameras=faster(rig.cameras),
                   lidars=faster(rig.lidars), radars=faster(rig.radars))


class Clocks:
    """ROS time beside the monotonic clock, at a fixed distance: nobody sets it."""

    def __init__(self) -> None:
        self.shift_ns = time.time_ns() - time.monotonic_ns()

    def now(self) -> Now:
        mono = time.monotonic_ns()
        return Now(mono, mono + self.shift_ns)


class Feeder:
    """A thread that drives lap after lap until it is stopped."""

    def __init__(self, perception: Perception, drive: Drive, clocks: Clocks, start_ns: int) -> None:
        """start_ns: when the first lap begins [monotonic]."""
        self._perception, self._drive, self._clocks = perception, drive, clocks
        self._start_ns = start_ns
        self._over = threading.Event()
        self.swept: list[int] = []  # t_ref [monotonic] of every reference sweep that was pushed
        self.max_late_ms = 0.0
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        lap, odom_from_odom = 0, SE3.identity()
        while not self._over.is_set():
            begin_ns = self._start_ns + lap * self._drive.length_ns
            for event in self._drive.events:
                if not self._until(begin_ns + event.at_ns):
                    return
                self._push(event, begin_ns + event.stamp_ns, odom_from_odom)
            lap, odom_from_odom = lap + 1, self._drive.begin_from_end @ odom_from_odom

    def _until(self, due_ns: int) -> bool:
        """Sleep; False when it is all over."""
        while (left := due_ns - time.monotonic_ns()) > 0:
            if self._over.wait(min(left * 1e-9, 0.2)):
                return False
        self.max_late_ms = max(self.max_late_ms, -left / 1e6)
        return not self._over.is_set()

    def _push(self, event: Event, stamp_mono_ns: int, odom_from_odom: SE3) -> None:
        stamp, what = stamp_mono_ns + self._clocks.shift_ns, event.what
        if isinstance(what, OdometrySample):
            self._perception.push_odometry(stamp, odom_from_odom @ what.odom_from_base,
                                           np.asarray(what.linear), np.asarray(what.angular))
            return
        if event.sensor == self._drive.reference:
            self.swept.append(stamp_mono_ns)
        self._perception.push(event.sensor, replace(what, stamp_ns=stamp), self._clocks.now())
