"""Laws of the output guard, over drives with any faults and over calls in any order."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev.latency.guard import MOST_PENDING, MS, Guard, GuardSettings, Miss

BUDGET, MARGIN = 80 * MS, 10 * MS
OFFSET = 7_000_000 * MS  # of the stamps against the monotonic clock
NEVER = 10**18


@dataclass(frozen=True)
class Cycle:
    """What becomes of one cycle of the sensors, in ms."""

    jitter: int = 0  # of t_ref
    closes: int | None = 20  # after t_ref; None: no bundle
    takes: int | None = 30  # until the result; None: never
    fails: bool = False  # and says so
    epoch: bool = False  # a new one begins, by a jump of the stamps
    woken: int = 0  # the guard's thread is late by so much


@dataclass
class Published:
    """An output as a subscriber gets it."""

    stamp: int
    epoch: int
    mono: int  # t_ref
    at: int
    miss: Miss | None = None  # None: full


@dataclass
class Drive:
    """Lets cycles happen to a guard, and keeps what goes out."""

    period: int  # [ms]
    cycles: list[Cycle]
    out: list[Published] = field(default_factory=list)
    refused: list[tuple[int, int, int]] = field(default_factory=list)  # t_ref, result at, due then
    closed: int = 0

    def run(self) -> Drive:
        self.guard = Guard(GuardSettings(self.period * MS, BUDGET, MARGIN, 30 * MS, 3))
        self.events: list[tuple[int, int, str, tuple]] = []
        epoch, offset = 0, OFFSET
        for i, cycle in enumerate(self.cycles):
            if cycle.epoch:
                epoch, offset = epoch + 1, offset - 3_333 * MS
            mono = (1_000 + i * self.period + cycle.jitter) * MS
            if cycle.closes is not None:
                closes = mono + cycle.closes * MS
                self.later(closes, "close", mono + offset, mono, epoch, closes, cycle)
        self.end = (1_000 + len(self.cycles) * self.period) * MS
        while self.events or self.guard.due() is not None:
            at = self.events[0][0] if self.events else NEVER
            due = self.guard.due() or NEVER
            woken = due + self.cycle_at(due).woken * MS if due < NEVER else NEVER
            if min(at, woken) > self.end:
                break
            self.fire(woken, due) if woken < at else self.happen()
        return self

    def later(self, at: int, *what) -> None:
        heapq.heappush(self.events, (at, len(self.events) + len(self.out) * 10**6, *what[:1],
                                     what[1:]))

    def cycle_at(self, mono: int) -> Cycle:
        i = (mono // MS - 1_000) // self.period
        return self.cycles[min(max(i, 0), len(self.cycles) - 1)]

    def happen(self) -> None:
        at, _, what, data = heapq.heappop(self.events)
        getattr(self, what)(at, *data)

    def close(self, at: int, stamp: int, mono: int, epoch: int, closes: int, cycle: Cycle) -> None:
        accepted = self.guard.closed(stamp, mono, epoch)
        self.closed += 1
        if cycle.takes is not None:
            self.later(closes + cycle.takes * MS, "fail" if cycle.fails else "finish", stamp, mono,
                       epoch, accepted)

    def finish(self, at: int, stamp: int, mono: int, epoch: int, accepted: bool) -> None:
        due = self.guard.due_of(stamp, epoch)
        verdict = self.guard.result(stamp, epoch, at)
        assert not (verdict and not accepted)
        for miss in verdict.before:
            self.predict(miss, at)
        if verdict:
            self.out.append(Published(stamp, epoch, mono, at))
        else:
            self.refused.append((stamp, at, due))

    def fail(self, at: int, stamp: int, mono: int, epoch: int, accepted: bool) -> None:
        if (miss := self.guard.failed(stamp, epoch, at)) is not None:
            self.predict(miss, at)

    def fire(self, at: int, due: int) -> None:
        assert self.guard.fire(due - 1) is None, "not before it is due"
        missed = []
        while (miss := self.guard.fire(at)) is not None:
            missed.append(miss)
            self.predict(miss, at)
        assert missed, "due says that there is something to fire"

    def predict(self, miss: Miss, at: int) -> None:
        self.out.append(Published(miss.t_ref_ns, miss.epoch, miss.t_ref_mono, at, miss))


def cycles(most_woken: int = 9, epochs: bool = True):
    return st.lists(st.builds(
        Cycle, jitter=st.integers(-15, 15), closes=st.none() | st.integers(0, 110),
        takes=st.none() | st.integers(0, 150), fails=st.booleans(),
        epoch=st.booleans() if epochs else st.just(False), woken=st.integers(0, most_woken)),
        min_size=1, max_size=25)


periods = st.sampled_from([100, 50])
drives = st.builds(Drive, periods, cycles()).map(Drive.run)


@given(drives)
def test_stamps_increase_within_an_epoch_and_epochs_never_come_back(drive):
    for a, b in pairwise(drive.out):
        assert b.epoch > a.epoch or (b.epoch == a.epoch and b.stamp > a.stamp)


@given(drives)
def test_every_period_has_one_output(drive):
    """From the first bundle on, neither two in a period nor a period without."""
    length = drive.period * MS
    for a, b in pairwise(drive.out):
        assert length / 2 <= b.mono - a.mono < 2 * length


@given(drives)
def test_there_is_an_output_until_the_end(drive):
    if drive.closed:
        due = drive.guard.due()
        assert due + 9 * MS > drive.end - MS, "the next is not due before the end"
        last = drive.out[-1].mono if drive.out else None
        assert last is None or due - last <= (2 * drive.period + 80) * MS
    else:
        assert not drive.out


@given(drives)
def test_every_output_is_in_time_while_the_guard_wakes_in_time(drive):
    """But for periods that were over before anybody knew of them: those say nothing but so."""
    for out in drive.out:
        if out.miss is None or not out.miss.overdue:
            assert out.at <= out.mono + BUDGET
        else:
            first = drive.out[0] is out or drive.out[0].miss.overdue
            assert first, "only the first bundle can close after its own deadline"


@given(drives)
def test_a_result_that_is_early_enough_is_never_refused(drive):
    """Unless a later one went out before it."""
    for _, at, due in drive.refused:
        assert due is None or at > due


@given(drives)
def test_every_result_is_said_once(drive):
    seen = [(out.epoch, out.stamp) for out in drive.out]
    assert len(set(seen)) == len(seen)


@given(drives)
def test_runs_of_misses_are_counted_and_end_with_a_result(drive):
    run = 0
    for out in drive.out:
        if out.miss is None:
            run = 0
            continue
        run += 1 + out.miss.skipped
        # A late result shortens a run: predictions are counted from it.
        assert out.miss.count <= run if drive.refused else out.miss.count == run
        assert out.miss.count >= 1 and out.miss.safe == (out.miss.count > 3)


@given(st.builds(Drive, periods, cycles(most_woken=700)).map(Drive.run))
def test_a_guard_that_is_held_up_publishes_no_bursts_and_says_so(drive):
    length = drive.period * MS
    for out in drive.out:
        late = out.at - out.mono - BUDGET
        assert (late > 0) == (out.miss is not None and out.miss.overdue)
    for a, b in pairwise(drive.out):
        skipped = b.miss.skipped if b.miss is not None else 0
        assert b.mono - a.mono < (2 + skipped) * length
        if a.at == b.at and a.miss and b.miss:
            assert not (a.miss.overdue and b.miss.overdue), "one word about a stall is enough"


@given(periods, st.integers(1, 40))
def test_when_all_is_well_nothing_is_predicted(period, count):
    drive = Drive(period, [Cycle(closes=10, takes=35)] * count).run()
    assert len(drive.out) >= count - 1 and all(out.miss is None for out in drive.out)


# -- calls in any order ----------------------------------------------------------------------------

ticks = st.integers(0, 40).map(lambda n: n * 25 * MS)  # coarse: what collides is what matters
epochs = st.sampled_from([0, 0, 0, 1, 2])
which = st.integers(0, 5)  # of the bundles that were closed so far, the newest first
calls = st.lists(st.one_of(
    st.tuples(st.just("closed"), ticks, ticks, epochs, st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0])),
    st.tuples(st.just("result"), which, ticks),
    st.tuples(st.just("failed"), which, ticks),
    st.tuples(st.just("fire"), ticks),
    st.tuples(st.just("align"), ticks, ticks),
    st.tuples(st.just("published"), ticks, ticks)), max_size=40)


def called(guard: Guard, sequence) -> Iterator[tuple[int, int]]:
    """Makes the calls; gives epoch and stamp of what is to be published, in order."""
    bundles: list[tuple[int, int]] = []
    for name, *arguments in sequence:
        if name == "closed":
            bundles.append((arguments[0], arguments[2]))
        if name in ("result", "failed"):
            bundle = bundles[-1 - arguments[0]] if arguments[0] < len(bundles) else (1, 0)
            arguments = [*bundle, arguments[1]]
        answer = getattr(guard, name)(*arguments)
        if name == "result":
            yield from ((m.epoch, m.t_ref_ns) for m in answer.before)
            yield from [(arguments[1], arguments[0])] if answer else []
        elif name in ("fire", "failed") and answer is not None:
            yield answer.epoch, answer.t_ref_ns
        assert guard.pending <= MOST_PENDING + 1
        assert (guard.due() is None) == (guard.pending == 0)
        assert 10 * MS <= guard.margin_ns <= 30 * MS


@settings(max_examples=400)
@given(calls)
def test_whatever_is_called_stamps_increase_and_memory_is_bounded(sequence):
    out = list(called(Guard(GuardSettings(safe_after=3)), sequence))
    assert all(a < b for a, b in pairwise(out)), out


@given(calls, ticks)
def test_whatever_was_called_firing_comes_to_an_end(sequence, now):
    guard = Guard()
    list(called(guard, sequence))
    for _ in range(MOST_PENDING + 100):
        if guard.fire(now) is None:
            break
    assert guard.due() is None or guard.due() > now


@given(st.integers(0, 10_000), st.sampled_from([0.25, 0.5, 1.0, 2.0]))
def test_a_pause_of_any_length_loses_no_period(pause_ms, rate):
    """Under /clock: however long it stands, stamps go on where they were, none ahead of it."""
    guard, out, mono, ros = Guard(), [], 0, 0.0
    guard.closed(0, 0, 0, rate)
    for _ in range(400):
        paused = 100 <= ros < 110 and mono < pause_ms + 200
        mono += 5
        ros += 0 if paused else 5 * rate
        guard.align(mono * MS, round(ros * MS))
        while (miss := guard.fire(mono * MS)) is not None:
            out.append(miss.t_ref_ns // MS)
            assert miss.t_ref_ns <= ros * MS
    assert out == list(range(0, out[-1] + 1, 100)) if out else ros < 80
