"""Messages: vision_msgs/Detection3DArray to boxes, for those who draw or compare them."""

from __future__ import annotations

from typing import Any

import numpy as np

from perception_bev.contracts import Boxes3D

UNKNOWN = "unknown"


def read_detections(msg: Any) -> tuple[Boxes3D, int]:
    """Boxes in the message's frame, and how many were left out because they are not finite.

    The best hypothesis names class and score; classes are in the order of their first appearance.
    Of the orientation only the heading is kept: boxes are upright.
    """
    rows, labels = [], []
    classes: dict[str, int] = {}
    for detection in msg.detections:
        name, score = _best(detection.results)
        rows.append((*_pose(detection.bbox.center), *_size(detection.bbox.size), score))
        labels.append(classes.setdefault(name, len(classes)))
    table = np.array(rows, np.float64).reshape(-1, 8)
    finite = np.isfinite(table).all(axis=1) & (table[:, 4:7] >= 0).all(axis=1)
    table, label = table[finite].astype(np.float32), np.array(labels, np.int32)[finite]
    boxes = Boxes3D(table[:, :3].copy(), table[:, 4:7].copy(), table[:, 3].copy(),
                    table[:, 7].copy(), label, tuple(classes))
    return boxes, int((~finite).sum())


def read_ids(msg: Any) -> np.ndarray:
    """(N,) int64 of every detection's id, -1 where that is no whole number."""
    said = [str(d.id) for d in msg.detections]
    whole = [text.isdecimal() and len(text) < 19 for text in said]
    return np.array([int(t) if w else -1 for t, w in zip(said, whole, strict=True)], np.int64)


def _best(results: Any) -> tuple[str, float]:
    """Class and score of the most likely hypothesis."""
    if not results:
        return UNKNOWN, 0.0
    best = max((result.hypothesis for result in results), key=lambda h: h.score)
    return best.class_id or UNKNOWN, best.score


def _pose(pose: Any) -> tuple[float, float, float, float]:
    """x, y, z [m] and yaw [rad]; NaN for a quaternion without direction."""
    p, q = pose.position, pose.orientation
    sine, cosine = 2 * (q.w * q.z + q.x * q.y), q.w**2 + q.x**2 - q.y**2 - q.z**2
    return p.x, p.y, p.z, float(np.arctan2(sine, cosine)) if sine or cosine else np.nan


def _size(size: Any) -> tuple[float, float, float]:
    return size.x, size.y, size.z
