"""Shared by tests: a vehicle of one camera, one lidar and one radar, and what its sensors send."""

import copy

import cv2
import numpy as np
from tiny import OPTICAL

from perception_bev import config
from perception_bev.geometry import SE3
from perception_bev.raw import EncodedImage, RawCloud, RawFrame
from perception_bev.rig import Calibration, Rig, resolve

MS = 1_000_000  # [ns]
CAMERA_PLACE = SE3(OPTICAL, np.array([1.0, 0.1, 1.5]))
LENS = {"width": 128, "height": 64, "k": [70.0, 72.0, 63.0, 33.0]}
LIDAR = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("time", "<f4")])
RADAR = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("doppler", "<f4"),
                  ("intensity", "<f4")])

RIG = {
    "name": "small", "reference": {"sensor": "top"},
    "cameras": {"front": {
        "topic": "camera/front/image/compressed", "frame_id": "front_optical", "intrinsics": LENS,
        "extrinsics": {"translation": CAMERA_PLACE.translation.tolist(),
                       "rotation_xyzw": CAMERA_PLACE.quaternion.tolist()}}},
    "lidars": {"top": {
        "topic": "lidar/top/points", "frame_id": "top", "point_time": {"field": "time"},
        "max_points": 5000,
        "extrinsics": {"translation": [0.2, 0.0, 1.8], "rotation_rpy_deg": [0, 0, 0]}}},
    "radars": {"nose": {
        "topic": "radar/nose/points", "frame_id": "nose",
        "extrinsics": {"translation": [3.5, 0.0, 0.6], "rotation_rpy_deg": [0, 0, 0]}}},
    "odometry": {"topic": "odometry"},
}


def description(**sensors: dict) -> dict:
    """The rig's YAML; `front={"frame_id": "x"}` changes a sensor's keys."""
    made = copy.deepcopy(RIG)
    for kind in ("cameras", "lidars", "radars"):
        for name in made[kind]:
            made[kind][name] |= sensors.get(name, {})
    return made


def with_holes() -> dict:
    """The same vehicle, whose file leaves places and lens to TF and CameraInfo."""
    hole = {"extrinsics": "from_tf"}
    return description(front=hole | {"intrinsics": "from_camera_info"}, top=hole, nose=hole)


def rig(**sensors: dict) -> Rig:
    return config.build(Rig, description(**sensors), "small")


def calibration(**sensors: dict) -> Calibration:
    return resolve(rig(**sensors))


def frames(stamp_ns: int, seed: int = 0) -> dict[str, RawFrame]:
    """One raw frame of every sensor; the scene is road and noise, other for every seed."""
    rng = np.random.default_rng(seed)
    return {"front": EncodedImage(stamp_ns, "front_optical", jpeg(rng)),
            "top": RawCloud(stamp_ns, "top", sweep(rng)),
            "nose": RawCloud(stamp_ns, "nose", scan(rng))}


def jpeg(rng: np.random.Generator) -> np.ndarray:
    """The bytes of a picture, (n,) uint8."""
    coarse = rng.integers(0, 256, (8, 16, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (LENS["width"], LENS["height"]), interpolation=cv2.INTER_LINEAR)
    return cv2.imencode(".jpg", picture)[1].reshape(-1)


def sweep(rng: np.random.Generator, road: int = 600, things: int = 200) -> np.ndarray:
    """Points on flat ground, and some above it."""
    points = np.zeros(road + things, LIDAR)
    points["x"], points["y"] = rng.uniform(2, 16, len(points)), rng.uniform(-8, 8, len(points))
    points["z"][:road] = -1.8
    points["z"][road:] = rng.uniform(-1.6, 0.5, things)
    points["intensity"] = rng.random(len(points))
    points["time"] = np.linspace(-0.1, 0.0, len(points))
    return points


def scan(rng: np.random.Generator, returns: int = 60) -> np.ndarray:
    points = np.zeros(returns, RADAR)
    points["x"], points["y"] = rng.uniform(0, 12, returns), rng.uniform(-7, 7, returns)
    points["doppler"], points["intensity"] = rng.normal(size=returns), rng.uniform(40, 80, returns)
    return points
