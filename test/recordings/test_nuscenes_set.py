"""The nuScenes data set as a recording: laws that hold in a made-up world with the set's layout."""

from itertools import pairwise

import cv2
import fake_nuscenes as fake
import numpy as np
import pytest
import tiny

from perception_bev.errors import ConfigError, RecordingError
from perception_bev.inputs.build import InputBuilder
from perception_bev.pipeline.ingest import Ingest
from perception_bev.recordings.nuscenes import LIDAR
from perception_bev.recordings.nuscenes_set import NuscenesRecording, _places
from perception_bev.recordings.nuscenes_truth import CLASS_OF
from perception_bev.temporal.ego import EgoMotion


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return fake.write(tmp_path_factory.mktemp("nuscenes"))


@pytest.fixture(scope="module")
def recording(root):
    return NuscenesRecording(root)


def xyz(points: np.ndarray) -> np.ndarray:
    return np.stack([points["x"], points["y"], points["z"]], axis=1).astype(np.float64)


def inside(points: np.ndarray, boxes, i: int, margin: float = 0.02) -> int:
    cos, sin = np.cos(boxes.yaw[i]), np.sin(boxes.yaw[i])
    local = (points - boxes.centre[i]) @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return int((np.abs(local) <= boxes.size[i] / 2 + margin).all(axis=1).sum())


def ego_of(samples) -> EgoMotion:
    ego = EgoMotion(history_s=60)
    for sample in samples:
        for at in sample.odometry:
            assert ego.push(at.stamp_ns, at.odom_from_base, at.linear, at.angular)
    return ego


def test_samples_come_at_ten_hertz_with_truth_at_key_frames(recording):
    assert len(recording) == 22 and recording.sequences.tolist() == [0] * 11 + [1] * 11
    steps = np.diff(recording.stamps_ns[:11])
    assert (steps == 100_000_000).all()
    assert np.flatnonzero(recording.annotated).tolist() == [0, 5, 10, 11, 16, 21]
    for index, annotated in enumerate(recording.annotated):
        assert (recording[index].truth is not None) == annotated
    assert recording.names[0] == "scene-0061/1532402927600000"


def test_key_frames_alone_are_the_annotated_samples(root, recording):
    alone = NuscenesRecording(root, spacing="key_frame")
    both = [i for i, annotated in enumerate(recording.annotated) if annotated]
    assert [alone[i].name for i in range(len(alone))] == [recording.names[i] for i in both]
    for i, j in enumerate(both):
        ours, theirs = alone[i], recording[j]
        for name, frames in ours.raw.items():
            assert [f.stamp_ns for f in frames] == [f.stamp_ns for f in theirs.raw[name]], name
    assert [len(sample.odometry) for sample in alone][:3] == [1, 10, 10]


def test_lost_sweeps_leave_an_even_spacing(root):
    recording = NuscenesRecording(root)
    scene = recording._scenes[0]
    for lost in ([3], [2, 4, 5], [12], [1, 2, 3, 4, 5, 6, 7, 8, 9]):
        sweeps = [f for i, f in enumerate(scene.frames["LIDAR_TOP"]) if i not in lost]
        whole, scene.frames["LIDAR_TOP"] = scene.frames["LIDAR_TOP"], sweeps
        places = _places(0, scene, "period")
        scene.frames["LIDAR_TOP"] = whole
        stamps = [sweeps[place.sweep].stamp_ns for place in places]
        assert stamps == sorted(set(stamps)) and sum(p.annotated for p in places) == 3
        if len(lost) < 5:
            assert max(b - a for a, b in pairwise(stamps)) <= 150_000_000


def test_a_sample_holds_what_a_vehicle_would_have(recording):
    for index, sample in enumerate(recording):
        rig = recording.rig_of(index)
        assert set(sample.raw) == set(rig.sensors), "six cameras, the lidar, five radars"
        for name, frames in sample.raw.items():
            ages = [(sample.t_ref_ns - frame.stamp_ns) * 1e-6 for frame in frames]
            assert ages == sorted(ages, reverse=True) and min(ages) >= -5.0, name
            modality = rig.modality(name)
            if modality == "camera":
                assert len(ages) == 1 and ages[0] <= 84
            elif modality == "lidar":
                assert ages[-1] == 0 and ages[0] <= 50
                assert len(ages) == (1 if index % 11 == 0 else 2)
            else:
                assert max(ages) <= 100 and 1 <= len(ages) <= 2
        if index == len(recording) - 1:
            break


