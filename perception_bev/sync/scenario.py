"""Sync: streams of made-up frames and a driver with injected clocks, for tests and the bench."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from perception_bev.contracts import (
    CameraFrame,
    LidarSweep,
    Modality,
    RadarScan,
    SensorBundle,
    SensorFrame,
)
from perception_bev.rig import Camera, Lidar, Radar, Reference, Rig
from perception_bev.sync.clock import MS, SECOND, Now
from perception_bev.sync.collector import BundleCollector

START_NS = 1_700_000_000 * SECOND  # ROS time at which scenarios begin
MONO_NS = 5_000 * SECOND  # monotonic time then; another origin, so that mixing them shows

_PICTURE = np.zeros((1, 1, 3), np.uint8)
_POINTS = np.zeros((0, 4), np.float32)
_RETURNS, _VALUES = np.zeros((0, 3), np.float32), np.zeros(0, np.float32)


def frame_of(modality: Modality, stamp_ns: int) -> SensorFrame:
    """The least frame of a modality."""
    if modality == "camera":
        return CameraFrame(stamp_ns, _PICTURE)
    if modality == "lidar":
        return LidarSweep(stamp_ns, _POINTS)
    return RadarScan(stamp_ns, _RETURNS, _VALUES, _VALUES)


@dataclass(frozen=True)
class Stream:
    """One sensor that measures at start + phase + k * period and arrives `delay_ms` later."""

    name: str
    modality: Modality = "camera"
    period_ms: float = 100.0
    phase_ms: float = 0.0
    delay_ms: float = 5.0
    jitter_ms: float = 0.0  # of the delay, uniform, on top
    clock_ms: float = 0.0  # stamp minus true time
    lost: float = 0.0  # probability that a frame never comes
    from_s: float = 0.0  # first and last moment at which it measures
    until_s: float = 1e9
    settings: dict = field(default_factory=dict)  # further keys of the rig's sensor


@dataclass(frozen=True, slots=True, order=True)
class Arrival:
    """A frame that reaches the collector at a ROS time."""

    at_ns: int
    stamp_ns: int
    name: str
    modality: Modality


@dataclass(frozen=True, slots=True)
class Closed:
    """A bundle and when it was closed."""

    bundle: SensorBundle
    now: Now

    @property
    def latency_ns(self) -> int:
        """From t_ref to closing."""
        return self.now.ros_ns - self.bundle.t_ref_ns


def rig_of(streams: Iterable[Stream], reference: str, wait_ms: float = 25.0,
           period_ms: float = 100.0) -> Rig:
    """A rig with these sensors."""
    made: dict[str, dict] = {"camera": {}, "lidar": {}, "radar": {}}
    kinds = {"camera": Camera, "lidar": Lidar, "radar": Radar}
    for s in streams:
        made[s.modality][s.name] = kinds[s.modality](
            topic=f"{s.modality}/{s.name}", frame_id=s.name, extrinsics="from_tf",
            period_ms=s.period_ms, **s.settings)
    return Rig("scenario", Reference(reference, period_ms, wait_ms),
               made["camera"], made["lidar"], made["radar"])


def arrivals(streams: Iterable[Stream], seconds: float, seed: int = 0,
             start_ns: int = START_NS) -> list[Arrival]:
    """All frames of the streams in the order of arrival; a stream keeps its own order."""
    rng = np.random.default_rng(seed)
    return list(heapq.merge(*(_one(s, seconds, rng, start_ns) for s in streams)))


def _one(stream: Stream, seconds: float, rng: np.random.Generator, start_ns: int) -> list[Arrival]:
    count = int((seconds * 1000 - stream.phase_ms) / stream.period_ms)
    made, earliest = [], 0
    for k in range(max(count, 0)):
        true_ms = stream.phase_ms + k * stream.period_ms
        lost = rng.random() < stream.lost
        delay_ms = stream.delay_ms + stream.jitter_ms * rng.random()
        if lost or not stream.from_s * 1000 <= true_ms < stream.until_s * 1000:
            continue
        earliest = max(earliest, start_ns + round((true_ms + delay_ms) * MS))
        stamp = start_ns + round((true_ms + stream.clock_ms) * MS)
        made.append(Arrival(earliest, stamp, stream.name, stream.modality))
    return made


def drive(collector: BundleCollector, events: Iterable[Arrival], end_ns: int | None = None,
          rate: float = 1.0, start_ns: int = START_NS, mono_ns: int = MONO_NS,
          timer: Callable[[str, Callable], object] = lambda what, call: call(),
          ) -> Iterator[Closed]:
    """Push the events at their times and poll when the collector asks for it.

    ROS time runs at `rate` from `start_ns`, the monotonic clock from `mono_ns`. `timer` wraps
    every call, to measure it.
    """
    def now_at(mono: int) -> Now:
        return Now(mono, start_ns + round((mono - mono_ns) * rate), rate)

    def poll(mono: int) -> Iterator[Closed]:
        while (bundle := timer("poll", lambda: collector.poll(now_at(mono)))) is not None:
            yield Closed(bundle, now_at(mono))

    def wake_until(mono: int) -> Iterator[Closed]:
        while (wake := collector.next_wakeup_ns()) is not None and wake < mono:
            yield from poll(max(wake, last[0]))
            last[0] = max(wake, last[0])

    last = [mono_ns]
    for event in events:
        at = mono_ns + round((event.at_ns - start_ns) / rate)
        yield from wake_until(at)
        last[0] = max(last[0], at)
        frame, now = frame_of(event.modality, event.stamp_ns), now_at(last[0])
        timer("push", lambda e=event, f=frame, n=now: collector.push(e.name, f, n))
        yield from poll(last[0])
    if end_ns is not None:
        yield from wake_until(mono_ns + round((end_ns - start_ns) / rate))
