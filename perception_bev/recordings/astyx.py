"""Recordings: the Astyx HiRes2019 data set (camera, lidar, 4D radar, 3D boxes) in its own layout.

Data set: M. Meyer, G. Kuschk, "Automotive Radar Dataset for Deep Learning Based 3D Object
Detection", EuRAD 2019; CC BY-NC-SA 4.0. Boxes are given in the radar frame, which is tilted
against the road; here everything is in base_link: on the ground below the radar, levelled by the
calibration's ground plane (the two rig files hold the result).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np

from perception_bev import resources
from perception_bev.contracts import Boxes3D
from perception_bev.errors import PerceptionError, RecordingError
from perception_bev.geometry import SE3, rotation_from_quaternion
from perception_bev.raw import EncodedImage, RawCloud
from perception_bev.recordings.base import Sample, Truth
from perception_bev.rig import Calibration, Rig, load_rig, resolve

CLASSES = ("Car", "Truck", "Bus", "Trailer", "Person", "Cyclist", "Motorcyclist",
           "Towed Object", "Other Vehicle")
CAMERA, LIDAR, RADAR = "front", "top", "front_radar"
GAP_NS = 300_000_000  # longer than this is another drive
STAMP_ORIGIN_NS = 1_500_000_000 * 10**9  # the files count from a full hour and do not say which
HOUR_NS = 3600 * 10**9

LIDAR_DTYPE = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"),
                        ("ring", "<u2"), ("time", "<f4")])
RADAR_DTYPE = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("doppler", "<f4"),
                        ("magnitude", "<f4")])

COUNTED_X_M = (0.0, 80.0)  # of a box centre in the radar frame, for evaluation
COUNTED_Y_M = 32.0


@lru_cache
def _rigs() -> tuple[tuple[Rig, Calibration], ...]:
    """The set's two calibrations, in the order of the data."""
    rigs = [load_rig(resources.path(f"config/rigs/astyx_{letter}.yaml")) for letter in "ab"]
    return tuple((rig, resolve(rig)) for rig in rigs)


class AstyxRecording:
    """Frames of the data set, by name order; a gap or a new calibration begins a new sequence.

    Args:
        root: folder with camera_front/, lidar_vlp16/, radar_6455/, groundtruth_obj3d/ and
            calibration/.
        frames: names to use ("000000", ...); default: all that have labels.
    """

    def __init__(self, root: str | Path, frames: Sequence[str] | None = None) -> None:
        self._root = Path(root)
        labels = self._root / "groundtruth_obj3d"
        if not labels.is_dir():
            raise RecordingError(f"{root}: no groundtruth_obj3d/ in it; expected the layout of the "
                                 "Astyx HiRes2019 data set")
        known = sorted(path.stem for path in labels.glob("*.json"))
        unknown = sorted(set(frames or ()) - set(known))
        if unknown:
            raise RecordingError(f"{root}: no such frames: {', '.join(unknown[:10])}")
        self.names = tuple(known if frames is None else sorted(frames))
        if not self.names:
            raise RecordingError(f"{labels}: no labels in it")
        ends = [self._sweep_end_ns(name) for name in self.names]
        self._t_ref = _unwrap_hours(np.array(ends, np.int64)) + STAMP_ORIGIN_NS
        self._rig_index = [self._find_rig(name) for name in self.names]
        self.sequences = self._find_sequences()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name, stamp = self.names[index], int(self._t_ref[index])
        raw = {CAMERA: (self._image(name, stamp),), LIDAR: (self._lidar(name, stamp),),
               RADAR: (self._radar(name, stamp),)}
        return Sample(name, int(self.sequences[index]), stamp, raw, self.truth_of(index))

    def rig_of(self, index: int) -> Rig:
        return _rigs()[self._rig_index[index]][0]

    def calibration_of(self, index: int) -> Calibration:
        return _rigs()[self._rig_index[index]][1]

    def groups(self, gap_s: float = 1.5) -> np.ndarray:
        """(N,) int: samples within `gap_s` of each other in time share a group, for hold-outs."""
        order = np.argsort(self._t_ref, kind="stable")
        starts = np.diff(self._t_ref[order], prepend=self._t_ref[order][0]) > gap_s * 1e9
        groups = np.empty(len(self), np.int64)
        groups[order] = np.cumsum(starts)
        return groups

    # -- files ---------------------------------------------------------------------------------

    def _image(self, name: str, stamp: int) -> EncodedImage:
        data = self._file("camera_front", name, "jpg").read_bytes()
        return EncodedImage(stamp, "front_optical_frame", np.frombuffer(data, np.uint8))

    def _lidar(self, name: str, stamp: int) -> RawCloud:
        table = self._table("lidar_vlp16", name, header_lines=1, columns=6)
        points = np.empty(len(table), LIDAR_DTYPE)
        for column, field in enumerate(("x", "y", "z", "intensity", "ring")):
            points[field] = table[:, column]
        points["time"] = (table[:, 5] - table[:, 5].max()) * 1e-6
        return RawCloud(stamp, "lidar_top", points)

    def _radar(self, name: str, stamp: int) -> RawCloud:
        table = self._table("radar_6455", name, header_lines=2, columns=5)
        points = np.empty(len(table), RADAR_DTYPE)
        for column, field in enumerate(RADAR_DTYPE.names):
            points[field] = table[:, column]
        return RawCloud(stamp, "radar_front", points)

    def _sweep_end_ns(self, name: str) -> int:
        """The largest time stamp of the lidar file [ns]; only the last column's tail is parsed."""
        lines = self._file("lidar_vlp16", name, "txt").read_bytes().rstrip().splitlines()
        try:
            return max(int(line.rsplit(maxsplit=1)[1]) for line in lines[1:]) * 1000
        except (IndexError, ValueError) as err:
            raise RecordingError(f"lidar_vlp16/{name}.txt: no time stamps in it: {err}") from err

    def truth_of(self, index: int) -> Truth:
        """The labels of one sample, without its sensor data."""
        calibration = self.calibration_of(index)
        path = self._file("groundtruth_obj3d", self.names[index], "json")
        with _reading(path):
            return _truth(json.loads(path.read_text())["objects"], calibration)

    @property
    def stamps_ns(self) -> np.ndarray:
        """(N,) int64: every sample's t_ref."""
        return self._t_ref.copy()

    def _find_rig(self, name: str) -> int:
        """Which of the two calibrations: that whose lidar lies where the file says."""
        path = self._file("calibration", name, "json")
        with _reading(path):
            sensors = json.loads(path.read_text())["sensors"]
            matrix = {s["sensor_uid"]: s["calib_data"]["T_to_ref_COS"] for s in sensors}
            radar_from_lidar = SE3.from_matrix(np.array(matrix["lidar_vlp16"]))
        for i, (_, calibration) in enumerate(_rigs()):
            places = calibration.base_from_sensor
            ours = places[RADAR].inverse() @ places[LIDAR]
            if np.allclose(ours.matrix, radar_from_lidar.matrix, atol=2e-3):
                return i
        raise RecordingError(f"calibration/{name}.json: neither of the set's two calibrations")

    def _find_sequences(self) -> np.ndarray:
        step = np.diff(self._t_ref)
        begins = (step <= 0) | (step > GAP_NS) | (np.diff(self._rig_index) != 0)
        return np.concatenate([[0], np.cumsum(begins)])

    def _table(self, folder: str, name: str, header_lines: int, columns: int) -> np.ndarray:
        path = self._file(folder, name, "txt")
        try:
            table = np.loadtxt(path, skiprows=header_lines, ndmin=2)
        except ValueError as err:
            raise RecordingError(f"{path}: {err}") from err
        if table.size and table.shape[1] != columns:
            raise RecordingError(f"{path}: expected {columns} columns, got {table.shape[1]}")
        return table.reshape(-1, columns)

    def _file(self, folder: str, name: str, suffix: str) -> Path:
        path = self._root / folder / f"{name}.{suffix}"
        if not path.is_file():
            raise RecordingError(f"{path}: no such file; is the data set complete?")
        return path


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What is wrong inside a JSON file becomes a RecordingError that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, PerceptionError) as err:
        raise RecordingError(f"{path}: {type(err).__name__}: {err}") from err


