"""Outputs: intersection over union of oriented boxes, in bird's-eye view and in 3D.

One kernel serves non-maximum suppression, evaluation and training targets: box b is taken into
box a's frame, where a is an axis-aligned rectangle, and clipped by its four sides (Sutherland and
Hodgman, "Reentrant polygon clipping", CACM 1974). Computed in float64 relative to box a, so the
result does not depend on where the boxes are. A box with a side that is not positive, or with any
value that is not finite, overlaps nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from perception_bev.contracts import Boxes3D
from perception_bev.errors import ShapeMismatch

# A quadrilateral clipped by four lines has at most 8 corners; rounding on nearly parallel sides
# may add crossings, by no more than half of the corners a line: 4 -> 6 -> 9 -> 13 -> 19.
MAX_CORNERS = 24


def bev_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 5) and (M, 5): x, y, length, width [m], yaw [rad] -> (N, M) float32 in [0, 1]."""
    return _bev_iou(_rows("a", a, 5), _rows("b", b, 5))


def iou_3d(boxes_a: Boxes3D, boxes_b: Boxes3D) -> np.ndarray:
    """(N, M) float32: overlap in bird's-eye view times overlap in height, over the union."""
    return _iou_3d(_rows("a", box_rows(boxes_a), 7), _rows("b", box_rows(boxes_b), 7))


def paired_iou_3d(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 7) and (N, 7): x, y, z, length, width, height [m], yaw [rad] -> (N,) float32.

    Row i with row i, for instance a regressed box with its target.
    """
    a, b = _rows("a", a, 7), _rows("b", b, 7)
    if len(a) != len(b):
        raise ShapeMismatch(f"paired_iou_3d: {len(a)} boxes against {len(b)}")
    return _paired_iou_3d(a, b)


def box_rows(boxes: Boxes3D) -> np.ndarray:
    """(N, 7) float32: x, y, z, length, width, height [m], yaw [rad]."""
    return np.concatenate([boxes.centre, boxes.size, boxes.yaw[:, None]], axis=1)


def bev_rows(boxes: Boxes3D) -> np.ndarray:
    """(N, 5) float32: x, y, length, width [m], yaw [rad]; what `bev_iou` takes."""
    return np.concatenate([boxes.centre[:, :2], boxes.size[:, :2], boxes.yaw[:, None]], axis=1)


def _rows(name: str, array: np.ndarray, columns: int) -> np.ndarray:
    """One dtype and layout, so that there is one compiled version of each kernel."""
    rows = np.ascontiguousarray(array, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != columns:
        raise ShapeMismatch(f"{name}: expected (N, {columns}), got {rows.shape}")
    return rows


@njit(nogil=True, cache=True)
def _bev_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    iou = np.zeros((len(a), len(b)), np.float32)
    work = np.empty((2, MAX_CORNERS, 2))
    for i in range(len(a)):
        for j in range(len(b)):
            overlap = overlap_area(a[i], b[j], work)
            iou[i, j] = overlap_ratio(overlap, a[i, 2] * a[i, 3], b[j, 2] * b[j, 3])
    return iou


@njit(nogil=True, cache=True)
def _iou_3d(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    iou = np.zeros((len(a), len(b)), np.float32)
    work = np.empty((2, MAX_CORNERS, 2))
    for i in range(len(a)):
        for j in range(len(b)):
            iou[i, j] = _one_iou_3d(a[i], b[j], work)
    return iou


@njit(nogil=True, cache=True)
def _paired_iou_3d(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    iou = np.zeros(len(a), np.float32)
    work = np.empty((2, MAX_CORNERS, 2))
    for i in range(len(a)):
        iou[i] = _one_iou_3d(a[i], b[i], work)
    return iou


@njit(nogil=True, cache=True)
def _one_iou_3d(a: np.ndarray, b: np.ndarray, work: np.ndarray) -> float:
    """Two rows of 7."""
    top = min(a[2] + 0.5 * a[5], b[2] + 0.5 * b[5])
    bottom = max(a[2] - 0.5 * a[5], b[2] - 0.5 * b[5])
    if not top > bottom:  # apart, a height that is not positive, or NaN
        return 0.0
    area = overlap_area(_flat(a), _flat(b), work)
    return overlap_ratio(area * (top - bottom), a[3] * a[4] * a[5], b[3] * b[4] * b[5])


@njit(nogil=True, cache=True)
def _flat(row: np.ndarray) -> tuple[float, float, float, float, float]:
    return (row[0], row[1], row[3], row[4], row[6])


@njit(nogil=True, cache=True)
def overlap_ratio(overlap: float, size_a: float, size_b: float) -> float:
    """Overlap over union; 0 for what cannot be compared (nothing, NaN, infinite)."""
    if not (overlap > 0.0 and math.isfinite(overlap)):
        return 0.0
    return min(overlap / (size_a + size_b - overlap), 1.0)


@njit(nogil=True, cache=True)
def overlap_area(a, b, work) -> float:
    """Common area [m^2] of two rectangles x, y, length, width, yaw. work: (2, corners, 2)."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    if not (a[2] > 0.0 and a[3] > 0.0 and b[2] > 0.0 and b[3] > 0.0):
        return 0.0
    reach = 0.5 * (math.hypot(a[2], a[3]) + math.hypot(b[2], b[3]))
    if not dx * dx + dy * dy < reach * reach:  # their circles do not touch; NaN ends here too
        return 0.0
    cos, sin = math.cos(a[4]), math.sin(a[4])
    _put_corners(work[0], cos * dx + sin * dy, cos * dy - sin * dx, b[2], b[3], b[4] - a[4])
    n = _clip(work[0], 4, work[1], 0, 1.0, 0.5 * a[2])
    n = _clip(work[1], n, work[0], 0, -1.0, 0.5 * a[2])
    n = _clip(work[0], n, work[1], 1, 1.0, 0.5 * a[3])
    n = _clip(work[1], n, work[0], 1, -1.0, 0.5 * a[3])
    return _area(work[0], n)


