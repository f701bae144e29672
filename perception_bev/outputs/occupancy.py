"""Outputs: the occupancy grid, by casting the rays of the deskewed lidar over the cells.

100 where something stands, 0 where the laser passed, -1 where nobody looked (nav_msgs/
OccupancyGrid). Cells are walked as by J. Amanatides and A. Woo, A Fast Voxel Traversal Algorithm
for Ray Tracing, Eurographics 1987.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from perception_bev.contracts import check_array
from perception_bev.errors import ShapeMismatch
from perception_bev.grid import BevGrid

HIT, FREE, UNSEEN = 100, 0, -1
BELOW_M = -1.0  # points lower than this under the ground are reflections
FAR_M = 1e4  # points farther than this are no measurements
MAX_BINS = 1 << 16  # of azimuth


class OccupancyMap:
    """What one lidar sweep says about each cell of the grid; nothing is remembered.

    A point whose height over the ground lies in the band makes its cell a hit. A hit or a point
    of the ground makes what lies before it free; a hit wins over free, whatever the order. Points
    above the band say nothing about the road under their ray and are left out.

    Of each azimuth bin only the longest ray is walked (the shorter ones lie upon it); at the
    farthest corner a bin is at most about as wide as a cell, so the cost is bounded by the grid.
    """

    def __init__(self, grid: BevGrid, height_band: tuple[float, float] = (0.3, 2.5)) -> None:
        self._band = height_band
        self.width, self.height = grid.shape  # cells along x and y, as nav_msgs names them
        self.resolution = grid.cell  # [m]
        self.origin = (grid.x_min, grid.y_min)  # [m] lower corner of cell (0, 0), in base_link
        self._corners = np.array([(x, y) for x in (grid.x_min, grid.x_max)
                                  for y in (grid.y_min, grid.y_max)])

    def unseen(self) -> np.ndarray:
        """The map without a lidar: (height * width,) int8, all -1."""
        return np.full(self.width * self.height, UNSEEN, np.int8)

    def update(self, points: np.ndarray, origins: np.ndarray, plane: np.ndarray,
               source: np.ndarray | None = None) -> np.ndarray:
        """The map of one sweep.

        Args:
            points: (N, >=3) float32 x y z [m] in base_link at t_ref; what is not finite is skipped.
            origins: (2,) x, y [m] of the lidar in base_link, or (L, 2) of several.
            plane: (3,) the ground, z = a x + b y + c in base_link.
            source: (N,) int, the row of `origins` of each point; default: row 0.

        Returns:
            (height * width,) int8, a fresh array: OccupancyGrid.data, row-major with x fastest.
        """
        origins = np.atleast_2d(np.asarray(origins, np.float64))[:, :2]
        source = np.zeros(len(points), np.int64) if source is None else np.asarray(source)
        _check(points, origins, source)
        data = self.unseen()
        frame = np.array([*self.origin, 1.0 / self.resolution])
        ends = np.zeros((len(origins), self._bins(origins), 2))
        furthest = np.zeros(ends.shape[:2])
        _mark_ends(points, source.astype(np.int64, copy=False), origins,
                   np.asarray(plane, np.float64), *self._band, frame, self.width, self.height,
                   data, furthest, ends)
        _cast(furthest, ends, origins, frame, self.width, self.height, data)
        return data

    def _bins(self, origins: np.ndarray) -> int:
        """Of azimuth: the diamond angle is uneven by a factor of 2, bins are that much finer."""
        farthest = np.linalg.norm(origins[:, None] - self._corners, axis=2).max()
        return int(min(np.ceil(4 * np.pi * farthest / self.resolution), MAX_BINS))


def _check(points: np.ndarray, origins: np.ndarray, source: np.ndarray) -> None:
    if points.ndim != 2 or points.shape[1] < 3 or points.dtype != np.float32:
        raise ShapeMismatch(f"OccupancyMap.update: points: expected (N, 3 or more) float32, got "
                            f"{points.shape} {points.dtype}")
    check_array("OccupancyMap.update: origins", origins, (None, 2), np.float64)
    if len(origins) == 0 or not np.isfinite(origins).all():
        raise ShapeMismatch(f"OccupancyMap.update: origins: expected at least one, all finite, got "
                            f"{origins.tolist()}")
    if source.shape != (len(points),) or not np.issubdtype(source.dtype, np.integer):
        raise ShapeMismatch(f"OccupancyMap.update: source: expected ({len(points)},) integers, got "
                            f"{source.shape} {source.dtype}")
    if len(source) and not 0 <= source.min() <= source.max() < len(origins):
        raise ShapeMismatch(f"OccupancyMap.update: source {source.min()} .. {source.max()} is not "
                            f"a row of the {len(origins)} origins")


@njit(nogil=True, cache=True)
def _mark_ends(points, source, origins, plane, low, high, frame, width, height, data, furthest,
               ends):
    """Cells that points lie in, and the longest ray (its squared length, its end) of each bin."""
    bins = furthest.shape[1]
    for i in range(points.shape[0]):
        x, y = np.float64(points[i, 0]), np.float64(points[i, 1])
        above = points[i, 2] - plane[0] * x - plane[1] * y - plane[2]
        s = source[i]
        dx, dy = x - origins[s, 0], y - origins[s, 1]
        squared = dx * dx + dy * dy
        if not (BELOW_M < above <= high and 0.0 < squared < FAR_M * FAR_M):  # NaN: skipped too
            continue
        column, row = (x - frame[0]) * frame[2], (y - frame[1]) * frame[2]
        if 0 <= column < width and 0 <= row < height:
            cell = int(row) * width + int(column)
            if above >= low:
                data[cell] = HIT
            elif data[cell] < 0:
                data[cell] = FREE
        b = min(int(_diamond(dx, dy) * 0.25 * bins), bins - 1)
        if squared > furthest[s, b]:
            furthest[s, b] = squared
            ends[s, b, 0], ends[s, b, 1] = x, y


@njit(nogil=True, cache=True, inline="always")
def _diamond(dx, dy):
    """Grows with the azimuth like atan2, 0 .. 4 for a whole turn, without its cost."""
    p = dx / (abs(dx) + abs(dy))
    return 1.0 - p if dy >= 0.0 else 3.0 + p


@njit(nogil=True, cache=True)
def _cast(furthest, ends, origins, frame, width, height, data):
    for s in range(furthest.shape[0]):
        x0, y0 = (origins[s, 0] - frame[0]) * frame[2], (origins[s, 1] - frame[1]) * frame[2]
        for b in range(furthest.shape[1]):
            if furthest[s, b] > 0.0:
                _walk(x0, y0, (ends[s, b, 0] - frame[0]) * frame[2],
                      (ends[s, b, 1] - frame[1]) * frame[2], width, height, data)


@njit(nogil=True, cache=True)
def _walk(x0, y0, x1, y1, width, height, data):
    """Free every unseen cell between two places [cells], as far as they lie on the grid."""
    dx, dy = x1 - x0, y1 - y0
    enter, leave = _clip(x0, dx, width, 0.0, 1.0)
    enter, leave = _clip(y0, dy, height, enter, leave)
    if enter > leave:
        return
    column, row = _cell(x0 + enter * dx, width), _cell(y0 + enter * dy, height)
    last_column, last_row = _cell(x0 + leave * dx, width), _cell(y0 + leave * dy, height)
    step_x, step_y = (1 if dx > 0 else -1), (1 if dy > 0 else -1)
    next_x = ((column + (dx > 0)) - x0) / dx if dx != 0 else np.inf
    next_y = ((row + (dy > 0)) - y0) / dy if dy != 0 else np.inf
    for _ in range(abs(last_column - column) + abs(last_row - row) + 1):
        if not (0 <= column < width and 0 <= row < height):
            return
        if data[row * width + column] < 0:
            data[row * width + column] = FREE
        if next_x < next_y:
            column += step_x
            next_x += step_x / dx
        else:
            row += step_y
            next_y += step_y / dy if dy != 0 else np.inf


@njit(nogil=True, cache=True, inline="always")
def _cell(place, cells):
    return min(max(int(np.floor(place)), 0), cells - 1)


@njit(nogil=True, cache=True, inline="always")
def _clip(start, delta, cells, enter, leave):
    """The part of enter .. leave in which start + t * delta lies in 0 .. cells (a slab)."""
    if delta == 0.0:
        return (enter, leave) if 0.0 <= start <= cells else (1.0, 0.0)
    a, b = -start / delta, (cells - start) / delta
    return max(enter, min(a, b)), min(leave, max(a, b))