def _truth(labels: list[dict], calibration: Calibration) -> Truth:
    base_from_radar = calibration.base_from_sensor[RADAR]
    centre_in_radar = np.array([o["center3d"] for o in labels], np.float64).reshape(-1, 3)
    boxes = Boxes3D(
        centre=base_from_radar.apply(centre_in_radar).astype(np.float32),
        size=np.array([o["dimension3d"] for o in labels], np.float32).reshape(-1, 3),
        yaw=np.array([_yaw(base_from_radar, o) for o in labels], np.float32),
        score=np.ones(len(labels), np.float32),
        label=np.array([_class(o) for o in labels], np.int32),
        classes=CLASSES)
    return Truth(boxes, np.array([o["occlusion"] for o in labels], np.int32),
                 in_evaluated_region(boxes.centre, calibration))


def in_evaluated_region(centre: np.ndarray, calibration: Calibration) -> np.ndarray:
    """(N, 3) centres in base_link -> (N,) bool: in range of the radar frame and in the picture."""
    places, camera = calibration.base_from_sensor, calibration.camera_models[CAMERA]
    in_radar = places[RADAR].inverse().apply(centre.astype(np.float64))
    pixel, depth = camera.project(places[CAMERA].inverse().apply(centre.astype(np.float64)))
    in_range = ((in_radar[:, 0] >= COUNTED_X_M[0]) & (in_radar[:, 0] <= COUNTED_X_M[1])
                & (np.abs(in_radar[:, 1]) <= COUNTED_Y_M))
    in_picture = ((depth > 0) & (pixel >= 0).all(axis=1)
                  & (pixel < (camera.width, camera.height)).all(axis=1))
    return in_range & in_picture


def _yaw(base_from_radar: SE3, label: dict) -> float:
    w, x, y, z = label["orientation_quat"]
    forward = base_from_radar.rotation @ rotation_from_quaternion((x, y, z, w))[:, 0]
    return float(np.arctan2(forward[1], forward[0]))


def _class(label: dict) -> int:
    if label["classname"] not in CLASSES:
        raise RecordingError(f"unknown class '{label['classname']}'; known: {', '.join(CLASSES)}")
    return CLASSES.index(label["classname"])


def _unwrap_hours(stamps: np.ndarray) -> np.ndarray:
    """The lidar counts from the full hour: a step back by most of an hour is the next hour."""
    wraps = np.cumsum(np.diff(stamps, prepend=stamps[0]) < -HOUR_NS // 2)
    return stamps + wraps * HOUR_NS
