"""Commands: `bev bench pipeline`: the drive in memory, the bounds, the tables, and two whole cases
on the small model."""

import json
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
from driving import QUICK
from small_car import calibration
from small_drives import SmallDrive

from perception_bev.commands import bench_pipeline as bench
from perception_bev.commands import live_bench_modes as modes
from perception_bev.commands.live_bench_bound import bounds, serial_ms, share, stages_ms
from perception_bev.commands.live_bench_feed import ODOMETRY, load_drive, rig_at
from perception_bev.commands.live_bench_modes import Bench, Case, Done, Slot
from perception_bev.commands.live_bench_table import early_rows, row, saturation
from perception_bev.errors import RecordingError
from perception_bev.latency.trace import Trace
from perception_bev.recordings.convert import convert

MS = 1_000_000
RIG = calibration().rig
SPANS = {"decode:front": 4, "decode:top": 50, "extract_camera:front": 8, "inputs": 3,
         "extract_lidar": 7, "extract_radar": 2, "memory": 1, "fuse": 20, "decide": 5, "post": 2}


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drive") / "bag"
    convert(SmallDrive(RIG, 3, 1.2), folder)
    return folder


# -- the drive in memory -----------------------------------------------------------------------


def test_a_drive_is_squeezed_as_a_whole(bag):
    slow, fast = (load_drive(bag, RIG, 8).at(hz, RIG) for hz in (10.0, 20.0))
    assert (slow.length_ns, fast.length_ns) == (800 * MS, 400 * MS)
    assert [e.sensor for e in slow.events] == [e.sensor for e in fast.events]
    for a, b in zip(slow.events, fast.events, strict=True):
        assert (b.at_ns, b.stamp_ns) == pytest.approx((a.at_ns / 2, a.stamp_ns / 2), abs=1)
        if a.sensor == ODOMETRY:
            np.testing.assert_allclose(b.what.linear, 2 * a.what.linear)
        if a.sensor == "top":
            np.testing.assert_allclose(b.what.points["time"], a.what.points["time"] / 2, rtol=1e-6)


def test_a_lap_holds_every_sweep_and_ends_where_the_next_begins(bag):
    drive = load_drive(bag, RIG, 8)
    sweeps = [e.stamp_ns for e in drive.events if e.sensor == drive.reference]
    assert sweeps == [k * 100 * MS for k in range(1, 9)] and drive.length_ns == sweeps[-1]
    assert all(0 <= e.at_ns <= drive.length_ns for e in drive.events)
    places = [(e.sensor, e.stamp_ns) for e in drive.events]
    assert len(set(places)) == len(places)


def test_a_recording_that_is_too_short_is_refused(bag):
    with pytest.raises(RecordingError, match="12 samples; 13"):
        load_drive(bag, RIG, 12)


def test_the_rigs_limits_go_with_its_rate():
    fast, slow = rig_at(RIG, 20.0), rig_at(RIG, 2.0)
    assert fast.reference.period_ms == pytest.approx(RIG.reference.period_ms / 2)
    assert fast.reference.wait_ms <= fast.reference.period_ms / 2
    assert slow.reference.wait_ms <= 25.0
    for name, sensor in RIG.sensors.items():
        assert slow.sensors[name].period_ms == pytest.approx(5 * sensor.period_ms)


# -- bounds ------------------------------------------------------------------------------------


def trace(t_ref: int = 0, **changed: float) -> Trace:
    made, at = Trace(t_ref, t_ref + MS), t_ref + MS
    for name, ms in {**SPANS, **changed}.items():
        made.add(name, at, at + round(ms * MS))
        at += round(ms * MS)
    made.published = at
    return made


def test_stages_are_the_threads_that_may_run_beside_each_other():
    stages = stages_ms([trace()], ["front"], inline=False)
    assert stages == {"decode": 4, "cameras": 8, "extract": 12, "fuse": 21, "decide": 7}
    assert stages_ms([trace()], ["front"], inline=True, decode_threads=2) == {
        "decode": 2, "cameras": 8, "extract, fuse, decide": 40}
    assert serial_ms([trace(), trace(inputs=103), trace()]) == 6, "the median"


@pytest.mark.parametrize("cpu_s, cores, serial, least", [
    (0.030, 2, 6.0, 1000 / 21), (0.100, 2, 6.0, 20.0), (0.100, 4, 30.0, 1000 / 30)])
def test_the_tightest_limit_counts(cpu_s, cores, serial, least):
    found = bounds(stages_ms([trace()], ["front"], inline=False), serial, cpu_s, cores)
    assert found["least_hz"] == pytest.approx(least, abs=0.01) and found["longest"] == "fuse"


def test_a_share_is_of_the_bound():
    assert share(18.0, 20.0) == 0.9 and np.isnan(share(1.0, 0.0))


# -- tables ------------------------------------------------------------------------------------


