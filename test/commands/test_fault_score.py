"""How a fault is judged: from receipts that a subscriber would have had, made up here."""

from __future__ import annotations

import dataclasses

import pytest

from perception_bev.commands import fault_score as score
from perception_bev.commands.fault_cases import Case, cases
from perception_bev.commands.fault_score import Diagnostics, Injection
from perception_bev.commands.live_bench_count import Contract
from perception_bev.commands.live_bench_receipts import Receipt
from perception_bev.rig import load_rig

MS, S = 1_000_000, 1_000_000_000
ROS = 1_800_000_000 * S  # ROS time where the monotonic clock shows 0
AGE = 40 * MS
BEGINS, ENDS = 3_010 * MS, 6_010 * MS
OFF = Case("camera_off", "message", words={"kind": "off", "sensor": "cam"},
           shows=r"(sensors?|drops)[./]cam")
KILL = Case("kill_fuse", "kill", "fuse", shows=r"worker\.fuse", heals=True, back_s=3.0)


def output(k: int, text: str = "full", age: int = AGE, shift: int = 0, **values: str
           ) -> list[Receipt]:
    """The pair of period k: its t_ref is at k * 100 ms of the monotonic clock."""
    mono = k * 100 * MS + age
    level = 0 if text == "full" else 1
    times = {"stamp_ns": ROS + k * 100 * MS + shift, "ros_ns": ROS + mono, "mono_ns": mono}
    return [Receipt("tracks", **times),
            Receipt("status", **times, text=text, level=level, values=values)]


def run(texts: dict[int, str | None], periods: int = 120, **values) -> list[Receipt]:
    """All periods `full` but those of `texts`; None: nothing came."""
    return [receipt for k in range(periods) if (text := texts.get(k, "full")) is not None
            for receipt in output(k, text, **values)]


def judge(case: Case, receipts: list[Receipt], diagnostics=(), begins=BEGINS, ends=ENDS) -> dict:
    return score.judge(case, Injection(begins, ends, receipts[-1].mono_ns, "done"), receipts,
                       diagnostics, Contract())


def degraded(first: int = 31, last: int = 61) -> dict[int, str]:
    return dict.fromkeys(range(first, last), "degraded (cam: missing)")


def test_a_fault_that_is_marked_and_over_at_once():
    row = judge(OFF, run(degraded()))
    assert row["without_output"] == row["older_than_budget"] == row["safe_state"] == 0
    assert row["detected_ms"] == pytest.approx(130.0)  # t_ref of period 31, and its age
    assert row["back_to_full_s"] == pytest.approx(0.13) and row["rate_hz"] == 10.0
    assert row["marking"] == {"degraded (cam: missing)": 30, "full": 11}  # and period 30
    assert row["kept"] == {"output": True, "in_time": True, "back": True}
    assert row["periods"] == pytest.approx(41, abs=1) and row["lasted_s"] == 3.0


def test_periods_without_output_are_counted_wherever_they_are():
    texts = degraded() | dict.fromkeys((40, 41, 60), None)
    row = judge(OFF, run(texts))
    assert row["without_output"] == 3 and not row["kept"]["output"]
    whole = run({k: None for k in range(31, 120)})
    silent = score.judge(OFF, Injection(BEGINS, ENDS, 9 * S), whole, (), Contract())
    assert silent["without_output"] == pytest.approx(59, abs=1)
    assert silent["back_to_full_s"] is None and silent["kept"]["back"] is False
    assert silent["detected_ms"] is None and silent["rate_hz"] < 0.2


def test_an_output_that_is_too_old_is_counted_and_what_is_later_is_not_looked_at():
    late = [*run({}, 35), *output(35, age=81 * MS), *run({}, 120)[72:],
            *output(119, age=300 * MS)]
    row = judge(OFF, late)
    assert row["older_than_budget"] == 1 and row["oldest_ms"] == 81.0
    assert not row["kept"]["in_time"]


def test_ten_in_a_row_make_it_full_again_not_nine():
    texts = degraded() | {70: "predicted (1 frames)", 75: "degraded (x)"}
    row = judge(OFF, run(texts))
    assert row["back_to_full_s"] == pytest.approx((76 * 100 + 40 - 6_010) / 1e3)
    assert judge(OFF, run(texts | {k: "degraded (y)" for k in range(80, 120, 8)})
                 )["back_to_full_s"] is None


def test_a_process_that_is_replaced_is_over_when_it_began():
    texts = {31: "predicted (1 frames)", 32: "predicted (2 frames)"}
    row = judge(KILL, run(texts))
    assert row["back_to_full_s"] == pytest.approx((33 * 100 + 40 - 3_010) / 1e3)
    assert row["marking"]["predicted (n frames)"] == 2


def test_a_value_of_status_marks_it_too():
    before, after = {"worker.fuse": "running, restarts 0"}, {"worker.fuse": "lost: stopped"}
    receipts = [r for k in range(120) for r in output(k, **(after if 33 <= k < 40 else before))]
    row = judge(KILL, receipts)
    assert row["detected_ms"] == pytest.approx(330.0)
    assert row["detected_by"] == "status: worker.fuse = lost: stopped"
    assert judge(OFF, receipts)["detected_ms"] is None, "another fault's evidence"


