"""The product without ROS: one output a cycle, whatever the sensors do, with what is missing."""

import os
from dataclasses import replace

import numpy as np
import pytest
from driving import (
    MONO_NS,
    QUICK,
    START_NS,
    Drive,
    calls,
    counted,
    same_boxes,
    threads_named,
    wait_for,
)
from small_car import LIDAR, MS, calibration, frames

from perception_bev.errors import ConfigError, EngineFailed
from perception_bev.geometry import SE3
from perception_bev.latency.trace import kind
from perception_bev.pipeline.intake import QUEUED
from perception_bev.pipeline.perception import KINDS_OF_FAILURE
from perception_bev.raw import EncodedImage, RawCloud
from perception_bev.recordings.base import Sample

SENSORS = {"front", "top", "nose"}


def warmed(drive: Drive, cycles: int = 3) -> list:
    """The first cycles; the collector knows every sensor's habits then."""
    return [output for k in range(cycles) for output in drive.cycle(k)]


def without(number: int, *names: str) -> dict:
    whole = frames(START_NS + number * 100 * MS, number)
    return {name: raw for name, raw in whole.items() if name not in names}


def test_one_output_a_cycle_with_everything_in_it(tiny_model):
    with Drive(tiny_model) as drive:
        outputs = warmed(drive, 5)
    assert [o.t_ref_ns for o in outputs] == [START_NS + k * 100 * MS for k in range(5)]
    assert [o.sequence for o in outputs] == list(range(5))
    for output in outputs:
        assert output.mode == "full" and output.reasons == ("no_ego_motion",)
        assert {n for n, s in output.bundle.slots.items() if s.present} == SENSORS
        assert len(output.boxes) > 0 and np.isfinite(output.boxes.centre).all()
        assert output.occupancy is None, "nobody wants it"
    assert not drive.perception.failures and not drive.perception.collector.drops


@pytest.mark.parametrize("gone", sorted(SENSORS))
def test_a_missing_sensor_is_masked_named_and_not_computed(tiny_model, gone):
    with Drive(tiny_model) as drive:
        engines = counted(drive.perception)
        warmed(drive, 3)
        before = calls(engines)
        outputs = [o for k in range(3, 10) for o in drive.cycle(k, without(k, gone))]
        after = calls(engines)
    assert len(outputs) == 7, "the others go on"
    late = outputs[-1]
    assert late.mode == "degraded" and f"{gone}: missing" in late.reasons
    assert not late.bundle.slots[gone].present
    engine = {"front": "extract_camera", "top": "extract_lidar", "nose": "extract_radar"}[gone]
    used = sum(output.bundle.slots[gone].present for output in outputs)
    assert after[engine] - before[engine] == (0 if gone == "front" else used) and used < 3
    assert after["fuse"] - before["fuse"] == 7


def test_what_is_not_required_may_be_missing(tiny_model):
    with Drive(tiny_model, sensors={"nose": {"required": False}}) as drive:
        outputs = [o for k in range(3) for o in drive.cycle(k, without(k, "nose"))]
    assert [o.mode for o in outputs] == ["full"] * 3
    assert not any("nose" in reason for o in outputs for reason in o.reasons)


