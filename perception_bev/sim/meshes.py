"""Simulation: what road users and street furniture look like, as meshes of flat-coloured faces.

Every mesh of a road user is scaled to the unit cube round its box's centre, x forward, so that one
mesh serves all sizes: a box's own size scales the rays instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

# Slots of an actor's palette; PAINT is the actor's own colour.
PAINT, DARK, GLASS, RUBBER, FRONT_LIGHT, REAR_LIGHT, SKIN, CLOTH, WHITE, STEEL = range(10)
SLOT_COLOURS = np.array([
    (128, 128, 128), (45, 45, 48), (40, 52, 64), (22, 22, 22), (235, 235, 215), (190, 25, 25),
    (205, 160, 130), (50, 60, 95), (235, 235, 235), (150, 155, 160)], np.float32)
SLOT_REFLECTIVITY = np.array([0.45, 0.15, 0.06, 0.06, 0.8, 0.9, 0.35, 0.3, 0.85, 0.55],
                             np.float32)

_CORNERS = np.array([[x, y, z] for x in (-.5, .5) for y in (-.5, .5) for z in (-.5, .5)])
_FACES = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
                   [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])


@dataclass(frozen=True)
class Mesh:
    """Triangles with a palette slot each."""

    vertices: np.ndarray  # (V, 3) float32 [m], or in units of the box
    triangles: np.ndarray  # (T, 3) uint32
    slots: np.ndarray  # (T,) int32


def join(parts: list[Mesh]) -> Mesh:
    """One mesh of many."""
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    return Mesh(np.concatenate([p.vertices for p in parts]).astype(np.float32),
                np.concatenate([p.triangles + o for p, o in zip(parts, offsets, strict=True)]
                               ).astype(np.uint32),
                np.concatenate([p.slots for p in parts]).astype(np.int32))


def box(centre, size, slot: int = PAINT, top: float = 1.0) -> Mesh:
    """A cuboid whose upper face is `top` times as long as its lower one."""
    corners = _CORNERS.copy()
    corners[corners[:, 2] > 0, 0] *= top
    return Mesh((corners * size + centre).astype(np.float32), _FACES.astype(np.uint32),
                np.full(12, slot, np.int32))


def cylinder(centre, radius: float, length: float, axis: int, slot: int, sides: int = 10,
             tip: float = 1.0) -> Mesh:
    """A prism along an axis (0 x, 1 y, 2 z); `tip`: radius of the upper end, relative."""
    angle = np.arange(sides) * 2 * np.pi / sides
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius
    low, high = np.full((sides, 1), -length / 2), np.full((sides, 1), length / 2)
    points = np.concatenate([np.hstack([ring, low]), np.hstack([ring * tip, high]),
                             [[0, 0, -length / 2], [0, 0, length / 2]]])
    i = np.arange(sides)
    j = (i + 1) % sides
    faces = np.concatenate([np.stack(f, axis=1) for f in (
        (i, j, i + sides), (j, j + sides, i + sides),
        (j, i, np.full(sides, 2 * sides)), (i + sides, j + sides, np.full(sides, 2 * sides + 1)))])
    order = {0: [2, 0, 1], 1: [1, 2, 0], 2: [0, 1, 2]}[axis]
    return Mesh((points[:, order] + centre).astype(np.float32), faces.astype(np.uint32),
                np.full(len(faces), slot, np.int32))


def quad(corners, slot: int = PAINT) -> Mesh:
    """Four corners, counter-clockwise as seen from outside."""
    return Mesh(np.asarray(corners, np.float32), np.array([[0, 1, 2], [0, 2, 3]], np.uint32),
                np.full(2, slot, np.int32))


def ball(centre, radii, slot: int, rings: int = 5, sides: int = 8) -> Mesh:
    """An ellipsoid."""
    polar = np.linspace(0, np.pi, rings + 1)[1:-1]
    angle = np.arange(sides) * 2 * np.pi / sides
    grid = np.stack([np.outer(np.sin(polar), np.cos(angle)), np.outer(np.sin(polar), np.sin(angle)),
                     np.outer(np.cos(polar), np.ones(sides))], axis=-1).reshape(-1, 3)
    points = np.concatenate([grid, [[0, 0, 1], [0, 0, -1]]])
    north, south = len(grid), len(grid) + 1
    faces = []
    for k in range(sides):
        right = (k + 1) % sides
        faces.append((north, k, right))
        faces.append((south, (rings - 2) * sides + right, (rings - 2) * sides + k))
        for ring in range(rings - 2):
            a, b = ring * sides, (ring + 1) * sides
            faces += [(a + k, b + k, b + right), (a + k, b + right, a + right)]
    return Mesh((points * radii + centre).astype(np.float32), np.array(faces, np.uint32),
                np.full(len(faces), slot, np.int32))


def transformed(mesh: Mesh, x: float, y: float, z: float, yaw: float, size) -> Mesh:
    """Scaled by size (3,), turned by yaw [rad], moved."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    vertices = (mesh.vertices * np.asarray(size)) @ turn.T + np.array([x, y, z])
    return Mesh(vertices.astype(np.float32), mesh.triangles, mesh.slots)


