"""Inputs: the camera lift. For every BEV cell and height above the ground, which four feature
pixels of which camera it reads, and with which bilinear weights.

A gather with tables as network inputs (after Fast-BEV, Huang et al. 2023): the calibration, the
camera's own time and what is missing are all in the tables, so the network file never changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from perception_bev.geometry import SE3, CameraModel
from perception_bev.inputs.view import IDENTITY, View
from perception_bev.manifest import Manifest

NEAR_M = 0.5  # points nearer than this to the image plane are not seen
TAPS = 4


@dataclass(frozen=True, slots=True)
class LiftCamera:
    """One camera as the lift sees it."""

    slot: int  # of the network
    camera_from_base: SE3  # base_link at t_ref -> optical frame at the picture's own time
    pinhole: CameraModel  # of the picture that the network gets
    mirrored: bool = False  # the picture was flipped left to right (training)


class LiftTables:
    """Builds the tables into buffers of its own, reused by every call.

    index: (4, heights * cells) int32 rows of the stacked features (slots * rows * columns);
    weight: (4, heights * cells) float32, all 0 where no camera looks.
    A point that several cameras see is read from the one in whose picture it is most central.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._spec = manifest.camera
        self._centres = manifest.lift_grid.centres().reshape(-1, 2).astype(np.float64)
        n = len(self._spec.lift_heights) * len(self._centres)
        self._index = np.zeros((TAPS, n), np.int32)
        self._weight = np.zeros((TAPS, n), np.float32)
        self._rank = np.zeros(n, np.float32)

    def build(self, cameras: list[LiftCamera], plane: np.ndarray,
              view: View = IDENTITY) -> tuple[np.ndarray, np.ndarray]:
        """The cameras that are there (maybe none) and the ground plane -> index, weight.

        Both are overwritten by the next call.
        """
        self._index[:], self._weight[:], self._rank[:] = 0, 0.0, 0.0
        linear, shift = view.base_from_grid
        xy = self._centres @ linear.T + shift
        ground = xy @ plane[:2] + plane[2]
        heights = np.asarray(self._spec.lift_heights, np.float64) / view.height_scale
        rows, columns = self._spec.feature_shape
        for camera in cameras:
            projection = camera.pinhole.k @ camera.camera_from_base.matrix[:3]
            _add_camera(xy, ground, heights, projection, float(self._spec.stride), rows, columns,
                        camera.pinhole.width, camera.mirrored, camera.slot * rows * columns,
                        self._index, self._weight, self._rank)
        return self._index, self._weight


@njit(nogil=True, cache=True)
def _add_camera(xy, ground, heights, projection, stride, rows, columns, width, mirrored, offset,
                index, weight, rank):
    cells = xy.shape[0]
    for h in range(heights.size):
        for m in range(cells):
            x, y, z = xy[m, 0], xy[m, 1], ground[m] + heights[h]
            depth = (projection[2, 0] * x + projection[2, 1] * y + projection[2, 2] * z
                     + projection[2, 3])
            if depth < NEAR_M:
                continue
            u = (projection[0, 0] * x + projection[0, 1] * y + projection[0, 2] * z
                 + projection[0, 3]) / depth
            v = (projection[1, 0] * x + projection[1, 1] * y + projection[1, 2] * z
                 + projection[1, 3]) / depth
            if mirrored:
                u = width - 1 - u
            u = (u + 0.5) / stride - 0.5
            v = (v + 0.5) / stride - 0.5
            if u < -0.5 or v < -0.5 or u > columns - 0.5 or v > rows - 0.5:
                continue
            central = np.float32(1.0 + min(u + 0.5, columns - 0.5 - u))
            n = h * cells + m
            if central <= rank[n]:
                continue
            rank[n] = central
            u = min(max(u, 0.0), columns - 1.0)
            v = min(max(v, 0.0), rows - 1.0)
            left, upper = min(int(u), columns - 2), min(int(v), rows - 2)
            du, dv = u - left, v - upper
            first = offset + upper * columns + left
            index[0, n], weight[0, n] = first, (1 - du) * (1 - dv)
            index[1, n], weight[1, n] = first + 1, du * (1 - dv)
            index[2, n], weight[2, n] = first + columns, (1 - du) * dv
            index[3, n], weight[3, n] = first + columns + 1, du * dv
