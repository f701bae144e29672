"""Commands: outputs counted by made-up receipts: late, missing, repeated, predicted, stalled."""

import json
import math

import pytest

from perception_bev.commands.live_bench_control import Stall
from perception_bev.commands.live_bench_count import (
    MS,
    Contract,
    Count,
    backward,
    overhead_ms,
    periods,
    summary,
)
from perception_bev.commands.live_bench_memory import Memory, growth_mb
from perception_bev.commands.live_bench_receipts import Follower, Receipt
from perception_bev.commands.live_bench_stack import begin_of

START = 1_700_000_000 * 10**9  # ROS time of the first period
MONO = 5_000 * 10**9  # the same on the monotonic clock
SPANS = {"latency.total_ms": "40.0", "latency.overhead_ms": "3.0"}


def receipt(topic: str, k: float, latency_ms: float = 42.0, text: str = "full", level: int = 0,
            values: dict | None = None) -> Receipt:
    """Of period k, received so long after its t_ref."""
    at = round(k * 100 * MS)
    return Receipt(topic, START + at, START + at + round(latency_ms * MS),
                   MONO + at + round(latency_ms * MS), text if topic == "status" else "", level,
                   (SPANS if values is None else values) if topic == "status" else {})


def pair(k: float, latency_ms: float = 42.0, text: str = "full", level: int = 0) -> list[Receipt]:
    return [receipt("tracks", k, latency_ms), receipt("status", k, latency_ms, text, level)]


def run(n: int = 50, without: tuple = ()) -> list[Receipt]:
    return [r for k in range(n) if k not in without for r in pair(k)]


def counted(receipts: list[Receipt], n: int = 50, stalls: tuple = ()) -> Count:
    contract = Contract()
    found = periods(receipts, START, START + n * 100 * MS, contract, stalls)
    return Count.of((p for p in found if not p.stalled), contract)


def test_a_quiet_run_has_every_period_once_and_full():
    count = counted(run())
    assert (count.periods, count.without_output, count.older_than_budget, count.predicted,
            count.safe_state, count.repeated) == (50, 0, 0, 0, 0, 0)
    assert count.full_share == 1.0 and summary(count.latency_ms)["max"] == 42.0


@pytest.mark.parametrize("gone", [(7,), (7, 8, 9, 20), (49,), (45, 46, 47, 48, 49), (0,),
                                  (0, 1, 2)])
def test_what_did_not_come_is_missing_wherever_it_lies(gone):
    count = counted(run(without=gone))
    assert (count.periods, count.without_output) == (50, len(gone))
    assert count.full_share == pytest.approx(1 - len(gone) / 50)


def test_half_a_pair_is_no_output():
    receipts = [r for r in run() if not (r.topic == "tracks" and r.stamp_ns == START + 300 * MS)]
    assert counted(receipts).without_output == 1
    receipts = [r for r in receipts if not (r.topic == "status"
                                            and r.stamp_ns == START + 500 * MS)]
    assert counted(receipts).without_output == 2


@pytest.mark.parametrize("latency_ms, late", [(79.999, 0), (80.0, 0), (80.001, 1), (500.0, 1)])
def test_older_than_the_budget_is_strictly_older(latency_ms, late):
    count = counted(run(without=(4,)) + pair(4, latency_ms))
    assert (count.older_than_budget, count.without_output) == (late, 0)
    assert count.full == 50 - late, "what is late was not full in time"


def test_a_late_status_alone_makes_the_pair_late():
    receipts = [*run(without=(4,)), receipt("tracks", 4, 20.0), receipt("status", 4, 81.0)]
    assert counted(receipts).older_than_budget == 1


def test_a_message_that_comes_twice_is_repeated_and_the_first_one_counts():
    count = counted(run() + pair(3, 95.0) + pair(9, 43.0))
    assert (count.repeated, count.periods, count.older_than_budget) == (4, 50, 0)


