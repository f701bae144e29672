"""Recordings: one nuScenes key frame in a folder (six cameras, one lidar sweep, 3D boxes).

Data set: H. Caesar et al., "nuScenes: A multimodal dataset for autonomous driving", CVPR 2020;
CC BY-NC-SA 4.0, Motional. The folder holds frame.json, six JPEGs and the sweep as float32.
Boxes are given in the lidar's frame; here they are in base_link, nuScenes' ego frame.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from perception_bev import resources
from perception_bev.contracts import Boxes3D
from perception_bev.errors import RecordingError
from perception_bev.geometry import SE3
from perception_bev.raw import EncodedImage, RawCloud
from perception_bev.recordings import nuscenes_files as files
from perception_bev.recordings.base import Sample, Truth
from perception_bev.rig import Calibration, Rig, load_rig, resolve

CLASSES = ("car", "truck", "construction_vehicle", "bus", "trailer", "barrier", "motorcycle",
           "bicycle", "pedestrian", "traffic_cone")
LIDAR = "lidar_top"
COUNTED_RANGE_M = 50.0  # the data set's detection task ends there for cars; others end earlier


class NuscenesSampleRecording:
    """The one sample of the folder.

    Boxes of the class "ignore" are left out. A box counts when a lidar or radar point is on it
    and its centre lies within COUNTED_RANGE_M; the data set's own task has no occlusion, so it is
    0 everywhere.
    """

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        path = self._root / "frame.json"
        try:
            self._frame: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as err:
            raise RecordingError(f"{path}: not readable: {err}") from err
        missing = {"timestamp_s", "global_from_ego", "cameras", "lidar", "boxes"} - set(self._frame)
        if missing:
            raise RecordingError(f"{path}: lacks {', '.join(sorted(missing))}")

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        if index not in (0, -1):
            raise IndexError(f"sample {index} of a recording of one")
        t_ref = _stamp_ns(self._frame["timestamp_s"])
        raw: dict[str, tuple] = {name.lower(): (self._image(name, camera),)
                                 for name, camera in self._frame["cameras"].items()}
        raw[LIDAR] = (self._sweep(t_ref),)
        return Sample("0", 0, t_ref, raw, self._truth(),
                      SE3.from_matrix(np.array(self._frame["global_from_ego"])))

    def rig_of(self, index: int) -> Rig:
        return self._calibration.rig

    def calibration_of(self, index: int) -> Calibration:
        return self._calibration

    @cached_property
    def _calibration(self) -> Calibration:
        """The shipped rig; RecordingError when the folder's numbers are another vehicle's."""
        calibration = resolve(load_rig(resources.path("config/rigs/nuscenes.yaml")))
        given = {name.lower(): camera["ego_from_camera"]
                 for name, camera in self._frame["cameras"].items()}
        given[LIDAR] = self._frame["lidar"]["ego_from_lidar"]
        for name, matrix in given.items():
            ours = calibration.base_from_sensor.get(name)
            if ours is None or not np.allclose(ours.matrix, np.array(matrix), atol=2e-3):
                raise RecordingError(f"frame.json: {name} is not where config/rigs/nuscenes.yaml "
                                     "has it; the shipped rig is of another vehicle")
        return calibration

    def _image(self, name: str, camera: dict[str, Any]) -> EncodedImage:
        data = np.frombuffer(files.read(self._root / camera["file"]), np.uint8)
        return EncodedImage(_stamp_ns(camera["timestamp_s"]), f"{name.lower()}_optical_frame", data)

    def _sweep(self, t_ref_ns: int) -> RawCloud:
        path = self._root / self._frame["lidar"]["file"]
        given = tuple(self._frame["lidar"]["fields"])
        if given != files.LIDAR_DTYPE.names:
            raise RecordingError(f"{path}: fields {', '.join(given)}; expected "
                                 + ", ".join(files.LIDAR_DTYPE.names))
        return RawCloud(t_ref_ns, LIDAR, files.lidar_points(files.read(path), path))

    def _truth(self) -> Truth:
        labels = [box for box in self._frame["boxes"] if box["class"] in CLASSES]
        base_from_lidar = self._calibration.base_from_sensor[LIDAR]
        table = np.array([b["center_lwh_yaw_in_lidar"] for b in labels], np.float64).reshape(-1, 7)
        velocity = np.array([b["velocity_xy_mps"] for b in labels], np.float64).reshape(-1, 2)
        heading = np.stack([np.cos(table[:, 6]), np.sin(table[:, 6])], axis=1)
        forward = _turned(base_from_lidar, heading)
        boxes = Boxes3D(
            centre=base_from_lidar.apply(table[:, :3]).astype(np.float32),
            size=table[:, 3:6].astype(np.float32),
            yaw=np.arctan2(forward[:, 1], forward[:, 0]).astype(np.float32),
            score=np.ones(len(labels), np.float32),
            label=np.array([CLASSES.index(b["class"]) for b in labels], np.int32),
            classes=CLASSES,
            velocity=_turned(base_from_lidar, velocity)[:, :2].astype(np.float32))
        seen = np.array([b["num_lidar_points"] + b["num_radar_points"] > 0 for b in labels], bool)
        near = np.linalg.norm(boxes.centre[:, :2], axis=1) <= COUNTED_RANGE_M
        return Truth(boxes, np.zeros(len(labels), np.int32), seen & near)


def _turned(base_from_lidar: SE3, xy: np.ndarray) -> np.ndarray:
    """(N, 2) directions in the lidar's x-y plane -> (N, 3) in base_link."""
    return np.pad(xy, ((0, 0), (0, 1))) @ base_from_lidar.rotation.T


def _stamp_ns(seconds: float) -> int:
    """The data set stamps in whole microseconds."""
    return round(seconds * 1e6) * 1000
