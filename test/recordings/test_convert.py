"""A recording becomes a bag, and the bag is the recording again."""

from dataclasses import replace

import numpy as np
import pytest
from bag_scenes import LIDAR_DTYPE, MS, START_NS, SmallRecording, sample, small_rig
from numpy.lib.recfunctions import append_fields

from perception_bev.errors import RecordingError
from perception_bev.geometry import SE3
from perception_bev.messages import read
from perception_bev.raw import RawCloud
from perception_bev.recordings.bag import BagRecording
from perception_bev.recordings.bag_reader import BagReader
from perception_bev.recordings.base import OdometrySample
from perception_bev.recordings.convert import convert, log_time, shift_point_time, topics_of
from perception_bev.recordings.sample_messages import read_truth_cloud


def same_frame(one, two, shift_ns):
    assert two.stamp_ns - one.stamp_ns == shift_ns
    assert one.frame_id == two.frame_id
    if isinstance(one, RawCloud):
        assert one.points.dtype == two.points.dtype
        assert one.points.tobytes() == two.points.tobytes()
    else:
        assert bytes(one.data) == bytes(two.data)


def same_truth(one, two):
    assert one.boxes.classes == two.boxes.classes
    for name in ("centre", "size", "score", "label", "velocity"):
        np.testing.assert_array_equal(getattr(one.boxes, name), getattr(two.boxes, name))
    np.testing.assert_allclose(one.boxes.yaw, two.boxes.yaw, atol=1e-6)
    np.testing.assert_array_equal(one.occlusion, two.occlusion)
    np.testing.assert_array_equal(one.counted, two.counted)


@pytest.mark.parametrize("spacing", ("original", "period"))
def test_the_bag_is_the_recording_again(tmp_path, spacing):
    recording = SmallRecording()
    summary, = convert(recording, tmp_path / "bag", spacing=spacing)
    bag = BagRecording(tmp_path / "bag", recording.rig_of(0))
    assert len(bag) == len(recording) == summary.samples
    for i in range(len(recording)):
        ours, theirs = recording[i], bag[i]
        shift = theirs.t_ref_ns - ours.t_ref_ns
        assert shift == 0 or spacing == "period"
        assert theirs.sequence == ours.sequence
        for name, frames in ours.raw.items():
            assert len(theirs.raw[name]) == len(frames)
            for one, two in zip(frames, theirs.raw[name], strict=True):
                same_frame(one, two, shift)
        same_truth(ours.truth, theirs.truth)
        np.testing.assert_allclose(ours.odom_from_base.matrix, theirs.odom_from_base.matrix,
                                   atol=1e-9)


def test_period_lays_samples_on_the_output_grid(tmp_path):
    convert(SmallRecording(), tmp_path / "bag", spacing="period")
    bag = BagRecording(tmp_path / "bag", small_rig())
    steps = np.diff([bag[i].t_ref_ns for i in range(len(bag))])
    assert (steps % (100 * MS) == 0).all()
    within = np.diff([bag[i].sequence for i in range(len(bag))]) == 0
    assert (steps[within] == 100 * MS).all() and (steps <= 300 * MS).all()


@pytest.mark.parametrize("spacing", ("original", "period"))
def test_every_sequence_is_announced_before_its_first_and_after_all_others(tmp_path, spacing):
    summary, = convert(SmallRecording((2, 1, 3)), tmp_path / "bag", spacing=spacing)
    with BagReader(tmp_path / "bag") as reader:
        rows = [(topic, message) for topic, _, message in reader.messages()]
    numbers = [message.data for topic, message in rows if topic == "/epoch"]
    assert numbers == [0, 1, 2] and summary.epochs == 3
    sweeps, current = [0, 0, 0], -1
    for topic, _ in rows:
        current += topic == "/epoch"
        sweeps[current] += topic == "/lidar/top/points"
    assert sweeps == [2, 1, 3]


def test_a_gap_within_a_sequence_is_announced_too(tmp_path):
    recording = SmallRecording((2,))
    recording._samples[1] = sample(1, START_NS + 301 * MS, 0)
    summary, = convert(recording, tmp_path / "bag")
    assert summary.epochs == 2


