"""Simulation: a town's streets as a grid, and paths along its lanes.

Right-hand traffic. A street has one or two lanes each way, a strip for parking and pavements.
World frame: x east, y north, metres; the ground is z = 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LANE = 3.5  # [m]
PARKING = 2.6  # [m]
PAVEMENT = 3.2  # [m]
STEP = 0.5  # [m] between the points of a path
CORNER = 7.0  # [m] before and after a crossing's middle at which turning begins, plus the lanes
GREEN_S = 11.0
CYCLE_S = 26.0
SIDEWAYS, SLOWING = 2.2, 1.8  # [m/s^2] in a bend, and before it
STOP_LINE_M = 4.5  # before the crossing street's kerb

DIRECTIONS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])  # east, north, west, south

Stop = tuple[float, tuple[int, int], int]  # arc length [m], crossing, axis of the path there


def right_of(direction: int) -> np.ndarray:
    """(2,) unit vector to the right of a driving direction."""
    return DIRECTIONS[(direction - 1) % 4].astype(np.float64)


@dataclass(frozen=True, slots=True)
class Streets:
    """Middles and widths of the streets along y (at xs) and along x (at ys)."""

    xs: np.ndarray  # (n,) [m]
    ys: np.ndarray  # (n,) [m]
    lanes_x: np.ndarray  # (n,) lanes each way of the street at xs[i]
    lanes_y: np.ndarray  # (n,) lanes each way of the street at ys[i]
    light_s: np.ndarray  # (n, n) offset of each crossing's traffic light [s]

    @staticmethod
    def drawn(rng: np.random.Generator, count: int = 7) -> Streets:
        """Random blocks of 60 to 110 m, the town's middle at the origin."""
        def middles() -> np.ndarray:
            edges = np.cumsum(rng.uniform(60, 110, count))
            return edges - edges[count // 2]
        return Streets(middles(), middles(), rng.integers(1, 3, count), rng.integers(1, 3, count),
                       rng.uniform(0, CYCLE_S, (count, count)))

    def half(self, lanes: int) -> float:
        """Half a street's width from kerb to kerb [m]."""
        return LANE * lanes + PARKING

    def lanes(self, node: np.ndarray, axis: int) -> int:
        """Lanes each way of the street through crossing (i, j) that runs along x (0) or y (1)."""
        return int(self.lanes_y[node[1]] if axis == 0 else self.lanes_x[node[0]])

    def crossing(self, node: np.ndarray) -> np.ndarray:
        """(2,) [m] middle of crossing (i, j)."""
        return np.array([self.xs[node[0]], self.ys[node[1]]])

    def inside(self, node: np.ndarray) -> bool:
        return bool(((node >= 0) & (node < [len(self.xs), len(self.ys)])).all())

    def is_green(self, node: tuple[int, int], axis: int, time_s: float) -> bool:
        """For those who drive along x (axis 0) or y (1); between the two greens all have red."""
        phase = (time_s + self.light_s[node]) % CYCLE_S
        return phase < GREEN_S if axis == 0 else CYCLE_S / 2 <= phase < CYCLE_S / 2 + GREEN_S


@dataclass(frozen=True, slots=True)
class Path:
    """A curve to drive along, and where it may have to stop."""

    points: np.ndarray  # (N, 2) [m], STEP apart
    heading: np.ndarray  # (N,) [rad], unwrapped
    limit: np.ndarray  # (N,) [m/s] speed that bends and the street allow
    stops: tuple[Stop, ...] = ()

    @property
    def length(self) -> float:
        return (len(self.points) - 1) * STEP

    def at(self, s: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Positions (..., 2) and headings (...) at arc lengths [m]."""
        k = np.asarray(s, np.float64) / STEP
        grid = np.arange(len(self.points))
        xy = np.stack([np.interp(k, grid, self.points[:, i]) for i in (0, 1)], axis=-1)
        return xy, np.interp(k, grid, self.heading)


def headings(points: np.ndarray) -> np.ndarray:
    """Directions (N,) [rad], unwrapped, along points (N, 2)."""
    ahead = np.gradient(points, axis=0)
    return np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0]))


def path_from(corners: np.ndarray, radius: Sequence[float] | np.ndarray, speed: float,
              stops: Sequence[tuple[np.ndarray, tuple[int, int], int]] = ()) -> Path:
    """A polyline (M, 2) whose inner corners are rounded by quadratic curves.

    Args:
        radius: (M,) [m] how far before and after a corner its curve reaches.
        speed: [m/s] allowed where it is straight.
        stops: places (2,) of stop lines, with crossing and axis.
    """
    pieces = [corners[:1]]
    for i in range(1, len(corners) - 1):
        pieces.append(_rounded(corners[i - 1], corners[i], corners[i + 1], radius[i]))
    pieces.append(corners[-1:])
    points = _evenly(np.concatenate(pieces))
    heading = headings(points)
    placed = tuple((float(np.argmin(np.linalg.norm(points - at, axis=1)) * STEP), node, axis)
                   for at, node, axis in stops)
    return Path(points, heading, _limits(heading, speed), placed)


def _rounded(before: np.ndarray, here: np.ndarray, after: np.ndarray,
             radius: float) -> np.ndarray:
    into, out = before - here, after - here
    reach = min(radius, 0.45 * np.linalg.norm(into), 0.45 * np.linalg.norm(out))
    t = np.linspace(0, 1, 24)[:, None]
    return ((1 - t) ** 2 * (here + _unit(into) * reach) + 2 * t * (1 - t) * here
            + t ** 2 * (here + _unit(out) * reach))


def _evenly(line: np.ndarray) -> np.ndarray:
    """A polyline's points, STEP apart."""
    step = np.linalg.norm(np.diff(line, axis=0), axis=1)
    line = line[np.concatenate([[True], step > 1e-6])]
    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    grid = np.arange(0, s[-1], STEP)
    return np.stack([np.interp(grid, s, line[:, i]) for i in (0, 1)], axis=1)


def _limits(heading: np.ndarray, speed: float) -> np.ndarray:
    """Speeds (N,) [m/s]: slow enough in bends, and slowing down before them, not in them."""
    bend = np.abs(np.gradient(heading)) / STEP
    limit = np.minimum(speed, np.sqrt(SIDEWAYS / np.maximum(bend, 1e-3))).tolist()
    for i in range(len(limit) - 2, -1, -1):
        limit[i] = min(limit[i], math.sqrt(limit[i + 1] ** 2 + 2 * SLOWING * STEP))
    return np.array(limit)


def _unit(v: np.ndarray) -> np.ndarray:
    return v / max(float(np.linalg.norm(v)), 1e-9)


def route(streets: Streets, rng: np.random.Generator, node: np.ndarray, direction: int,
          turns: Sequence[int], speed: float, aside: float = 0.0,
          lane: int | None = None) -> Path:
    """A path that begins half a block before crossing `node`, going in `direction` (0 east, 1
    north, ...), and at each crossing goes straight (0), left (1) or right (-1).

    lane: from the middle, 0 is the inner one; default random. aside: to the right of it [m].
    """
    count = streets.lanes(node, direction % 2)
    lane = int(rng.integers(count)) if lane is None else min(lane, count - 1)
    way = _Way(streets, aside, node, direction, lane)
    for turn in turns:
        if not streets.inside(way.node):
            break
        way.go(turn)
    way.leave()
    return path_from(np.array(way.corners), way.radius, speed, way.stops)


class _Way:
    """A route that grows from crossing to crossing."""

    def __init__(self, streets: Streets, aside: float, node: np.ndarray, direction: int,
                 lane: int) -> None:
        self._streets, self._aside, self._lane = streets, aside, lane
        self.node, self._direction = node, direction
        self._offset = LANE * (lane + 0.5) + aside  # [m] right of the street's middle
        start, here = node - DIRECTIONS[direction], streets.crossing(node)
        before = (streets.crossing(start) if streets.inside(start)
                  else here - 80.0 * DIRECTIONS[direction])
        self.corners = [(here + before) / 2 + self._offset * right_of(direction)]
        self.radius, self.stops = [0.0], []

    def go(self, turn: int) -> None:
        """Over the next crossing."""
        streets, direction, node = self._streets, self._direction, self.node
        here, axis, following = streets.crossing(node), direction % 2, (direction + turn) % 4
        count = streets.lanes(node, following % 2)
        self._lane = self._lane if turn == 0 else (0 if turn == 1 else count - 1)
        offset = LANE * (min(self._lane, count - 1) + 0.5) + self._aside
        across = streets.half(streets.lanes(node, 1 - axis))
        entry = self._offset * right_of(direction)
        self.stops.append((here - (across + STOP_LINE_M) * DIRECTIONS[direction] + entry,
                           (int(node[0]), int(node[1])), axis))
        if turn == 0:
            self.corners += [here - across * DIRECTIONS[direction] + entry,
                             here + across * DIRECTIONS[direction] + offset * right_of(following)]
            self.radius += [6.0, 6.0]
        else:
            self.corners.append(here + entry + offset * right_of(following))
            self.radius.append(CORNER + (LANE if turn == 1 else 0.0))
        self._direction, self._offset = following, offset
        self.node = node + DIRECTIONS[following]

    def leave(self) -> None:
        """On to shortly before the next crossing, or out of the town."""
        streets, ahead = self._streets, DIRECTIONS[self._direction]
        end = streets.crossing(np.clip(self.node, 0, [len(streets.xs) - 1, len(streets.ys) - 1]))
        last = self.corners[-1]
        self.corners.append(last + max(float((end - last) @ ahead) - 20.0, 30.0) * ahead)
        self.radius.append(0.0)