def _wheels(length: float, width: float, radius: float, places=(0.31, -0.31)) -> list[Mesh]:
    return [cylinder((length * at, side * (width / 2 - 0.1), radius), radius, 0.22, 1, RUBBER)
            for at in places for side in (1, -1)]


def _lights(length: float, width: float, height: float) -> list[Mesh]:
    return [box((at * (length / 2 - 0.015), side * width * 0.36, height), (0.05, 0.3, 0.14), slot)
            for at, slot in ((1, FRONT_LIGHT), (-1, REAR_LIGHT)) for side in (1, -1)]


def _sedan() -> list[Mesh]:
    return [box((0, 0, 0.6), (4.6, 1.85, 0.62)), box((-0.25, 0, 1.17), (2.7, 1.65, 0.54), GLASS, 0.62),
            box((-0.3, 0, 1.45), (1.6, 1.6, 0.06)), *_wheels(4.6, 1.9, 0.33),
            *_lights(4.6, 1.85, 0.7)]


def _suv() -> list[Mesh]:
    return [box((0, 0, 0.7), (4.7, 1.9, 0.75)), box((-0.45, 0, 1.35), (3.3, 1.75, 0.6), GLASS, 0.8),
            box((-0.5, 0, 1.68), (2.6, 1.7, 0.08)), *_wheels(4.7, 1.95, 0.37),
            *_lights(4.7, 1.9, 0.85)]


def _truck() -> list[Mesh]:
    return [box((-0.9, 0, 1.75), (5.2, 2.4, 2.3), WHITE), box((2.55, 0, 1.35), (1.7, 2.3, 2.0)),
            box((3.36, 0, 1.85), (0.12, 2.1, 0.75), GLASS), box((0, 0, 0.5), (6.6, 1.2, 0.3), DARK),
            *_wheels(6.8, 2.4, 0.48, (0.36, -0.2, -0.38)), *_lights(6.8, 2.3, 0.75)]


def _bus() -> list[Mesh]:
    return [box((0, 0, 1.0), (11.0, 2.85, 1.4)), box((0, 0, 2.2), (10.9, 2.8, 1.0), GLASS),
            box((0, 0, 3.05), (11.0, 2.85, 0.7)), *_wheels(11, 2.85, 0.5, (0.3, -0.28)),
            *_lights(11, 2.85, 0.8)]


def _trailer() -> list[Mesh]:
    return [box((0, 0, 2.4), (12.0, 2.7, 2.9), PAINT), box((-0.5, 0, 0.8), (10.5, 1.0, 0.3), DARK),
            box((5.2, 0, 0.75), (0.3, 1.2, 0.5), STEEL),
            *_wheels(12, 2.7, 0.5, (-0.25, -0.34, -0.43)),
            *_lights(12, 2.6, 1.0)[2:]]


