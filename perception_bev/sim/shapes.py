"""Simulation: what road users and street furniture look like, and what they are made of.

Every shape is scaled to the unit cube round its box's centre, x forward, so that one mesh serves
all sizes: a box's own size scales the rays instead.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from perception_bev.sim import meshes
from perception_bev.sim.meshes import Mesh, ball, box, cylinder

# Slots of an actor's palette; PAINT is the actor's own colour.
PAINT, DARK, GLASS, RUBBER, FRONT_LIGHT, REAR_LIGHT, SKIN, CLOTH, WHITE, STEEL = range(10)
SLOT_COLOURS = np.array([
    (128, 128, 128), (45, 45, 48), (40, 52, 64), (22, 22, 22), (235, 235, 215), (190, 25, 25),
    (205, 160, 130), (50, 60, 95), (235, 235, 235), (150, 155, 160)], np.float32)  # 0..255
SLOT_REFLECTIVITY = np.array([0.45, 0.15, 0.06, 0.06, 0.8, 0.9, 0.35, 0.3, 0.85, 0.55],
                             np.float32)  # of the lidar's light


@cache
def unit_mesh(shape: str) -> Mesh:
    """A shape by its name, in the unit cube."""
    return meshes.unit(meshes.join(_SHAPES[shape]()))


def _wheels(length: float, width: float, radius: float, places=(0.31, -0.31)) -> list[Mesh]:
    return [cylinder((length * at, side * (width / 2 - 0.1), radius), radius, 0.22, 1, RUBBER)
            for at in places for side in (1, -1)]


def _lights(length: float, width: float, height: float) -> list[Mesh]:
    """Two in front, then two behind."""
    return [box((at * (length / 2 - 0.015), side * width * 0.36, height), (0.05, 0.3, 0.14), slot)
            for at, slot in ((1, FRONT_LIGHT), (-1, REAR_LIGHT)) for side in (1, -1)]


def _sedan() -> list[Mesh]:
    return [box((0, 0, 0.6), (4.6, 1.85, 0.62), PAINT),
            box((-0.25, 0, 1.17), (2.7, 1.65, 0.54), GLASS, 0.62),
            box((-0.3, 0, 1.45), (1.6, 1.6, 0.06), PAINT),
            *_wheels(4.6, 1.9, 0.33), *_lights(4.6, 1.85, 0.7)]


def _suv() -> list[Mesh]:
    return [box((0, 0, 0.7), (4.7, 1.9, 0.75), PAINT),
            box((-0.45, 0, 1.35), (3.3, 1.75, 0.6), GLASS, 0.8),
            box((-0.5, 0, 1.68), (2.6, 1.7, 0.08), PAINT),
            *_wheels(4.7, 1.95, 0.37), *_lights(4.7, 1.9, 0.85)]


def _truck() -> list[Mesh]:
    return [box((-0.9, 0, 1.75), (5.2, 2.4, 2.3), WHITE),
            box((2.55, 0, 1.35), (1.7, 2.3, 2.0), PAINT),
            box((3.36, 0, 1.85), (0.12, 2.1, 0.75), GLASS),
            box((0, 0, 0.5), (6.6, 1.2, 0.3), DARK),
            *_wheels(6.8, 2.4, 0.48, (0.36, -0.2, -0.38)), *_lights(6.8, 2.3, 0.75)]


def _bus() -> list[Mesh]:
    return [box((0, 0, 1.0), (11.0, 2.85, 1.4), PAINT), box((0, 0, 2.2), (10.9, 2.8, 1.0), GLASS),
            box((0, 0, 3.05), (11.0, 2.85, 0.7), PAINT),
            *_wheels(11, 2.85, 0.5, (0.3, -0.28)), *_lights(11, 2.85, 0.8)]


def _trailer() -> list[Mesh]:
    return [box((0, 0, 2.4), (12.0, 2.7, 2.9), PAINT), box((-0.5, 0, 0.8), (10.5, 1.0, 0.3), DARK),
            box((5.2, 0, 0.75), (0.3, 1.2, 0.5), STEEL),
            *_wheels(12, 2.7, 0.5, (-0.25, -0.34, -0.43)), *_lights(12, 2.6, 1.0)[2:]]


def _digger() -> list[Mesh]:
    tracks = [box((0, y, 0.45), (4.0, 0.55, 0.9), RUBBER) for y in (1.0, -1.0)]
    return [box((-0.8, 0, 1.5), (3.0, 2.4, 1.2), PAINT),
            box((-0.4, 0.5, 2.5), (1.5, 1.2, 1.2), GLASS), *tracks,
            box((1.6, -0.2, 2.4), (2.4, 0.4, 0.45), PAINT),
            box((2.9, -0.2, 1.5), (0.4, 0.4, 2.0), PAINT),
            box((2.9, -0.2, 0.4), (0.9, 1.2, 0.7), DARK)]


def _pedestrian() -> list[Mesh]:
    return [box((0.09, 0.1, 0.42), (0.18, 0.16, 0.84), CLOTH),
            box((-0.09, -0.1, 0.42), (0.18, 0.16, 0.84), CLOTH),
            box((0, 0, 1.14), (0.28, 0.44, 0.62), PAINT),
            box((0.05, 0.27, 1.1), (0.3, 0.11, 0.55), PAINT),
            box((-0.05, -0.27, 1.1), (0.3, 0.11, 0.55), PAINT),
            ball((0, 0, 1.6), (0.12, 0.11, 0.16), SKIN, 5, 8)]


def _cycle(wheel: float, tyre: float, body: float, motor: bool) -> list[Mesh]:
    """A two-wheeler with its rider; radius of the wheels, width of tyres and body [m]."""
    return [cylinder((0.58, 0, wheel), wheel, tyre, 1, RUBBER, 12),
            cylinder((-0.58, 0, wheel), wheel, tyre, 1, RUBBER, 12),
            box((0, 0, wheel + 0.18), (1.0, body, 0.3), PAINT if motor else STEEL),
            box((0.5, 0, wheel + 0.55), (0.08, 0.56, 0.08), DARK),
            box((-0.1, 0.13, 0.65), (0.35, 0.14, 0.55), CLOTH),
            box((-0.1, -0.13, 0.65), (0.35, 0.14, 0.55), CLOTH),
            box((-0.12, 0, 1.18), (0.3, 0.42, 0.58), DARK if motor else PAINT),
            ball((-0.05, 0, 1.58), (0.13, 0.12, 0.15), WHITE if motor else SKIN, 5, 8)]


def _cone() -> list[Mesh]:
    return [box((0, 0, 0.03), (0.42, 0.42, 0.06), DARK),
            cylinder((0, 0, 0.32), 0.17, 0.52, 2, PAINT, 10, 0.55),
            cylinder((0, 0, 0.66), 0.094, 0.16, 2, WHITE, 10, 0.8),
            cylinder((0, 0, 0.88), 0.075, 0.28, 2, PAINT, 10, 0.3)]


def _barrier() -> list[Mesh]:
    stripes = [box((0, y, z), (0.14, 0.5, 0.26), PAINT if (k + i) % 2 else WHITE)
               for i, z in enumerate((0.82, 0.45)) for k, y in enumerate(np.arange(-1, 1.01, 0.5))]
    feet = [box((0, y, 0.48), (0.5, 0.1, 0.95), STEEL) for y in (0.95, -0.95)]
    return [*stripes, *feet]


_SHAPES = {
    "sedan": _sedan, "suv": _suv, "truck": _truck, "bus": _bus, "trailer": _trailer,
    "digger": _digger, "pedestrian": _pedestrian,
    "motorcycle": lambda: _cycle(0.32, 0.14, 0.34, motor=True),
    "bicycle": lambda: _cycle(0.34, 0.05, 0.06, motor=False),
    "cone": _cone, "barrier": _barrier}
SHAPES = tuple(_SHAPES)
