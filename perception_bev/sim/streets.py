"""Simulation: a town's streets as a grid, and paths along its lanes.

Right-hand traffic. A street has one or two lanes each way, a strip for parking and pavements.
World frame: x east, y north, metres; the ground is z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LANE = 3.5  # [m]
PARKING = 2.6  # [m]
PAVEMENT = 3.2  # [m]
STEP = 0.5  # [m] between the points of a path
CORNER = 7.0  # [m] before and after a crossing's middle at which turning begins, plus the lanes
GREEN_S = 11.0
CYCLE_S = 26.0

DIRECTIONS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])  # east, north, west, south


@dataclass(frozen=True)
class Streets:
    """Middles and widths of the streets along y (at xs) and along x (at ys)."""

    xs: np.ndarray  # (n,) [m]
    ys: np.ndarray  # (n,) [m]
    lanes_x: np.ndarray  # (n,) lanes each way of the street at xs[i]
    lanes_y: np.ndarray
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
        return np.array([self.xs[node[0]], self.ys[node[1]]])

    def inside(self, node: np.ndarray) -> bool:
        return bool(((node >= 0) & (node < [len(self.xs), len(self.ys)])).all())

    def is_green(self, node: tuple[int, int], axis: int, time_s: float) -> bool:
        phase = (time_s + self.light_s[node]) % CYCLE_S
        return phase < GREEN_S if axis == 0 else CYCLE_S / 2 <= phase < CYCLE_S / 2 + GREEN_S


@dataclass(frozen=True)
class Path:
    """A curve to drive along, and where it may have to stop."""

    points: np.ndarray  # (N, 2) [m], STEP apart
    heading: np.ndarray  # (N,) [rad], unwrapped
    limit: np.ndarray  # (N,) [m/s] speed that bends and the street allow
    stops: tuple[tuple[float, tuple[int, int], int], ...] = ()  # at [m], crossing, axis

    @property
    def length(self) -> float:
        return (len(self.points) - 1) * STEP

    def at(self, s: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Positions (..., 2) and headings (...) at arc lengths."""
        k = np.asarray(s, np.float64) / STEP
        grid = np.arange(len(self.points))
        xy = np.stack([np.interp(k, grid, self.points[:, i]) for i in (0, 1)], axis=-1)
        return xy, np.interp(k, grid, self.heading)


def path_from(corners: np.ndarray, radius: np.ndarray, speed: float,
              stops: tuple = ()) -> Path:
    """A polyline (M, 2) whose inner corners are rounded by quadratic curves."""
    pieces = [corners[:1]]
    for i in range(1, len(corners) - 1):
        before, here, after = corners[i - 1], corners[i], corners[i + 1]
        into, out = _unit(before - here), _unit(after - here)
        reach = min(radius[i], 0.45 * np.linalg.norm(before - here),
                    0.45 * np.linalg.norm(after - here))
        t = np.linspace(0, 1, 24)[:, None]
        pieces.append((1 - t) ** 2 * (here + into * reach) + 2 * t * (1 - t) * here
                      + t ** 2 * (here + out * reach))
    pieces.append(corners[-1:])
    return _resampled(np.concatenate(pieces), speed, stops)


def _resampled(line: np.ndarray, speed: float, stops: tuple) -> Path:
    step = np.linalg.norm(np.diff(line, axis=0), axis=1)
    keep = np.concatenate([[True], step > 1e-6])
    line = line[keep]
    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    grid = np.arange(0, s[-1], STEP)
    points = np.stack([np.interp(grid, s, line[:, i]) for i in (0, 1)], axis=1)
    ahead = np.gradient(points, axis=0)
    heading = np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0]))
    bend = np.abs(np.gradient(heading)) / STEP
    limit = np.minimum(speed, np.sqrt(2.2 / np.maximum(bend, 1e-3)))  # 2.2 m/s^2 sideways
    for _ in range(2):  # slow down before a bend at 1.8 m/s^2, not in it
        for i in range(len(limit) - 2, -1, -1):
            limit[i] = min(limit[i], np.sqrt(limit[i + 1] ** 2 + 2 * 1.8 * STEP))
    placed = tuple((float(np.argmin(np.linalg.norm(points - at, axis=1)) * STEP), node, axis)
                   for at, node, axis in stops)
    return Path(points, heading, limit, placed)


def _unit(v: np.ndarray) -> np.ndarray:
    return v / max(float(np.linalg.norm(v)), 1e-9)


def route(streets: Streets, rng: np.random.Generator, node: np.ndarray, direction: int,
          turns: list[int], speed: float, aside: float = 0.0, lane: int | None = None) -> Path:
    """A path that begins half a block before crossing `node`, going in `direction` (0 east, 1
    north, ...), and at each crossing goes straight (0), left (1) or right (-1).

    lane: from the middle, 0 is the inner one; default random. aside: to the right of it [m].
    """
    axis = direction % 2
    count = streets.lanes(node, axis)
    lane = int(rng.integers(count)) if lane is None else min(lane, count - 1)
    offset = LANE * (lane + 0.5) + aside
    start = node - DIRECTIONS[direction]
    here = streets.crossing(node)
    before = streets.crossing(start) if streets.inside(start) else here - 80.0 * DIRECTIONS[direction]
    corners, radius, stops = [(here + before) / 2 + offset * _right(direction)], [0.0], []
    for turn in turns:
        if not streets.inside(node):
            break
        here, axis = streets.crossing(node), direction % 2
        following = (direction + turn) % 4
        count = streets.lanes(node, following % 2)
        lane = lane if turn == 0 else (0 if turn == 1 else count - 1)
        next_offset = LANE * (min(lane, count - 1) + 0.5) + aside
        across = streets.half(streets.lanes(node, 1 - axis))
        stops.append((here - (across + 4.5) * DIRECTIONS[direction] + offset * _right(direction),
                      (int(node[0]), int(node[1])), axis))
        if turn == 0:
            corners += [here - across * DIRECTIONS[direction] + offset * _right(direction),
                        here + across * DIRECTIONS[direction] + next_offset * _right(following)]
            radius += [6.0, 6.0]
        else:
            corners.append(here + offset * _right(direction) + next_offset * _right(following))
            radius.append(CORNER + (LANE if turn == 1 else 0.0))
        direction, offset = following, next_offset
        node = node + DIRECTIONS[direction]
    end = streets.crossing(np.clip(node, 0, [len(streets.xs) - 1, len(streets.ys) - 1]))
    last = corners[-1]
    far = max(float((end - last) @ DIRECTIONS[direction]) - 20.0, 30.0)
    corners.append(last + far * DIRECTIONS[direction])
    radius.append(0.0)
    return path_from(np.array(corners), np.array(radius), speed, tuple(stops))


def _right(direction: int) -> np.ndarray:
    """Unit vector to the right of a driving direction."""
    return DIRECTIONS[(direction - 1) % 4].astype(np.float64)
