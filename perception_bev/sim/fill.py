"""Simulation: compiled loops that make a whole picture's hits of every second pixel's.

No fast-math: the same bytes every time.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_TILT = 1e-3  # sum of differences of normals that still count as one plane
_STEP_M, _STEP = 0.02, 1e-3  # how far the samples' planes may lie apart, and in proportion


@njit(nogil=True, cache=True)
def turn(directions, rotation, out):
    """out (H, W, 3) = rotation (3, 3) @ direction, for every pixel."""
    for y in range(directions.shape[0]):
        for x in range(directions.shape[1]):
            a, b, c = directions[y, x, 0], directions[y, x, 1], directions[y, x, 2]
            for i in range(3):
                out[y, x, i] = rotation[i, 0] * a + rotation[i, 1] * b + rotation[i, 2] * c


@njit(nogil=True, cache=True)
def every_second(origin, directions, rays):
    """rays (N, 6): origin and direction of every second pixel of every second row."""
    n = 0
    for y in range(0, directions.shape[0], 2):
        for x in range(0, directions.shape[1], 2):
            for i in range(3):
                rays[n, i], rays[n, 3 + i] = origin[i], directions[y, x, i]
            n += 1


@njit(nogil=True, cache=True)
def gather(origin, directions, pixels, rays):
    """rays (N, 6): origin and direction of pixels (N, 2), rows and columns."""
    for n in range(pixels.shape[0]):
        y, x = pixels[n, 0], pixels[n, 1]
        for i in range(3):
            rays[n, i], rays[n, 3 + i] = origin[i], directions[y, x, i]


@njit(nogil=True, cache=True)
def scatter(found_t, found_s, found_n, pixels, depth, surface, normal):
    """Put hits (N,) into their pixels (N, 2)."""
    for n in range(pixels.shape[0]):
        y, x = pixels[n, 0], pixels[n, 1]
        depth[y, x], surface[y, x] = found_t[n], found_s[n]
        for i in range(3):
            normal[y, x, i] = found_n[n, i]


@njit(nogil=True, inline="always")
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(nogil=True, inline="always")
def _alike(coarse_s, coarse_n, rows, columns):
    """Whether the samples round a pixel are of one surface and one direction."""
    s, n = coarse_s[rows[0], columns[0]], coarse_n[rows[0], columns[0]]
    same = True
    for i in rows:
        for j in columns:
            if coarse_s[i, j] != s:
                same = False
            elif s >= 0:
                m = coarse_n[i, j]
                if abs(m[0] - n[0]) + abs(m[1] - n[1]) + abs(m[2] - n[2]) > _TILT:
                    same = False
    return same


@njit(nogil=True, cache=True)
def between(directions, coarse_t, coarse_s, coarse_n, depth, surface, normal, todo):
    """Pixels from the coarse samples round them.

    Args:
        directions: (H, W, 3) float32 rays of all pixels.
        coarse_t, coarse_s, coarse_n: hits of every second pixel of every second row.
        depth, surface, normal: written; (H, W), (H, W), (H, W, 3).
        todo: (H * W, 2) int32, written: rows and columns of pixels that need a ray of their own.

    Returns how many those are.
    """
    height, width = depth.shape
    rows, columns = coarse_t.shape
    count = 0
    for y in range(height):
        a = y // 2
        b = min(a + (y & 1), rows - 1)
        for x in range(width):
            c = x // 2
            d = min(c + (x & 1), columns - 1)
            s, n = coarse_s[a, c], coarse_n[a, c]
            if y & 1 == 0 and x & 1 == 0:
                depth[y, x], surface[y, x] = coarse_t[a, c], s
                normal[y, x, 0], normal[y, x, 1], normal[y, x, 2] = n[0], n[1], n[2]
                continue
            same = _alike(coarse_s, coarse_n, (a, b), (c, d))
            if same and s < 0:
                depth[y, x], surface[y, x] = np.inf, s
                normal[y, x, 0], normal[y, x, 1], normal[y, x, 2] = 0.0, 0.0, 0.0
                continue
            if same:
                plane = _dot(n, directions[2 * a, 2 * c]) * coarse_t[a, c]
                slope = _dot(n, directions[y, x])
                other = _dot(n, directions[2 * b, 2 * d]) * coarse_t[b, d]
                if abs(other - plane) < _STEP_M + _STEP * abs(plane) and abs(slope) > 1e-6:
                    depth[y, x], surface[y, x] = plane / slope, s
                    normal[y, x, 0], normal[y, x, 1], normal[y, x, 2] = n[0], n[1], n[2]
                    continue
            todo[count, 0], todo[count, 1] = y, x
            count += 1
    return count
