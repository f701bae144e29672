"""Simulation: triangle meshes of flat-coloured faces, and the simple solids that all is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Triple = Sequence[float] | np.ndarray  # x, y, z [m]

_CORNERS = np.array([[x, y, z] for x in (-.5, .5) for y in (-.5, .5) for z in (-.5, .5)])
_FACES = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
                   [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])
_AXES_ORDER = {0: [2, 0, 1], 1: [1, 2, 0], 2: [0, 1, 2]}  # puts a prism's z along x, y or z


@dataclass(frozen=True, slots=True)
class Mesh:
    """Triangles, each of one slot: a number that says what it is made of."""

    vertices: np.ndarray  # (V, 3) float32 [m], or in units of a box
    triangles: np.ndarray  # (T, 3) uint32
    slots: np.ndarray  # (T,) int32


def join(parts: Sequence[Mesh]) -> Mesh:
    """One mesh of many."""
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    triangles = [part.triangles + offset for part, offset in zip(parts, offsets, strict=True)]
    return Mesh(np.concatenate([part.vertices for part in parts]).astype(np.float32),
                np.concatenate(triangles).astype(np.uint32),
                np.concatenate([part.slots for part in parts]).astype(np.int32))


def transformed(mesh: Mesh, centre: Triple, yaw: float, size: Triple) -> Mesh:
    """Scaled by `size`, turned by `yaw` [rad], moved to `centre`."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    vertices = (mesh.vertices * np.asarray(size)) @ turn.T + np.asarray(centre)
    return Mesh(vertices.astype(np.float32), mesh.triangles, mesh.slots)


def unit(mesh: Mesh) -> Mesh:
    """Moved and scaled into the cube of edge 1 round the origin."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    vertices = (mesh.vertices - (low + high) / 2) / (high - low)
    return Mesh(vertices.astype(np.float32), mesh.triangles, mesh.slots)


def box(centre: Triple, size: Triple, slot: int, top: float = 1.0) -> Mesh:
    """A cuboid whose upper face is `top` times as long as its lower one."""
    corners = _CORNERS.copy()
    corners[corners[:, 2] > 0, 0] *= top
    return _solid(corners * size + centre, _FACES, slot)


def quad(corners: Sequence[Triple], slot: int) -> Mesh:
    """Four corners, counter-clockwise as seen from outside."""
    return _solid(np.asarray(corners), np.array([[0, 1, 2], [0, 2, 3]]), slot)


def cylinder(centre: Triple, radius: float, length: float, axis: int, slot: int, sides: int = 10,
             tip: float = 1.0) -> Mesh:
    """A prism along an axis (0 x, 1 y, 2 z); `tip`: radius of the upper end, relative."""
    angle = np.arange(sides) * 2 * np.pi / sides
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius
    low, high = np.full((sides, 1), -length / 2), np.full((sides, 1), length / 2)
    points = np.concatenate([np.hstack([ring, low]), np.hstack([ring * tip, high]),
                             [[0, 0, -length / 2], [0, 0, length / 2]]])
    i = np.arange(sides)
    j = (i + 1) % sides
    ends = np.full(sides, 2 * sides), np.full(sides, 2 * sides + 1)
    faces = [np.stack(face, axis=1) for face in (
        (i, j, i + sides), (j, j + sides, i + sides),
        (j, i, ends[0]), (i + sides, j + sides, ends[1]))]
    return _solid(points[:, _AXES_ORDER[axis]] + centre, np.concatenate(faces), slot)


def ball(centre: Triple, radii: Triple, slot: int, rings: int = 5, sides: int = 8) -> Mesh:
    """An ellipsoid of `rings` bands."""
    polar = np.linspace(0, np.pi, rings + 1)[1:-1]
    angle = np.arange(sides) * 2 * np.pi / sides
    grid = np.stack([np.outer(np.sin(polar), np.cos(angle)),
                     np.outer(np.sin(polar), np.sin(angle)),
                     np.outer(np.cos(polar), np.ones(sides))], axis=-1).reshape(-1, 3)
    points = np.concatenate([grid, [[0, 0, 1], [0, 0, -1]]])
    faces = [face for k in range(sides) for face in _slice(k, (k + 1) % sides, rings, sides)]
    return _solid(points * radii + centre, np.array(faces), slot)


def _slice(k: int, right: int, rings: int, sides: int) -> list[tuple[int, int, int]]:
    """Faces of a ball between two meridians, poles first."""
    north, south, last = (rings - 1) * sides, (rings - 1) * sides + 1, (rings - 2) * sides
    faces = [(north, k, right), (south, last + right, last + k)]
    for a in range(0, last, sides):
        b = a + sides
        faces += [(a + k, b + k, b + right), (a + k, b + right, a + right)]
    return faces


def _solid(vertices: np.ndarray, faces: np.ndarray, slot: int) -> Mesh:
    return Mesh(vertices.astype(np.float32), faces.astype(np.uint32),
                np.full(len(faces), slot, np.int32))
