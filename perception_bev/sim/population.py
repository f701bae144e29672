"""Simulation: who is there. Parked cars, road works, vehicles and walkers near the ego's way, each
drawn by chance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from perception_bev.sim.actors import KINDS, Actor, drawn
from perception_bev.sim.driving import LEAD_S, Mover, Parked
from perception_bev.sim.streets import (
    DIRECTIONS,
    LANE,
    PARKING,
    PAVEMENT,
    STEP,
    Path,
    Streets,
    path_from,
    route,
)

REACH_M = 95.0  # from the ego's path: what is farther does not exist
FASTEST = 13.0  # [m/s] about as fast as the ego gets
TRIES = 180  # vehicles that are tried; those that are too far or find no place are dropped

_PARKED = ("car",) * 12 + ("truck",) * 2 + ("bus",) * 2 + ("trailer",) * 2 + ("motorcycle",) * 2 + (
    "bicycle",)
_DRIVING = ("car",) * 9 + ("truck",) * 2 + ("bus",) * 2 + ("trailer",) * 2 + (
    "motorcycle",) * 3 + ("bicycle",) * 3


@dataclass(frozen=True, slots=True)
class Kerb:
    """The parking strip along one side of a block."""

    middle: np.ndarray  # (2,) [m]
    direction: int  # of driving beside it
    free: float  # [m] its length

    @property
    def ahead(self) -> np.ndarray:
        return DIRECTIONS[self.direction]

    @property
    def right(self) -> np.ndarray:
        return DIRECTIONS[(self.direction - 1) % 4]

    @property
    def yaw(self) -> float:
        return self.direction * np.pi / 2


class Population:
    """The cast of a drive. The same generator gives the same one."""

    def __init__(self, streets: Streets, rng: np.random.Generator, seconds: float,
                 density: float, straight: bool = False) -> None:
        """straight: the ego goes straight on, at green lights; staged events need room."""
        self._straight = straight
        self._streets, self._rng, self._density = streets, rng, density
        self._next_track = 1
        self.parked: list[Parked] = []
        self.ego = self._ego()
        self.stop_lines = [at for at, _, _ in self._lines]  # [m] along the ego's path
        self.driven = self._driven(seconds)  # (N, 2) [m] points of the ego's way
        self.movers: list[Mover] = [self.ego]  # the ego first, a trailer behind its truck
        self._park()
        self._dig()
        self._drive()
        self._walk()

    def new(self, name: str) -> Actor:
        """An individual of a class, with a number of its own."""
        actor = drawn(name, self._next_track, self._rng)
        self._next_track += 1
        return actor

    def _ego(self) -> Mover:
        """Through the town's middle, with turns."""
        rng, count = self._rng, len(self._streets.xs)
        node = np.array([count // 2, count // 2]) - rng.integers(0, 2, 2)
        turns = [int(t) for t in rng.choice([0, 0, 1, -1], 6)]
        path = route(self._streets, rng, node, int(rng.integers(4)),
                     [0] * len(turns) if self._straight else turns, float(rng.uniform(9, 14)))
        start = float(rng.uniform(0, min(60, 0.3 * path.length)))
        self._lines = path.stops
        red = tuple(stop for stop in path.stops if rng.random() < 0.4)  # it never sees the others
        return Mover(None, replace(path, stops=red), start, 14.0, speed=float(rng.uniform(4, 11)))

    def _driven(self, seconds: float) -> np.ndarray:
        first = int(self.ego.s / STEP)
        last = int((self.ego.s + FASTEST * (seconds + LEAD_S)) / STEP)
        return self.ego.path.points[first:last + 1:10]

    def _is_near(self, xy: np.ndarray, reach: float = REACH_M) -> bool:
        return bool(np.min(np.linalg.norm(self.driven - xy, axis=1)) < reach)

    @cached_property
    def _kerbs(self) -> list[Kerb]:
        """All near ones that are long enough to park at."""
        streets = self._streets
        every = [self._kerb(np.array(node), direction)
                 for node in np.ndindex(len(streets.xs), len(streets.ys)) for direction in range(4)
                 if streets.inside(np.array(node) + DIRECTIONS[direction])]
        return [kerb for kerb in every
                if kerb.free > 12 and self._is_near(kerb.middle, REACH_M + 20)]

    def _kerb(self, node: np.ndarray, direction: int) -> Kerb:
        """From a crossing to the next one in a direction."""
        streets, axis, following = self._streets, direction % 2, node + DIRECTIONS[direction]
        a, b = streets.crossing(node), streets.crossing(following)
        margin = [streets.half(streets.lanes(n, 1 - axis)) + 9 for n in (node, following)]
        free = float(np.linalg.norm(b - a)) - sum(margin)
        aside = streets.lanes(node, axis) * LANE + PARKING / 2
        middle = a + DIRECTIONS[direction] * (margin[0] + free / 2)
        return Kerb(middle + aside * DIRECTIONS[(direction - 1) % 4], direction, free)

    def _park(self) -> None:
        """Kerbs are full to different degrees; some vehicles stand the wrong way round."""
        rng = self._rng
        for kerb in self._kerbs:
            at, share = -kerb.free / 2, rng.uniform(0.1, 0.75) * self._density
            while at < kerb.free / 2 - 5:
                actor = self.new(str(rng.choice(_PARKED)))
                length = actor.size[0]
                if rng.random() < share and at + length < kerb.free / 2:
                    self._park_one(actor, kerb, at + length / 2)
                at += length + rng.uniform(0.8, 2.5)

    def _park_one(self, actor: Actor, kerb: Kerb, at: float) -> None:
        flip = np.pi if self._rng.random() < 0.15 else 0.0
        jitter = self._rng.normal(0, [0.1, 0.03])  # [m, rad]
        xy = kerb.middle + at * kerb.ahead + jitter[0] * kerb.right
        yaw = kerb.yaw + flip + jitter[1]
        if self._is_near(xy):
            self.parked.append(Parked(actor, xy, float(yaw)))

    def _dig(self) -> None:
        """Road works on some of the ten nearest kerbs."""
        rng = self._rng
        nearest = sorted(self._kerbs, key=lambda kerb: float(
            np.min(np.linalg.norm(self.driven - kerb.middle, axis=1))))
        for kerb in nearest[:10]:
            if rng.random() <= 0.35:
                self._site(kerb, min(kerb.free, rng.uniform(16, 30)))

    def _site(self, kerb: Kerb, length: float) -> None:
        """A digger behind barriers and cones, in the place of what is parked there."""
        rng = self._rng
        self.parked = [p for p in self.parked if not (
            abs((p.xy - kerb.middle) @ kerb.right) < 2
            and abs((p.xy - kerb.middle) @ kerb.ahead) < length / 2 + 5)]
        at, askew, turns = rng.uniform(-2, 2), rng.normal(0, 0.08), rng.integers(2)
        self._put("construction_vehicle", kerb, float(at), 0.4,
                  kerb.yaw + float(askew) + np.pi * int(turns))
        for k in range(int(length // 3.0)):
            at = -length / 2 + 3.0 * k
            if rng.random() < 0.5:
                yaw = float(rng.uniform(-np.pi, np.pi))
                self._put("traffic_cone", kerb, at, -PARKING / 2 + 0.3, yaw)
            else:
                self._put("barrier", kerb, at, -PARKING / 2 + 0.35, kerb.yaw + np.pi / 2)
        for aside in (-0.9, 0.9):
            self._put("traffic_cone", kerb, length / 2 + 1, aside, 0.0)
            self._put("traffic_cone", kerb, -length / 2 - 3, aside, 0.0)
        self._put("barrier", kerb, length / 2 + 2.5, 0.0, kerb.yaw)

    def _put(self, name: str, kerb: Kerb, at: float, aside: float, yaw: float) -> None:
        xy = kerb.middle + at * kerb.ahead + aside * kerb.right
        self.parked.append(Parked(self.new(name), xy, yaw))

    def _drive(self) -> None:
        """Vehicles on lanes, wherever their places are free."""
        rng, streets = self._rng, self._streets
        near = [node for node in np.ndindex(len(streets.xs), len(streets.ys))
                if self._is_near(streets.crossing(np.array(node)), 130)]
        for _ in range(int(TRIES * self._density)):
            name = str(rng.choice(_DRIVING))
            path = self._drawn_path(name, np.array(near[int(rng.integers(len(near)))]))
            s = float(rng.uniform(0, 0.75 * path.length))
            if self._is_near(path.at(s)[0], 80):
                self._enter(name, path, s)

    def _drawn_path(self, name: str, node: np.ndarray) -> Path:
        """Over up to three crossings; bicycles keep to the right of the outer lane."""
        rng, slow = self._rng, name == "bicycle"
        turns = [int(t) for t in rng.choice([0, 0, 0, 1, -1], 3)]
        direction, speed = int(rng.integers(4)), float(rng.uniform(*KINDS[name].speed))
        return route(self._streets, rng, node, direction, turns, speed,
                     aside=0.9 if slow else 0.0, lane=9 if slow else None)

    def _enter(self, name: str, path: Path, s: float) -> None:
        """Add a vehicle unless its place is taken; a trailer comes with a truck."""
        mover = Mover(self.new("truck" if name == "trailer" else name), path, s, 14.0)
        mover.speed = float(path.limit[int(s)]) * 0.6 if int(s) < len(path.limit) else 3.0
        if self._is_taken(mover):
            return
        self.movers.append(mover)
        if name == "trailer":
            trailer = self.new("trailer")
            back = (mover.size[0] + trailer.size[0]) / 2 + 0.7
            if s > back + 1:
                self.movers.append(Mover(trailer, path, s - back, -back, yields=False))

    def _is_taken(self, mover: Mover) -> bool:
        here = mover.path.at(mover.s)[0]
        return any(np.linalg.norm(other.path.at(other.s)[0] - here)
                   < (other.size[0] + mover.size[0]) / 2 + 3.0 for other in self.movers)

    def _walk(self) -> None:
        """Walkers on the pavements; some cross the street, some stand."""
        for kerb in self._kerbs:
            for _ in range(int(self._rng.poisson(1.6 * self._density))):
                self._walk_one(kerb)

    def _walk_one(self, kerb: Kerb) -> None:
        rng = self._rng
        ahead = kerb.ahead * (1 if rng.random() < 0.5 else -1)
        aside = PARKING / 2 + rng.uniform(0.6, PAVEMENT - 0.6)
        along = rng.uniform(-kerb.free / 2, kerb.free / 2)
        start = kerb.middle + aside * kerb.right + along * kerb.ahead
        crosses = rng.random() < 0.22
        corners = np.array([start, start - 45.0 * kerb.right if crosses else start + 60.0 * ahead])
        if not self._is_near(start, 70):
            return
        speed = float(rng.uniform(0.8, 1.8)) * float(rng.random() > 0.15)
        path = path_from(corners, np.zeros(2), 2.0)
        self.movers.append(Mover(self.new("pedestrian"), path, 0.0, speed, yields=False,
                                 speed=speed, starts_s=float(rng.uniform(-9, 4))))
