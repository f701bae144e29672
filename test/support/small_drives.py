"""Shared by tests: drives of the small car among boxes that move, as recordings and as sets."""

from collections.abc import Sequence

import numpy as np
from small_car import MS, calibration, frames

from perception_bev.contracts import Boxes3D
from perception_bev.geometry import SE3
from perception_bev.recordings.base import OdometrySample, Sample, Truth, Visibility
from perception_bev.rig import Calibration, Rig

START_NS = 1_700_000_000_000_000_000
CLASSES = ("car", "pedestrian")
SPEED, YAW_RATE = 5.0, 0.3  # of the vehicle [m/s, rad/s]
OBJECTS = 5


def pose(seconds: float) -> SE3:
    """odom_from_base on a circle."""
    angle = YAW_RATE * seconds
    radius = SPEED / YAW_RATE
    return SE3.from_rpy([radius * np.sin(angle), radius * (1 - np.cos(angle)), 0], [0, 0, angle])


class SmallDrive:
    """Ten samples a second; object k is seen by the lidar in every (k + 1)th sample only."""

    def __init__(self, rig: Rig, seed: int, seconds: float) -> None:
        self._rig, self._seed, self._count = rig, seed, round(seconds * 10)

    def __len__(self) -> int:
        return self._count

    def rig_of(self, index: int) -> Rig:
        return self._rig

    def calibration_of(self, index: int) -> Calibration:
        return calibration()

    def __getitem__(self, index: int) -> Sample:
        t_ref, seconds = START_NS + index * 100 * MS, index * 0.1
        raw = {name: (frame,) for name, frame in frames(t_ref, 1000 * self._seed + index).items()}
        if index == 1:
            del raw["front"]  # a picture was lost
        odometry = tuple(OdometrySample(t_ref - k * 20 * MS, pose(seconds - 0.02 * k),
                                        np.array([SPEED, 0, 0]), np.array([0, 0, YAW_RATE]))
                         for k in reversed(range(5)))
        return Sample(f"{self._seed}_{index}", self._seed, t_ref, raw, self._truth(index),
                      pose(seconds), {}, odometry)

    def _truth(self, index: int) -> Truth:
        rng = np.random.default_rng(self._seed)
        centre = rng.uniform([2, -7, 0.5], [15, 7, 1.0], (OBJECTS, 3))
        boxes = Boxes3D(centre.astype(np.float32), np.full((OBJECTS, 3), 1.5, np.float32),
                        rng.uniform(-3, 3, OBJECTS).astype(np.float32),
                        np.ones(OBJECTS, np.float32),
                        rng.integers(0, 2, OBJECTS).astype(np.int32), CLASSES,
                        rng.uniform(-5, 5, (OBJECTS, 2)).astype(np.float32))
        every = np.arange(OBJECTS) + 1
        points = (index % every == 0).astype(np.int32)
        nothing = np.zeros(OBJECTS, np.int32)
        return Truth(boxes, nothing, np.ones(OBJECTS, bool), np.arange(OBJECTS) + 100 * self._seed,
                     Visibility(points, nothing, nothing))


def samples(count: int, seed: int = 0) -> Sequence[Sample]:
    drive = SmallDrive(calibration().rig, seed, count / 10)
    return [drive[i] for i in range(count)]


def made_in_another_process(rig: Rig, seed: int, seconds: float) -> SmallDrive:
    """What train.drives is given to make a drive with."""
    return SmallDrive(rig, seed, seconds)
