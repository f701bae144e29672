"""Sync: one sensor as the collector sees it: frames that wait for a bundle, and its habits."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from perception_bev.contracts import Modality, SensorFrame, Slot
from perception_bev.rig import Sensor

MS = 1_000_000  # [ns]
MAX_FRAMES = 32
DEAD_PERIODS = 3.5  # without a frame: three expected ones were missed
BACKWARD_RUN = 3  # so many backward frames in a row are a clock set back, not disorder
MIN_PATIENCE_NS = 2 * MS


class Track:
    """Frames of one sensor that have not served a bundle, oldest first, and when the next is due.

    Its next arrival is predicted as TCP predicts a round trip (Jacobson 1988, RFC 6298): smoothed
    delay plus four smoothed deviations. All times are of the clock that wrote the stamps [ns].
    """

    def __init__(self, name: str, sensor: Sensor, modality: Modality, output_ns: float,
                 wait_ns: int, count_drop: Callable[[str, str], None]) -> None:
        self.name, self.modality = name, modality
        self.age_limit_ns = sensor.age_limit_ns
        self.lead_ns = round(sensor.max_lead_ms * MS)
        self._nominal, self._output_ns = sensor.period_ms * MS, output_ns
        self._drop = count_drop
        held = output_ns + wait_ns + self.lead_ns + (
            self.age_limit_ns if modality == "radar" else 0)
        self.capacity = min(max(math.ceil(held / self._nominal) + 2, 4), MAX_FRAMES)
        self.clear()

    def begin_epoch(self, at_ns: int) -> None:
        """Forget everything but how long frames take to come, if the sensor lived until now.

        In a new epoch nothing tells its rhythm; one frame is awaited all the same, or the first
        bundle of each epoch would lack whatever comes a moment after the reference.
        """
        if self.heard_ns is None:
            carried = self._carried_ns
        else:
            carried = None if self.dead(at_ns) else self._patience_ns()
        self.clear()
        self._carried_ns = carried

    def _patience_ns(self) -> int:
        return round(self.delay_ns + max(4 * self._deviation_ns, MIN_PATIENCE_NS))

    def clear(self) -> None:
        """Forget everything, in a new epoch or when the sensor's clock was set back."""
        self.frames: deque[SensorFrame] = deque()
        self.last_ns: int | None = None  # newest stamp
        self.heard_ns: int | None = None  # arrival of the newest frame
        self.phase_ns: int | None = None  # newest stamp, refused frames included: the rhythm
        self.refused: str | None = None  # why the last frame was, since the last bundle
        self.period_ns = self._nominal
        self.delay_ns, self._deviation_ns = 0.0, 2.5 * MS  # of arrival - stamp
        self._used: SensorFrame | None = None
        self._missed_ns = -1  # frames stamped up to here that come now missed their bundle
        self._carried_ns: int | None = None  # delay to allow for in the first bundle of an epoch
        self._late: set[int] = set()  # stamps of waiting frames that missed theirs
        self._backward = 0

    def order_fault(self, stamp_ns: int) -> str | None:
        """"duplicate" or "backward" for a stamp that is not newer than the last."""
        if self.last_ns is None or stamp_ns > self.last_ns:
            self._backward = 0
            return None
        if stamp_ns == self.last_ns:
            return "duplicate"
        self._backward += 1
        if self._backward < BACKWARD_RUN:
            return "backward"
        self.discard_all("backward")
        self.clear()
        return None

    def accept(self, frame: SensorFrame, at_ns: int) -> None:
        """Keep a frame that arrived at `at_ns`; the oldest goes where there is no room."""
        self.learn(frame.stamp_ns, at_ns)
        if len(self.frames) >= self.capacity:
            self._discard("overflow")
        if frame.stamp_ns <= self._missed_ns:
            self._late.add(frame.stamp_ns)
        self.frames.append(frame)
        self.refused = None

    def refuse(self, reason: str) -> None:
        """The decoder refused a frame, the next of the rhythm as far as anyone knows."""
        self.refused = f"bad: {reason}"
        if self.phase_ns is not None:
            self.phase_ns += round(self.period_ns)

    def dead(self, at_ns: int) -> bool:
        """Never came, or its last three expected frames did not."""
        return self.heard_ns is None or at_ns - self.heard_ns > DEAD_PERIODS * self.period_ns

    def expects(self, t_ref_ns: int, limit_ns: int, at_ns: int) -> int | None:
        """The stamp of the newest frame that belongs to t_ref, can arrive by the limit and is not
        here; None: nothing of that kind is to be expected."""
        if self.dead(at_ns):
            return None
        newest = min(t_ref_ns + self.lead_ns, limit_ns - self.delay_ns)
        steps = math.floor((newest - self.phase_ns) / self.period_ns)
        stamp = self.phase_ns + round(steps * self.period_ns)
        return stamp if steps >= 1 and stamp >= t_ref_ns - self.age_limit_ns else None

    def awaited_until(self, t_ref_ns: int, limit_ns: int, at_ns: int) -> int | None:
        """Until when to wait for the frame that is expected; None: not, or not any longer.

        After its delay and four deviations it is given up.
        """
        if self.heard_ns is None and self._carried_ns is not None:
            until = t_ref_ns + self._carried_ns
            return until if until > at_ns else None
        stamp = self.expects(t_ref_ns, limit_ns, at_ns)
        if stamp is None:
            return None
        until = stamp + self._patience_ns()
        return until if until > at_ns else None

    def take(self, t_ref_ns: int, at_ns: int, may_reuse: bool = True) -> Slot:
        """The slot of a bundle that closes now; what it uses and passes over is let go."""
        low, high = t_ref_ns - self.age_limit_ns, t_ref_ns + self.lead_ns
        fits = [f for f in self.frames if low <= f.stamp_ns <= high]
        self._missed_ns = high
        self._carried_ns = None
        if fits:
            chosen = self._choose(fits)
            slot = Slot(tuple(chosen), t_ref_ns - chosen[-1].stamp_ns)
            self._let_go(chosen)
        else:
            slot = self._reuse(t_ref_ns) if may_reuse else None
            slot = slot or Slot(reason=self._why_empty(at_ns))
        self.refused = None
        return slot

    def discard_older(self, limit_ns: int) -> None:
        """Let go frames that no bundle can use any more."""
        while self.frames and self.frames[0].stamp_ns < limit_ns:
            self._discard("superseded")

    def discard_all(self, reason: str) -> None:
        while self.frames:
            self._discard(reason)

    def _choose(self, fits: list[SensorFrame]) -> list[SensorFrame]:
        """Camera: the newest. Radar: all. Lidar: the sweeps of one output period."""
        if self.modality == "camera":
            return fits[-1:]
        if self.modality == "radar":
            return fits
        oldest = fits[-1].stamp_ns - (self._output_ns - 0.5 * self.period_ns)
        return [f for f in fits if f.stamp_ns > oldest or f is fits[-1]]

    def _let_go(self, chosen: list[SensorFrame]) -> None:
        self._used = chosen[-1]
        used = {f.stamp_ns for f in chosen}
        while self.frames and self.frames[0].stamp_ns <= self._used.stamp_ns:
            if self.frames[0].stamp_ns in used:
                self._late.discard(self.frames.popleft().stamp_ns)
            else:
                self._discard("superseded")

    def _reuse(self, t_ref_ns: int) -> Slot | None:
        if self._used is None or self._used.stamp_ns < t_ref_ns - self.age_limit_ns:
            return None
        return Slot((self._used,), t_ref_ns - self._used.stamp_ns, "reused")

    def _why_empty(self, at_ns: int) -> str:
        if self.refused is not None:
            return self.refused
        if self.dead(at_ns):
            return "missing"
        return "late" if at_ns - self.heard_ns > 1.5 * self.period_ns else "stale"

    def _discard(self, reason: str) -> None:
        stamp = self.frames.popleft().stamp_ns
        late = stamp in self._late
        self._late.discard(stamp)
        self._drop(self.name, "late" if late and reason == "superseded" else reason)

    def learn(self, stamp_ns: int, at_ns: int) -> None:
        """Delay and rhythm from a frame that came, whether or not it can be used."""
        delay = at_ns - stamp_ns
        if self.last_ns is None:
            self.delay_ns = float(delay)
        else:
            step = stamp_ns - self.last_ns
            period = step / max(1, round(step / self.period_ns))
            self.period_ns = max(self.period_ns + (period - self.period_ns) / 8, 1.0 * MS)
            self._deviation_ns += (abs(delay - self.delay_ns) - self._deviation_ns) / 4
            self.delay_ns += (delay - self.delay_ns) / 8
        self.last_ns = self.phase_ns = stamp_ns
        self.heard_ns = at_ns