def test_a_damaged_picture_is_counted_and_said(tiny_model):
    with Drive(tiny_model, sensors={"front": {"max_age_ms": 50}}) as drive:  # none is used twice
        warmed(drive)
        raws = frames(START_NS + 300 * MS, 3)
        whole = raws["front"].data
        raws["front"] = EncodedImage(START_NS + 300 * MS, "front_optical", whole[:len(whole) // 2])
        output, = drive.cycle(3, raws)
        after, = drive.cycle(4)
    assert drive.perception.collector.drops["front", "truncated"] == 1
    assert output.bundle.slots["front"].reason == "bad: truncated"
    assert "front: bad: truncated" in output.reasons and output.mode == "degraded"
    assert after.mode == "full"


def test_a_fault_in_a_decoder_is_counted_and_does_not_end_the_pool(tiny_model, monkeypatch):
    with Drive(tiny_model) as drive:
        warmed(drive)
        with monkeypatch.context() as patch:
            patch.setattr(drive.perception._intake._ingest, "decode", lambda *_: 1 / 0)
            output, = drive.cycle(3)
        after, = drive.cycle(4)
        condition = drive.perception.condition()
    assert {(n, "internal_error"): 1 for n in SENSORS} == condition.drops
    assert sorted(condition.failures) == [f"{n}: ZeroDivisionError: division by zero"
                                          for n in sorted(SENSORS)]
    assert "top: bad: internal_error" in output.reasons
    assert after.mode == "full"


def test_a_sensor_that_the_rig_does_not_have_is_counted(tiny_model):
    with Drive(tiny_model) as drive:
        drive.push("tail", frames(START_NS)["nose"])
        drive.perception.refuse("tail", "truncated", drive.now())
        assert drive.perception.condition().drops == {
            ("tail", "unknown_sensor"): 1, ("tail", "truncated"): 1}


def test_an_engine_that_fails_costs_its_bundle_only(tiny_model):
    with Drive(tiny_model) as drive:
        engines = counted(drive.perception)
        warmed(drive)
        engines["fuse"].error = EngineFailed("fuse: out of memory")
        assert drive.cycle(3) == []
        failure = drive.perception.last_failure
        engines["fuse"].error = None
        output, = drive.cycle(4)
    assert (failure.t_ref_ns, failure.text) == (START_NS + 300 * MS, "fuse: out of memory")
    assert drive.perception.failures == {"fuse: out of memory": 1}
    assert output.mode == "full" and output.sequence == 4


def test_failures_of_ever_new_texts_do_not_fill_the_memory(tiny_model):
    with Drive(tiny_model) as drive:
        for k in range(100):
            drive.perception.count_failure(f"error {k}")
        failures = drive.perception.condition().failures
    assert len(failures) == KINDS_OF_FAILURE + 1
    assert failures["others"] == 100 - KINDS_OF_FAILURE


def test_newest_frames_win_while_the_decoder_is_busy(tiny_model, monkeypatch):
    import threading
    begun, go_on = threading.Event(), threading.Event()
    with Drive(tiny_model) as drive:
        perception, decode = drive.perception, drive.perception._intake._ingest.decode

        def slow(sensor, raw, stamp):
            begun.set()
            assert go_on.wait(60)
            return decode(sensor, raw, stamp)

        monkeypatch.setattr(perception._intake._ingest, "decode", slow)
        raws = [frames(START_NS + k * MS)["front"] for k in range(100)]
        drive.passed_ns = 100 * MS
        perception.push("front", raws[0], drive.now())
        wait_for(begun.is_set)
        for raw in raws[1:]:
            perception.push("front", raw, drive.now())
            assert perception._intake.waiting("front") <= QUEUED
        go_on.set()
        drive.settle()
        condition = perception.condition()
        kept = perception.collector.waiting
        stamps = [f.stamp_ns for f in perception.collector._tracks["front"].frames]
    assert stamps == [START_NS, START_NS + 98 * MS, START_NS + 99 * MS], "the newest win"
    assert condition.drops["front", "superseded"] == 100 - 1 - QUEUED
    assert condition.received["front"] == 100 == kept + sum(condition.drops.values())


def test_repetition_gives_the_same_bits(tiny_model):
    def run() -> list:
        with Drive(tiny_model) as drive:
            return warmed(drive, 4)
    first, second = run(), run()
    assert all(same_boxes(a.boxes, b.boxes) for a, b in zip(first, second, strict=True))
    assert not same_boxes(first[0].boxes, first[1].boxes), "other frames give other boxes"


def test_two_of_them_do_not_disturb_each_other(tiny_model):
    with Drive(tiny_model) as alone:
        expected = warmed(alone)
    with Drive(tiny_model) as one, Drive(tiny_model) as other:
        found = []
        for k in range(3):
            found += one.cycle(k)
            other.cycle(k, seed=100 + k)
    assert all(same_boxes(a.boxes, b.boxes) for a, b in zip(expected, found, strict=True))


def test_points_that_are_not_finite_change_nothing(tiny_model):
    def run(spoil: bool):
        raws = frames(START_NS, 0)
        if spoil:
            points = raws["top"].points
            bad = np.zeros(50, LIDAR)
            bad["x"], bad["y"], bad["z"] = np.nan, np.inf, -np.inf
            raws["top"] = RawCloud(START_NS, "top", np.concatenate([bad, points, bad]))
        with Drive(tiny_model) as drive:
            output, = drive.cycle(0, raws)
        return output.boxes
    assert same_boxes(run(spoil=False), run(spoil=True))


def test_a_cloud_of_nothing_but_nan_is_a_missing_lidar(tiny_model):
    with Drive(tiny_model) as drive:
        warmed(drive)
        raws = frames(START_NS + 300 * MS, 3)
        raws["top"].points["x"] = np.nan
        output, = drive.cycle(3, raws)
    assert "top: bad: empty" in output.reasons
    assert np.isfinite(output.boxes.centre).all()


def test_a_picture_is_computed_once_when_it_comes_and_used_again(tiny_model):
    with Drive(tiny_model) as drive:
        engine = counted(drive.perception)["extract_camera"]
        drive.push("front", frames(START_NS)["front"])
        wait_for(lambda: engine.calls == 1, "extraction before the bundle closes")
        warmed(drive, 2)  # begins with the same picture again, a duplicate
        before = engine.calls
        output, = drive.cycle(2, without(2, "front"))
    assert output.bundle.slots["front"].reason == "reused"
    assert engine.calls == before == 2


def test_the_cameras_thread_stays_on_its_cores(tiny_model):
    core, seen = max(os.sched_getaffinity(0)), []
    with Drive(tiny_model, replace(QUICK, cores={"cameras": (core,)})) as drive:
        extract = drive.perception.stages.extract_camera
        drive.perception._features._extract = lambda picture: (
            seen.append(os.sched_getaffinity(0)), extract(picture))[1]
        drive.push("front", frames(START_NS)["front"])
        wait_for(lambda: seen, "a picture")
    assert seen[0] == {core}


def test_two_pictures_of_one_time_are_two_pictures(tiny_model):
    """Recordings without stamps: what is remembered of a picture is not taken for another."""
    with Drive(tiny_model) as drive:
        perception = drive.perception
        first, second = (perception._intake._ingest.bundle(sample_of(k)) for k in (0, 1))
        a, b, c = (perception.process(x, trace()).boxes for x in (first, second, first))
    assert same_boxes(a, c) and not same_boxes(a, b)


def sample_of(seed: int):
    raws = frames(START_NS, 7) | {"front": frames(START_NS, seed)["front"]}
    return Sample(str(seed), 0, START_NS, {name: (raw,) for name, raw in raws.items()})


def trace():
    from perception_bev.latency.trace import Trace
    return Trace(0, 0)


@pytest.mark.parametrize("wanted, run", [
    ((), set()), (("camera",), {"extract_camera"}), (("lidar",), {"extract_lidar"}),
    (("radar", "lidar"), {"extract_lidar", "extract_radar"}),
    (("camera", "lidar", "radar"), {"extract_camera", "extract_lidar", "extract_radar"})])
def test_a_modality_that_is_not_wanted_is_not_run(tiny_model, wanted, run):
    with Drive(tiny_model) as drive:
        engines = counted(drive.perception)
        output = drive.perception.process(
            drive.perception._intake._ingest.bundle(sample_of(0)), trace(), wanted)
    assert {n for n, count in calls(engines).items() if count} == run | {"fuse", "decide"}
    assert np.isfinite(output.boxes.centre).all()


def test_every_modality_matters(tiny_model):
    subsets = [(), ("camera",), ("lidar",), ("radar",), ("camera", "lidar", "radar")]
    with Drive(tiny_model) as drive:
        bundle = drive.perception._intake._ingest.bundle(sample_of(0))
        found = [drive.perception.process(bundle, trace(), subset).boxes for subset in subsets]
    assert all(not same_boxes(a, b) for i, a in enumerate(found) for b in found[:i])


def test_what_a_missing_sensor_saw_before_does_not_matter(tiny_model):
    """Buffers that hold yesterday's features are masked."""
    with Drive(tiny_model) as drive:
        perception = drive.perception
        blind = perception._intake._ingest.bundle(sample_of(0))
        fresh = perception.process(blind, trace(), ("lidar",)).boxes
        perception.process(perception._intake._ingest.bundle(sample_of(5)), trace())
        assert same_boxes(fresh, perception.process(blind, trace(), ("lidar",)).boxes)


MOVED = {"extrinsics": {"translation": [0.2, 0.0, 1.8], "rotation_rpy_deg": [0, 0, 30]}}


def test_a_new_calibration_takes_effect_and_is_all_that_counts(tiny_model):
    with Drive(tiny_model, sensors={"top": MOVED}) as moved:
        expected = warmed(moved, 4)[-1]
    with Drive(tiny_model) as drive:
        before = warmed(drive, 3)
        drive.perception.recalibrate(calibration(top=MOVED))
        output, = drive.cycle(3)
    assert same_boxes(output.boxes, expected.boxes)
    assert output.sequence == before[-1].sequence + 1 and output.epoch == before[-1].epoch


def test_a_calibration_of_another_vehicle_is_refused(tiny_model):
    import dataclasses
    whole = calibration()
    other = dataclasses.replace(whole, rig=dataclasses.replace(whole.rig, radars={}))
    with Drive(tiny_model) as drive:
        with pytest.raises(ConfigError, match="until now there were front, top, nose"):
            drive.perception.recalibrate(other)
        assert len(warmed(drive, 2)) == 2, "it goes on with the old one"


def test_more_cameras_than_slots_names_the_cure(tiny_model):
    import dataclasses

    from driving import QUICK

    from perception_bev.pipeline.perception import Perception
    whole = calibration()
    cameras = dict.fromkeys("abc", whole.rig.cameras["front"])
    rig = dataclasses.replace(whole.rig, cameras=cameras)
    crowd = dataclasses.replace(
        whole, rig=rig, camera_models=dict.fromkeys(cameras, whole.camera_models["front"]),
        base_from_sensor=dict.fromkeys(rig.sensors, whole.base_from_sensor["front"]))
    with pytest.raises(ConfigError, match="bev export --cameras 3"):
        Perception(tiny_model, crowd, QUICK, lambda: 0)


def test_warming_up_leaves_no_trace(tiny_model):
    with Drive(tiny_model) as cold:
        expected = warmed(cold)
    with Drive(tiny_model) as drive:
        drive.perception.warm_up()
        condition = drive.perception.condition()
        assert not (condition.received or condition.drops or condition.failures)
        assert not drive.perception._features and not drive.perception.want_occupancy
        assert drive.perception.next_wakeup_ns() is None
        found = warmed(drive)
    assert all(same_boxes(a.boxes, b.boxes) for a, b in zip(expected, found, strict=True))


def test_closing_ends_all_threads_and_what_comes_then_is_ignored(tiny_model):
    before = len(threads_named("decode", "camera"))
    drive = Drive(tiny_model)
    warmed(drive, 2)
    assert len(threads_named("decode", "camera")) > before
    drive.perception.close()
    assert len(threads_named("decode", "camera")) == before
    drive.perception.push("front", frames(START_NS)["front"], drive.now())
    drive.perception.close()  # once more is no error


def test_a_new_epoch_forgets_frames_and_motion(tiny_model):
    with Drive(tiny_model) as drive:
        drive.perception.push_odometry(START_NS, SE3.identity(), np.zeros(3), np.zeros(3))
        first, = drive.cycle(0)
        assert first.reasons == () and first.bundle.odom_from_base is not None
        raws = frames(START_NS + 100 * MS, 1)
        drive.passed_ns = 100 * MS
        drive.push("front", raws["front"])
        drive.perception.new_epoch("test")
        assert drive.perception.tick(drive.now()) is None
        assert drive.perception.condition().drops == {("front", "epoch"): 1}
        outputs = drive.cycle(2)
    assert outputs[0].epoch == first.epoch + 1
    assert "no_ego_motion" in outputs[0].reasons


def test_the_trace_holds_every_step(tiny_model):
    with Drive(tiny_model) as drive:
        output = warmed(drive)[-1]
    spans = {kind(name) for name, _, _ in output.trace.spans}
    assert spans == {"transport", "decode", "inputs", "extract_camera", "extract_lidar",
                     "extract_radar", "memory", "fuse", "decide", "post"}
    assert {f"decode:{name}" for name in SENSORS} <= {name for name, _, _ in output.trace.spans}


def test_what_we_come_too_late_is_not_taken_for_waiting(tiny_model):
    """A bundle that waits for a sensor in vain is ready when it gives up, not when we look."""
    with Drive(tiny_model) as drive:
        warmed(drive)
        drive.passed_ns = 300 * MS
        for name, raw in without(3, "nose").items():
            drive.push(name, raw)
        due = drive.perception.next_wakeup_ns()
        drive.passed_ns = due - MONO_NS + 7 * MS
        frame = drive.perception.open(drive.now())
    assert frame.bundle.closed_by == "deadline"
    assert frame.trace.ready == due > frame.trace.t_ref


def test_pictures_of_before_a_jump_back_are_not_reused(tiny_model):
    with Drive(tiny_model) as drive:
        perception, later = drive.perception, START_NS + 10_000 * MS
        early, late = (perception._intake._ingest.bundle(
            Sample("0", 0, stamp, {name: (raw,) for name, raw in frames(stamp).items()}))
            for stamp in (START_NS, later))
        perception.see(late)
        assert perception._features.reused(early)["front"].reason == "spared"


def test_occupancy_is_made_for_those_who_want_it(tiny_model):
    with Drive(tiny_model) as drive:
        drive.perception.want_occupancy = True
        seen = warmed(drive, 3)[-1].occupancy
        for k in range(3, 6):
            blind = drive.cycle(k, without(k, "top"))[-1].occupancy
    rows, columns = drive.perception.manifest.output_grid.shape
    assert seen.shape == (columns, rows) and seen.dtype == np.int8
    assert set(np.unique(seen)) == {-1, 0, 100}
    assert (blind == -1).all(), "no lidar, nothing seen"


def test_a_vehicle_without_lidar_has_seen_nothing(tiny_model):
    import dataclasses

    from driving import QUICK

    from perception_bev.pipeline.perception import Perception
    whole = calibration()
    rig = dataclasses.replace(whole.rig, lidars={},
                              reference=dataclasses.replace(whole.rig.reference, sensor="nose"))
    perception = Perception(tiny_model, dataclasses.replace(whole, rig=rig), QUICK, lambda: 0)
    perception.warm_up()
    perception.want_occupancy = True
    sample = sample_of(0)
    output = perception.process(perception._intake._ingest.bundle(sample), trace())
    perception.close()
    assert (output.occupancy == -1).all()


def test_two_lidars_cast_their_rays_from_their_own_places(tiny_model):
    """A wall that only the left lidar sees: free is what lies before it from that one's place."""
    import dataclasses

    from driving import QUICK

    from perception_bev.pipeline.perception import Perception
    whole = calibration()
    top, place = whole.rig.lidars["top"], whole.base_from_sensor["top"]
    left = SE3(np.eye(3), np.add(place.translation, (0.0, 6.3, 0.0)))
    both = dataclasses.replace(
        whole, rig=dataclasses.replace(whole.rig, lidars={"top": top, "left": top}),
        base_from_sensor={**whole.base_from_sensor, "left": left})
    wall = np.zeros(40, LIDAR)
    wall["x"], wall["y"], wall["z"] = 12.0, np.linspace(-0.4, 0.4, 40), -0.8
    road = np.zeros(1, LIDAR)
    road["x"], road["z"] = 4.0, -1.8
    one = sample_of(0)
    raws = {**one.raw, "top": (RawCloud(START_NS, "top", road),),
            "left": (RawCloud(START_NS, "top", wall),)}
    perception = Perception(tiny_model, both, QUICK, lambda: 0)
    perception.want_occupancy = True
    bundle = perception._intake._ingest.bundle(dataclasses.replace(one, raw=raws))
    seen = perception.process(bundle, trace()).occupancy  # cells of 1 m, y from -8
    perception.close()
    assert seen[14, 12] == 100
    assert (seen[14, 1:12] == 0).all(), "straight ahead of the left lidar"
    assert (seen[9:13, 1:12] == -1).all(), "nobody looked between the two"
    assert (seen[8, 1:4] == 0).all(), "the road ahead of the other"


def test_without_any_sensor_nothing_is_claimed_about_the_world(tiny_model):
    with Drive(tiny_model) as drive:
        warmed(drive)
        outputs = [o for k in range(3, 9) for o in drive.cycle(k, {})]
        failure = drive.perception.last_failure
    assert all(any(s.present for s in o.bundle.slots.values()) for o in outputs), "reused, at most"
    assert len(outputs) < 6
    assert "no sensor contributed" in failure.text and "top: " in failure.text