def test_what_always_grows_is_no_mark():
    receipts = [r for k in range(120) for r in output(k, **{
        "drops.cam": f"superseded {k}" + (", future 1" if k >= 35 else "")})]
    row = judge(OFF, receipts)
    assert row["detected_by"] == "status: drops.cam = superseded 35, future 1"


def test_diagnostics_mark_it_where_they_are_first():
    item = {"perception/sensors/cam": [1, "missing"], "perception/latency": [1, "slow"]}
    said = [Diagnostics(2 * S, {}), Diagnostics(3_100 * MS, item), Diagnostics(3_200 * MS, item)]
    row = judge(OFF, run(degraded()), said)
    assert row["detected_ms"] == pytest.approx(90.0)
    assert row["detected_by"] == "diagnostics: perception/sensors/cam: missing"
    other = Diagnostics(2_500 * MS, {"perception/latency": [0, "fast"]})
    known = [Diagnostics(2 * S, item), other, Diagnostics(3_100 * MS, item)]
    assert judge(OFF, run(degraded()), known)["detected_by"].startswith("status"), "not new"
    worse = Diagnostics(3_120 * MS, {"perception/sensors/cam": [2, "missing for long"]})
    assert judge(OFF, run(degraded()), [*known, worse])["detected_ms"] == pytest.approx(110.0)
    well = Diagnostics(2_500 * MS, {"perception/sensors/cam": [0, "ok"]})
    again = [Diagnostics(2 * S, item), well, Diagnostics(3_100 * MS, item)]
    assert judge(OFF, run(degraded()), again)["detected_ms"] == pytest.approx(90.0)


@pytest.mark.parametrize("by_s", (30.0, -2.0))
def test_a_time_jump_is_no_gap_and_no_age(by_s):
    case = Case("time", "message", words={"kind": "time_jump", "by_s": by_s}, shows="epoch$")
    receipts = [r for k in range(120)
                for r in output(k, shift=round(by_s * S) if 31 <= k < 61 else 0,
                                epoch="1" if k >= 31 else "0")]
    row = judge(case, receipts)
    assert row["without_output"] == row["older_than_budget"] == 0
    assert row["oldest_ms"] == 40.0 and row["detected_by"] == "status: epoch = 1"
    plain = judge(dataclasses.replace(case, kind="slow"), receipts)
    assert plain["without_output"] or plain["older_than_budget"], "without knowing of the jump"


def test_a_latency_that_stays_is_seen():
    receipts = [*run({}, 61), *(r for k in range(61, 120) for r in output(k, age=70 * MS))]
    row = judge(OFF, receipts)
    assert (row["latency_before_ms"], row["latency_after_ms"]) == (40.0, 70.0)


def test_a_declared_safe_state_is_without_output_and_said_so():
    known = [r for r in run({k: "no output: safe state" for k in range(40, 61)})
             if not (r.topic == "tracks" and 4 * S <= r.mono_ns < 6_100 * MS)]
    known = [dataclasses.replace(r, level=2) if r.text.startswith("no output") else r
             for r in known]
    row = judge(OFF, known)
    assert row["safe_state"] == row["without_output"] == 21


def test_a_sigstop_that_is_noticed_late_is_not_kept():
    case = dataclasses.replace(KILL, detected_ms=200.0)
    assert judge(case, run({31: "predicted (1 frames)"}))["kept"]["detected"]
    assert not judge(case, run({33: "predicted (1 frames)"}))["kept"]["detected"]
    assert not judge(case, run({}))["kept"]["detected"]


def test_before_the_first_output_nothing_is_counted():
    receipts = run({})[80:]
    assert judge(OFF, receipts, begins=3 * S)["periods"] == 0


# -- the table -------------------------------------------------------------------------------------


@pytest.fixture
def sim6():
    from perception_bev import resources

    return load_rig(resources.path("config/rigs/sim6.yaml"))


def test_names_differ_and_every_order_is_one_that_the_player_takes(sim6):
    from perception_bev.recordings.bag_types import TypeBook
    from perception_bev.recordings.player import NoFilter
    from perception_bev.sim.live_faults import LiveFaults

    known = cases(sim6)
    assert len({case.name for case in known}) == len(known) > 25
    player = LiveFaults(sim6, TypeBook(), 0, NoFilter())
    for case in known:
        if case.kind == "message":
            player.order({**case.words, "for_s": case.for_s}, 0)


def test_the_table_covers_what_can_break(sim6):
    known = cases(sim6)
    assert {case.kind for case in known} == {"slow", "hang", "kill", "stall", "disk", "loss",
                                             "message"}
    orders = {case.words["kind"] for case in known if case.kind == "message"}
    assert orders == {"off", "late", "garbage", "nan", "future_stamp", "time_jump"}
    assert {case.of for case in known if case.kind == "kill"} == {
        "extract", "fuse", "decide", "watchdog", "perception"}
    assert known[-1].name == "kill_node", "after it the node is another one"


def test_the_table_fits_a_vehicle_of_few_sensors():
    import small_car

    names = {case.name for case in cases(small_car.rig())}
    assert {"reference_off", "camera_off", "cameras_off", "radar_nan"} <= names


def test_a_pattern_means_all_of_a_kind(sim6):
    case = next(case for case in cases(sim6) if case.name == "cameras_off")
    assert case.words["sensor"] == "cam_*"
