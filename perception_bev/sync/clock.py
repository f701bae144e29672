"""Sync: ROS time and the monotonic clock; clock jumps, foreign stamps, clock faults by name.

Stamps are ROS time, deadlines are monotonic. Nothing here reads a clock: the caller reads both
once, as `Now`, and hands them in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

from perception_bev.rig import Sensor
from perception_bev.sync import clock_faults

MS = 1_000_000  # [ns]
SECOND = 1_000_000_000  # [ns]
NEVER_NS = 2**63 - 1  # a monotonic time that does not come

FUTURE_NS = 50 * MS  # a stamp further ahead of its arrival is a clock fault
FOREIGN_NS = SECOND  # a stamp further behind its arrival is of another clock, not just late
JUMP_NS = SECOND  # forward steps of ROS time, backward steps of the reference
BACKWARD_NS = 100 * MS  # backward steps of ROS time; threads hand in `Now` slightly out of order
FRESH_NS = 300 * MS  # a stamp that is no older on arrival speaks for the clock in use
ALIKE_NS = 150 * MS  # two sensors of one clock differ by their transport, so much at most
CONTEST_NS = 300 * MS  # for so long most sensors must disagree with the clock in use
RECENT_NS = SECOND  # a sensor that was silent for longer has no vote


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of both clocks, taken by the caller when something happened."""

    mono_ns: int  # monotonic clock
    ros_ns: int  # ROS time: system time, or /clock
    rate: float = 1.0  # ROS seconds per monotonic second; 0: /clock is paused


class ClockWatch:
    """Says when a new epoch begins, and what time it is on the clock that wrote the stamps.

    Usually that is ROS time itself. But a bag played without `--clock`, or sensors on a PTP
    master that this computer does not follow, stamp by a clock of their own. Where most of the
    sensors heard in the last second agree with each other and not with the clock in use, for
    300 ms, theirs is taken; in a tie ROS time stays. A single sensor with a wrong clock therefore
    stays that sensor's fault. While `shift_ns` is not 0 no latency can be claimed.
    """

    def __init__(self) -> None:
        self.shift_ns = 0  # ROS time minus stamp time
        self._last: Now | None = None
        self._reference_ns: int | None = None
        self._lags: dict[str, tuple[int, int]] = {}  # sensor: arrival - stamp [ns], heard (mono)
        self._contested_since: int | None = None  # monotonic

    def stamp_time(self, now: Now) -> int:
        """What the clock that wrote the stamps shows now [ns]."""
        return now.ros_ns - self.shift_ns

    def lag_ns(self, now: Now, stamp_ns: int) -> int:
        """How old a stamp is now; negative: it lies in the future."""
        return self.stamp_time(now) - stamp_ns

    def mono_deadline(self, now: Now, t_ros_ns: int) -> int:
        """The monotonic time at which a time of stamps is reached; NEVER_NS while paused."""
        remaining = t_ros_ns - self.stamp_time(now)
        if now.rate > 0:
            return now.mono_ns + round(remaining / now.rate)
        return now.mono_ns if remaining <= 0 else NEVER_NS

    def observe(self, now: Now) -> str | None:
        """Call with every reading; gives the reason for a new epoch when ROS time jumped."""
        last = self._last
        if last is not None and now.mono_ns < last.mono_ns:
            return None  # read before the last one and handed in after it
        self._last = now
        if last is None:
            return None
        step = now.ros_ns - last.ros_ns
        expected = max(now.rate, last.rate) * (now.mono_ns - last.mono_ns)
        if step < -BACKWARD_NS:
            return self._forget(f"ROS time went back {-step / 1e9:.3f} s")
        if step - expected > JUMP_NS:
            return self._forget(f"ROS time jumped forward {(step - expected) / 1e9:.3f} s")
        return None

    def reference(self, now: Now, stamp_ns: int) -> str | None:
        """Call with every stamp of the reference sensor; a reason when it went back over 1 s."""
        last = self._reference_ns
        if last is None or last - stamp_ns <= JUMP_NS:
            self._reference_ns = stamp_ns if last is None else max(last, stamp_ns)
            return None
        shifted = self.shift_ns != 0
        self.forget()
        self._reference_ns = stamp_ns
        if shifted:  # stamps that ROS time does not date begin again here, as a looping bag does
            self.shift_ns = now.ros_ns - stamp_ns
        return f"the reference's stamps went back {(last - stamp_ns) / 1e9:.3f} s"

    def hear(self, name: str, now: Now, stamp_ns: int, is_reference: bool = False) -> str | None:
        """Learn whose clock the stamps are of; a reason for a new epoch when that changes."""
        lag = now.ros_ns - stamp_ns
        self._lags[name] = (lag, now.mono_ns)
        if _belongs(lag, self.shift_ns):
            if is_reference and self.shift_ns:
                self._follow(lag)
            return None
        return self._contest(now, lag)

    def forget(self) -> None:
        """Begin anew: of a new epoch only the readings of the clock are known."""
        self.shift_ns = 0
        self._reference_ns = None
        self._lags.clear()
        self._contested_since = None

    def _forget(self, reason: str) -> str:
        self.forget()
        return reason

    def _follow(self, lag: int) -> None:
        """Down at once, up slowly: the least lag is nearest to the truth, and clocks drift."""
        error = lag - self.shift_ns
        self.shift_ns += error if error < 0 else error // 4

    def _contest(self, now: Now, lag: int) -> str | None:
        shift = self._outvoted(now, lag)
        if shift is None:
            self._contested_since = None
            return None
        if self._contested_since is None:
            self._contested_since = now.mono_ns
        if shift != 0 and now.mono_ns - self._contested_since < CONTEST_NS:
            return None
        self.forget()
        self.shift_ns = shift
        return ("stamps are of this clock again" if shift == 0 else
                f"most stamps are of a clock {-shift / 1e9:+.3f} s from ROS time")

    def _outvoted(self, now: Now, lag: int) -> int | None:
        """The clock of those that agree with `lag`, if they outnumber those with the one in use."""
        recent = [x for x, heard in self._lags.values() if now.mono_ns - heard < RECENT_NS]
        rivals = [x for x in recent if abs(x - lag) <= ALIKE_NS]
        if len(rivals) <= sum(_fresh(x, self.shift_ns) for x in recent):
            return None
        return 0 if _belongs(min(rivals), 0) else min(rivals)


