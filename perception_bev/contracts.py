"""Vocabulary: the frozen values that rooms hand to each other, checked at birth.

Stamps are integer nanoseconds of ROS time. Sensor frames are what `sensors/` makes of a raw
message: validated, still in the sensor's own frame. `inputs/` brings them to base_link at t_ref.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from perception_bev.errors import ShapeMismatch
from perception_bev.geometry import SE3

Modality = Literal["camera", "lidar", "radar"]
MODALITIES: tuple[Modality, ...] = ("camera", "lidar", "radar")


def check_array(name: str, array: np.ndarray, shape: tuple[int | None, ...], dtype: type) -> None:
    """Raise ShapeMismatch unless `array` has the dtype and the shape (None: any length)."""
    fits = len(array.shape) == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != np.dtype(dtype):
        wanted = ", ".join("N" if n is None else str(n) for n in shape)
        raise ShapeMismatch(f"{name}: expected ({wanted}) {np.dtype(dtype).name}, "
                            f"got {array.shape} {array.dtype}")


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """One undistorted picture at the model's scale."""

    stamp_ns: int  # exposure
    image: np.ndarray  # (H, W, 3) uint8, RGB, pinhole

    modality: Modality = field(default="camera", init=False)

    def __post_init__(self) -> None:
        check_array("CameraFrame.image", self.image, (None, None, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class LidarSweep:
    """One sweep in the lidar's frame; every value finite."""

    stamp_ns: int  # sweep end (the rig says how the header's stamp relates to it)
    points: np.ndarray  # (N, 4) float32: x, y, z [m], intensity [0..1]
    time_offset: np.ndarray | None = None  # (N,) float32 [s] from stamp_ns, mostly <= 0

    modality: Modality = field(default="lidar", init=False)

    def __post_init__(self) -> None:
        check_array("LidarSweep.points", self.points, (None, 4), np.float32)
        if self.time_offset is not None:
            check_array("LidarSweep.time_offset", self.time_offset, (len(self.points),), np.float32)


@dataclass(frozen=True, slots=True)
class RadarScan:
    """One scan in the radar's frame; positions finite, doppler NaN where the radar gives none."""

    stamp_ns: int
    points: np.ndarray  # (N, 3) float32: x, y, z [m]
    doppler: np.ndarray  # (N,) float32: radial velocity [m/s], positive = away from the radar
    intensity: np.ndarray  # (N,) float32 [dB] (power, SNR or RCS, as the rig says)

    modality: Modality = field(default="radar", init=False)

    def __post_init__(self) -> None:
        check_array("RadarScan.points", self.points, (None, 3), np.float32)
        check_array("RadarScan.doppler", self.doppler, (len(self.points),), np.float32)
        check_array("RadarScan.intensity", self.intensity, (len(self.points),), np.float32)


SensorFrame = CameraFrame | LidarSweep | RadarScan


@dataclass(frozen=True, slots=True)
class Slot:
    """What a bundle has of one sensor: its frames (newest last), or none and why not."""

    frames: tuple[SensorFrame, ...] = ()
    age_ns: int | None = None  # t_ref - stamp of the newest frame; negative: after t_ref
    reason: str = "ok"  # "ok", "reused", or why it is empty: "missing", "stale", "late", ...

    @property
    def present(self) -> bool:
        return bool(self.frames)

    @property
    def newest(self) -> SensorFrame:
        return self.frames[-1]


@dataclass(frozen=True, slots=True)
class SensorBundle:
    """All sensors around one reference time. Never changes after it was closed."""

    t_ref_ns: int  # end of the reference sweep, on the output grid
    epoch: int  # counts clock jumps, bag loops and gaps; nothing is remembered across them
    sequence: int  # counts bundles, over epochs
    slots: Mapping[str, Slot]  # by sensor name; every sensor of the rig is there
    closed_by: Literal["complete", "deadline", "predicted"] = "complete"
    odom_from_base: SE3 | None = None  # at t_ref; None: no ego motion known

    def present(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `names` that have a frame."""
        return tuple(name for name in names if self.slots[name].present)


@dataclass(frozen=True, slots=True)
class Boxes3D:
    """Oriented boxes, upright in base_link (REP-103: x forward, y left, z up)."""

    centre: np.ndarray  # (N, 3) float32 [m], geometric centre
    size: np.ndarray  # (N, 3) float32 [m]: length, width, height
    yaw: np.ndarray  # (N,) float32 [rad] of the length axis (driving direction) from x to y
    score: np.ndarray  # (N,) float32 [0..1]
    label: np.ndarray  # (N,) int32, index into `classes`
    classes: tuple[str, ...]
    velocity: np.ndarray | None = None  # (N, 2) float32 [m/s]; NaN (the default): unknown

    def __post_init__(self) -> None:
        n = len(self.centre)
        if self.velocity is None:
            object.__setattr__(self, "velocity", np.full((n, 2), np.nan, np.float32))
        for name, shape in (("centre", (n, 3)), ("size", (n, 3)), ("yaw", (n,)), ("score", (n,)),
                            ("velocity", (n, 2))):
            check_array(f"Boxes3D.{name}", getattr(self, name), shape, np.float32)
        check_array("Boxes3D.label", self.label, (n,), np.int32)

    def __len__(self) -> int:
        return len(self.centre)

    def __getitem__(self, chosen: np.ndarray | slice) -> Boxes3D:
        """Boxes at an index array, mask or slice."""
        return Boxes3D(self.centre[chosen], self.size[chosen], self.yaw[chosen],
                       self.score[chosen], self.label[chosen], self.classes, self.velocity[chosen])

    @staticmethod
    def empty(classes: tuple[str, ...]) -> Boxes3D:
        return Boxes3D(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32),
                       np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32),
                       classes)

    def corners(self) -> np.ndarray:
        """(N, 8, 3) float32: the bottom corners counter-clockwise from front-left, then the top."""
        unit = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], np.float32) / 2
        flat = unit[None] * self.size[:, None, :2]
        cos, sin = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        xy = np.stack([cos * flat[..., 0] - sin * flat[..., 1],
                       sin * flat[..., 0] + cos * flat[..., 1]], axis=-1) + self.centre[:, None, :2]
        half = self.size[:, 2:3, None] / 2
        z = self.centre[:, 2:3, None] + np.zeros((1, 4, 1), np.float32)
        return np.concatenate([np.concatenate([xy, z - half], axis=-1),
                               np.concatenate([xy, z + half], axis=-1)], axis=1)
