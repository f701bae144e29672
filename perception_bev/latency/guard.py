"""Latency: the output guard. Every period gets exactly one output, in time, marked for what it is.

Pure: times are arguments. Not thread-safe: whoever publishes holds one lock over a call of the
guard *and* the publication that it asks for, else the order of stamps is lost between the two.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from perception_bev.errors import ConfigError
from perception_bev.latency.guard_margin import Margin

MS = 1_000_000  # [ns]
MOST_PENDING = 16  # periods; further ahead than that nothing is in flight, the line begins anew
SLOWEST = 0.01  # rate of ROS time below which it is not reckoned with: align() follows it then
BACK_NS = 100 * MS  # steps of the clock of stamps from which on align() takes them for a jump, as
AHEAD_NS = 1_000 * MS  # the collector does (sync/clock.py): a loop, a seek


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """Checked at birth (ConfigError). Period and budget are of stamps, the margin is monotonic."""

    period_ns: int = 100 * MS
    budget_ns: int = 80 * MS  # an output goes out at most this long after its stamp
    margin_ns: int = 10 * MS  # least time before the deadline at which the guard fires
    max_margin_ns: int = 30 * MS  # most to which its own measured delay may raise that
    safe_after: int = 10  # so many predictions in a row, then `tracks` stop
    window_ns: int = 60_000 * MS  # over which the guard's own delay is remembered

    def __post_init__(self) -> None:
        if min(self.period_ns, self.window_ns) <= 0 or self.safe_after < 0:
            raise ConfigError("guard: period and window are positive, safe_after is not negative")
        if not 0 <= self.margin_ns <= self.max_margin_ns < self.budget_ns:
            raise ConfigError(
                f"guard: 0 <= margin ({self.margin_ns / MS:g} ms) <= max_margin "
                f"({self.max_margin_ns / MS:g} ms) < budget ({self.budget_ns / MS:g} ms) must hold")


@dataclass(frozen=True, slots=True)
class Miss:
    """A period without a result in time: publish a prediction at its stamp, or why there is none.

    `safe` or `overdue`: only `status`, at ERROR; tracks would be worth nothing, or older than
    promised. Otherwise `tracks` predicted to `t_ref_ns`, and `status`.
    """

    t_ref_ns: int
    t_ref_mono: int
    epoch: int
    due: int  # when it was to be fired; goes back in with Guard.published
    count: int  # misses in a row, this one included
    safe: bool  # the run is longer than settings.safe_after
    overdue: bool  # the guard itself came too late: the deadline has passed
    skipped: int = 0  # periods before it that nobody can be told of in time any more
    reach_ns: int | None = None  # t_ref - stamp of the newest result, late ones too; None: none yet

    @property
    def mode(self) -> str:
        """As `status` says it."""
        if self.safe:
            return f"no output: safe state, {self.count} periods without a result in time"
        if self.overdue:
            return f"no output: the guard was held up ({self.skipped + 1} periods lost)"
        return f"predicted ({self.count} frame{'s' if self.count > 1 else ''})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a result: true means publish it, after the misses in `before`, in order."""

    publish: bool
    before: tuple[Miss, ...] = ()  # earlier periods that are given up: later stamps overtake them
    reason: str = "in time"  # or "late", "served", "unknown"

    def __bool__(self) -> bool:
        return self.publish


@dataclass(frozen=True, slots=True)
class _Period:
    stamp: int  # t_ref [ns of stamps]
    mono: int  # t_ref [monotonic ns]
    epoch: int
    rate: float  # ns of stamps per monotonic ns
    closed: bool = False  # a bundle exists; else it is expected, one period after the last


