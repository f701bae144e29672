"""Shared by tests: a tiny made-up data set in the exact layout of nuScenes, and what is true in it.

The vehicle drives a curve past a moving car, a walker, a barrier, a bicycle in a rack and an
ambulance. Every lidar point lies on the ground or on an object, seen from where the lidar was at
that time; every radar return lies in an object's middle. Pictures are of one grey each.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from perception_bev.geometry import SE3, rotation_from_rpy
from perception_bev.recordings.nuscenes_truth import LEVELS

START_US = 1_532_402_927_600_000
KEY_US, SWEEP_US, PICTURE_US, SCAN_US = 500_000, 50_000, 83_333, 76_923
SPEED, TURN = 8.0, 0.15  # [m/s], [rad/s] of the vehicle
WIDTH, HEIGHT = 160, 90
CAMERAS = {"CAM_FRONT": 0, "CAM_FRONT_RIGHT": -55, "CAM_FRONT_LEFT": 55, "CAM_BACK": 180,
           "CAM_BACK_LEFT": 110, "CAM_BACK_RIGHT": -110}  # yaw [deg]
RADARS = {"RADAR_FRONT": 0, "RADAR_FRONT_LEFT": 90, "RADAR_FRONT_RIGHT": -90,
          "RADAR_BACK_LEFT": 170, "RADAR_BACK_RIGHT": -170}
OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # base axes from optical axes
PCD_FIELDS = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("dyn_prop", "<i1"), ("id", "<i2"),
              ("rcs", "<f4"), ("vx", "<f4"), ("vy", "<f4"), ("vx_comp", "<f4"), ("vy_comp", "<f4"),
              ("is_quality_valid", "<i1"), ("ambig_state", "<i1"), ("x_rms", "<i1"),
              ("y_rms", "<i1"), ("invalid_state", "<i1"), ("pdh0", "<i1"), ("vx_rms", "<i1"),
              ("vy_rms", "<i1")]


@dataclass(frozen=True)
class Thing:
    category: str
    start: tuple[float, float, float]  # centre at START_US [m], global
    size: tuple[float, float, float]  # l, w, h [m]
    yaw: float = 0.0
    velocity: tuple[float, float] = (0.0, 0.0)  # [m/s], global
    level: str = "v80-100"
    seen: bool = True

    def centre(self, seconds: float) -> np.ndarray:
        return np.array(self.start) + seconds * np.array([*self.velocity, 0.0])

    def place(self, seconds: float) -> SE3:
        return SE3(rotation_from_rpy(0, 0, self.yaw), self.centre(seconds))


THINGS = (
    Thing("vehicle.car", (625, 410, 0.8), (4.2, 1.8, 1.6), 0.4, (5 * np.cos(0.4), 5 * np.sin(0.4))),
    Thing("human.pedestrian.adult", (612, 394, 0.9), (0.6, 0.6, 1.8), 2.0, (-0.5, 1.0), "v40-60"),
    Thing("movable_object.barrier", (618, 405, 0.5), (0.5, 2.0, 1.0), -0.3, level="v0-40"),
    Thing("vehicle.bicycle", (608, 398, 0.6), (1.7, 0.6, 1.2)),
    Thing("static_object.bicycle_rack", (608, 398, 0.7), (5.0, 2.0, 1.4)),
    Thing("vehicle.emergency.ambulance", (595, 404, 1.2), (6.0, 2.2, 2.4)),
    Thing("vehicle.truck", (690, 430, 1.7), (9.0, 2.5, 3.4)),  # further than counts
    Thing("vehicle.bus.bendy", (580, 390, 1.7), (15.0, 2.8, 3.4), seen=False))


def global_from_base(stamp_us: int) -> SE3:
    """A circle: exact at every time, so that every sensor has a pose of its own time."""
    t = (stamp_us - START_US) * 1e-6
    yaw = 0.5 + TURN * t
    chord = SPEED / TURN * np.array([np.sin(yaw) - np.sin(0.5), np.cos(0.5) - np.cos(yaw), 0.0])
    return SE3(rotation_from_rpy(0, 0, yaw), np.array([600.0, 400.0, 0.0]) + chord)


def write(root: Path, scenes: int = 2, samples: int = 3, version: str = "v1.0-mini",
          seed: int = 0) -> Path:
    """Write the data set; scene number 1 is in Singapore, on another vehicle."""
    tables = _Tables(root, np.random.default_rng(seed))
    for number in range(scenes):
        tables.scene(number, samples)
    (root / version).mkdir(parents=True)
    for name, rows in tables.rows.items():
        (root / version / f"{name}.json").write_text(json.dumps(rows, indent=0))
    return root


class _Tables:
    def __init__(self, root: Path, rng: np.random.Generator) -> None:
        self.root, self.rng = root, rng
        names = ("attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map",
                 "sample", "sample_annotation", "sample_data", "scene", "sensor", "visibility")
        self.rows: dict[str, list[dict]] = {name: [] for name in names}
        for level in LEVELS:
            self.add("visibility", level=level, description="", token=str(len(self.rows[
                "visibility"]) + 1))
        self.categories = {thing.category: self.add("category", name=thing.category)
                           for thing in THINGS}
        self.sensors = {channel: self.add("sensor", channel=channel, modality=modality)
                        for modality, channels in (("camera", CAMERAS), ("radar", RADARS),
                                                   ("lidar", ("LIDAR_TOP",)))
                        for channel in channels}

    def add(self, table: str, **fields) -> str:
        token = fields.pop("token", f"{table}{len(self.rows[table]):05}")
        self.rows[table].append({"token": token, **fields})
        return token

    def scene(self, number: int, samples: int) -> None:
        begin = START_US + number * 100_000_000
        log = self.add("log", logfile="", date_captured="2018-07-24",
                       vehicle="n015" if number == 1 else "n008",
                       location="singapore-onenorth" if number == 1 else "boston-seaport")
        scene = self.add("scene", name=f"scene-{61 + number:04}", description="", log_token=log,
                         nbr_samples=samples)
        keys = [begin + i * KEY_US for i in range(samples)]
        tokens = [self.add("sample", timestamp=stamp, scene_token=scene) for stamp in keys]
        _chain(self.rows["sample"][-samples:])
        for stamps, channels in ((np.arange(keys[0], keys[-1] + 1, SWEEP_US), ("LIDAR_TOP",)),
                                 (_rhythm(keys, PICTURE_US), CAMERAS), (_rhythm(keys, SCAN_US),
                                                                        RADARS)):
            for i, channel in enumerate(channels):
                self.files(channel, number, [int(s) - 4000 * i for s in stamps], keys, tokens)
        self.things(begin, keys, tokens)

    def files(self, channel: str, number: int, stamps: list[int], keys: list[int],
              tokens: list[str]) -> None:
        place, lens = _mounted(channel, number)
        calibration = self.add(
            "calibrated_sensor", sensor_token=self.sensors[channel],
            translation=place.translation.tolist(), rotation=_wxyz(place),
            camera_intrinsic=lens)
        nearest = {min(stamps, key=lambda s, key=key: abs(s - key)): i
                   for i, key in enumerate(keys)}
        for stamp in stamps:
            key = nearest.get(stamp, -1)
            following = next((i for i, k in enumerate(keys) if k >= stamp), len(keys) - 1)
            suffix = {"CAM": "jpg", "LID": "pcd.bin", "RAD": "pcd"}[channel[:3]]
            file = (f"{'samples' if key >= 0 else 'sweeps'}/{channel}/"
                    f"n0__{channel}__{stamp}.{suffix}")
            pose = global_from_base(stamp - number * 100_000_000)
            picture = bool(lens)
            self.add("sample_data", sample_token=tokens[key if key >= 0 else following],
                     ego_pose_token=self.add("ego_pose", timestamp=stamp, rotation=_wxyz(pose),
                                             translation=pose.translation.tolist()),
                     calibrated_sensor_token=calibration, timestamp=stamp,
                     fileformat=suffix.split(".")[0], is_key_frame=key >= 0, filename=file,
                     width=WIDTH if picture else 0, height=HEIGHT if picture else 0, prev="",
                     next="")
            (self.root / file).parent.mkdir(parents=True, exist_ok=True)
            seconds = (stamp - START_US) * 1e-6 - number * 100
            (self.root / file).write_bytes(self.content(channel, pose @ place, seconds))

    def content(self, channel: str, global_from_sensor: SE3, seconds: float) -> bytes:
        if channel.startswith("CAM"):
            shade = int(self.rng.integers(60, 200))
            picture = np.full((HEIGHT, WIDTH, 3), shade, np.uint8)
            return cv2.imencode(".jpg", picture)[1].tobytes()
        sensor_from_global = global_from_sensor.inverse()
        if channel.startswith("LIDAR"):
            return _sweep(sensor_from_global, seconds, self.rng).tobytes()
        return pcd(_scan(sensor_from_global, seconds))

    def things(self, begin: int, keys: list[int], tokens: list[str]) -> None:
        for thing in THINGS:
            instance = self.add("instance", category_token=self.categories[thing.category],
                                nbr_annotations=len(keys))
            for key, token in zip(keys, tokens, strict=True):
                place, (length, width, height) = thing.place((key - begin) * 1e-6), thing.size
                self.add(
                    "sample_annotation", sample_token=token, instance_token=instance,
                    attribute_tokens=[], visibility_token=str(1 + list(LEVELS).index(thing.level)),
                    translation=place.translation.tolist(), size=[width, length, height],
                    rotation=_wxyz(place), num_lidar_pts=40 if thing.seen else 0,
                    num_radar_pts=1 if thing.seen else 0)
            _chain(self.rows["sample_annotation"][-len(keys):])


def _chain(rows: list[dict]) -> None:
    """Records that follow each other name each other."""
    for i, row in enumerate(rows):
        row["prev"] = rows[i - 1]["token"] if i else ""
        row["next"] = rows[i + 1]["token"] if i + 1 < len(rows) else ""


def _rhythm(keys: list[int], period: int) -> np.ndarray:
    """Stamps from a period before the first key frame on; one lies shortly before each of them."""
    return np.arange(keys[0] - 10_000 - period, keys[-1] + 1, period)


def _mounted(channel: str, number: int) -> tuple[SE3, list]:
    """base_from_sensor and the camera matrix; the second vehicle's sensors lie a bit higher."""
    lift = 0.02 * number
    if channel in CAMERAS:
        yaw = np.deg2rad(CAMERAS[channel])
        rotation = rotation_from_rpy(0, 0, yaw) @ OPTICAL
        place = SE3(rotation, [1.0 + 0.7 * np.cos(yaw), 0.5 * np.sin(yaw), 1.5 + lift])
        return place, [[126.0, 0.0, 79.5], [0.0, 126.0, 44.5], [0.0, 0.0, 1.0]]
    if channel in RADARS:
        yaw = np.deg2rad(RADARS[channel])
        return SE3(rotation_from_rpy(0, 0, yaw),
                   [1.5 + 2 * np.cos(yaw), 0.8 * np.sin(yaw), 0.5 + lift]), []
    return SE3(rotation_from_rpy(0.01, -0.02, -np.pi / 2), [0.94, 0.0, 1.84 + lift]), []


