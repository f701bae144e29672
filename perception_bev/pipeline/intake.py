"""Pipeline: raw frames of all sensors in, from any thread; decoded in pools, handed on in order.

Clouds have a thread of their own: they take under a millisecond and must not queue behind
pictures, which take ten.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from perception_bev.contracts import SensorFrame
from perception_bev.errors import BadMessage
from perception_bev.pipeline.ingest import Ingest
from perception_bev.raw import RawFrame
from perception_bev.rig import Rig
from perception_bev.sync.clock import Now, StampMonitor

QUEUED = 2  # raw frames a sensor that may wait for decoding; the newest win
KEPT_TIMINGS = 6  # frames a sensor whose times are known for the trace

Timing = tuple[int, int, int]  # arrived, decoding began, ended [monotonic ns]


class Intake:
    """push() and forget; what was decoded comes out by `take`, what was not by `drop`."""

    def __init__(self, rig: Rig, ingest: Ingest, decode_threads: int, clock: Callable[[], int],
                 take: Callable[[str, SensorFrame, Now], None],
                 drop: Callable[[str, str, Now], None],
                 fault: Callable[[str], None],
                 pass_gate: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            clock: monotonic ns.
            take: (sensor, frame, now): in the order of arrival for each sensor; `now` is when its
                decoding ended.
            drop: (sensor, reason, now).
            fault: text of an error that is ours and not the message's.
            pass_gate: called before a picture is decoded; may wait.
        """
        self.received: Counter[str] = Counter()  # messages, by sensor
        self._clock, self._take, self._drop, self._fault = clock, take, drop, fault
        self._pass_gate = pass_gate
        self._lock = threading.Lock()
        self._queues: dict[str, deque[tuple[RawFrame, Now]]] = {n: deque() for n in rig.sensors}
        self._decoding: set[str] = set()  # sensors that have a job in the pool, one at most
        self._closed = False
        self._clouds = ThreadPoolExecutor(1, "clouds")
        self._pictures = ThreadPoolExecutor(decode_threads, "pictures")
        self.install(rig, ingest)

    def install(self, rig: Rig, ingest: Ingest) -> None:
        """Decode with this calibration from now on, also what waits already."""
        with self._lock:
            self._rig, self._ingest = rig, ingest
            self.monitors = {name: StampMonitor(name, sensor, rig.modality(name) == "lidar")
                             for name, sensor in rig.sensors.items()}
            self._timings: dict[str, OrderedDict[int, Timing]] = {}

    def push(self, sensor: str, raw: RawFrame, now: Now) -> None:
        """Queue a frame for decoding and return; `now` is its arrival."""
        with self._lock:
            self.received[sensor] += 1
            queue = self._queues.get(sensor)
            overtaken = queue is not None and len(queue) == QUEUED
            if overtaken:
                queue.popleft()
            if queue is not None:
                queue.append((raw, now))
                self._decode_on(sensor)
        if queue is None:
            self._drop(sensor, "unknown_sensor", now)
        elif overtaken:
            self._drop(sensor, "superseded", now)

    def refuse(self, sensor: str, reason: str, now: Now) -> None:
        """A message that could not be read."""
        with self._lock:
            self.received[sensor] += 1
        self._drop(sensor, reason, now)

    def timings(self, frames: Iterable[tuple[str, int]]) -> list[tuple[str, int, Timing]]:
        """Of frames by sensor and stamp, those that are known."""
        with self._lock:
            return [(name, stamp, found) for name, stamp in frames
                    if (found := self._timings.get(name, {}).get(stamp)) is not None]

    def waiting(self, sensor: str) -> int:
        """Frames that wait to be decoded."""
        return len(self._queues[sensor])

    @property
    def busy(self) -> bool:
        """Whether something is being decoded."""
        return bool(self._decoding)

    def close(self) -> None:
        """Finish the frames at hand and stop. What is pushed from now on is ignored."""
        with self._lock:
            self._closed = True
        for pool in (self._clouds, self._pictures):
            pool.shutdown(wait=True, cancel_futures=True)

    def _decode_on(self, sensor: str) -> None:
        """Give the pool the sensor's next frame, if there is one; called with the lock held.

        One job a sensor: two would hand its frames over out of order.
        """
        if self._queues[sensor] and sensor not in self._decoding and not self._closed:
            self._decoding.add(sensor)
            pool = self._pictures if sensor in self._rig.cameras else self._clouds
            pool.submit(self._decode_next, sensor)

    def _decode_next(self, sensor: str) -> None:
        """Decode the oldest waiting frame of a sensor, hand it over, and ask for the next."""
        if sensor in self._rig.cameras:
            self._pass_gate()
        with self._lock:
            raw, arrived = self._queues[sensor].popleft()
            stamp = self.monitors[sensor].correct(raw.stamp_ns, arrived)
            ingest = self._ingest
        start = self._clock()
        try:
            frame = ingest.decode(sensor, raw, stamp)
            self._note(sensor, frame.stamp_ns, (arrived.mono_ns, start, self._clock()))
            self._take(sensor, frame, _later(arrived, self._clock()))
        except BadMessage as err:
            self._drop(sensor, err.reason, arrived)
        except Exception as err:  # a fault of ours must be seen, and must not end the pool
            self._fault(f"{sensor}: {type(err).__name__}: {err}")
            self._drop(sensor, "internal_error", arrived)
        finally:
            with self._lock:
                self._decoding.discard(sensor)
                self._decode_on(sensor)

    def _note(self, sensor: str, stamp_ns: int, timing: Timing) -> None:
        with self._lock:
            timings = self._timings.setdefault(sensor, OrderedDict())
            timings.setdefault(stamp_ns, timing)  # a repeated stamp came before
            while len(timings) > KEPT_TIMINGS:
                timings.popitem(last=False)


def _later(now: Now, mono_ns: int) -> Now:
    """The same clocks at a later monotonic time: decoding belongs to a frame's way, and the
    collector predicts from it how long to wait for the next."""
    passed = round((mono_ns - now.mono_ns) * now.rate)
    return replace(now, mono_ns=mono_ns, ros_ns=now.ros_ns + passed)
