"""Simulation: compiled loops over rays: which may meet a moving actor, and what they met.

All arithmetic is float32 in a fixed order and without fast-math: the same bytes every time.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_MARGIN = np.float32(1e-3)  # of a unit box, far more than rounding moves a ray
_HALF = np.float32(0.5) + _MARGIN
_SKY = np.int32(-1)


@njit(nogil=True, cache=True)
def surfaces(distance, primitive, slots, surface):
    """surface (N,) int32 of the triangles (N,) uint32 that rays met; -1 where distance is inf."""
    for i in range(distance.shape[0]):
        surface[i] = slots[primitive[i]] if np.isfinite(distance[i]) else _SKY


@njit(nogil=True, inline="always")
def _into_unit(origin, direction, place, size, out):
    """A world ray in the unit frame of a box that stands at `place` (x, y, cos, sin)."""
    x, y = origin[0] - place[0], origin[1] - place[1]
    out[0] = (place[2] * x + place[3] * y) / size[0]
    out[1] = (place[2] * y - place[3] * x) / size[1]
    out[2] = (origin[2] - size[2] / np.float32(2.0)) / size[2]
    x, y = direction[0], direction[1]
    out[3] = (place[2] * x + place[3] * y) / size[0]
    out[4] = (place[2] * y - place[3] * x) / size[1]
    out[5] = direction[2] / size[2]


@njit(nogil=True, inline="always")
def _may_hit(ray, before):
    """Whether a ray in the unit frame enters the box (a little enlarged) before a distance."""
    enters, leaves = np.float32(0.0), before
    for axis in range(3):
        start, slope = ray[axis], ray[axis + 3]
        if slope == 0:
            if abs(start) > _HALF:
                leaves = np.float32(-1.0)
        else:
            a, b = (-_HALF - start) / slope, (_HALF - start) / slope
            enters, leaves = max(enters, min(a, b)), min(leaves, max(a, b))
    return enters < leaves


@njit(nogil=True, cache=True)
def aim(origins, directions, distance, places, sizes, windows, target, unit_rays, ends):
    """The rays that may meet actors before what they met so far; their number.

    Args:
        origins, directions: (1 | H, 3), (H, W, 3) float32 in world.
        distance: (H, W) float32 that rays went so far.
        places: (1 | H, M, 4) float32 x, y, cos, sin of the actors; sizes: (M, 3) float32 [m].
        windows: (M, 4) rows and columns to look at.
        target, unit_rays: (N, 2) int32 row and column, (N, 6) float32 in the actor's unit frame;
            those that do not fit are only counted.
        ends: (M,) int64, written: where the rays of each actor end.
    """
    count, ray = 0, np.empty(6, np.float32)
    for m in range(sizes.shape[0]):
        size = sizes[m]
        circle = (size[0] * size[0] + size[1] * size[1]) * np.float32(0.26)
        for y in range(windows[m, 0], windows[m, 1]):
            origin = origins[min(y, origins.shape[0] - 1)]
            place = places[min(y, places.shape[0] - 1), m]
            ax, ay = place[0] - origin[0], place[1] - origin[1]
            outside = ax * ax + ay * ay > circle
            for x in range(windows[m, 2], windows[m, 3]):
                d = directions[y, x]
                across = ax * d[1] - ay * d[0]
                if across * across > circle * (d[0] * d[0] + d[1] * d[1]) or (
                        outside and ax * d[0] + ay * d[1] < 0):
                    continue
                _into_unit(origin, d, place, size, ray)
                if not _may_hit(ray, distance[y, x]):
                    continue
                if count < target.shape[0]:
                    target[count, 0], target[count, 1] = y, x
                    for i in range(6):
                        unit_rays[count, i] = ray[i]
                count += 1
        ends[m] = count
    return count


@njit(nogil=True, cache=True)
def keep_nearer(found_t, found_s, found_n, target, places, size, first_surface, distance, surface,
                normal):
    """Put one actor's hits (N,) into the pixels or beams of `target` (N, 2) where they are nearer.
    Normals come in the unit frame: the inverse transpose brings them to world."""
    for i in range(target.shape[0]):
        y, x = target[i, 0], target[i, 1]
        if not found_t[i] < distance[y, x]:
            continue
        p = places[min(y, places.shape[0] - 1)]
        a, b, c = found_n[i, 0] / size[0], found_n[i, 1] / size[1], found_n[i, 2] / size[2]
        length = max(np.sqrt(a * a + b * b + c * c), np.float32(1e-9))
        distance[y, x], surface[y, x] = found_t[i], found_s[i] + first_surface
        normal[y, x, 0] = (p[2] * a - p[3] * b) / length
        normal[y, x, 1] = (p[3] * a + p[2] * b) / length
        normal[y, x, 2] = c / length