def _sweep(sensor_from_global: SE3, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """(N, 5) float32; ground, then forty points in every object that is seen."""
    around = np.array([600.0, 400.0, 0.0]) + np.pad(rng.uniform(-40, 40, (1500, 2)),
                                                    ((0, 0), (0, 1)))
    parts = [around] + [
        thing.place(seconds).apply(rng.uniform(-0.5, 0.5, (40, 3)) * thing.size)
        for thing in THINGS if thing.seen]
    points = sensor_from_global.apply(np.concatenate(parts))
    return np.column_stack([points, rng.uniform(0, 255, len(points)),
                            rng.integers(0, 32, len(points))]).astype("<f4")


def _scan(sensor_from_global: SE3, seconds: float) -> np.ndarray:
    """A return in the middle of every object in the field of view, then two that are no good."""
    returns = []
    for thing in (t for t in THINGS if t.seen):
        x, y, _ = sensor_from_global.apply(thing.centre(seconds))
        if x > 1 and abs(y) < x:
            away = np.array([x, y]) / np.hypot(x, y)
            velocity = sensor_from_global.rotation @ np.array([*thing.velocity, 0.0])
            radial = float(away @ velocity[:2]) * away
            returns.append((x, y, 0.0, 0, len(returns), 12.5, -3.0, 0.0, *radial, 1, 3, 19, 19, 0,
                            1, 16, 3))
    ghost = [(20.0, 1.0, 0.0, 1, 90, 3.0, 0, 0, 9.0, 0.0, 1, ambiguity, 19, 19, state, 1, 16, 3)
             for ambiguity, state in ((1, 0), (3, 2))]
    return np.array(returns + ghost, np.dtype(PCD_FIELDS))


def pcd(points: np.ndarray) -> bytes:
    """As the set's files are: seven comment and size lines, packed values, a byte at the end."""
    kinds = [np.dtype(kind) for _, kind in PCD_FIELDS]
    lines = ["# .PCD v0.7 - Point Cloud Data file format", "VERSION 0.7",
             "FIELDS " + " ".join(name for name, _ in PCD_FIELDS),
             "SIZE " + " ".join(str(kind.itemsize) for kind in kinds),
             "TYPE " + " ".join(kind.kind.upper() for kind in kinds),
             "COUNT " + " ".join("1" for _ in kinds), f"WIDTH {len(points)}", "HEIGHT 1",
             "VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {len(points)}", "DATA binary"]
    return "\n".join(lines).encode() + b"\n" + points.tobytes() + b"\n"


def _wxyz(place: SE3) -> list[float]:
    x, y, z, w = place.quaternion.tolist()
    return [w, x, y, z]