def test_a_second_output_near_the_first_is_of_the_same_period():
    """A prediction at the predicted stamp, then the reference's own, 8 ms off."""
    receipts = run(without=(5,)) + pair(5, 70.0, "predicted (1 frames)", 1) + pair(5.08, 90.0)
    count = counted(receipts)
    assert (count.periods, count.predicted, count.repeated, count.older_than_budget) == (50, 1, 2,
                                                                                         0)


def test_modes_are_counted_by_their_first_words():
    receipts = (run(without=(1, 2, 3)) + pair(1, 50, "degraded (lidar_top: missing)", 1)
                + pair(2, 70, "predicted (1 frames)", 1) + pair(3, 70, "predicted (2 frames)", 1))
    count = counted(receipts)
    assert (count.full, count.predicted, count.without_output) == (47, 2, 0)
    assert count.modes == {"full": 47, "degraded": 1, "predicted": 2}


def test_the_safe_state_is_declared_and_is_no_output():
    receipts = run(without=(30, 31)) + [receipt("status", k, 70, "no output: safe state", 2)
                                        for k in (30, 31)]
    count = counted(receipts)
    assert (count.safe_state, count.without_output) == (2, 2)
    assert counted(run(without=(30, 31))).safe_state == 0, "silence declares nothing"


def test_a_clock_that_drifts_loses_and_adds_no_period():
    for rate in (0.97, 1.03):
        receipts = [r for k in range(50) for r in pair(k * rate)]
        end = START + round(50 * rate * 100) * MS
        found = periods(receipts, START, end)
        assert len(found) == 50 and all(p.has_output for p in found)


@pytest.mark.parametrize("shift", [-0.4, 0.4])
def test_a_new_phase_of_the_reference_is_no_missing_period(shift):
    receipts = [r for k in range(50) for r in pair(k + (shift if k >= 20 else 0))]
    found = periods(receipts, START, START + round((50 + shift) * 100) * MS)
    assert (len(found), sum(not p.has_output for p in found)) == (50, 0)


def test_a_short_stall_takes_the_periods_whose_time_it_lay_in_and_no_other():
    bad = run(without=(10,)) + pair(10, 120.0)
    stall = Stall(MONO + 1_050 * MS, MONO + 1_079 * MS)
    assert counted(bad).older_than_budget == 1
    excused = counted(bad, stalls=(stall,))
    assert (excused.periods, excused.older_than_budget) == (49, 0)
    elsewhere = Stall(MONO + 1_081 * MS, MONO + 1_120 * MS)  # after the deadline of period 10
    assert counted(bad, stalls=(elsewhere,)).older_than_budget == 1


def test_every_moment_belongs_to_one_period():
    """A stall that has no length takes one period, wherever it is."""
    for at_ms in (0, 1, 50, 79, 80, 81, 99):
        moment = MONO + (1_000 + at_ms) * MS
        found = periods(run(), START, START + 5_000 * MS,
                        stalls=(Stall(moment - 1, moment + 1),))
        assert sum(p.stalled for p in found) == (2 if at_ms == 80 else 1)


def test_periods_without_any_receipt_know_whether_the_computer_stalled():
    stall = Stall(MONO + 1_000 * MS, MONO + 1_500 * MS)
    count = counted(run(without=tuple(range(10, 15))), stalls=(stall,))
    assert (count.periods, count.without_output) == (44, 0)
    count = counted(run(without=tuple(range(10, 17))), stalls=(stall,))
    assert (count.periods, count.without_output) == (44, 1), "the stall excuses its own time only"


def test_outside_the_window_nothing_counts():
    receipts = run(60)
    found = periods(receipts, START + 1_000 * MS, START + 5_000 * MS)
    assert len(found) == 40 and found[0].t_ref_ns == START + 1_000 * MS
    assert periods([], START, START + 5_000 * MS) == []