@njit(nogil=True, cache=True)
def _put_corners(polygon, x, y, length, width, yaw) -> None:
    """The four corners of a rectangle, counter-clockwise."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    lx, ly = 0.5 * length * cos, 0.5 * length * sin
    wx, wy = -0.5 * width * sin, 0.5 * width * cos
    polygon[0, 0], polygon[0, 1] = x + lx + wx, y + ly + wy
    polygon[1, 0], polygon[1, 1] = x - lx + wx, y - ly + wy
    polygon[2, 0], polygon[2, 1] = x - lx - wx, y - ly - wy
    polygon[3, 0], polygon[3, 1] = x + lx - wx, y + ly - wy


@njit(nogil=True, cache=True)
def _clip(polygon, n, out, axis, sign, limit) -> int:
    """Keep the part of a polygon of n corners with sign * coordinate <= limit; its corner count."""
    kept = 0
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        inside_i = limit - sign * polygon[i, axis]  # distance to the line, positive inside
        inside_j = limit - sign * polygon[j, axis]
        if inside_i >= 0.0:
            out[kept, 0], out[kept, 1] = polygon[i, 0], polygon[i, 1]
            kept += 1
        if (inside_i >= 0.0) != (inside_j >= 0.0):
            t = inside_i / (inside_i - inside_j)
            out[kept, 0] = polygon[i, 0] + t * (polygon[j, 0] - polygon[i, 0])
            out[kept, 1] = polygon[i, 1] + t * (polygon[j, 1] - polygon[i, 1])
            kept += 1
    return kept


@njit(nogil=True, cache=True)
def _area(polygon, n) -> float:
    """Shoelace formula; positive for counter-clockwise corners."""
    twice = 0.0
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        twice += polygon[i, 0] * polygon[j, 1] - polygon[j, 0] * polygon[i, 1]
    return 0.5 * twice