def test_no_scan_is_lost_or_used_twice_in_a_drive(recording):
    stamps = [frame.stamp_ns for index in range(11)
              for frame in recording[index].raw["radar_front"]]
    assert stamps == sorted(set(stamps))
    assert np.allclose(np.diff(stamps), fake.SCAN_US * 1000)


def test_interpolated_truth_is_where_the_world_has_it(root, recording):
    """Straight motion is interpolated exactly; what people did not draw never counts."""
    filled = NuscenesRecording(root, between="interpolated")
    assert (filled.annotated == recording.annotated).all()
    for index in range(11):
        truth, sample = filled.truth_of(index), recording[index]
        seconds = (sample.t_ref_ns // 1000 - fake.START_US) * 1e-6
        base = fake.global_from_base(sample.t_ref_ns // 1000).inverse()
        centres = [base.apply(thing.centre(seconds)) for thing in fake.THINGS
                   if thing.category in CLASS_OF]
        np.testing.assert_allclose(truth.boxes.centre, centres, atol=1e-3)
        velocity = base.rotation @ np.array([*fake.THINGS[0].velocity, 0.0])
        np.testing.assert_allclose(truth.boxes.velocity[0], velocity[:2], atol=1e-3)
        assert truth.counted.any() == recording.annotated[index]
        assert truth.track.tolist() == filled.truth_of(0).track.tolist()


def test_points_on_objects_lie_in_their_boxes(recording):
    for index in (0, 10, 16):
        sample, places = recording[index], recording.calibration_of(index).base_from_sensor
        points = places[LIDAR].apply(xyz(sample.raw[LIDAR][-1].points))
        for i, seen in enumerate(sample.truth.seen.lidar_points):
            assert inside(points, sample.truth.boxes, i) >= seen


def test_the_sweep_before_fits_when_the_ego_motion_is_taken_out(recording):
    """A standing barrier's points of 50 ms ago: in the box with odometry, off it without."""
    samples = [recording[i] for i in range(11)]
    sample, ego = samples[10], ego_of(samples)
    place = recording.calibration_of(10).base_from_sensor[LIDAR]
    earlier = sample.raw[LIDAR][0]
    then = place.apply(xyz(earlier.points))
    now = (sample.odom_from_base.inverse() @ ego.at(earlier.stamp_ns)).apply(then)
    barrier = sample.truth.boxes.label.tolist().index(sample.truth.boxes.classes.index("barrier"))
    assert inside(now, sample.truth.boxes, barrier) >= 40
    assert inside(then, sample.truth.boxes, barrier) < 40


def test_odometry_is_the_drive(recording):
    samples = [recording[i] for i in range(11)]
    stamps = [at.stamp_ns for sample in samples for at in sample.odometry]
    assert np.diff(stamps).tolist() == [fake.SWEEP_US * 1000] * 20
    for sample in samples:
        assert sample.odometry[-1].stamp_ns == sample.t_ref_ns
        for at in sample.odometry:
            pose = fake.global_from_base(at.stamp_ns // 1000)
            np.testing.assert_allclose(at.odom_from_base.matrix, pose.matrix, atol=1e-6)
            np.testing.assert_allclose(at.linear, [fake.SPEED, 0, 0], atol=0.05)
            np.testing.assert_allclose(at.angular, [0, 0, fake.TURN], atol=1e-6)
        np.testing.assert_allclose(
            sample.odom_from_base.matrix,
            fake.global_from_base(sample.t_ref_ns // 1000).matrix, atol=1e-6)
    ego = ego_of(samples)
    frame = samples[5].raw["cam_back"][0]
    np.testing.assert_allclose(ego.at(frame.stamp_ns).translation,
                               fake.global_from_base(frame.stamp_ns // 1000).translation, atol=0.01)


def test_radars_say_how_fast_things_move_over_ground(recording):
    """The set's compensated velocities: nothing of the vehicle's 8 m/s is left in them."""
    sample, calibration = recording[0], recording.calibration_of(0)
    ingest = Ingest(tiny.manifest(camera={**tiny.MODEL["camera"], "slots": 6}), calibration)
    found = 0
    for name in calibration.rig.radars:
        scan = ingest.decode(name, sample.raw[name][-1])
        points = calibration.base_from_sensor[name].apply(scan.points.astype(np.float64))
        for i, label in enumerate(sample.truth.boxes.label):
            delta = np.linalg.norm(points[:, :2] - sample.truth.boxes.centre[i, :2], axis=1)
            if len(delta) and delta.min() < 0.2 and sample.truth.boxes.classes[label] == "car":
                away = points[delta.argmin(), :2] - calibration.base_from_sensor[
                    name].translation[:2]
                wanted = sample.truth.boxes.velocity[i] @ (away / np.linalg.norm(away))
                assert scan.doppler[delta.argmin()] == pytest.approx(wanted, abs=0.1)
                assert scan.intensity[delta.argmin()] == pytest.approx(12.5)
                found += 1
    assert found == 1
    standing = sum(int((np.abs(ingest.decode(name, sample.raw[name][-1]).doppler) < 1e-6).sum())
                   for name in calibration.rig.radars)
    assert standing >= 3


def test_returns_that_the_set_doubts_are_left_out_and_counted(root, recording):
    recording.dropped.clear()
    sample = recording[0]
    scans = [frame for name in recording.rig_of(0).radars for frame in sample.raw[name]]
    assert recording.dropped == {"radar_implausible": 2 * len(scans)}
    kept = sum(len(frame.points) for frame in sample.raw["radar_front"])
    whole = NuscenesRecording(root, all_returns=True)
    scans = whole[0].raw["radar_front"]
    assert sum(len(frame.points) for frame in scans) == kept + 2 * len(scans)
    assert not whole.dropped


def test_scenes_have_their_own_vehicle(recording):
    boston, singapore = recording.calibration_of(0), recording.calibration_of(11)
    assert boston.rig.traffic == "right" and singapore.rig.traffic == "left"
    assert boston.rig.name != singapore.rig.name
    assert recording.calibration_of(5) is boston
    lift = (singapore.base_from_sensor["cam_front"].translation
            - boston.base_from_sensor["cam_front"].translation)
    np.testing.assert_allclose(lift, [0, 0, 0.02], atol=1e-9)
    lens = boston.camera_models["cam_back"]
    assert (lens.width, lens.height) == (fake.WIDTH, fake.HEIGHT) and lens.model == "pinhole"
    assert next(iter(boston.rig.cameras)) == "cam_front" and len(boston.rig.radars) == 5


def test_named_scenes_only(root):
    assert NuscenesRecording(root, ["scene-0062"]).names[0].startswith("scene-0062/")
    with pytest.raises(RecordingError, match="no such scenes: scene-7"):
        NuscenesRecording(root, ["scene-7"])


def test_without_sweeps_key_frames_are_whole(tmp_path):
    root = fake.write(tmp_path, scenes=1)
    for path in (root / "sweeps").rglob("*.*"):
        path.unlink()
    recording = NuscenesRecording(root, spacing="key_frame", sweeps=False)
    for index in range(3):
        sample = recording[index]
        assert {name: len(frames) for name, frames in sample.raw.items()} == dict.fromkeys(
            recording.rig_of(index).sensors, 1)
    with pytest.raises(ConfigError, match="spacing 'period' needs the sweeps"):
        NuscenesRecording(root, sweeps=False)
    with pytest.raises(RecordingError, match=r"sweeps/.*sweeps False"):
        NuscenesRecording(root)[1]


def test_wrong_arguments_and_folders(root, tmp_path):
    with pytest.raises(ConfigError, match="unknown spacing 'all'"):
        NuscenesRecording(root, spacing="all")
    with pytest.raises(ConfigError, match="unknown between 'all'; known: none, interpolated"):
        NuscenesRecording(root, between="all")
    with pytest.raises(RecordingError, match="expected the layout of the nuScenes data set"):
        NuscenesRecording(tmp_path)


def test_a_sample_becomes_tensors(recording):
    """The same decoders and the same build() as live."""
    sample, calibration = recording[5], recording.calibration_of(5)
    manifest = tiny.manifest(camera={**tiny.MODEL["camera"], "slots": 6})
    bundle = Ingest(manifest, calibration).bundle(sample)
    inputs = InputBuilder(manifest, calibration).build(bundle, ego_of([recording[4], sample]))
    assert inputs.modalities == ("camera", "lidar", "radar") and len(inputs.camera_slots) == 6
    assert inputs.lidar.any() and inputs.radar[0, 0].any() and inputs.lift_weight.any()
    assert inputs.context[0, 3] == 1.0
    picture = cv2.imdecode(sample.raw["cam_front"][0].data, cv2.IMREAD_COLOR)
    assert picture.shape == (fake.HEIGHT, fake.WIDTH, 3)
