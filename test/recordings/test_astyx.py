"""Laws of the Astyx recording, on a made-up set in its layout; on the real one where it is."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from perception_bev import resources
from perception_bev.errors import RecordingError
from perception_bev.geometry import SE3, quaternion_from_rotation, rotation_from_rpy
from perception_bev.recordings.astyx import (
    CAMERA,
    CLASSES,
    GAP_NS,
    LIDAR,
    RADAR,
    AstyxRecording,
    in_evaluated_region,
)
from perception_bev.rig import load_rig, resolve
from perception_bev.train.split import hold_out

HOUR_US = 3_600_000_000
CALIBRATIONS = {letter: resolve(load_rig(resources.path(f"config/rigs/astyx_{letter}.yaml")))
                for letter in "ab"}
MS = 1_000_000


class MadeUp:
    """Writes frames in the set's own layout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("camera_front", "lidar_vlp16", "radar_6455", "groundtruth_obj3d",
                       "calibration"):
            (root / folder).mkdir(parents=True)

    def frame(self, name: str, end_us: int, rig: str = "a", objects=(), points: int = 30) -> None:
        rng = np.random.default_rng(int(name))
        picture = rng.integers(0, 256, (618 // 6, 2048 // 8, 3), np.uint8)
        cv2.imwrite(str(self.root / f"camera_front/{name}.jpg"), picture)
        times = np.linspace(end_us - 100_000, end_us, points).astype(np.int64)
        rows = [f"{x:.2f} {y:.2f} {z:.2f} {int(r)} {i % 16} {t}" for i, ((x, y, z, r), t) in
                enumerate(zip(rng.uniform(1, 50, (points, 4)), times, strict=True))]
        self.write("lidar_vlp16", name, "X Y Z Reflectivity LaserID Timestamp \n"
                   + "\n".join(rows) + "\n")
        returns = [" ".join(f"{v:.5f}" for v in row) for row in rng.uniform(1, 60, (7, 5))]
        self.write("radar_6455", name, "\nX Y Z V_r Mag\n" + "\n".join(returns) + "\n")
        self.json("groundtruth_obj3d", name, {"objects": list(objects)})
        self.json("calibration", name, {"sensors": sensors_of(rig)})

    def write(self, folder: str, name: str, text: str) -> None:
        (self.root / folder / f"{name}.txt").write_text(text)

    def json(self, folder: str, name: str, value) -> None:
        (self.root / folder / f"{name}.json").write_text(json.dumps(value))


def sensors_of(letter: str) -> list[dict]:
    """As in the set: sensor -> radar frame."""
    places = CALIBRATIONS[letter].base_from_sensor
    radar_from_base = places[RADAR].inverse()
    names = {"radar_6455": RADAR, "lidar_vlp16": LIDAR, "camera_front": CAMERA}
    return [{"sensor_uid": uid, "calib_data": {
        "T_to_ref_COS": (radar_from_base @ places[name]).matrix.tolist()}}
        for uid, name in names.items()]


def car(centre_in_base, yaw: float, letter: str = "a", **changes) -> dict:
    """A label whose box stands upright at this place in base_link; boxes are in the radar frame."""
    radar_from_base = CALIBRATIONS[letter].base_from_sensor[RADAR].inverse()
    rotation = radar_from_base.rotation @ rotation_from_rpy(0, 0, yaw)
    x, y, z, w = quaternion_from_rotation(rotation)
    return {"center3d": radar_from_base.apply(np.array(centre_in_base, float)[None])[0].tolist(),
            "dimension3d": [4.0, 1.8, 1.5], "orientation_quat": [w, x, y, z], "classname": "Car",
            "occlusion": 0} | changes


@pytest.fixture
def made_up(tmp_path) -> MadeUp:
    return MadeUp(tmp_path / "astyx")


def test_a_sample_has_what_the_files_have(made_up):
    made_up.frame("000000", 100_000, objects=[car([20, -3, 0.75], 0.4)])
    recording = AstyxRecording(made_up.root)
    assert len(recording) == 1
    sample = recording[0]
    lidar, radar = sample.raw[LIDAR][0].points, sample.raw[RADAR][0].points
    assert len(lidar) == 30
    assert len(radar) == 7
    table = np.loadtxt(made_up.root / "lidar_vlp16/000000.txt", skiprows=1)
    assert np.allclose(np.stack([lidar[f] for f in ("x", "y", "z", "intensity", "ring")], 1),
                       table[:, :5])
    assert lidar["time"].max() == 0
    assert np.isclose(lidar["time"].min(), -0.1)
    table = np.loadtxt(made_up.root / "radar_6455/000000.txt", skiprows=2)
    assert np.allclose(np.stack([radar[f] for f in radar.dtype.names], 1), table)
    picture = (made_up.root / "camera_front/000000.jpg").read_bytes()
    assert bytes(sample.raw[CAMERA][0].data) == picture
    assert {frames[0].stamp_ns for frames in sample.raw.values()} == {sample.t_ref_ns}
    assert set(sample.raw) == set(recording.rig_of(0).sensors)


def test_stamps_and_frame_ids_are_those_of_the_rig(made_up):
    made_up.frame("000000", 100_000)
    recording = AstyxRecording(made_up.root)
    for name, frames in recording[0].raw.items():
        assert frames[0].frame_id == recording.rig_of(0).sensors[name].frame_id


@pytest.mark.parametrize("letter", ["a", "b"])
@pytest.mark.parametrize("yaw", [0.0, 0.4, -2.0, 3.1])
def test_boxes_come_upright_into_base_link(made_up, letter, yaw):
    made_up.frame("000000", 0, letter, [car([20, -3, 0.75], yaw, letter, classname="Bus",
                                            occlusion=2)])
    recording = AstyxRecording(made_up.root)
    assert recording.rig_of(0).name == f"astyx_{letter}"
    truth = recording[0].truth
    assert np.allclose(truth.boxes.centre, [[20, -3, 0.75]], atol=1e-4)
    assert np.isclose(truth.boxes.yaw[0], yaw, atol=1e-5)
    assert truth.boxes.size.tolist() == [[4, np.float32(1.8), 1.5]]
    assert CLASSES[truth.boxes.label[0]] == "Bus"
    assert truth.occlusion.tolist() == [2]
    assert np.isnan(truth.boxes.velocity).all()


def test_a_frame_without_objects_has_no_boxes(made_up):
    made_up.frame("000000", 0)
    truth = AstyxRecording(made_up.root)[0].truth
    assert len(truth.boxes) == 0
    assert truth.counted.shape == (0,)


@pytest.mark.parametrize(("in_radar", "counted"), [
    ([30, 0, 0], True), ([80.5, 0, 0], False), ([79, 0, 0], True), ([-5, 0, 0], False),
    ([75, 32.5, 0], False), ([75, 31, 0], True), ([10, 15, 0], False)])
def test_what_is_out_of_range_or_out_of_the_picture_is_not_counted(in_radar, counted):
    calibration = CALIBRATIONS["a"]
    centre = calibration.base_from_sensor[RADAR].apply(np.array([in_radar], float))
    assert in_evaluated_region(centre, calibration).tolist() == [counted]


# -- time ------------------------------------------------------------------------------------------


def recorded(made_up: MadeUp, ends_us, rigs: str | None = None) -> AstyxRecording:
    for i, end in enumerate(ends_us):
        made_up.frame(f"{i:06d}", end, (rigs or "a" * len(ends_us))[i], points=4)
    return AstyxRecording(made_up.root)


def test_the_full_hour_is_unwrapped(made_up):
    recording = recorded(made_up, [HOUR_US - 100_000, 0, 100_000])
    stamps = [recording[i].t_ref_ns for i in range(3)]
    assert np.diff(stamps).tolist() == [100 * MS, 100 * MS]
    assert len(set(recording.sequences)) == 1


def test_a_gap_or_another_calibration_begins_a_sequence(made_up):
    gap = GAP_NS // 1000
    ends = np.cumsum([200_000, 100_000, gap, gap + 1, 100_000, 100_000])
    recording = recorded(made_up, ends.tolist(), "aaaabb")
    assert recording.sequences.tolist() == [0, 0, 0, 1, 2, 2]
    assert [recording[i].sequence for i in range(6)] == [0, 0, 0, 1, 2, 2]


def test_neighbours_in_time_share_a_group_whatever_their_names(made_up):
    recording = recorded(made_up, [1_000_000, 60_000_000, 2_400_000, 61_000_000, 3_800_000])
    groups = recording.groups(gap_s=1.5)
    assert groups[0] == groups[2] == groups[4]
    assert groups[1] == groups[3] != groups[0]


# -- what is wrong with the files ------------------------------------------------------------------


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="groundtruth_obj3d"):
        AstyxRecording(tmp_path)
    (tmp_path / "groundtruth_obj3d").mkdir()
    with pytest.raises(RecordingError, match="no labels"):
        AstyxRecording(tmp_path)


def test_frames_can_be_chosen_and_unknown_ones_are_named(made_up):
    for i in range(3):
        made_up.frame(f"{i:06d}", i * 100_000)
    assert AstyxRecording(made_up.root, ["000002", "000000"]).names == ("000000", "000002")
    with pytest.raises(RecordingError, match="000007"):
        AstyxRecording(made_up.root, ["000007"])


@pytest.mark.parametrize(("folder", "suffix"), [
    ("lidar_vlp16", "txt"), ("calibration", "json"), ("radar_6455", "txt"),
    ("camera_front", "jpg")])
def test_a_missing_file_is_named(made_up, folder, suffix):
    made_up.frame("000000", 0)
    (made_up.root / folder / f"000000.{suffix}").unlink()
    with pytest.raises(RecordingError, match=f"{folder}/000000"):
        AstyxRecording(made_up.root)[0]


@pytest.mark.parametrize(("folder", "text"), [
    ("lidar_vlp16", ""), ("lidar_vlp16", "X Y Z\n"), ("lidar_vlp16", "X\n1 2 3 4 5 six\n"),
    ("lidar_vlp16", "X\n1 2 3 4 5\n"), ("lidar_vlp16", "X\n1 2 3 4 5 6\n1 2 3 6\n"),
    ("radar_6455", "\nX\n1 2 3\n"), ("radar_6455", "\nX\n1 2 3 4 five\n")])
def test_a_torn_table_is_our_error_that_names_the_file(made_up, folder, text):
    made_up.frame("000000", 0)
    made_up.write(folder, "000000", text)
    with pytest.raises(RecordingError, match=f"{folder}/000000"):
        AstyxRecording(made_up.root)[0]


@pytest.mark.parametrize(("folder", "value"), [
    ("groundtruth_obj3d", {}), ("groundtruth_obj3d", {"objects": [{"classname": "Car"}]}),
    ("groundtruth_obj3d", {"objects": 3}), ("groundtruth_obj3d", []),
    ("groundtruth_obj3d", {"objects": [car([9, 0, 1], 0, classname="Tram")]}),
    ("groundtruth_obj3d", {"objects": [car([9, 0, 1], 0, center3d=[1, 2])]}),
    ("groundtruth_obj3d", {"objects": [car([9, 0, 1], 0, orientation_quat=[0, 0, 0, 0])]}),
    ("groundtruth_obj3d", {"objects": [car([9, 0, 1], 0, dimension3d="long")]}),
    ("calibration", {}), ("calibration", {"sensors": []}), ("calibration", {"sensors": "none"}),
    ("calibration", {"sensors": [{"sensor_uid": "lidar_vlp16", "calib_data": {
        "T_to_ref_COS": np.eye(4).tolist()}}]})])
def test_labels_that_do_not_fit_are_our_error_that_names_the_file(made_up, folder, value):
    made_up.frame("000000", 0)
    made_up.json(folder, "000000", value)
    with pytest.raises(RecordingError, match=f"{folder}/000000"):
        AstyxRecording(made_up.root)[0]


def test_a_torn_label_file_is_our_error(made_up):
    for folder in ("groundtruth_obj3d", "calibration"):
        made_up.frame("000000", 0)
        (made_up.root / folder / "000000.json").write_text('{"objects": [')
        with pytest.raises(RecordingError, match=f"{folder}/000000"):
            AstyxRecording(made_up.root)[0]


@pytest.mark.filterwarnings("ignore:loadtxt")
def test_a_radar_file_without_returns_is_an_empty_scan(made_up):
    made_up.frame("000000", 0)
    made_up.write("radar_6455", "000000", "\nX Y Z V_r Mag\n")
    assert len(AstyxRecording(made_up.root)[0].raw[RADAR][0].points) == 0


# -- the real set ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> AstyxRecording:
    root = os.environ.get("PERCEPTION_BEV_ASTYX")
    if not root:
        pytest.skip("PERCEPTION_BEV_ASTYX does not name a folder with the Astyx data set")
    return AstyxRecording(root)


@pytest.mark.data
def test_real_boxes_stand_upright_on_the_road_and_hold_points(real):
    bottoms, filled = [], []
    for index in range(0, len(real), 40):
        sample, calibration = real[index], real.calibration_of(index)
        boxes = sample.truth.boxes
        near = np.linalg.norm(boxes.centre[:, :2], axis=1) < 25
        bottoms += list((boxes.centre[:, 2] - boxes.size[:, 2] / 2)[near])
        raw = sample.raw[LIDAR][0].points
        points = calibration.base_from_sensor[LIDAR].apply(
            np.stack([raw["x"], raw["y"], raw["z"]], axis=1))
        filled += [inside(boxes, i, points) > 0 for i in np.flatnonzero(near)]
    assert abs(np.median(bottoms)) < 0.3
    assert np.mean(filled) > 0.8


def inside(boxes, i: int, points: np.ndarray) -> int:
    place = SE3.from_rpy(boxes.centre[i], np.array([0, 0, boxes.yaw[i]]))
    local = np.abs(place.inverse().apply(points.astype(np.float64)))
    return int((local < boxes.size[i] / 2 + 0.1).all(axis=1).sum())


@pytest.mark.data
def test_real_hold_outs_have_no_neighbour_in_training(real):
    for seed in range(3):
        held = hold_out(real.groups(), 0.15, seed)
        assert 0.05 < held.mean() <= 0.15
        stamps = real.stamps_ns
        assert np.abs(stamps[held][:, None] - stamps[~held]).min() > 1.5e9
