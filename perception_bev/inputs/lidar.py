"""Inputs: the lidar raster. One pass over the points, then one over the cells that were touched;
the cost follows the points, not the grid."""

from __future__ import annotations

import numpy as np
from numba import njit

from perception_bev.grid import BevGrid
from perception_bev.inputs.raster import Raster
from perception_bev.inputs.view import IDENTITY, View
from perception_bev.manifest import LidarInputs

BELOW_M = -1.0  # points lower than this under the ground are reflections


class LidarRaster(Raster):
    """Rasterises lidar points into a buffer of its own, reused by every call.

    Channels: occupancy 0/1 per height bin, highest and lowest point [of max_height], mean
    intensity [0..1], density (log, 1 at log_points). Empty cells are 0.
    """

    def __init__(self, spec: LidarInputs, grid: BevGrid) -> None:
        super().__init__(spec.channels, grid)
        self._spec = spec
        self._bins = np.asarray(spec.height_bins, np.float32)

    def draw(self, points: np.ndarray, plane: np.ndarray, view: View = IDENTITY) -> np.ndarray:
        """(N, 4) float32 x y z [m] in base_link, intensity; plane (3,) -> (1, C, X, Y) float32.

        The result is overwritten by the next call.
        """
        out = self.clear()
        self._used = _draw(
            points, *self._place(plane, view), self._bins, np.float32(self._spec.max_height),
            np.float32(self._spec.log_points), self._out, self._count, self._touched)
        return out


@njit(nogil=True, cache=True, fastmath=True)
def _draw(points, plane, linear, shift, height_scale, origin, rows, columns, bins, max_height,
          log_points, out, count, touched):
    top, bottom, intensity, density = (bins.size - 1, bins.size, bins.size + 1, bins.size + 2)
    inverse_cell = np.float32(1.0) / origin[2]
    used = 0
    for i in range(points.shape[0]):
        x, y = points[i, 0], points[i, 1]
        height = height_scale * (points[i, 2] - plane[0] * x - plane[1] * y - plane[2])
        row = (linear[0, 0] * x + linear[0, 1] * y + shift[0] - origin[0]) * inverse_cell
        column = (linear[1, 0] * x + linear[1, 1] * y + shift[1] - origin[1]) * inverse_cell
        if not (0 <= row < rows and 0 <= column < columns and BELOW_M < height < max_height):
            continue
        cell = int(row) * columns + int(column)
        n = count[cell]
        if n == 0:
            touched[used] = cell
            used += 1
            out[top, cell] = height
            out[bottom, cell] = height
        else:
            out[top, cell] = max(out[top, cell], height)
            out[bottom, cell] = min(out[bottom, cell], height)
        count[cell] = n + 1
        out[intensity, cell] += points[i, 3]
        for b in range(bins.size - 1):
            if bins[b] <= height < bins[b + 1]:
                out[b, cell] = 1.0
    log_scale = np.float32(1.0 / np.log1p(log_points))
    for k in range(used):
        cell = touched[k]
        out[top, cell] /= max_height
        out[bottom, cell] /= max_height
        out[intensity, cell] /= count[cell]
        out[density, cell] = min(np.float32(1.5), np.log1p(np.float32(count[cell])) * log_scale)
    return used
