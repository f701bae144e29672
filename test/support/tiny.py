"""Shared by tests: a small model, a small vehicle and what its sensors give of a made-up scene."""

from dataclasses import dataclass, replace

import numpy as np

from perception_bev import config
from perception_bev.contracts import (
    Boxes3D,
    CameraFrame,
    LidarSweep,
    RadarScan,
    SensorBundle,
    Slot,
)
from perception_bev.geometry import SE3, rotation_from_rotvec, skew
from perception_bev.manifest import Manifest
from perception_bev.recordings.base import Truth
from perception_bev.rig import Calibration, Rig, resolve

T_REF = 1_700_000_000_000_000_000  # [ns]
OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # base axes from optical axes

MODEL = {
    "name": "tiny", "grid": {"x_min": -8, "x_max": 24, "y_min": -12, "y_max": 12, "cell": 0.5},
    "classes": ["car", "pedestrian"],
    "camera": {"slots": 2, "width": 64, "height": 32, "stride": 4, "channels": 8,
               "lift_heights": [0.3, 1.2], "lift_factor": 4},
    "lidar": {"height_bins": [-0.3, 0.2, 0.6, 1.0, 1.5, 2.0], "max_height": 5.0, "log_points": 16},
    "radar": {"intensity_offset": 45, "intensity_scale": 30, "max_height": 4.0,
              "doppler_scale": 2.5, "log_points": 8},
    "heads": {"stride": 2}, "fused_channels": 16,
    "provenance": {"data": "made up", "licence": "Apache-2.0", "commercial_use": True}}

LENS = {"width": 128, "height": 64, "k": [70.0, 72.0, 63.0, 33.0]}


def manifest(**changes) -> Manifest:
    return config.build(Manifest, MODEL | changes, "tiny")


def vehicle(**changes) -> Calibration:
    """Two cameras, a lidar on the roof, a radar in front and one at the corner."""

    def sensor(x, y, z, yaw, **more) -> dict:
        return {"topic": "t", "frame_id": "f",
                "extrinsics": {"translation": [x, y, z], "rotation_rpy_deg": [0, 0, yaw]}} | more

    def camera(x, y, z, yaw) -> dict:
        place = SE3(rotation_from_rotvec(np.array([0, 0, np.deg2rad(yaw)])) @ OPTICAL, [x, y, z])
        return {"topic": "t", "frame_id": "f", "intrinsics": LENS, "extrinsics": {
            "translation": [x, y, z], "rotation_xyzw": place.quaternion.tolist()}}

    wrapping = {"field": "doppler", "min": -5.1, "max": 5.2}
    return resolve(config.build(Rig, {
        "name": "tiny", "reference": {"sensor": "top"},
        "cameras": {"front": camera(1.0, 0.1, 1.5, 0), "left": camera(0.5, 0.5, 1.4, 50)},
        "lidars": {"top": sensor(0.2, -0.1, 1.8, 5)},
        "radars": {"front_radar": sensor(3.5, 0.0, 0.6, 0, doppler=wrapping),
                   "corner_radar": sensor(3.2, -0.9, 0.6, -50, doppler=wrapping)}} | changes,
        "tiny"))


@dataclass(frozen=True)
class ConstantTwist:
    """An EgoSource that has always moved like this; at T_REF it is where odom begins."""

    linear: tuple[float, float, float] = (0.0, 0.0, 0.0)  # [m/s] in base_link
    angular: tuple[float, float, float] = (0.0, 0.0, 0.0)  # [rad/s] in base_link

    def at(self, stamp_ns: int) -> SE3:
        return exponential(np.array(self.linear), np.array(self.angular),
                           (stamp_ns - T_REF) * 1e-9)

    def twist_at(self, stamp_ns: int) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.linear), np.array(self.angular)


def exponential(v: np.ndarray, w: np.ndarray, t: float) -> SE3:
    """Pose after t seconds of a constant twist, by its power series."""
    twist, term, total = np.zeros((4, 4)), np.eye(4), np.eye(4)
    twist[:3, :3], twist[:3, 3] = skew(w) * t, v * t
    for n in range(1, 30):
        term = term @ twist / n
        total = total + term
    return SE3(total[:3, :3], total[:3, 3])


def mirrored(pose: SE3) -> SE3:
    """The same place in a world that is mirrored at the x-z plane."""
    flip = np.diag([1.0, -1.0, 1.0])
    return SE3(flip @ pose.rotation @ flip, flip @ pose.translation)


def mirrored_camera(base_from_camera: SE3) -> SE3:
    """As `mirrored`, for an optical frame, whose left and right lie along its x axis."""
    flip_base, flip_optical = np.diag([1.0, -1.0, 1.0]), np.diag([-1.0, 1.0, 1.0])
    return SE3(flip_base @ base_from_camera.rotation @ flip_optical,
               flip_base @ base_from_camera.translation)


def scatter(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 3) float32 around the vehicle, on the grid and off it, in base_link."""
    return rng.uniform([-12, -15, -1.5], [30, 15, 6.0], (n, 3)).astype(np.float32)


def bundle(calibration: Calibration, seed: int = 0, points: int = 800, returns: int = 60,
           stagger_ns: int = 0) -> SensorBundle:
    """One frame of every sensor; the contents are noise, each sensor `stagger_ns` older."""
    rng = np.random.default_rng(seed)
    slots = {}
    for i, name in enumerate(calibration.rig.sensors):
        stamp = T_REF - i * stagger_ns
        frame = _frame(calibration, name, stamp, rng, points, returns)
        slots[name] = Slot((frame,), T_REF - stamp)
    return SensorBundle(T_REF, 0, 0, slots)


def _frame(calibration: Calibration, name: str, stamp: int, rng: np.random.Generator, points: int,
           returns: int):
    modality = calibration.rig.modality(name)
    if modality == "camera":
        return CameraFrame(stamp, rng.integers(0, 256, (32, 64, 3)).astype(np.uint8))
    sensor_from_base = calibration.base_from_sensor[name].inverse()
    if modality == "lidar":
        xyz = sensor_from_base.apply(scatter(rng, points))
        xyzi = np.column_stack([xyz, rng.random(points)]).astype(np.float32)
        return LidarSweep(stamp, xyzi, rng.uniform(-0.1, 0, points).astype(np.float32))
    return RadarScan(stamp, sensor_from_base.apply(scatter(rng, returns)),
                     rng.uniform(-5.1, 5.2, returns).astype(np.float32),
                     rng.uniform(40, 90, returns).astype(np.float32))


def without(whole: SensorBundle, *names: str) -> SensorBundle:
    """The bundle with some sensors missing."""
    gone = dict.fromkeys(names, Slot(reason="missing"))
    return replace(whole, slots={**whole.slots, **gone})


def truth(classes: tuple[str, ...], seed: int = 0, n: int = 4) -> Truth:
    """A few boxes on the grid."""
    rng = np.random.default_rng(seed)
    boxes = Boxes3D(rng.uniform([0, -8, 0.4], [20, 8, 1.0], (n, 3)).astype(np.float32),
                    rng.uniform([3, 1.5, 1.3], [5, 2, 1.8], (n, 3)).astype(np.float32),
                    rng.uniform(-3, 3, n).astype(np.float32), np.ones(n, np.float32),
                    rng.integers(0, len(classes), n).astype(np.int32), classes)
    return Truth(boxes, np.zeros(n, np.int32), np.ones(n, bool))
