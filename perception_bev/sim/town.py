"""Simulation: the town. Ground, markings, pavements, lawns, houses, trees and poles as meshes."""

from __future__ import annotations

import numpy as np

from perception_bev.sim import meshes
from perception_bev.sim.meshes import Mesh
from perception_bev.sim.streets import DIRECTIONS, LANE, PAVEMENT, Streets, right_of
from perception_bev.sim.surfaces import (
    ASPHALT,
    FACADE,
    FOLIAGE,
    GRASS,
    LIGHT,
    PLAIN,
    SLABS,
    SurfaceList,
)

KERB_M = 0.12  # height
PAINT_M = 0.006  # height of markings over the asphalt
REACH_M = 130.0  # from the ego's way; nothing stands farther out
EDGE_M = 90.0  # from the outermost streets to the town's end
_WALLS = ((176, 150, 122), (150, 86, 70), (190, 186, 176), (120, 124, 130), (204, 190, 150),
          (140, 130, 118))


class Town:
    """Builds all that does not move; `parts` are meshes whose slots are surfaces."""

    def __init__(self, streets: Streets, way: np.ndarray, surfaces: SurfaceList,
                 rng: np.random.Generator) -> None:
        """way: (N, 2) [m] points of the ego's way; far from it nothing is built."""
        self._streets, self._way, self._rng = streets, way, rng
        self.parts: list[Mesh] = []
        self._materials(surfaces)
        self._ground()
        self._blocks()
        self._markings()

    def _is_near(self, xy: np.ndarray, reach: float = REACH_M) -> bool:
        return bool(np.min(np.linalg.norm(self._way - xy, axis=1)) < reach)

    def _materials(self, surfaces: SurfaceList) -> None:
        shade = float(self._rng.uniform(62, 98))
        self._asphalt = surfaces.add((shade, shade, shade + 3), ASPHALT, 0.12)
        self._white = surfaces.add((205, 205, 200), PLAIN, 0.65)
        self._slabs = surfaces.add((140, 134, 126), SLABS, 0.28)
        self._grass = surfaces.add((72, 104, 52), GRASS, 0.35)
        self._trunk = surfaces.add((92, 70, 50), PLAIN, 0.25)
        self._leaves = [surfaces.add((52 + 20 * k, 96 + 12 * k, 40), FOLIAGE, 0.4)
                        for k in range(3)]
        self._metal = surfaces.add((110, 112, 116), PLAIN, 0.5)
        self._lamp = surfaces.add((255, 236, 190), LIGHT, 0.5)
        self._walls = [surfaces.add(colour, FACADE, 0.32) for colour in _WALLS]

    def _ground(self) -> None:
        """Asphalt everywhere; pavements, lawns and houses lie on it."""
        low, high = self._way.min(axis=0) - 400, self._way.max(axis=0) + 400
        self.parts.append(meshes.quad([(low[0], low[1], 0), (high[0], low[1], 0),
                                       (high[0], high[1], 0), (low[0], high[1], 0)],
                                      self._asphalt))

    # -- blocks --------------------------------------------------------------------------------

    def _blocks(self) -> None:
        """Between the streets, and outside the outermost ones."""
        streets = self._streets
        xs, wide_x = self._edges(streets.xs, streets.lanes_x)
        ys, wide_y = self._edges(streets.ys, streets.lanes_y)
        for i, j in np.ndindex(len(xs) - 1, len(ys) - 1):
            low = np.array([xs[i] + wide_x[i], ys[j] + wide_y[j]])
            high = np.array([xs[i + 1] - wide_x[i + 1], ys[j + 1] - wide_y[j + 1]])
            nearest = np.clip(self._way, low, high)
            if np.min(np.linalg.norm(nearest - self._way, axis=1)) < REACH_M:
                self._block(low, high)

    def _edges(self, middles: np.ndarray, lanes: np.ndarray) -> tuple[np.ndarray, list[float]]:
        """Middles and half widths of streets, with the town's ends."""
        ends = [middles[0] - EDGE_M], [middles[-1] + EDGE_M]
        return (np.concatenate([ends[0], middles, ends[1]]),
                [0.0, *(self._streets.half(int(n)) for n in lanes), 0.0])

    def _block(self, low: np.ndarray, high: np.ndarray) -> None:
        """Pavement all round, a lawn, a row of houses or trees along every side."""
        middle, size = (low + high) / 2, high - low
        self.parts.append(meshes.box((*middle, KERB_M / 2), (*size, KERB_M), self._slabs))
        inner = size - 2 * PAVEMENT
        self.parts.append(meshes.box((*middle, KERB_M / 2 + 0.01), (*inner, KERB_M), self._grass))
        is_park = self._rng.random() < 0.2
        for direction in range(4):
            length, depth = size if direction % 2 == 0 else size[::-1]
            side = _Side(middle, direction, float(length), float(depth))
            self._furniture(side)
            if is_park:
                self._grove(side)
            else:
                self._houses(side)

    def _grove(self, side: _Side) -> None:
        for _ in range(int(side.length / 9)):
            at = self._rng.uniform(-0.45, 0.45) * side.length
            self._tree(side.place(at, self._rng.uniform(5, 22)))

    def _houses(self, side: _Side) -> None:
        rng, at = self._rng, -side.length / 2 + PAVEMENT + 0.5
        while at < side.length / 2 - 14:
            width = float(rng.uniform(9, 24))
            deep, height = float(rng.uniform(8, 13)), float(rng.uniform(4, 22))
            setback = PAVEMENT + float(rng.uniform(0.3, 5))
            centre = (side.middle + (at + width / 2) * side.ahead
                      + (side.depth / 2 - setback - deep / 2) * side.out)
            if rng.random() < 0.85 and self._is_near(centre):
                size = np.abs(width * side.ahead + deep * side.out)
                wall = self._walls[int(rng.integers(len(self._walls)))]
                self.parts.append(meshes.box((*centre, height / 2), (*size, height), wall))
            at += width + float(rng.choice([0.0, 0.0, 3.0, 9.0]))

    def _furniture(self, side: _Side) -> None:
        """Lamps, trees and small things on the pavement."""
        rng, at = self._rng, -side.length / 2 + 6
        while at < side.length / 2 - 6:
            place, what = side.place(at, 0.7), rng.random()
            if not self._is_near(place, 100):
                pass
            elif what < 0.3:
                self._pole(place, side.out)
            elif what < 0.55:
                self._tree(place - 0.4 * side.out, small=True)
            elif what < 0.65:
                self.parts.append(meshes.box((*(place - 0.3 * side.out), 0.65), (0.7, 0.7, 1.1),
                                             self._metal))
            at += float(rng.uniform(7, 16))

    def _pole(self, xy: np.ndarray, out: np.ndarray) -> None:
        """A street lamp that reaches over the street."""
        height = float(self._rng.uniform(5, 8))
        self.parts.append(meshes.cylinder((*xy, height / 2), 0.09, height, 2, self._metal, 6))
        arm = np.abs(1.2 * out) + 0.15
        self.parts.append(meshes.box((*(xy + 0.6 * out), height), (*arm, 0.12), self._lamp))

    def _tree(self, xy: np.ndarray, small: bool = False) -> None:
        if not self._is_near(xy, 110):
            return
        rng = self._rng
        height = float(rng.uniform(4, 6) if small else rng.uniform(6, 11))
        width = float(rng.uniform(1.2, 1.8) if small else rng.uniform(2, 3.3))
        self.parts.append(meshes.cylinder((*xy, height / 2), 0.16 + 0.01 * height, height, 2,
                                          self._trunk, 6))
        leaves = self._leaves[int(rng.integers(3))]
        self.parts.append(meshes.ball((*xy, height), np.array([1, 1, 1.15]) * width, leaves, 5, 7))

    # -- markings ------------------------------------------------------------------------------

    def _markings(self) -> None:
        """Lane lines between crossings, zebra stripes and stop lines at them."""
        streets = self._streets
        for node in np.ndindex(len(streets.xs), len(streets.ys)):
            if self._is_near(streets.crossing(np.array(node)), REACH_M + 40):
                for direction in range(4):
                    self._arm(np.array(node), direction)

    def _arm(self, node: np.ndarray, direction: int) -> None:
        """One street on one side of a crossing, half-way to the next."""
        streets, axis = self._streets, direction % 2
        ahead, right = DIRECTIONS[direction].astype(float), right_of(direction)
        here, lanes = streets.crossing(node), streets.lanes(node, axis)
        begin = streets.half(streets.lanes(node, 1 - axis)) + 1.0
        half = streets.half(lanes)
        for k in range(int(2 * half // 1.1)):
            self._paint(here + (begin + 1.5) * ahead + (-half + 0.6 + 1.1 * k) * right, ahead,
                        2.6, 0.5)
        stop = here + (begin + 3.6) * ahead - (lanes * LANE / 2) * right
        self._paint(stop, right, lanes * LANE, 0.35)
        following = node + DIRECTIONS[direction]
        reach = (float(np.linalg.norm(streets.crossing(following) - here)) / 2
                 if streets.inside(following) else 45.0)
        for line in range(-lanes, lanes + 1):
            self._line(here + line * LANE * right, ahead, begin + 4.5, reach,
                       broken=line not in (-lanes, 0, lanes))

    def _line(self, origin: np.ndarray, ahead: np.ndarray, at: float, reach: float,
              broken: bool) -> None:
        """From `at` to `reach` [m] ahead of the origin."""
        while at < reach:
            piece = 3.0 if broken else reach - at
            self._paint(origin + (at + piece / 2) * ahead, ahead, piece, 0.14)
            at += piece + 4.5

    def _paint(self, xy: np.ndarray, along: np.ndarray, length: float, width: float) -> None:
        across = np.array([-along[1], along[0]])
        corners = [(*(xy + a * along * length / 2 + b * across * width / 2), PAINT_M)
                   for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        self.parts.append(meshes.quad(corners, self._white))


class _Side:
    """One side of a block, seen from its middle."""

    def __init__(self, middle: np.ndarray, direction: int, length: float, depth: float) -> None:
        self.middle, self.length, self.depth = middle, length, depth  # [m]
        self.ahead, self.out = DIRECTIONS[direction].astype(float), right_of(direction)

    def place(self, at: float, back: float) -> np.ndarray:
        """(2,) `at` [m] along the side, `back` [m] inside its edge."""
        return self.middle + at * self.ahead + (self.depth / 2 - back) * self.out
