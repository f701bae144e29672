"""Simulation: the town itself. Ground, markings, buildings, trees, poles, and what stands parked,
as one static mesh of surfaces; a surface has a colour, a texture and a reflectivity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_bev.sim import meshes
from perception_bev.sim.cast_list import Actor
from perception_bev.sim.meshes import SLOT_COLOURS, SLOT_REFLECTIVITY, Mesh
from perception_bev.sim.streets import DIRECTIONS, LANE, PAVEMENT, Streets
from perception_bev.sim.traffic import Traffic

PLAIN, ASPHALT, GRASS, FACADE, FOLIAGE, SLABS, LIGHT = range(7)  # textures
KERB_M = 0.12
REACH_M = 130.0  # from the ego's way; nothing stands farther out
NOBODY = -1


@dataclass(frozen=True)
class Surfaces:
    """What things are made of; rows are surfaces."""

    colour: np.ndarray  # (S, 3) float32, 0..255
    texture: np.ndarray  # (S,) int32
    reflectivity: np.ndarray  # (S,) float32, of the lidar's light
    owner: np.ndarray  # (S,) int32: row of World.actors, or NOBODY


@dataclass(frozen=True)
class World:
    """Everything that can be seen. Moving actors come first in `actors`, then parked ones."""

    static: Mesh  # slots are surfaces
    surfaces: Surfaces
    actors: tuple[Actor, ...]
    moving: int  # how many of the actors move
    parked_xy: np.ndarray  # (P, 2)
    parked_yaw: np.ndarray  # (P,)
    first_surface: np.ndarray  # (moving,) surface of each moving actor's slot 0
    traffic: Traffic


def build(streets: Streets, traffic: Traffic, rng: np.random.Generator) -> World:
    """The town round the ego's way."""
    town = _Town(streets, traffic, rng)
    town.ground()
    town.blocks()
    town.crossings()
    moving, parked = traffic.actors, traffic.parked
    for k, place in enumerate(parked):
        first = town.palette(place.actor, len(moving) + k)
        mesh = meshes.transformed(meshes.unit_mesh(place.actor.shape), *place.xy,
                                  place.actor.size[2] / 2, place.yaw, place.actor.size)
        town.parts.append(Mesh(mesh.vertices, mesh.triangles, mesh.slots + first))
    firsts = [town.palette(actor, k) for k, actor in enumerate(moving)]
    return World(meshes.join(town.parts), town.surfaces(),
                 (*moving, *(p.actor for p in parked)), len(moving),
                 np.array([p.xy for p in parked]).reshape(-1, 2),
                 np.array([p.yaw for p in parked]), np.array(firsts, np.int32), traffic)


