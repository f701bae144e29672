"""Simulation: what things are made of. A surface has a colour, a texture, a reflectivity, and the
actor that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from perception_bev.sim import shapes
from perception_bev.sim.actors import Actor

PLAIN, ASPHALT, GRASS, FACADE, FOLIAGE, SLABS, LIGHT = range(7)  # textures
NOBODY = -1


@dataclass(frozen=True, slots=True)
class Surfaces:
    """Rows are surfaces; the slots of a world's meshes are row numbers."""

    colour: np.ndarray  # (S, 3) float32, 0..255
    texture: np.ndarray  # (S,) int32
    reflectivity: np.ndarray  # (S,) float32, of the lidar's light
    owner: np.ndarray  # (S,) int32: row of World.actors, or NOBODY


class _Row(NamedTuple):
    colour: np.ndarray
    texture: int
    reflectivity: float
    owner: int


class SurfaceList:
    """Surfaces while they are collected."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []

    def add(self, colour: tuple[float, float, float] | np.ndarray, texture: int = PLAIN,
            reflectivity: float = 0.3, owner: int = NOBODY) -> int:
        """The new surface's number."""
        self._rows.append(_Row(np.asarray(colour, np.float32), texture, reflectivity, owner))
        return len(self._rows) - 1

    def add_palette(self, actor: Actor, owner: int) -> int:
        """A surface for every slot of an actor's mesh; the first one's number."""
        first = len(self._rows)
        for slot, colour in enumerate(shapes.SLOT_COLOURS):
            is_light = slot in (shapes.FRONT_LIGHT, shapes.REAR_LIGHT)
            self.add(actor.colour if slot == shapes.PAINT else colour,
                     LIGHT if is_light else PLAIN, float(shapes.SLOT_REFLECTIVITY[slot]), owner)
        return first

    def done(self) -> Surfaces:
        colour, texture, reflectivity, owner = zip(*self._rows, strict=True)
        return Surfaces(np.array(colour, np.float32), np.array(texture, np.int32),
                        np.array(reflectivity, np.float32), np.array(owner, np.int32))
