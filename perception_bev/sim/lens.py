"""Simulation: from pixels to rays through a lens, and from boxes to the pixels they may be in."""

from __future__ import annotations

import numpy as np
from numba import njit

from perception_bev.geometry import CameraModel

NEAR_M = 0.3  # what is nearer to the image plane is not in the picture
_MISSED_PX = 0.5  # a ray that comes back this far from its pixel is not the pixel's
_NEWTON_STEPS = 20
_SMALL = 1e-6  # for derivatives by difference


def directions(model: CameraModel) -> tuple[np.ndarray, np.ndarray | None]:
    """Rays (H, W, 3) float32 in the optical frame, z = 1, and which pixels (H, W) bool the lens
    leaves black; None: none."""
    u, v = np.meshgrid(np.arange(model.width), np.arange(model.height))
    if model.model != "pinhole":
        return _undistorted(model, np.stack([u, v], axis=-1).astype(np.float64))
    k = model.k
    return np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1],
                     np.ones_like(u, float)], axis=-1).astype(np.float32), None


def _undistorted(model: CameraModel, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of a lens that bends lines; pixels (H, W, 2). The inverse is found by Newton's
    method, and checked: far outside, distortion models have none."""
    wanted = (pixels.reshape(-1, 2) - model.k[:2, 2]) @ np.linalg.inv(model.k[:2, :2]).T
    xy = wanted.copy()
    if model.model == "equidistant":  # the lens without coefficients, as a start
        angle = np.maximum(np.linalg.norm(wanted, axis=1, keepdims=True), 1e-9)
        xy *= np.tan(np.minimum(angle, 1.5)) / angle
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            xy -= _newton_step(model, xy, wanted)
        missed = ~(np.linalg.norm(_bent(model, xy) - wanted, axis=1) * model.k[0, 0] < _MISSED_PX)
    xy[missed] = 0
    rays = np.column_stack([xy, np.ones(len(xy))]).reshape(*pixels.shape[:2], 3)
    return rays.astype(np.float32), missed.reshape(pixels.shape[:2])


def _newton_step(model: CameraModel, xy: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(N, 2), no longer than half of what is there already and a bit."""
    here = _bent(model, xy)
    a, b = ((_bent(model, xy + shift) - here) / _SMALL for shift in np.eye(2) * _SMALL)
    off = here - wanted
    step = np.stack([b[:, 1] * off[:, 0] - b[:, 0] * off[:, 1],
                     a[:, 0] * off[:, 1] - a[:, 1] * off[:, 0]], axis=1)
    step /= (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])[:, None]
    length, longest = np.linalg.norm(step, axis=1), 0.5 * np.linalg.norm(xy, axis=1) + 0.1
    return step * np.minimum(1.0, longest / np.maximum(length, 1e-12))[:, None]


def _bent(model: CameraModel, xy: np.ndarray) -> np.ndarray:
    """Normalised image coordinates (N, 2), ideal -> seen through the lens."""
    pixels, _ = model.project(np.column_stack([xy, np.ones(len(xy))]))
    return (pixels - model.k[:2, 2]) @ np.linalg.inv(model.k[:2, :2]).T


@njit(nogil=True, cache=True)
def windows(camera_from_world, xy, yaw, sizes, lines, height, width, farthest_m, out):
    """out (A, 4) int64: first and last + 1 row, and column, that each box may be seen in; empty
    when it is not in the picture.

    Args:
        camera_from_world: (4, 4). xy, yaw, sizes: (A, 2), (A,), (A, 3) of boxes on the ground.
        lines: fx, cx, fy, cy [px]. farthest_m: boxes farther away are not seen.
    """
    points = np.empty((8 + 12, 3))
    for k in range(sizes.shape[0]):
        out[k] = 0
        _corners(camera_from_world, xy[k], yaw[k], sizes[k], points)
        count = _before_camera(points)
        if count == 0 or _mean_distance(points, count) > farthest_m:
            continue
        left, right, upper, lower = np.inf, -np.inf, np.inf, -np.inf
        for i in range(count):
            u = lines[0] * points[i, 0] / points[i, 2] + lines[1]
            v = lines[2] * points[i, 1] / points[i, 2] + lines[3]
            left, right, upper, lower = min(left, u), max(right, u), min(upper, v), max(lower, v)
        out[k, 0] = min(max(np.floor(upper), 0), height)
        out[k, 1] = min(max(np.ceil(lower) + 1, 0), height)
        out[k, 2] = min(max(np.floor(left), 0), width)
        out[k, 3] = min(max(np.ceil(right) + 1, 0), width)


@njit(nogil=True, cache=True)
def _corners(camera_from_world, xy, yaw, size, points):
    """The first 8 points: a box's corners in the camera's frame; bits of the index are x, y, z."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    for i in range(8):
        a = (0.5 if i & 4 else -0.5) * size[0]
        b = (0.5 if i & 2 else -0.5) * size[1]
        x, y, z = cos * a - sin * b + xy[0], sin * a + cos * b + xy[1], size[2] if i & 1 else 0.0
        for axis in range(3):
            row = camera_from_world[axis]
            points[i, axis] = row[0] * x + row[1] * y + row[2] * z + row[3]


@njit(nogil=True, cache=True)
def _before_camera(points):
    """Corners (the first 8 points) -> what of the box's edges lies before the camera, in front of
    the list; how many points that are."""
    count = 8
    for i in range(8):
        for bit in (1, 2, 4):
            j = i ^ bit
            if i < j and (points[i, 2] < NEAR_M) != (points[j, 2] < NEAR_M):
                share = (NEAR_M - points[i, 2]) / (points[j, 2] - points[i, 2])
                points[count] = points[i] + share * (points[j] - points[i])
                count += 1
    kept = 0
    for i in range(count):
        if i >= 8 or points[i, 2] >= NEAR_M:
            points[kept] = points[i]
            kept += 1
    return kept


@njit(nogil=True, cache=True)
def _mean_distance(points, count):
    """Of the mean of the first points from the camera [m]."""
    x, y, z = points[:count, 0].sum(), points[:count, 1].sum(), points[:count, 2].sum()
    return np.sqrt(x * x + y * y + z * z) / count
