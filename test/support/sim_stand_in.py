"""Shared by tests: a made-up drive of the small vehicle in place of a simulated one: it moves
straight on past standing objects, and its sensors give noise."""

import cv2
import numpy as np
import tiny

from perception_bev.contracts import Boxes3D
from perception_bev.geometry import SE3
from perception_bev.raw import EncodedImage, RawCloud
from perception_bev.recordings.base import OdometrySample, Sample, Truth, Visibility

PERIOD_NS = 100_000_000
SPEED = 5.0  # [m/s]
CLASSES = ("car", "pedestrian")


class Drive:
    """A Recording; the same seed gives the same samples."""

    def __init__(self, rig, seed: int, seconds: float) -> None:
        self.rig, self.seed, self.count = rig, seed, round(seconds * 10)
        self.places = np.random.default_rng(seed).uniform([2, -7], [30, 7], (6, 2))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        t_ref = tiny.T_REF + index * PERIOD_NS
        pose = SE3(np.eye(3), [SPEED * index / 10, 0, 0])
        odometry = OdometrySample(t_ref, pose, np.array([SPEED, 0, 0]), np.zeros(3))
        rng = np.random.default_rng([self.seed, index])
        raw = {name: (self._frame(name, t_ref, rng),) for name in self.rig.sensors}
        return Sample(str(index), 0, t_ref, raw, self._truth(index), pose, odometry=(odometry,))

    def rig_of(self, index: int):
        return self.rig

    def _truth(self, index: int) -> Truth:
        n = len(self.places)
        xy = self.places - [SPEED * index / 10, 0]
        points = np.where((np.arange(n) + index) % 5 == 0, 0, 4).astype(np.int32)
        boxes = Boxes3D(np.column_stack([xy, np.full(n, 0.8)]).astype(np.float32),
                        np.full((n, 3), 2.0, np.float32), np.zeros(n, np.float32),
                        np.ones(n, np.float32), (np.arange(n) % 2).astype(np.int32), CLASSES,
                        np.zeros((n, 2), np.float32))
        return Truth(boxes, points * 0, np.ones(n, bool), np.arange(n),
                     Visibility(points, points, points))

    def _frame(self, name: str, stamp_ns: int, rng: np.random.Generator):
        modality = self.rig.modality(name)
        if modality == "camera":
            picture = rng.integers(0, 255, (64, 128, 3)).astype(np.uint8)
            return EncodedImage(stamp_ns, "f", cv2.imencode(".jpg", picture)[1].ravel())
        names = {"lidar": "x y z intensity", "radar": "x y z doppler intensity"}[modality].split()
        points = np.zeros(200, [(field, "<f4") for field in names])
        points["x"], points["y"] = rng.uniform(1, 24, 200), rng.uniform(-10, 10, 200)
        return RawCloud(stamp_ns, "f", points)


def drive(rig, seed: int, seconds: float) -> Drive:
    """As train.drives.MakeRecording; importable by name for other processes."""
    return Drive(rig, seed, seconds)