def _digger() -> list[Mesh]:
    yellow = PAINT
    return [box((-0.8, 0, 1.5), (3.0, 2.4, 1.2), yellow), box((-0.4, 0.5, 2.5), (1.5, 1.2, 1.2), GLASS),
            box((0, 1.0, 0.45), (4.0, 0.55, 0.9), RUBBER), box((0, -1.0, 0.45), (4.0, 0.55, 0.9), RUBBER),
            box((1.6, -0.2, 2.4), (2.4, 0.4, 0.45), yellow), box((2.9, -0.2, 1.5), (0.4, 0.4, 2.0), yellow),
            box((2.9, -0.2, 0.4), (0.9, 1.2, 0.7), DARK)]


def _pedestrian() -> list[Mesh]:
    return [box((0.09, 0.1, 0.42), (0.18, 0.16, 0.84), CLOTH), box((-0.09, -0.1, 0.42), (0.18, 0.16, 0.84), CLOTH),
            box((0, 0, 1.14), (0.28, 0.44, 0.62), PAINT), box((0.05, 0.27, 1.1), (0.3, 0.11, 0.55), PAINT),
            box((-0.05, -0.27, 1.1), (0.3, 0.11, 0.55), PAINT),
            ball((0, 0, 1.6), (0.12, 0.11, 0.16), SKIN, 5, 8)]


def _cycle(wheel: float, thick: float, body: float) -> list[Mesh]:
    """A two-wheeler with its rider."""
    return [cylinder((0.58, 0, wheel), wheel, thick, 1, RUBBER, 12),
            cylinder((-0.58, 0, wheel), wheel, thick, 1, RUBBER, 12),
            box((0, 0, wheel + 0.18), (1.0, body, 0.3), STEEL if body < 0.2 else PAINT),
            box((0.5, 0, wheel + 0.55), (0.08, 0.56, 0.08), DARK),
            box((-0.1, 0.13, 0.65), (0.35, 0.14, 0.55), CLOTH), box((-0.1, -0.13, 0.65), (0.35, 0.14, 0.55), CLOTH),
            box((-0.12, 0, 1.18), (0.3, 0.42, 0.58), PAINT if body < 0.2 else DARK),
            ball((-0.05, 0, 1.58), (0.13, 0.12, 0.15), SKIN if body < 0.2 else WHITE, 5, 8)]


def _cone() -> list[Mesh]:
    return [box((0, 0, 0.03), (0.42, 0.42, 0.06), DARK),
            cylinder((0, 0, 0.32), 0.17, 0.52, 2, PAINT, 10, 0.55),
            cylinder((0, 0, 0.66), 0.094, 0.16, 2, WHITE, 10, 0.8),
            cylinder((0, 0, 0.88), 0.075, 0.28, 2, PAINT, 10, 0.3)]


def _barrier() -> list[Mesh]:
    stripes = [box((0, y, z), (0.14, 0.5, 0.26), PAINT if (k + i) % 2 else WHITE)
               for i, z in enumerate((0.82, 0.45)) for k, y in enumerate(np.arange(-1, 1.01, 0.5))]
    return [*stripes, box((0, 0.95, 0.48), (0.5, 0.1, 0.95), STEEL),
            box((0, -0.95, 0.48), (0.5, 0.1, 0.95), STEEL)]


_SHAPES = {
    "sedan": _sedan, "suv": _suv, "truck": _truck, "bus": _bus, "trailer": _trailer,
    "digger": _digger, "pedestrian": _pedestrian,
    "motorcycle": lambda: _cycle(0.32, 0.14, 0.34), "bicycle": lambda: _cycle(0.34, 0.05, 0.06),
    "cone": _cone, "barrier": _barrier}
SHAPES = tuple(_SHAPES)


@cache
def unit_mesh(shape: str) -> Mesh:
    """A shape scaled to the unit cube, centred."""
    mesh = join(_SHAPES[shape]())
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    return Mesh(((mesh.vertices - (low + high) / 2) / (high - low)).astype(np.float32),
                mesh.triangles, mesh.slots)
