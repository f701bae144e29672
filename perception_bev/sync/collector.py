"""Sync: the deadline collector. Frames of all sensors in, one bundle per output cycle out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import MappingProxyType
from typing import Protocol

from perception_bev.contracts import SensorBundle, SensorFrame, Slot
from perception_bev.geometry import SE3
from perception_bev.rig import Rig
from perception_bev.sync.advice import advise
from perception_bev.sync.clock import FUTURE_NS, MS, NEVER_NS, SECOND, ClockWatch, Now
from perception_bev.sync.grid import OutputGrid
from perception_bev.sync.track import Track

OLD_NS = 300 * MS  # a stamp this old on arrival serves nothing, and no grid is locked to it
SILENCE_NS = SECOND  # without any frame the output stops; what comes then is a new epoch
MATCH = 0.4  # of a sweep: so near to the predicted output stamp a sweep closes the bundle


class BundleCollector(Protocol):
    """What the pipeline asks of a collector. None of the methods raises over a frame."""

    epoch: int
    clock: ClockWatch
    drops: Counter[tuple[str, str]]  # (sensor, reason)

    def push(self, name: str, frame: SensorFrame, now: Now) -> None: ...

    def drop(self, name: str, reason: str, now: Now) -> None: ...

    def poll(self, now: Now) -> SensorBundle | None: ...

    def next_wakeup_ns(self) -> int | None: ...

    def new_epoch(self, reason: str) -> None: ...

    def advice(self) -> tuple[str, ...]: ...


def no_ego(stamp_ns: int) -> SE3 | None:
    """For vehicles without odometry."""
    return None


class Collector:
    """Closes one bundle per output cycle, whatever comes.

    The reference's sweep end is t_ref; without it, the grid predicts it. A bundle closes when all
    that can still come for it is there, at the latest at t_ref + wait. Poll after every push and
    at `next_wakeup_ns()`, until None. It calls nobody but `ego`, so no consumer can stop it.
    It has one owner: hand frames in from one thread at a time. O(sensors) per call.
    """

    def __init__(self, rig: Rig, ego: Callable[[int], SE3 | None] = no_ego,
                 clock: ClockWatch | None = None) -> None:
        self.clock = clock or ClockWatch()
        self.epoch = 0
        self.epoch_reason = "start"
        self.skipped_cycles = 0  # output cycles that passed while nobody polled
        self.drops: Counter[tuple[str, str]] = Counter()
        self._rig, self._ego = rig, ego
        self._wait_ns = round(rig.reference.wait_ms * MS)
        reference = rig.sensors[rig.reference.sensor]
        self._grid = OutputGrid(reference.period_ms * MS, rig.reference.period_ms * MS)
        self._tracks = {
            name: Track(name, sensor, rig.modality(name), self._grid.output_ns, self._wait_ns,
                        self._count)
            for name, sensor in rig.sensors.items()}
        self._reference = self._tracks[rig.reference.sensor]
        self._others = [t for t in self._tracks.values() if t is not self._reference]
        slowest = max(sensor.period_ms for sensor in rig.sensors.values()) * MS
        self._silence_ns = max(SILENCE_NS, round(3 * max(slowest, self._grid.output_ns)))
        self._sequence = 0
        self._heard_ns: int | None = None
        self._begin()

    def push(self, name: str, frame: SensorFrame, now: Now) -> None:
        """Take a decoded frame with a corrected stamp; what cannot be used is counted."""
        track = self._tracks.get(name)
        if track is None or frame.modality != track.modality:
            self._count(name, "unknown_sensor" if track is None else "wrong_modality")
            return
        self._watch(now)
        refusal = self._refusal(track, frame.stamp_ns, now)
        if refusal is None:
            self._accept(track, frame, self.clock.stamp_time(now))
        else:
            self._refuse(track, refusal)
        self._arm(now)

    def drop(self, name: str, reason: str, now: Now) -> None:
        """A frame came that the decoder refused: it is counted and no longer waited for."""
        self._count(name, reason)
        if name in self._tracks:
            self._tracks[name].refuse(reason)
        self._watch(now)
        self._arm(now)

    def poll(self, now: Now) -> SensorBundle | None:
        """The next bundle, if one closes now. Call until None."""
        self._watch(now)
        at = self.clock.stamp_time(now)
        if self._heard_ns is None or at - self._heard_ns > self._silence_ns:
            self._mono_ns = NEVER_NS
            return None
        self._skip_missed(at)
        self._arm(now)
        if now.mono_ns < self._mono_ns:
            return None
        if self._next_ns is None:
            self._seed()
            return self.poll(now)
        return self._close(at, now)

    def next_wakeup_ns(self) -> int | None:
        """Monotonic time at which poll may have a bundle without a further push; None: never."""
        return None if self._mono_ns == NEVER_NS else self._mono_ns

    def new_epoch(self, reason: str) -> None:
        """Forget all frames and the grid: a loop, a seek, a jump, announced or detected."""
        self.epoch += 1
        self.epoch_reason = reason
        self._begin()

    def advice(self) -> tuple[str, ...]:
        """What in the rig file does not fit what the sensors do, with the cure."""
        delays = {t.name: t.delay_ns for t in self._tracks.values() if t.heard_ns is not None}
        return advise(self._rig, self._grid.output_ns / MS, delays, self.drops)

    @property
    def waiting(self) -> int:
        """Frames that are held now, over all sensors; bounded."""
        return sum(len(track.frames) for track in self._tracks.values())

    def _begin(self) -> None:
        for track in self._tracks.values():
            track.discard_all("epoch")
            track.begin_epoch(self._heard_ns or 0)
        self._grid.reset()
        self._last_ns: int | None = None  # t_ref of the last bundle of this epoch
        self._next_ns: int | None = None  # t_ref of the next, predicted
        self._first_ns: int | None = None  # first and last arrival of a frame in this epoch
        self._heard_ns = None
        self._armed: tuple[int, float] | None = None  # for what time, at what rate
        self._mono_ns = NEVER_NS

    def _jump(self, reason: str | None) -> None:
        """One jump is seen several times, by the clock and by sensors: count it once."""
        if reason is None:
            return
        if self._last_ns is None:
            self._begin()
        else:
            self.new_epoch(reason)

    def _watch(self, now: Now) -> None:
        self._jump(self.clock.observe(now))

    def _refusal(self, track: Track, stamp_ns: int, now: Now) -> str | None:
        """Why a frame cannot be kept: "future", "stale", "backward", "duplicate"; None: it can."""
        is_reference = track is self._reference
        self._jump(self.clock.hear(track.name, now, stamp_ns, is_reference))
        lag = self.clock.lag_ns(now, stamp_ns)
        if lag < -FUTURE_NS:
            return "future"
        if is_reference:
            self._jump(self.clock.reference(now, stamp_ns))
            lag = self.clock.lag_ns(now, stamp_ns)
        if lag > max(OLD_NS, track.age_limit_ns + self._grid.output_ns + self._wait_ns):
            return "stale"
        return track.order_fault(stamp_ns)

    def _refuse(self, track: Track, reason: str) -> None:
        self._count(track.name, reason)
        if reason != "duplicate":  # its frame is there
            track.refused = reason

    def _accept(self, track: Track, frame: SensorFrame, at: int) -> None:
        if self._heard_ns is not None and at - self._heard_ns > self._silence_ns:
            self._jump(f"nothing came for {(at - self._heard_ns) / 1e9:.1f} s")
        self._heard_ns = at
        if self._first_ns is None:
            self._first_ns = at
        if track is not self._reference and self._serves_nothing(track, frame.stamp_ns):
            track.learn(frame.stamp_ns, at)
            self._pass_over(track, at - frame.stamp_ns)
            return
        track.accept(frame, at)
        if track is self._reference:
            self._grid.update(frame.stamp_ns)
            self._next_ns = (frame.stamp_ns if self._last_ns is None
                             else self._grid.after(self._last_ns))

    def _pass_over(self, track: Track, lag: int) -> None:
        """Too old for the next bundle: by its delay, or because it fell between two outputs."""
        if lag > track.age_limit_ns - track.period_ns:
            self._refuse(track, "stale")
        else:
            self._count(track.name, "superseded")

    def _serves_nothing(self, track: Track, stamp_ns: int) -> bool:
        return self._next_ns is not None and stamp_ns < self._next_ns - track.age_limit_ns

    def _seed(self) -> None:
        """The reference never came: output times follow the newest stamp of the others."""
        newest = max(t.last_ns for t in self._tracks.values() if t.last_ns is not None)
        self._grid.seed(newest)
        self._next_ns = newest

    def _skip_missed(self, at: int) -> None:
        """Cycles whose successor is due as well, or has its sweep, are passed over: newest wins."""
        if self._next_ns is None:
            return
        passed = at - self._next_ns - self._wait_ns
        if self._reference.last_ns is not None:
            swept = self._reference.last_ns + round(MATCH * self._grid.sweep_ns) - self._next_ns
            passed = max(passed, swept)
        cycles = int(passed // self._grid.output_ns)
        if cycles > 0:
            self._next_ns += round(cycles * self._grid.output_ns)

    def _arm(self, now: Now) -> None:
        """Turn the time at which something is due into monotonic time, once per due time."""
        wanted = (self._due(self.clock.stamp_time(now)), now.rate)
        if wanted == self._armed:
            return
        self._armed = wanted
        self._mono_ns = (NEVER_NS if wanted[0] is None
                         else self.clock.mono_deadline(now, wanted[0]))

    def _due(self, at: int) -> int | None:
        """The time of stamps at which the bundle closes if nothing else comes."""
        if self._next_ns is None:
            return None if self._first_ns is None else (
                self._first_ns + round(self._grid.output_ns) + self._wait_ns)
        t_ref, here = self._pending()
        limit = t_ref + self._wait_ns
        if not here and self._reference_may_come(at):
            return limit
        awaited = max(self._awaited(t_ref, limit, at), default=at)
        return min(limit, awaited if here else max(awaited, t_ref))

    def _pending(self) -> tuple[int, bool]:
        """t_ref of the bundle that is being collected; whether the reference's sweep is there."""
        soonest = 0 if self._last_ns is None else self._last_ns + 0.5 * self._grid.output_ns
        for frame in reversed(self._reference.frames):
            near = abs(frame.stamp_ns - self._next_ns) < MATCH * self._grid.sweep_ns
            if near and frame.stamp_ns >= soonest:
                return frame.stamp_ns, True
        return self._next_ns, False

    def _reference_may_come(self, at: int) -> bool:
        """No, if it is dead or this sweep was refused or left out."""
        if self._reference.dead(at):
            return False
        return self._reference.phase_ns < self._next_ns - MATCH * self._grid.sweep_ns

    def _awaited(self, t_ref: int, limit: int, at: int) -> list[int]:
        """Until when each sensor is waited for that can still give something to this bundle."""
        untils = (track.awaited_until(t_ref, limit, at) for track in self._others)
        return [until for until in untils if until is not None]

    def _close(self, at: int, now: Now) -> SensorBundle:
        t_ref, here = self._pending()
        limit = t_ref + self._wait_ns
        gave_up = any(track.expects(t_ref, limit, at) for track in self._others)
        closed_by = ("deadline" if gave_up else "complete") if here else "predicted"
        slots = {name: self._slot(track, t_ref, at) for name, track in self._tracks.items()}
        self._advance(t_ref)
        self._arm(now)
        odom_from_base = self._ego(t_ref)
        return SensorBundle(t_ref, self.epoch, self._sequence - 1, MappingProxyType(slots),
                            closed_by, odom_from_base)

    def _slot(self, track: Track, t_ref: int, at: int) -> Slot:
        """The reference is never used twice: without it a bundle is masked, as trained."""
        return track.take(t_ref, at, may_reuse=track is not self._reference)

    def _advance(self, t_ref: int) -> None:
        if self._last_ns is not None:
            cycles = round((t_ref - self._last_ns) / self._grid.output_ns)
            self.skipped_cycles += max(cycles - 1, 0)
        self._last_ns = t_ref
        self._next_ns = self._grid.after(t_ref)
        self._sequence += 1
        for track in self._tracks.values():
            track.discard_older(self._next_ns - track.age_limit_ns)

    def _count(self, name: str, reason: str) -> None:
        self.drops[name, reason] += 1