class Guard:
    """The line of periods: those whose result is being made, and always one that is expected.

    A period is told by its monotonic time, so steps of ROS time neither make nor lose one; a bundle
    less than half a period from a period is of that period. Nothing is due before the first bundle.
    """

    def __init__(self, settings: GuardSettings | None = None) -> None:
        self.settings = settings or GuardSettings()
        self.counts: Counter[str] = Counter()  # in time, late, predicted, safe, overdue, skipped
        self._margin = Margin(self.settings.margin_ns, self.settings.max_margin_ns,
                              self.settings.window_ns)
        self.reset("start")

    # -- what happens ----------------------------------------------------------------------------

    def closed(self, t_ref_ns: int, t_ref_mono: int, epoch: int, rate: float = 1.0) -> bool:
        """A bundle exists and its result is being made. False: its period is served or in work.

        Args:
            t_ref_mono: t_ref on the monotonic clock.
            rate: ns of ROS time per monotonic ns; 0 (paused) leaves what was known.
        """
        bundle = _Period(t_ref_ns, t_ref_mono, epoch, self._usable(rate), True)
        self._margin.forget(t_ref_mono)
        if not self._pending:
            return self._line(bundle)
        if epoch < self._pending[-1].epoch:
            return False
        self._reach_out(bundle)
        place = self._place(bundle)
        if place is None:
            self._relock(bundle)
            return False
        self._pending[place] = bundle
        if place >= len(self._pending) - 2:  # the newest bundle: the next is expected after it
            del self._pending[place + 1:]
            self._pending.append(self._next(bundle))
        return True

    def result(self, t_ref_ns: int, epoch: int, now: int) -> Verdict:
        """A bundle's result is there. If the verdict is false it only updates tracks and memory."""
        known = [i for i, p in enumerate(self._pending)
                 if p.closed and (p.stamp, p.epoch) == (t_ref_ns, epoch)]
        verdict = self._judge(known[0] if known else None, now)
        if not verdict:
            self._learn_late(t_ref_ns, epoch)
        if self._newest is None or (epoch, t_ref_ns) > self._newest:
            self._newest = (epoch, t_ref_ns)
        self.counts[verdict.reason] += 1
        return verdict

    def failed(self, t_ref_ns: int, epoch: int, now: int) -> Miss | None:
        """No result will come of this bundle; its prediction need not wait, unless an earlier
        period is still in work: then it is fired when it is due."""
        first = self._pending[0] if self._pending else None
        if first is None or not first.closed or (first.stamp, first.epoch) != (t_ref_ns, epoch):
            return None
        return self._miss(now, 0)

    def due(self) -> int | None:
        """Monotonic time at which fire() wants to be called; None before the first bundle."""
        return min((self._due(p) for p in self._pending), default=None)

    def due_of(self, t_ref_ns: int, epoch: int) -> int | None:
        """Monotonic time until which a bundle's result can still go out; None: no longer."""
        return next((self._due(p) for p in self._pending
                     if p.closed and (p.stamp, p.epoch) == (t_ref_ns, epoch)), None)

    def fire(self, now: int) -> Miss | None:
        """The next period that is given up now. Call until None."""
        due = self.due()
        if due is None or now < due:
            return None
        skipped = self._skip(now)
        return self._miss(now, skipped)

    def published(self, due: int, at: int) -> None:
        """What was due then was handed to the middleware at `at`: the guard's own delay."""
        self._margin.observe(at - due, at)

    def align(self, now: int, stamp_now: int) -> None:
        """Under `/clock`: the time of stamps as it is. Call it before the others in that case.

        A paused or slowed clock holds the periods up, a faster one brings them forward; what ticks
        of /clock differ by is left alone. A clock that jumps takes the periods with it: nothing is
        due until the next bundle. Live, nobody calls this: deadlines are monotonic then.
        """
        before, self._aligned = self._aligned, (now, stamp_now)
        if not self._pending:
            return
        if before is not None and self._jumped(now - before[0], stamp_now - before[1]):
            self._pending, self.misses, self._newest = [], 0, None
            return
        last = self._pending[-1]
        behind = last.stamp + round((now - last.mono) * last.rate) - stamp_now
        if abs(behind) > self.settings.period_ns // 4:
            self._shift(round(behind / last.rate))

    def reset(self, reason: str, epoch: int | None = None, step_ns: int | None = None) -> None:
        """Forget everything and wait for a bundle, or follow a step of ROS time.

        Args:
            epoch, step_ns: the new epoch, and by how much ROS time jumped (new - old): the periods
                go on at their monotonic times, at stamps of the new epoch. Results of the old one
                are refused.
        """
        self.reason = reason
        if epoch is not None and step_ns is not None and self._pending:
            self._pending = [replace(p, stamp=p.stamp + step_ns, epoch=epoch, closed=False)
                             for p in self._pending]
            return
        self._pending: list[_Period] = []  # by time; the last is the one that is expected
        self._served: _Period | None = None  # the last that had its output
        self._newest: tuple[int, int] | None = None  # epoch, stamp of the newest result
        self._aligned: tuple[int, int] | None = None  # the last align()
        self.misses = 0  # in a row

    # -- what it knows ---------------------------------------------------------------------------

    @property
    def margin_ns(self) -> int:
        return self._margin.ns

    @property
    def delay_ns(self) -> int | None:
        """p99.9 of the guard's own delay in the window; None: never measured."""
        return self._margin.delay_ns

    @property
    def safe(self) -> bool:
        return self.misses > self.settings.safe_after

    @property
    def pending(self) -> int:
        """Periods that have no output yet, the expected one included; bounded."""
        return len(self._pending)

    # -- inside ----------------------------------------------------------------------------------

    def _usable(self, rate: float) -> float:
        known = self._pending[-1].rate if self._pending else 1.0
        return rate if rate >= SLOWEST else known

    def _length(self, period: _Period) -> int:
        """A period on the monotonic clock."""
        return max(round(self.settings.period_ns / period.rate), 1)

    def _next(self, period: _Period, steps: int = 1) -> _Period:
        return replace(period, stamp=period.stamp + steps * self.settings.period_ns,
                       mono=period.mono + steps * self._length(period), closed=False)

    def _deadline(self, period: _Period) -> int:
        return period.mono + round(self.settings.budget_ns / period.rate)

    def _due(self, period: _Period) -> int:
        budget = round(self.settings.budget_ns / period.rate)
        return period.mono + budget - min(self._margin.ns, budget // 2)

    def _jumped(self, passed: int, step: int) -> bool:
        return step < -BACK_NS or step - passed * max(self._pending[-1].rate, 1.0) > AHEAD_NS

    def _line(self, bundle: _Period) -> bool:
        """Begin at a bundle; not at one that was served before the clock jumped."""
        served = self._served
        if served is not None and (bundle.epoch, bundle.stamp) <= (served.epoch, served.stamp):
            return False
        self._pending = [bundle, self._next(bundle)]
        return True

    def _reach_out(self, bundle: _Period) -> None:
        """Expect the periods up to a bundle that lies ahead; nobody else will name them."""
        last = self._pending[-1]
        ahead = round((bundle.mono - last.mono) / self._length(last))
        room = MOST_PENDING - len(self._pending)
        if ahead > room:
            self._pass_over(len(self._pending) + ahead - 1)
            self._pending = [replace(bundle, closed=False)]
            return
        self._pending.extend([self._next(last, i + 1) for i in range(ahead)])

    def _place(self, bundle: _Period) -> int | None:
        """Which expected period a bundle is; None: one that is served or in work."""
        half = self._length(bundle) / 2
        distances = [(abs(p.mono - bundle.mono), -i) for i, p in enumerate(self._pending)
                     if not p.closed and abs(p.mono - bundle.mono) <= half]
        if not distances:
            return None
        place = -min(distances)[1]
        before = self._pending[place - 1] if place else self._served
        # The last is only expected, it follows the newest bundle wherever that is.
        after = self._pending[place + 1] if place + 2 < len(self._pending) else None
        fits = ((before is None or _in_order(before, bundle, half))
                and (after is None or _in_order(bundle, after, half)))
        return place if fits else None

    def _relock(self, bundle: _Period) -> None:
        """A bundle of a period that is gone still tells when the next is to be expected."""
        before = self._pending[-2] if len(self._pending) > 1 else self._served
        length = self._length(bundle)
        if before is None or not -length <= bundle.mono - before.mono < length / 2:
            return
        steps = 1 if bundle.mono + length - before.mono >= length / 2 else 2
        expected = self._next(bundle, steps)
        if _in_order(before, expected, length / 2):
            self._pending[-1] = expected

    def _judge(self, place: int | None, now: int) -> Verdict:
        if place is None:
            return Verdict(False, reason="served")
        if now > self._deadline(self._pending[place]):
            return Verdict(False, reason="late")
        before = self._give_up(place, now)
        self._pop()
        self.misses = 0
        return Verdict(True, before)

    def _learn_late(self, t_ref_ns: int, epoch: int) -> None:
        """A late result has updated the tracks: the next prediction reaches back to it alone."""
        if self._served is not None and epoch == self._served.epoch:
            behind = round((self._served.stamp - t_ref_ns) / self.settings.period_ns)
            self.misses = min(self.misses, max(behind, 0))

    def _give_up(self, count: int, now: int) -> tuple[Miss, ...]:
        """The first `count` periods; of several that are overdue only the newest is spoken of."""
        overdue = [i for i in range(count) if self._deadline(self._pending[i]) < now]
        skipped = overdue[-1] if overdue else 0
        for _ in range(skipped):
            self._pop()
        self._pass_over(skipped)
        return tuple(self._miss(now, skipped if i == 0 else 0) for i in range(count - skipped))

    def _miss(self, now: int, skipped: int) -> Miss:
        period = self._pop()
        self.misses += 1
        overdue = now > self._deadline(period)
        self.counts["safe" if self.safe else "overdue" if overdue else "predicted"] += 1
        same = self._newest is not None and self._newest[0] == period.epoch
        return Miss(period.stamp, period.mono, period.epoch, self._due(period), self.misses,
                    self.safe, overdue, skipped, period.stamp - self._newest[1] if same else None)

    def _pop(self) -> _Period:
        """Serve the first period; there is always one that is expected."""
        self._served = self._pending.pop(0)
        if not self._pending:
            self._pending.append(self._next(self._served))
        return self._served

    def _skip(self, now: int) -> int:
        """Pass over periods whose successor's deadline has passed as well; newest wins."""
        skipped = 0
        while len(self._pending) > 1 and self._deadline(self._pending[1]) < now:
            self._pop()
            skipped += 1
        first = self._pending[0]
        if len(self._pending) == 1 and self._deadline(first) < now:
            more = (now - self._deadline(first) - 1) // self._length(first)
            self._pending[0] = self._next(first, more) if more else first
            skipped += more
        self._pass_over(skipped)
        return skipped

    def _pass_over(self, count: int) -> None:
        self.misses += count
        self.counts["skipped"] += count

    def _shift(self, ns: int) -> None:
        self._pending = [replace(p, mono=p.mono + ns) for p in self._pending]
        if self._served is not None:
            self._served = replace(self._served, mono=self._served.mono + ns)


def _in_order(first: _Period, second: _Period, half: float) -> bool:
    """Whether `second` is a later period, at a later stamp unless a new epoch has begun."""
    return second.mono - first.mono >= half and (
        second.epoch != first.epoch or second.stamp > first.stamp)