def slot(case: Case, latency_ms: float, out: int = 80, seconds: float = 8.0) -> Slot:
    """`out` frames came out of 8 s of sweeps at the case's load."""
    swept = [round(k / case.load_hz * 1e9) for k in range(round(case.load_hz * seconds))]
    done = [Done(t, t + round(latency_ms * MS), trace(t)) for t in swept[:out]]
    return Slot(case, 0, round(seconds * 1e9), swept, done, {}, {}, 0.05 * out, 0.1)


def test_what_was_offered_and_did_not_come_out_is_lost():
    case = Case("threads", 2, 10.0)
    figures = row(case, [slot(case, 50.0), slot(case, 70.0, out=60)])
    assert (figures["offered"], figures["answered"]) == (160, 140)
    assert figures["latency_ms"]["max"] == 70.0 and figures["p50_by_repeat_ms"] == [50.0, 70.0]
    assert figures["throughput_hz"] == pytest.approx((80 + 60) / 2 / 8, abs=0.15)


def test_early_extraction_is_compared_within_a_mode():
    cases = [Case("inline", 2, 10.0), Case("threads", 2, 10.0), Case("threads", 2, 10.0, False),
             Case("threads", 2, 20.0)]
    rows = [row(case, [slot(case, ms)]) for case, ms in zip(cases, (50, 45, 75, 90), strict=True)]
    (found,) = early_rows(rows)
    assert (found["mode"], found["saved_p50_ms"]) == ("threads", 30.0)


def test_saturation_is_the_most_that_ever_came_out_and_its_bound_that_of_a_calm_load():
    calm, full = Case("threads", 2, 5.0), Case("threads", 2, 30.0)
    slots = [slot(calm, 50.0, out=40), slot(full, 90.0, out=8 * 24)]
    (found,) = saturation(slots, RIG, 1, cores=2)
    assert found["at_load_hz"] == 30.0 and found["throughput_hz"] == pytest.approx(24, abs=0.3)
    assert found["bound"]["longest"] == "fuse"
    assert found["bound"]["cores_hz"] == pytest.approx(40, abs=0.5), "2 cores, 50 ms a frame"
    assert found["share"] == pytest.approx(24 / 40, abs=0.02)


def test_a_mode_that_gave_nothing_has_no_share():
    assert saturation([slot(Case("threads", 2, 5.0), 50.0, out=0)], RIG, 1, 2) == []


def test_every_case_of_a_load_comes_after_the_other_and_takes_its_turn_in_being_first():
    args = Namespace(loads=[5.0, 10.0], modes=["inline", "threads"], threads=[2])
    cases = bench.first_cases(args)
    assert len(cases) == 6 and sum(not case.early for case in cases) == 2
    order = bench.interleaved(cases, 2)
    assert sorted(map(repr, order)) == sorted(2 * list(map(repr, cases)))
    assert [case.load_hz for case in order] == 2 * (2 * [5.0] + 4 * [10.0])
    assert order[0].mode != order[6].mode and order[2] != order[8]


# -- the whole, on the small model -------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(modes, "SETTLE_S", 0.5)
    monkeypatch.setattr(modes, "SETTLE_SWEEPS", 3)
    monkeypatch.setattr(modes.punctual, "prepare_process", lambda deployment: None)


def test_both_modes_take_every_frame_of_a_load_that_is_easy(bag, remembering_model, quick,
                                                            tmp_path):
    """How fast, nobody asserts; that frames are counted, in order and of their own sweeps, is."""
    slots = []
    with Bench(remembering_model, RIG, QUICK, load_drive(bag, RIG, 8)) as under_test:
        for case in (Case("inline", 1, 10.0), Case("threads", 1, 10.0, early=False)):
            slots.append(under_test.run(case, 1.0))
    for found in slots:
        assert len(found.swept) == 10 and not found.failures
        assert len(found.counted) + sum(found.overtaken.values()) >= 5, "a computer that is slow"
        offered = np.array(found.swept)
        for done in found.counted:
            assert np.abs(offered - done.t_ref).min() < 1000 and done.at > done.t_ref
        times = [done.t_ref for done in found.done]
        assert times == sorted(times) and found.cpu_s > 0
    (file, *_) = bench.write_timelines(tmp_path, slots)
    assert file.stat().st_size > 10_000
    assert json.loads((tmp_path / "inline_1_10hz.json").read_text())["traceEvents"]


def test_a_report_of_few_measurements_can_be_drawn(tmp_path):
    from perception_bev.commands.live_bench_plot import plot_pipeline

    args = bench_args()
    cases = [Case("inline", 2, 10.0), Case("threads", 2, 10.0),
             replace(Case("threads", 2, 10.0), early=False), Case("threads", 2, 20.0)]
    slots = [slot(case, 50.0, out=0 if case.load_hz == 20 else 80) for case in cases]
    report = bench.report_of(args, slots)
    assert json.loads(json.dumps(report, allow_nan=False))["runs"][3]["latency_ms"]["p50"] is None
    assert plot_pipeline(tmp_path / "out.png", report).stat().st_size > 10_000


def bench_args() -> Namespace:
    from perception_bev import resources

    return Namespace(rig=resources.path("config/rigs/sim6.yaml"), model=None, deployment=None,
                     seconds=8.0, repeats=1)
