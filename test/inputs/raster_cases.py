"""Shared by the raster tests: points that lie clearly inside a cell, and views of the world."""

import numpy as np
from hypothesis import strategies as st

from perception_bev.grid import BevGrid
from perception_bev.inputs.view import View

EDGE = 2e-3  # [cells, m] nearer to an edge than this, float32 and float64 may differ

views = st.builds(View.augmented, turn=st.floats(-0.3, 0.3), mirror=st.booleans(),
                  scale=st.floats(0.95, 1.05), shift=st.tuples(st.floats(-1, 1), st.floats(-1, 1)))


def placed(points: np.ndarray, plane: np.ndarray, view: View,
           grid: BevGrid) -> tuple[np.ndarray, np.ndarray]:
    """(N, >=3) -> cells (N, 2) float64 and heights over the ground (N,), as defined."""
    points = points.astype(np.float64)
    height = view.height_scale * (points[:, 2] - points[:, :2] @ plane[:2] - plane[2])
    return grid.cell_of(points[:, :2] @ view.linear.T + view.shift), height


def clear_of_edges(points: np.ndarray, plane: np.ndarray, view: View, grid: BevGrid,
                   heights: tuple[float, ...]) -> np.ndarray:
    """Those points whose cell and height bin no rounding can change."""
    cell, height = placed(points, plane, view, grid)
    off_cell = np.abs(cell - np.round(cell)).min(axis=1) > EDGE
    off_bins = np.abs(height[:, None] - np.array(heights)).min(axis=1) > EDGE
    return points[off_cell & off_bins]


def on_grid(cell: np.ndarray, grid: BevGrid) -> np.ndarray:
    return ((cell >= 0) & (cell < grid.shape)).all(axis=1)