def test_a_stack_that_fell_silent_before_the_window_is_counted():
    count = Count.of(periods(run(5), START + 1_000 * MS, START + 3_000 * MS), Contract())
    assert (count.periods, count.without_output) == (20, 20)
    stalls = (Stall(MONO + 1_000 * MS, MONO + 1_010 * MS),)
    found = periods(run(5), START + 1_000 * MS, START + 3_000 * MS, stalls=stalls)
    assert [p.stalled for p in found] == [True] + 19 * [False]


def test_counting_begins_a_second_after_the_first_pair():
    contract, later = Contract(), START + 60_000 * MS
    waiting = [receipt("status", k, 5, "no output: waiting", 2) for k in range(30)]
    assert begin_of(waiting, later, contract) is None, "that is no output yet"
    receipts = waiting + [r for k in range(30, 60) for r in pair(k)]
    assert begin_of(receipts, later, contract) == START + 4_000 * MS
    silent = [r for k in range(3) for r in pair(k)]
    assert begin_of(silent, START + 1_500 * MS, contract) is None
    assert begin_of(silent, later, contract) == START + 1_000 * MS
    safe = silent + [receipt("status", k, 70, "no output: safe state", 2) for k in range(3, 30)]
    assert begin_of(safe, later, contract) == START + 1_000 * MS


def test_overhead_is_the_nodes_own_and_the_way_to_the_subscriber():
    found = periods(run(1), START, START + 100 * MS)[0]
    assert overhead_ms(found) == pytest.approx(42.0 - 40.0 + 3.0)
    predicted = periods(pair(0, 70, "predicted (1 frames)"), START, START + 100 * MS)[0]
    assert overhead_ms(predicted) is None
    silent = [receipt("tracks", 0), receipt("status", 0, values={"latency.total_ms": "n/a"})]
    assert overhead_ms(periods(silent, START, START + 100 * MS)[0]) is None


def test_stamps_that_go_back_are_counted():
    assert backward(run()) == 0
    assert backward([*run(), receipt("tracks", 3)]) == 1


def test_a_follower_reads_what_is_whole_and_the_rest_later(tmp_path):
    file = tmp_path / "out.jsonl"
    follower = Follower(file)
    assert follower.new() == []
    lines = [json.dumps({"topic": "begin", "mono_ns": 1, "ros_ns": 1, "pid": 3}),
             json.dumps({"topic": "status", "mono_ns": 1, "ros_ns": 2, "arrived_ns": 2,
                         "stamp_ns": 1, "level": 0, "text": "full (no_ego_motion)",
                         "values": {"a": "1.5", "b": "n/a"}}),
             json.dumps({"topic": "end", "mono_ns": 9, "ros_ns": 9, "lost": 2})]
    file.write_text(lines[0] + "\n" + lines[1][:20])
    assert follower.new() == []
    with file.open("a") as out:
        out.write(lines[1][20:] + "\n" + lines[2] + "\n")
    (only,) = follower.new()
    assert (only.mode, only.number("a"), only.number("b"), only.number("c")) == ("full", 1.5, None,
                                                                                 None)
    assert follower.lost == 2 and follower.new() == []


def test_growth_counts_after_the_first_minute():
    def of(minute_mb, end_mb, seconds):
        return [Memory(float(s), {"a": 100.0 if s < 60 else minute_mb if s < 100 else end_mb,
                                  "a/7": 50.0}) for s in range(seconds)]

    assert growth_mb(of(300.0, 312.0, 200)) == pytest.approx(12.0)
    assert growth_mb(of(300.0, 290.0, 200)) == pytest.approx(-10.0)
    assert math.isnan(growth_mb(of(300.0, 300.0, 70))) and math.isnan(growth_mb([]))
    spike = of(300.0, 300.0, 200)
    spike[-1] = Memory(199.0, {"a": 900.0})
    assert growth_mb(spike) == 0.0, "a single sample decides nothing"