def test_sequences_that_overlap_need_the_other_spacing(tmp_path):
    recording = SmallRecording((2, 2))
    recording._samples.reverse()
    with pytest.raises(RecordingError, match="use the spacing 'period'"):
        convert(recording, tmp_path / "bag")
    summary, = convert(recording, tmp_path / "other", spacing="period")
    assert summary.epochs == 4, "time runs backwards between all of them"


def test_one_bag_per_rig(tmp_path):
    rigs = (small_rig(name="first"), small_rig(name="second"))
    done = []
    summaries = convert(SmallRecording((2, 3), rigs), tmp_path / "bags",
                        progress=lambda n, of: done.append((n, of)))
    assert [(s.path.name, s.rig, s.samples) for s in summaries] == [
        ("first", "first", 2), ("second", "second", 3)]
    assert done == [(i + 1, 5) for i in range(5)]
    with BagReader(tmp_path / "bags" / "second") as reader:
        assert reader.metadata.custom["rig"] == "second"


def test_topics_are_the_rig_s(tmp_path):
    summary, = convert(SmallRecording((1,)), tmp_path / "bag")
    assert set(summary.messages) == set(topics_of(small_rig()))
    assert summary.messages["/radar/nose/points"] == 2 and summary.messages["/tf_static"] == 1
    assert summary.skipped == []


def test_what_the_rig_does_not_know_is_said(tmp_path):
    camera = {"topic": "camera/front/image/compressed", "frame_id": "front_optical_frame",
              "extrinsics": "from_tf"}
    rig = small_rig(cameras={"front": camera})
    summary, = convert(SmallRecording((1,), (rig,)), tmp_path / "bag")
    assert "/camera/front/camera_info" not in summary.messages
    assert len(summary.skipped) == 2 and all("front" in text for text in summary.skipped)


def test_the_rig_s_calibration_is_found_in_the_bag(tmp_path):
    full = small_rig()
    convert(SmallRecording((1,)), tmp_path / "bag")
    cameras = {"front": {"topic": "camera/front/image/compressed",
                         "frame_id": "front_optical_frame", "extrinsics": "from_tf"}}
    bag = BagRecording(tmp_path / "bag", small_rig(cameras=cameras))
    calibration = bag.calibration_of(0)
    np.testing.assert_allclose(calibration.base_from_sensor["front"].matrix,
                               full.cameras["front"].extrinsics.transform.matrix, atol=1e-9)
    np.testing.assert_allclose(calibration.camera_models["front"].k,
                               full.cameras["front"].intrinsics.camera_model().k)


def test_frames_that_samples_share_are_written_once(tmp_path):
    recording = SmallRecording((2,))
    first, second = recording._samples
    second.raw["front"] = first.raw["front"]
    summary, = convert(recording, tmp_path / "bag")
    assert summary.messages["/camera/front/image/compressed"] == 1


def test_the_twist_is_that_of_the_poses(tmp_path):
    convert(SmallRecording((3,)), tmp_path / "bag")
    with BagReader(tmp_path / "bag") as reader:
        twists = [m.twist.twist for _, _, m in reader.messages(["/odometry"])]
    assert len(twists) == 3
    assert all(t.linear.x == pytest.approx(15.0, rel=0.01) for t in twists), "1.5 m in 100 ms"
    assert all(t.angular.z == pytest.approx(0.1) for t in twists)


def moving(t_ref_ns, steps=(-100, -80, -60, -40, -20, 0)):
    return tuple(OdometrySample(t_ref_ns + ms * MS, SE3.from_rpy(
        np.array([ms * 0.01, 0, 0]), np.array([0, 0, 1e-3 * ms])),
        np.array([10.0, 0, 0]), np.array([0, 0, 1.0])) for ms in steps)


