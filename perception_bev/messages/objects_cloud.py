"""Messages: objects as points of a cloud, for who wants all their numbers in one array: tracks, and
the ground truth with the same fields and what the sensors saw of each."""

from __future__ import annotations

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.errors import BadMessage

SEEN, COASTING, PREDICTED = 0, 1, 2  # mode: detected at the stamp; carried on, as it was hidden
# or missed; carried on, as there were no detections at the stamp at all
NO_ID = -1
UNKNOWN_COUNT = -1

_FIELDS = (
    ("id", "<i4"),  # NO_ID: none
    ("x", "<f4"), ("y", "<f4"), ("z", "<f4"),  # [m] geometric centre
    ("length", "<f4"), ("width", "<f4"), ("height", "<f4"),  # [m]
    ("yaw", "<f4"),  # [rad]
    ("vx", "<f4"), ("vy", "<f4"),  # [m/s] over ground, along the frame's axes; NaN: unknown
    ("score", "<f4"),
    ("class", "u1"),  # index into the model's (or the bag's) list of classes
    ("mode", "u1"),
)
_TRUTH_FIELDS = (*_FIELDS, ("occlusion", "u1"), ("counted", "u1"), ("lidar_points", "<i4"),
                 ("radar_returns", "<i4"), ("pixels", "<i4"))

OBJECT = np.dtype(list(_FIELDS), align=True)  # one track, 48 bytes
TRUTH_OBJECT = np.dtype(list(_TRUTH_FIELDS), align=True)  # one annotated object, 60 bytes
_FLOATS = ("x", "y", "z", "length", "width", "height", "yaw", "vx", "vy", "score")


def object_points(boxes: Boxes3D, ids: np.ndarray, mode: np.ndarray | int = SEEN,
                  dtype: np.dtype = OBJECT) -> np.ndarray:
    """(N,) points of `dtype` (OBJECT or one with more fields, which are zero), row i is box i.

    Args:
        ids: (N,) integers from NO_ID to 2**31 - 1. BadMessage("bad_id") for others.
        mode: (N,) or one for all: SEEN, COASTING or PREDICTED.
    """
    limits = np.iinfo(np.int32)
    if len(ids) and not NO_ID <= int(np.min(ids)) <= int(np.max(ids)) <= limits.max:
        raise BadMessage("bad_id", f"ids from {np.min(ids)} to {np.max(ids)}; a cloud holds "
                                   f"{NO_ID} to {limits.max}")
    points = np.zeros(len(boxes), dtype)
    points["id"], points["class"], points["mode"] = ids, boxes.label, mode
    columns = (*boxes.centre.T, *boxes.size.T, boxes.yaw, *boxes.velocity.T, boxes.score)
    for name, values in zip(_FLOATS, columns, strict=True):
        points[name] = values
    return points


def read_objects(points: np.ndarray, classes: tuple[str, ...]
                 ) -> tuple[Boxes3D, np.ndarray, np.ndarray]:
    """Points of a cloud -> boxes, ids (N,) int64, mode (N,) uint8.

    BadMessage("bad_layout") for missing fields, BadMessage("bad_class") for one beyond `classes`.
    """
    require(points, OBJECT)
    label = points["class"].astype(np.int32)
    if len(label) and label.max() >= len(classes):
        raise BadMessage("bad_class", f"class {label.max()}; there are {len(classes)}: "
                                      + ", ".join(classes))
    table = np.stack([points[name].astype(np.float32) for name in _FLOATS], axis=1)
    boxes = Boxes3D(table[:, 0:3], table[:, 3:6], table[:, 6], table[:, 9], label, classes,
                    table[:, 7:9])
    return boxes, points["id"].astype(np.int64), points["mode"].astype(np.uint8)


def require(points: np.ndarray, dtype: np.dtype) -> None:
    """BadMessage("bad_layout") unless the points have all fields of `dtype`."""
    missing = [name for name in dtype.names if name not in (points.dtype.names or ())]
    if missing:
        raise BadMessage("bad_layout", f"a cloud of objects lacks {', '.join(missing)}")