class _Town:
    """Collects meshes and surfaces."""

    def __init__(self, streets: Streets, traffic: Traffic, rng: np.random.Generator) -> None:
        self._streets, self._rng = streets, rng
        self._way = traffic.driven
        self.parts: list[Mesh] = []
        self._rows: list[tuple[np.ndarray, int, float, int]] = []

    def surface(self, colour, texture: int = PLAIN, reflectivity: float = 0.3,
                owner: int = NOBODY) -> int:
        self._rows.append((np.asarray(colour, np.float32), texture, reflectivity, owner))
        return len(self._rows) - 1

    def palette(self, actor: Actor, owner: int) -> int:
        """A surface for every palette slot of an actor; the first one's number."""
        first = len(self._rows)
        for slot, colour in enumerate(SLOT_COLOURS):
            light = slot in (meshes.FRONT_LIGHT, meshes.REAR_LIGHT)
            self.surface(actor.colour if slot == meshes.PAINT else colour,
                         LIGHT if light else PLAIN, float(SLOT_REFLECTIVITY[slot]), owner)
        return first

    def surfaces(self) -> Surfaces:
        colour, texture, reflectivity, owner = zip(*self._rows, strict=True)
        return Surfaces(np.array(colour, np.float32), np.array(texture, np.int32),
                        np.array(reflectivity, np.float32), np.array(owner, np.int32))

    def _is_near(self, xy: np.ndarray, reach: float = REACH_M) -> bool:
        return bool(np.min(np.linalg.norm(self._way - xy, axis=1)) < reach)

    def ground(self) -> None:
        """Asphalt everywhere; pavements, lawns and houses lie on it."""
        shade = float(self._rng.uniform(62, 98))
        asphalt = self.surface((shade, shade, shade + 3), ASPHALT, 0.12)
        low, high = self._way.min(axis=0) - 400, self._way.max(axis=0) + 400
        self.parts.append(meshes.quad([(low[0], low[1], 0), (high[0], low[1], 0),
                                       (high[0], high[1], 0), (low[0], high[1], 0)], asphalt))
        self._white = self.surface((205, 205, 200), PLAIN, 0.65)
        self._slabs = self.surface((140, 134, 126), SLABS, 0.28)
        self._grass = self.surface((72, 104, 52), GRASS, 0.35)
        self._trunk = self.surface((92, 70, 50), PLAIN, 0.25)
        self._leaves = [self.surface((52 + 20 * k, 96 + 12 * k, 40), FOLIAGE, 0.4) for k in range(3)]
        self._metal = self.surface((110, 112, 116), PLAIN, 0.5)
        self._lamp = self.surface((255, 236, 190), LIGHT, 0.5)
        self._walls = [self.surface(colour, FACADE, 0.32) for colour in (
            (176, 150, 122), (150, 86, 70), (190, 186, 176), (120, 124, 130), (204, 190, 150),
            (140, 130, 118))]

    def blocks(self) -> None:
        streets = self._streets
        xs = np.concatenate([[streets.xs[0] - 90], streets.xs, [streets.xs[-1] + 90]])
        ys = np.concatenate([[streets.ys[0] - 90], streets.ys, [streets.ys[-1] + 90]])
        wide_x = [0.0, *(streets.half(int(n)) for n in streets.lanes_x), 0.0]
        wide_y = [0.0, *(streets.half(int(n)) for n in streets.lanes_y), 0.0]
        for i in range(len(xs) - 1):
            for j in range(len(ys) - 1):
                low = np.array([xs[i] + wide_x[i], ys[j] + wide_y[j]])
                high = np.array([xs[i + 1] - wide_x[i + 1], ys[j + 1] - wide_y[j + 1]])
                nearest = np.clip(self._way, low, high)
                if np.min(np.linalg.norm(nearest - self._way, axis=1)) < REACH_M:
                    self._block(low, high)

    def _block(self, low: np.ndarray, high: np.ndarray) -> None:
        """Pavement all round, a lawn, a row of houses or trees along every side."""
        rng, middle, size = self._rng, (low + high) / 2, high - low
        self.parts.append(meshes.box((*middle, KERB_M / 2), (*size, KERB_M), self._slabs))
        inner = size - 2 * PAVEMENT
        self.parts.append(meshes.box((*middle, KERB_M / 2 + 0.01), (*inner, KERB_M), self._grass))
        is_park = rng.random() < 0.2
        for side in range(4):
            ahead = DIRECTIONS[side].astype(float)
            out = DIRECTIONS[(side - 1) % 4].astype(float)
            length, depth = (size[0], size[1]) if side % 2 == 0 else (size[1], size[0])
            self._furniture(middle, ahead, out, length, depth)
            if is_park:
                for _ in range(int(length / 9)):
                    at, back = rng.uniform(-0.45, 0.45) * length, rng.uniform(5, 22)
                    self._tree(middle + at * ahead + (depth / 2 - back) * out)
            else:
                self._houses(middle, ahead, out, length, depth)

    def _houses(self, middle, ahead, out, length: float, depth: float) -> None:
        rng, at = self._rng, -length / 2 + PAVEMENT + 0.5
        while at < length / 2 - 14:
            width = float(rng.uniform(9, 24))
            deep, height = float(rng.uniform(8, 13)), float(rng.uniform(4, 22))
            setback = PAVEMENT + float(rng.uniform(0.3, 5))
            centre = middle + (at + width / 2) * ahead + (depth / 2 - setback - deep / 2) * out
            if rng.random() < 0.85 and self._is_near(centre):
                size = np.abs(width * ahead + deep * out)
                wall = self._walls[int(rng.integers(len(self._walls)))]
                self.parts.append(meshes.box((*centre, height / 2), (*size, height), wall))
            at += width + float(rng.choice([0.0, 0.0, 3.0, 9.0]))

    def _furniture(self, middle, ahead, out, length: float, depth: float) -> None:
        """Lamps, trees and small things on the pavement."""
        rng, at = self._rng, -length / 2 + 6
        while at < length / 2 - 6:
            place = middle + at * ahead + (depth / 2 - 0.7) * out
            what = rng.random()
            if not self._is_near(place, 100):
                pass
            elif what < 0.3:
                self._pole(place, out)
            elif what < 0.55:
                self._tree(place - 0.4 * out, small=True)
            elif what < 0.65:
                self.parts.append(meshes.box((*(place - 0.3 * out), 0.65), (0.7, 0.7, 1.1),
                                             self._metal))
            at += float(rng.uniform(7, 16))

    def _pole(self, xy: np.ndarray, out: np.ndarray) -> None:
        height = float(self._rng.uniform(5, 8))
        self.parts.append(meshes.cylinder((*xy, height / 2), 0.09, height, 2, self._metal, 6))
        self.parts.append(meshes.box((*(xy + 0.6 * out), height), (*(np.abs(1.2 * out) + 0.15), 0.12),
                                     self._lamp))

    def _tree(self, xy: np.ndarray, small: bool = False) -> None:
        if not self._is_near(xy, 110):
            return
        rng = self._rng
        height = float(rng.uniform(4, 6) if small else rng.uniform(6, 11))
        crown = np.array([1, 1, 1.15]) * float(rng.uniform(1.2, 1.8) if small else rng.uniform(2, 3.3))
        self.parts.append(meshes.cylinder((*xy, height / 2), 0.16 + 0.01 * height, height, 2,
                                          self._trunk, 6))
        leaves = self._leaves[int(rng.integers(3))]
        self.parts.append(meshes.ball((*xy, height), crown, leaves, 5, 7))

    def crossings(self) -> None:
        """Lane lines between crossings, zebra stripes and stop lines at them."""
        streets = self._streets
        for i in range(len(streets.xs)):
            for j in range(len(streets.ys)):
                node = np.array([i, j])
                if not self._is_near(streets.crossing(node), REACH_M + 40):
                    continue
                for direction in range(4):
                    self._arm(node, direction)

    def _arm(self, node: np.ndarray, direction: int) -> None:
        streets, ahead = self._streets, DIRECTIONS[direction].astype(float)
        right, axis = DIRECTIONS[(direction - 1) % 4].astype(float), direction % 2
        here, lanes = streets.crossing(node), streets.lanes(node, axis)
        begin = streets.half(streets.lanes(node, 1 - axis)) + 1.0
        half = streets.half(lanes)
        for k in range(int(2 * half // 1.1)):
            self._paint(here + (begin + 1.5) * ahead + (-half + 0.6 + 1.1 * k) * right, ahead, 2.6, 0.5)
        stop = here + (begin + 3.6) * ahead - (lanes * LANE / 2) * right
        self._paint(stop, right, lanes * LANE, 0.35)
        following = node + DIRECTIONS[direction]
        reach = (float(np.linalg.norm(streets.crossing(following) - here)) / 2
                 if streets.inside(following) else 45.0)
        for line in range(-lanes, lanes + 1):
            at, whole = begin + 4.5, line in (-lanes, 0, lanes)
            while at < reach:
                piece = reach - at if whole else 3.0
                self._paint(here + (at + piece / 2) * ahead + line * LANE * right, ahead, piece, 0.14)
                at += piece + 4.5

    def _paint(self, xy: np.ndarray, along: np.ndarray, length: float, width: float) -> None:
        across = np.array([-along[1], along[0]])
        corners = [(*(xy + a * along * length / 2 + b * across * width / 2), 0.006)
                   for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        self.parts.append(meshes.quad(corners, self._white))
