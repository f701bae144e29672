"""Inputs: the ground plane around the vehicle, from one lidar sweep and a prior.

Heights are counted from it: roads are rarely level in base_link. Lowest points of coarse cells,
then a least-squares plane, reweighted so that what stands on the road does not lift it
(iteratively reweighted least squares with a Cauchy weight), with z = 0 as the prior.
"""

from __future__ import annotations

import numpy as np
from numba import njit

CELL_M = 2.0
REACH_M = 50.0
BAND_M = 1.5  # cells whose lowest point is farther from z = 0 are no ground
SCALE_M = 0.05  # of the Cauchy weight
PRIOR_SIGMA = np.array([0.02, 0.02, 0.25])  # slope x, slope y [m/m], height [m]
ALIKE = 4.0  # cells beside each other err alike: so many tell as much as one would alone
ROUNDS = 6

LEVEL = np.zeros(3)  # the prior itself: z = 0


def fit_ground(points: np.ndarray) -> np.ndarray:
    """Plane z = a x + b y + c from lidar points in base_link.

    Args:
        points: (N, >=3) float32 [m].

    Returns:
        (3,) float64: a, b, c; the prior (zeros) when there are no points.
    """
    cells = _lowest_points(points, CELL_M, REACH_M, BAND_M)
    if len(cells) == 0:
        return LEVEL.copy()
    design = np.column_stack([cells[:, 0], cells[:, 1], np.ones(len(cells))])
    plane = LEVEL.copy()
    for _ in range(ROUNDS):
        residual = cells[:, 2] - design @ plane
        # what is above the plane is more often an object than what is below it is not ground
        scale = np.where(residual > 0, SCALE_M, 2 * SCALE_M)
        weight = 1.0 / (1.0 + (residual / scale) ** 2) / (ALIKE * SCALE_M**2)
        normal = (design * weight[:, None]).T @ design + np.diag(PRIOR_SIGMA**-2.0)
        plane = np.linalg.solve(normal, (design * weight[:, None]).T @ cells[:, 2])
    return plane


@njit(nogil=True, cache=True)
def _lowest_points(points, cell, reach, band):
    """(N, >=3) -> (M, 3) float64: the lowest point of each cell within `band` of z = 0."""
    side = int(2 * reach / cell)
    lowest = np.full(side * side, np.inf)
    index = np.full(side * side, -1, np.int64)
    for i in range(points.shape[0]):
        column = int(np.floor((points[i, 0] + reach) / cell))
        row = int(np.floor((points[i, 1] + reach) / cell))
        if 0 <= column < side and 0 <= row < side:
            j = column * side + row
            if -band < points[i, 2] < lowest[j]:
                lowest[j] = points[i, 2]
                index[j] = i
    found = np.empty((side * side, 3))
    n = 0
    for j in range(side * side):
        if index[j] >= 0 and lowest[j] < band:
            for axis in range(3):
                found[n, axis] = points[index[j], axis]
            n += 1
    return found[:n]
