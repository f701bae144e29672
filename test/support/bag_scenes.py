"""Small bags and recordings for the tests of recordings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from perception_bev import config
from perception_bev.contracts import Boxes3D
from perception_bev.geometry import SE3
from perception_bev.raw import EncodedImage, RawCloud
from perception_bev.recordings.bag_types import jazzy, message_class
from perception_bev.recordings.bag_write import BagWriter
from perception_bev.recordings.base import Sample, Truth
from perception_bev.rig import Rig

START_NS = 1_700_000_000 * 10**9
MS = 1_000_000
STRING = "std_msgs/msg/String"
CLASSES = ("car", "truck")

RIG = {
    "name": "small",
    "reference": {"sensor": "top"},
    "odometry": {},
    "cameras": {"front": {
        "topic": "camera/front/image/compressed", "frame_id": "front_optical_frame",
        "extrinsics": {"translation": [1, 0, 1.5], "rotation_rpy_deg": [-90, 0, -90]},
        "intrinsics": {"width": 64, "height": 48, "k": [50, 50, 32, 24]}}},
    "lidars": {"top": {
        "topic": "lidar/top/points", "frame_id": "lidar_top",
        "extrinsics": {"translation": [0, 0, 2], "rotation_rpy_deg": [0, 0, 0]},
        "point_time": {"field": "time"}}},
    "radars": {"nose": {
        "topic": "radar/nose/points", "frame_id": "radar_nose", "period_ms": 50,
        "extrinsics": {"translation": [3, 0, 0.5], "rotation_rpy_deg": [0, 0, 0]}}},
}

LIDAR_DTYPE = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"),
                        ("time", "<f4")])
RADAR_DTYPE = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("doppler", "<f4"),
                        ("intensity", "<f4")])


def small_rig(**sections) -> Rig:
    """RIG with some of its sections replaced."""
    return config.build(Rig, {**RIG, **sections}, "small")


def cloud(dtype: np.dtype, seed: int, n: int = 50) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = np.zeros(n, dtype)
    for field in dtype.names:
        points[field] = rng.normal(size=n)
    return points


def picture(seed: int) -> np.ndarray:
    """Bytes that begin as a JPEG does; nothing here decodes it."""
    body = np.random.default_rng(seed).integers(0, 256, 300, np.uint8)
    return np.concatenate([np.frombuffer(b"\xff\xd8", np.uint8), body])


def truth(seed: int) -> Truth:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 4))
    velocity = rng.normal(size=(n, 2)).astype(np.float32)
    velocity[: n // 2] = np.nan
    boxes = Boxes3D(rng.normal(size=(n, 3)).astype(np.float32),
                    rng.uniform(1, 5, (n, 3)).astype(np.float32),
                    rng.uniform(-3, 3, n).astype(np.float32), np.ones(n, np.float32),
                    rng.integers(0, 2, n).astype(np.int32), CLASSES, velocity)
    return Truth(boxes, rng.integers(0, 3, n).astype(np.int32), rng.random(n) < 0.5)


def sample(i: int, t_ref_ns: int, sequence: int) -> Sample:
    raw = {"front": (EncodedImage(t_ref_ns - 30 * MS, "front_optical_frame", picture(i)),),
           "top": (RawCloud(t_ref_ns, "lidar_top", cloud(LIDAR_DTYPE, i)),),
           "nose": tuple(RawCloud(t_ref_ns - age * MS, "radar_nose", cloud(RADAR_DTYPE, i + age))
                         for age in (60, 10))}
    pose = SE3.from_rpy(np.array([i * 1.5, 0.1 * i, 0.0]), np.array([0, 0, 0.01 * i]))
    return Sample(f"{i:03d}", sequence, t_ref_ns, raw, truth(i), pose)


class SmallRecording:
    """Drives of given numbers of samples, 100 ms apart, with pauses of 2 s between them."""

    def __init__(self, drives: tuple[int, ...] = (3, 1, 2), rigs: tuple[Rig, ...] = ()) -> None:
        self._rigs = rigs or (small_rig(),)
        self._samples, self._rig_of, t_ref = [], [], START_NS
        for sequence, length in enumerate(drives):
            for _ in range(length):
                self._samples.append(sample(len(self._samples), t_ref, sequence))
                self._rig_of.append(self._rigs[min(sequence, len(self._rigs) - 1)])
                t_ref += 100 * MS
            t_ref += 2000 * MS

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def rig_of(self, index: int) -> Rig:
        return self._rig_of[index]


def text(content: str):
    return message_class(STRING)(data=content)


def text_bytes(content: str) -> bytes:
    return bytes(jazzy().serialize_cdr(text(content), STRING))


def write_texts(path: Path, count: int, compression: str = "zstd", size: int = 400,
                topics: int = 2) -> list[tuple[str, int, bytes]]:
    """A bag of random texts, a millisecond apart; what was written."""
    rng = np.random.default_rng(count)
    rows = []
    with BagWriter(path, compression) as writer:
        for i in range(count):
            topic, stamp = f"/text_{i % topics}", START_NS + i * MS
            content = rng.bytes(size // 2).hex()
            writer.write(topic, STRING, text(content), stamp)
            rows.append((topic, stamp, text_bytes(content)))
    return rows


def write_sqlite(path: Path, count: int, version: int = 8, size: int = 400
                 ) -> list[tuple[str, int, bytes]]:
    """The same with rosbags' SQLite writer."""
    rng = np.random.default_rng(count)
    rows = []
    with Writer(path, version=version, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connections = [writer.add_connection(f"/text_{k}", STRING, typestore=jazzy())
                       for k in range(2)]
        for i in range(count):
            data = text_bytes(rng.bytes(size // 2).hex())
            writer.write(connections[i % 2], START_NS + i * MS, data)
            rows.append((f"/text_{i % 2}", START_NS + i * MS, data))
    return rows


def rows_of(reader) -> list[tuple[str, int, bytes]]:
    return [(raw.topic, raw.stamp_ns, raw.data) for raw in reader.raw_messages()]


def readable_part(reader) -> tuple[list[tuple[str, int, bytes]], Exception | None]:
    """What comes before the error, and the error."""
    rows = []
    try:
        for raw in reader.raw_messages():
            rows.append((raw.topic, raw.stamp_ns, raw.data))
    except Exception as err:
        return rows, err
    return rows, None


def arguments(**values) -> SimpleNamespace:
    return SimpleNamespace(**values)
