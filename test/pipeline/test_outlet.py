"""What leaves, in which order, and what the guard says when nothing comes."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from perception_bev.latency.guard import Guard, GuardSettings
from perception_bev.pipeline.outlet import Outlet
from perception_bev.pipeline.output import Failure, Output

MS = 1_000_000
STAMP = 1_700_000_000_000_000_000  # of the first bundle
MONO = 5_000_000_000_000  # its monotonic time


@dataclass
class Sink:
    said: list = field(default_factory=list)
    after: list = field(default_factory=list)
    error: Exception | None = None

    def output(self, output):
        self.said.append(("output", _number(output.t_ref_ns)))
        if self.error is not None:
            raise self.error

    def afterwards(self, output):
        self.after.append(_number(output.t_ref_ns))

    def missed(self, miss, tracks, why):
        self.said.append((miss.mode, _number(miss.t_ref_ns), tracks, why))

    def late(self, output):
        self.said.append(("late", _number(output.t_ref_ns)))


def _number(stamp: int) -> int:
    return round((stamp - STAMP) / (100 * MS))


class Bench:
    """An outlet whose clock is turned by hand. Bundles close 5 ms after their t_ref."""

    def __init__(self, **settings) -> None:
        self.now, self.sink, self.faults = MONO, Sink(), []
        self.outlet = Outlet(Guard(GuardSettings(**settings)), self.sink, lambda: self.now,
                             lambda t_ref, epoch: f"tracks {_number(t_ref)}",
                             fault=self.faults.append)

    def closed(self, number: int) -> None:
        self.now = max(self.now, MONO + number * 100 * MS + 5 * MS)
        self.outlet.closed(STAMP + number * 100 * MS, MONO + number * 100 * MS, 0, 1.0)

    def result(self, number: int, after_ms: float) -> None:
        """A result so long after its t_ref."""
        self.until(MONO + round((number * 100 + after_ms) * MS))
        self.outlet.deliver(output(STAMP + number * 100 * MS))
        self.turn()

    def failure(self, number: int, text: str) -> None:
        self.outlet.deliver(Failure(STAMP + number * 100 * MS, text))
        self.turn()

    def until(self, now: int) -> None:
        """Let the time pass; the outlet speaks when it wants to."""
        while (due := self.outlet.guard.due()) is not None and due <= now:
            self.now = max(self.now, due)
            self.turn()
        self.now = now

    def turn(self) -> None:
        """One round of run()."""
        try:
            self.outlet._do(*self.outlet._next())
        except Exception as err:
            self.faults.append(err)


def output(stamp: int) -> Output:
    return Output(stamp, 0, 0, boxes=(), reasons=(), bundle=SimpleNamespace(), trace=None)


def test_results_in_time_go_out_as_they_come():
    bench = Bench()
    for number in range(3):
        bench.closed(number)
        bench.result(number, 40)
    assert bench.sink.said == [("output", k) for k in range(3)]


def test_without_a_result_the_prediction_goes_out_in_time():
    bench = Bench()
    bench.closed(0)
    bench.until(MONO + 79 * MS)
    assert bench.sink.said == [("predicted (1 frame)", 0, "tracks 0", "")]
    assert bench.now == MONO + 79 * MS and bench.outlet.guard.due() > bench.now


def test_a_late_result_is_noted_and_not_published():
    bench = Bench()
    bench.closed(0)
    bench.result(0, 75)
    bench.closed(1)
    bench.result(1, 30)
    assert [said[0] for said in bench.sink.said] == ["predicted (1 frame)", "late", "output"]


def test_a_failure_is_answered_at_once_with_its_reason_until_an_output_comes():
    bench = Bench()
    bench.closed(0)
    bench.failure(0, "engine fuse: gone")
    bench.until(MONO + 179 * MS)  # the next bundle never closes
    bench.closed(2)
    bench.result(2, 30)
    bench.until(MONO + 379 * MS)
    assert bench.sink.said == [
        ("predicted (1 frame)", 0, "tracks 0", "engine fuse: gone"),
        ("predicted (2 frames)", 1, "tracks 1", "engine fuse: gone"),
        ("output", 2), ("predicted (1 frame)", 3, "tracks 3", "")]


def test_in_the_safe_state_nobody_is_asked_for_tracks():
    bench = Bench(safe_after=3)
    bench.closed(0)
    bench.until(MONO + 579 * MS)
    assert [(mode.split(",")[0], tracks) for mode, _, tracks, _ in bench.sink.said] == [
        ("predicted (1 frame)", "tracks 0"), ("predicted (2 frames)", "tracks 1"),
        ("predicted (3 frames)", "tracks 2"), ("no output: safe state", None),
        ("no output: safe state", None), ("no output: safe state", None)]


def test_an_earlier_period_is_answered_before_a_result_overtakes_it():
    bench = Bench()
    bench.closed(0)
    bench.now = MONO + 60 * MS
    bench.outlet.closed(STAMP + 100 * MS, MONO + 100 * MS, 0, 1.0)  # two are in work
    bench.outlet.deliver(output(STAMP + 100 * MS))
    bench.turn()
    assert [said[:2] for said in bench.sink.said] == [("predicted (1 frame)", 0), ("output", 1)]


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_in_the_sink_does_not_silence_the_next_periods(count):
    bench = Bench()
    bench.sink.error = RuntimeError("no middleware")
    for number in range(count):
        bench.closed(number)
        bench.result(number, 30)
    bench.sink.error = None
    bench.closed(count)
    bench.result(count, 30)
    assert len(bench.faults) == count
    assert bench.sink.said[-1] == ("output", count)
    assert bench.sink.after == list(range(count + 1))


def test_what_comes_afterwards_is_none_of_the_guards_delay():
    bench = Bench()
    bench.sink.afterwards = lambda output: bench.until(bench.now + 20 * MS)
    bench.closed(0)
    bench.result(0, 30)
    assert bench.outlet.guard.delay_ns == 0


@pytest.mark.parametrize("jump_ms", [-10_000, 60_000])
def test_a_loop_or_a_seek_of_the_clock_silences_nothing(jump_ms):
    bench = Bench()
    stamp_of = [STAMP - MONO]  # what /clock is ahead
    bench.outlet._stamp_now = lambda: bench.now + stamp_of[0]
    for number in range(2):
        bench.closed(number)
        bench.result(number, 40)
    bench.outlet._aligned()  # as it does every few milliseconds
    stamp_of[0] += jump_ms * MS
    assert bench.outlet._aligned() and bench.outlet.guard.due() is None
    bench.now = MONO + 205 * MS
    bench.outlet.closed(STAMP + (200 + jump_ms) * MS, MONO + 200 * MS, 1, 1.0)
    bench.outlet.deliver(replace(output(STAMP + (200 + jump_ms) * MS), epoch=1))
    bench.turn()
    assert bench.sink.said == [("output", 0), ("output", 1), ("output", 2 + jump_ms // 100)]


def test_nothing_is_said_before_the_first_bundle():
    bench = Bench()
    bench.now += 10_000 * MS
    assert bench.outlet.guard.due() is None and not bench.sink.said
