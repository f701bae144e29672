"""Shared by tests of the demo: a drive's ground truth, and rows as the measure node writes them."""

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.recordings.base import Truth, Visibility

CLASSES = ("car", "pedestrian")
MS = 1_000_000
START_NS = 1_700_000_000 * 10**9


def truth(k: int, seen: tuple[int, ...] = (9, 9, 9)) -> Truth:
    """Two cars and a pedestrian at cycle `k`; the first car drives at 5 m/s. `seen`: lidar points
    of each."""
    centre = np.array([[10 + 0.5 * k, 2, 0.8], [20, -4, 0.8], [8, 6, 0.9]], np.float32)
    size = np.array([[4.5, 1.9, 1.6], [4.5, 1.9, 1.6], [0.6, 0.6, 1.8]], np.float32)
    velocity = np.array([[5, 0], [0, 0], [0, 0]], np.float32)
    boxes = Boxes3D(centre, size, np.zeros(3, np.float32), np.ones(3, np.float32),
                    np.array([0, 0, 1], np.int32), CLASSES, velocity)
    nothing = np.zeros(3, np.int32)
    points = np.array(seen, np.int32)
    return Truth(boxes, nothing, points > 0, np.array([4, 5, 6]),
                 Visibility(points, nothing, nothing))


def stamp(k: int) -> int:
    return START_NS + k * 100 * MS


def row(k: int, boxes: Boxes3D, ids=None, latency_ms: float = 50.0) -> dict:
    """An output with these boxes as objects and, with ids, as tracks."""
    values = np.column_stack([boxes.centre, boxes.size, boxes.yaw, boxes.score]).tolist()
    names = [boxes.classes[label] for label in boxes.label]
    made = {"t_ref_ns": stamp(k), "latency_ms": latency_ms, "mode": "full",
            "received_ns": stamp(k) + round(latency_ms * MS),
            "status": {"latency.total_ms": "45.0", "latency.overhead_ms": "3.0",
                       "received.top": str(k), "sensor.front": "ok", "drops.top": "late 1"},
            "boxes": [[*each, name] for each, name in zip(values, names, strict=True)]}
    if ids is not None:
        made["tracks"] = [
            [int(i), *each[:7], *velocity, each[7], int(label), 0] for i, each, velocity, label
            in zip(ids, values, boxes.velocity.tolist(), boxes.label, strict=True)]
    return made
