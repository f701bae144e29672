"""Inputs: what rasters have in common: buffers of their own, emptied where they were written."""

from __future__ import annotations

import numpy as np
from numba import njit

from perception_bev.grid import BevGrid
from perception_bev.inputs.view import View


class Raster:
    """Channels over a grid, reused by every frame. A drawing kernel counts points per cell and
    notes the cells that it touches, so that emptying costs what was drawn, not the grid."""

    def __init__(self, channels: int, grid: BevGrid) -> None:
        cells = grid.shape[0] * grid.shape[1]
        self._grid = grid
        self._out = np.zeros((channels, cells), np.float32)
        self._touched = np.zeros(cells, np.int32)
        self._count = np.zeros(cells, np.int32)
        self._used = 0
        self._origin = np.array([grid.x_min, grid.y_min, grid.cell], np.float32)

    def clear(self) -> np.ndarray:
        """An empty raster, (1, C, X, Y) float32."""
        _clear(self._out, self._count, self._touched, self._used)
        self._used = 0
        return self._out.reshape(1, -1, *self._grid.shape)

    def _place(self, plane: np.ndarray, view: View) -> tuple:
        """Where points fall, as the kernels take it: plane, linear, shift, height scale, origin,
        rows, columns."""
        return (plane.astype(np.float32), view.linear.astype(np.float32),
                view.shift.astype(np.float32), np.float32(view.height_scale), self._origin,
                *self._grid.shape)


@njit(nogil=True, cache=True)
def _clear(out, count, touched, used):
    for k in range(used):
        cell = touched[k]
        count[cell] = 0
        for channel in range(out.shape[0]):
            out[channel, cell] = 0.0