@pytest.mark.parametrize("spacing", ("original", "period"))
def test_odometry_keeps_its_own_stamps(tmp_path, spacing):
    recording = SmallRecording((2, 2))
    recording._samples = [replace(s, odometry=moving(s.t_ref_ns)) for s in recording._samples]
    summary, = convert(recording, tmp_path / "bag", spacing=spacing)
    assert summary.epochs == 2 and summary.messages["/odometry"] == summary.messages["/tf"] == 22
    with BagReader(tmp_path / "bag") as reader:
        rows = [(topic, message) for topic, _, message in reader.messages(["/odometry", "/epoch"])]
    assert rows[0][0] == "/epoch", "announced before its first motion"
    readings = [read.read_odometry(m) for topic, m in rows if topic == "/odometry"]
    steps = np.diff([r.stamp_ns for r in readings])
    assert (np.delete(steps, 10) == 20 * MS).all(), "that of two samples is written once"
    assert all(r.linear[0] == 10.0 and r.angular[2] == 1.0 for r in readings)


def test_a_bag_s_samples_have_the_odometry_since_the_one_before(tmp_path):
    recording = SmallRecording((2, 1))
    recording._samples = [replace(s, odometry=moving(s.t_ref_ns)) for s in recording._samples]
    convert(recording, tmp_path / "bag")
    bag = BagRecording(tmp_path / "bag", recording.rig_of(0))
    assert [len(bag[i].odometry) for i in range(3)] == [6, 5, 6]
    for i in range(3):
        t_ref = bag[i].t_ref_ns
        assert [(m.stamp_ns - t_ref) // MS for m in bag[i].odometry][-5:] == [-80, -60, -40, -20, 0]
        np.testing.assert_allclose(bag[i].odometry[-1].odom_from_base.matrix,
                                   bag[i].odom_from_base.matrix, atol=1e-9)
    summary, = convert(bag, tmp_path / "again")
    assert summary.messages["/odometry"] == 17


def test_truth_is_there_as_a_cloud_too(tmp_path):
    recording = SmallRecording((4,))
    convert(recording, tmp_path / "bag")
    with BagReader(tmp_path / "bag") as reader:
        clouds = [m for _, _, m in reader.messages(["/ground_truth/cloud"])]
        classes = tuple(reader.metadata.custom["classes"].split(","))
    for ours, cloud in zip(recording._samples, clouds, strict=True):
        assert read.stamp_ns(cloud.header) == ours.t_ref_ns
        same_truth(ours.truth, read_truth_cloud(cloud, classes))


def test_a_stamp_at_the_start_is_logged_at_the_end():
    lidar = small_rig().lidars["top"]
    assert log_time(lidar, START_NS) == START_NS
    starts = small_rig(lidars={"top": {
        "topic": "p", "frame_id": "f", "extrinsics": "from_tf", "stamp": "start"}}).lidars["top"]
    assert log_time(starts, START_NS) == START_NS + 100 * MS


@pytest.mark.parametrize(("unit", "dtype", "scale"),
                         (("ns", "<u8", 1), ("us", "<u8", 1000), ("s", "<f8", 1e9)))
def test_absolute_point_times_move_with_the_header(unit, dtype, scale):
    rig = small_rig(lidars={"top": {
        "topic": "p", "frame_id": "f", "extrinsics": "from_tf",
        "point_time": {"field": "t", "unit": unit, "origin": "absolute"}}})
    points = append_fields(np.zeros(3, LIDAR_DTYPE), "t",
                           np.full(3, START_NS / scale).astype(dtype), usemask=False)
    raw = RawCloud(START_NS, "lidar_top", points)
    moved = shift_point_time(raw, rig.lidars["top"], 5_000_000_000)
    np.testing.assert_allclose((moved.points["t"] - points["t"]).astype(float) * scale, 5e9,
                               atol=300)
    assert (raw.points["t"] == points["t"]).all(), "the original stays"


def test_half_a_conversion_leaves_nothing(tmp_path):
    def interrupt(done, of):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(SmallRecording(), tmp_path / "bag", progress=interrupt)
    assert not (tmp_path / "bag").exists()
    convert(SmallRecording(), tmp_path / "bag")
    with pytest.raises(RecordingError, match="new folder"):
        convert(SmallRecording(), tmp_path / "bag")
    assert (tmp_path / "bag" / "metadata.yaml").exists(), "a bag that was there stays"
