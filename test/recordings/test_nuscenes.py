"""The nuScenes key frame: files that are wrong are named; on the real one boxes lie on objects."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from perception_bev import resources
from perception_bev.errors import RecordingError
from perception_bev.recordings.bag import BagRecording
from perception_bev.recordings.convert import convert
from perception_bev.recordings.nuscenes import CLASSES, LIDAR, NuscenesSampleRecording
from perception_bev.rig import load_rig, resolve

ROOT = os.environ.get("PERCEPTION_BEV_NUSCENES_SAMPLE", "")
needs_data = pytest.mark.skipif(
    not ROOT, reason="PERCEPTION_BEV_NUSCENES_SAMPLE does not name the folder of the key frame")
JPEG = b"\xff\xd8 not a picture"


def write_frame(root: Path, yaw=0.3, points=20, **changes) -> dict:
    """A made-up frame of the shipped rig: one car, 10 m to the left of the lidar."""
    calibration = resolve(load_rig(resources.path("config/rigs/nuscenes.yaml")))
    places = calibration.base_from_sensor
    cameras = {}
    for name in calibration.rig.cameras:
        cameras[name.upper()] = {"file": f"{name}.jpg", "timestamp_s": 1.5e9 - 0.02,
                                 "ego_from_camera": places[name].matrix.tolist()}
        (root / f"{name}.jpg").write_bytes(JPEG)
    np.arange(points * 5, dtype="<f4").tofile(root / "sweep.bin")
    box = {"class": "car", "center_lwh_yaw_in_lidar": [0, 10, -1, 4, 2, 1.5, yaw],
           "velocity_xy_mps": [3.0, 0.0], "num_lidar_points": 5, "num_radar_points": 0}
    frame = {"timestamp_s": 1.5e9, "global_from_ego": np.eye(4).tolist(), "cameras": cameras,
             "lidar": {"file": "sweep.bin", "fields": ["x", "y", "z", "intensity", "ring"],
                       "ego_from_lidar": places[LIDAR].matrix.tolist()},
             "boxes": [box, {**box, "class": "ignore"}, {**box, "num_lidar_points": 0}], **changes}
    (root / "frame.json").write_text(json.dumps(frame))
    return frame


def test_a_made_up_frame(tmp_path):
    write_frame(tmp_path)
    recording = NuscenesSampleRecording(tmp_path)
    sample, = recording
    assert sample.t_ref_ns == 1_500_000_000 * 10**9
    assert set(sample.raw) == set(recording.rig_of(0).sensors)
    points = sample.raw[LIDAR][0].points
    assert points["x"][1] == 5 and points["ring"][19] == 99
    assert bytes(sample.raw["cam_back"][0].data) == JPEG


def test_boxes_are_brought_from_the_lidar_to_base(tmp_path):
    """The set's lidar looks to the right: its y points ahead, its x to the right."""
    write_frame(tmp_path, yaw=np.pi / 2)
    truth = NuscenesSampleRecording(tmp_path)[0].truth
    assert len(truth.boxes) == 2, "the class ignore is left out"
    centre, yaw, velocity = truth.boxes.centre[0], truth.boxes.yaw[0], truth.boxes.velocity[0]
    np.testing.assert_allclose(centre, [10.94, 0.0, 0.6], atol=0.1)
    assert yaw == pytest.approx(0.0, abs=0.01)
    np.testing.assert_allclose(velocity, [0.0, -3.0], atol=0.05)
    assert truth.counted.tolist() == [True, False], "no point on the second"


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(RecordingError, match=r"frame\.json: not readable"):
        NuscenesSampleRecording(tmp_path)
    frame = write_frame(tmp_path)
    (tmp_path / "cam_front.jpg").unlink()
    with pytest.raises(RecordingError, match=r"cam_front\.jpg: not readable"):
        NuscenesSampleRecording(tmp_path)[0]
    write_frame(tmp_path)
    (tmp_path / "sweep.bin").write_bytes(b"123")
    with pytest.raises(RecordingError, match="3 bytes are not whole points"):
        NuscenesSampleRecording(tmp_path)[0]
    frame["cameras"]["CAM_BACK"]["ego_from_camera"][0][3] += 0.1
    write_frame(tmp_path, cameras=frame["cameras"])
    with pytest.raises(RecordingError, match="cam_back is not where"):
        NuscenesSampleRecording(tmp_path)[0]
    (tmp_path / "frame.json").write_text("{}")
    with pytest.raises(RecordingError, match="lacks boxes, cameras"):
        NuscenesSampleRecording(tmp_path)


@pytest.mark.data
@needs_data
def test_boxes_hold_as_many_points_as_the_data_set_counted():
    """A check of geometry from end to end: it fails when a rotation is the other way round."""
    recording = NuscenesSampleRecording(ROOT)
    sample, calibration = recording[0], recording.calibration_of(0)
    cloud = sample.raw[LIDAR][0].points
    points = calibration.base_from_sensor[LIDAR].apply(
        np.stack([cloud["x"], cloud["y"], cloud["z"]], axis=1).astype(np.float64))
    labels = [box for box in json.loads((Path(ROOT) / "frame.json").read_text())["boxes"]
              if box["class"] in CLASSES]
    boxes = sample.truth.boxes
    for i, label in enumerate(labels):
        cos, sin = np.cos(boxes.yaw[i]), np.sin(boxes.yaw[i])
        local = (points - boxes.centre[i]) @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        inside = (np.abs(local) <= boxes.size[i] / 2 + 0.02).all(axis=1).sum()
        assert inside >= 0.8 * label["num_lidar_points"] - 1, label["class"]
    assert len(boxes) == 68


@pytest.mark.data
@needs_data
def test_cars_are_seen_by_the_cameras_that_face_them():
    recording = NuscenesSampleRecording(ROOT)
    truth, calibration = recording[0].truth, recording.calibration_of(0)
    seen = np.zeros(len(truth.boxes), int)
    for name, camera in calibration.camera_models.items():
        in_camera = calibration.base_from_sensor[name].inverse().apply(
            truth.boxes.centre.astype(np.float64))
        pixel, depth = camera.project(in_camera)
        seen += ((depth > 0) & (pixel >= 0).all(axis=1)
                 & (pixel < (camera.width, camera.height)).all(axis=1))
    assert (seen >= 1).mean() > 0.95 and (seen <= 2).all()


@pytest.mark.data
@needs_data
def test_the_bag_is_the_frame_again(tmp_path):
    recording = NuscenesSampleRecording(ROOT)
    convert(recording, tmp_path / "bag")
    bag = BagRecording(tmp_path / "bag", recording.rig_of(0))
    ours, theirs = recording[0], bag[0]
    assert theirs.t_ref_ns == ours.t_ref_ns
    for name, (frame,) in ours.raw.items():
        assert theirs.raw[name][0].stamp_ns == frame.stamp_ns, name
    np.testing.assert_array_equal(ours.truth.boxes.centre, theirs.truth.boxes.centre)
    np.testing.assert_allclose(ours.odom_from_base.matrix, theirs.odom_from_base.matrix, atol=1e-9)