def _fresh(lag: int, shift: int) -> bool:
    return -FUTURE_NS <= lag - shift <= FRESH_NS


def _belongs(lag: int, shift: int) -> bool:
    return -FUTURE_NS <= lag - shift <= FOREIGN_NS


class StampMonitor:
    """One sensor's stamps: corrects them, and watches them against their arrival.

    Reference: the least of (arrival - stamp) over a window estimates clock offset plus least
    transport, as NTP's clock filter does (RFC 5905, section 10).
    """

    def __init__(self, name: str, sensor: Sensor, is_lidar: bool = False,
                 window: int = 100) -> None:
        self.name = name
        self._sensor, self._is_lidar = sensor, is_lidar
        self._offset_ns = round(sensor.clock_offset_ms * MS)
        self._delays: deque[int] = deque(maxlen=window)  # arrival - corrected header stamp [ns]
        self._stamps: deque[int] = deque(maxlen=window)

    def correct(self, header_ns: int, now: Now) -> int:
        """The stamp to use [ns]: the header's or the arrival's, with the rig's offset."""
        corrected = header_ns + self._offset_ns
        self._delays.append(now.ros_ns - corrected)
        from_header = self._sensor.stamp_source == "header"
        stamp = corrected if from_header else now.ros_ns + self._offset_ns
        self._stamps.append(stamp)
        return stamp

    @property
    def min_delay_ns(self) -> int | None:
        """Least arrival - stamp in the window; None before the first."""
        return min(self._delays, default=None)

    @property
    def spread_ns(self) -> int | None:
        """How far the 95th percentile of arrival - stamp lies above the least."""
        if not self._delays:
            return None
        ordered = sorted(self._delays)
        return ordered[int(0.95 * (len(ordered) - 1))] - ordered[0]

    @property
    def period_ns(self) -> int | None:
        """Median interval of the stamps; None before the second."""
        stamps = list(self._stamps)
        steps = sorted(b - a for a, b in pairwise(stamps))
        return steps[len(steps) // 2] if steps else None

    def fault(self) -> str | None:
        """What is wrong with this sensor's clock, in words and with the cure; None: nothing."""
        if len(self._delays) < 10:
            return None
        named = None
        if self._sensor.stamp_source == "header":
            named = clock_faults.name_offset(
                self.min_delay_ns, self.spread_ns, self._stamps[-1], self._sensor.clock_offset_ms)
            if named is None and self._is_lidar:
                named = clock_faults.name_sweep_origin(
                    self.min_delay_ns, self._sensor.period_ms * MS, self._sensor.stamp)
        named = named or clock_faults.name_period(self.period_ns, self._sensor.period_ms * MS)
        return None if named is None else f"{self.name}: {named}"

    def reset(self) -> None:
        """Begin anew, in a new epoch."""
        self._delays.clear()
        self._stamps.clear()
