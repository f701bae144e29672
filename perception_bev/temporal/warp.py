"""Temporal: where a cell of the bird's-eye view now was on the map of another time."""

from __future__ import annotations

import numpy as np

from perception_bev.geometry import SE3
from perception_bev.grid import BevGrid

STRAIGHT = np.eye(2)
NO_SHIFT = np.zeros(2)


def warp_theta(grid: BevGrid, then_from_now: SE3, linear: np.ndarray = STRAIGHT,
               shift: np.ndarray = NO_SHIFT) -> np.ndarray:
    """Where to sample a map of then for every cell of now: torch's affine_grid, ONNX GridSample.

    Law: sampling a map of a static world with it is drawing that world from the pose of now.
    Places on the ground are moved exactly, also over a slope between the two poses.

    Args:
        grid: any resolution; only its rectangle counts.
        then_from_now: base_link(then) from base_link(now).
        linear, shift: grid_from_base of `inputs.view` in the plane, (2, 2) and (2,) [m], the same
            at both times; live the grid is base_link itself.

    Returns:
        (2, 3) float32: (column_then, row_then) = theta @ (column_now, row_now, 1), both in
        [-1, 1] over the grid's edges (align_corners=False); rows along x, columns along y.
    """
    grid_from_base = _planar(linear, shift)
    base_then_from_now = _planar(then_from_now.rotation[:2, :2], then_from_now.translation[:2])
    metres = _metres_from_normalised(grid)
    theta = (np.linalg.inv(metres) @ grid_from_base @ base_then_from_now
             @ np.linalg.inv(grid_from_base) @ metres)
    return theta[:2].astype(np.float32)


def _planar(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """(2, 2), (2,) -> (3, 3), homogeneous."""
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, shift
    return matrix


def _metres_from_normalised(grid: BevGrid) -> np.ndarray:
    """(3, 3): (x, y, 1) [m] from (column, row, 1) in [-1, 1]."""
    return np.array([
        [0.0, (grid.x_max - grid.x_min) / 2, (grid.x_max + grid.x_min) / 2],
        [(grid.y_max - grid.y_min) / 2, 0.0, (grid.y_max + grid.y_min) / 2],
        [0.0, 0.0, 1.0]])
