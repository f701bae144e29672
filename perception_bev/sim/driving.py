"""Simulation: how everybody moves. Vehicles keep their distance (intelligent driver model, Treiber,
Hennecke and Helbing 2000), stop at red lights and for whatever stands in their way; trailers go
with their trucks, walkers at their own pace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from perception_bev.sim.actors import Actor
from perception_bev.sim.streets import STEP, Path, Streets

STEP_S = 0.1
FINE_S = 0.02  # between it, everybody moves straight on
LEAD_S = 1.0  # simulated before time 0
ACCELERATION, BRAKING, GAP_M, HEADWAY_S = 1.6, 2.5, 2.0, 1.2  # of the driver model [m/s^2, m, s]
HARDEST_BRAKING = 7.0  # [m/s^2]
LOOK_AHEAD = 90  # points of the path
SIDE_GAP_M = 0.1  # what is nearer to the path than this is in the way
LIGHT_SEEN_M = 45.0
EGO_SIZE = np.array([4.9, 1.95, 1.75])


@dataclass(frozen=True, slots=True)
class Chase:
    """Of a car that cuts in: it keeps its distance ahead of the ego, then goes its own speed."""

    until_s: float  # when it is in the ego's lane
    distance_m: float  # between the centres
    speed_then: float  # [m/s]


@dataclass(slots=True)
class Mover:
    """An actor on a path; `yields` if it brakes for others."""

    actor: Actor | None  # None: the ego vehicle
    path: Path
    s: float  # [m]
    wish: float  # [m/s]; of a trailer: its place behind its truck [m], negative
    yields: bool = True
    speed: float = 0.0  # [m/s]
    trace: list[tuple[float, float]] = field(default_factory=list)  # s, speed of every step
    chases_ego: Chase | None = None
    starts_s: float = -1e9  # does not move before

    @property
    def size(self) -> np.ndarray:
        return EGO_SIZE if self.actor is None else self.actor.size

    @property
    def is_trailer(self) -> bool:
        return self.wish < 0


@dataclass(frozen=True, slots=True)
class Parked:
    """An actor that stays where it is."""

    actor: Actor
    xy: np.ndarray  # (2,) [m]
    yaw: float


def run(movers: Sequence[Mover], parked: Sequence[Parked], streets: Streets,
        seconds: float) -> np.ndarray:
    """(T, N, 4) x, y, heading, speed of all movers, every FINE_S from -LEAD_S on.

    The first mover is the ego; a trailer follows its truck in the list.
    """
    steps = int(np.ceil((seconds + LEAD_S + 0.5) / STEP_S)) + 1
    times = np.arange(steps) * STEP_S - LEAD_S
    road = _Road(movers, parked, streets)
    for time_s in times:
        road.step(float(time_s))
    fine = np.arange(0, times[-1] + LEAD_S, FINE_S) - LEAD_S
    table = np.empty((len(fine), len(movers), 4))
    for k, mover in enumerate(movers):
        trace = np.array(mover.trace)
        xy, yaw = mover.path.at(np.interp(fine, times, trace[:, 0]))
        table[:, k, :2], table[:, k, 2] = xy, yaw
        moved = np.diff(trace[:, 0]) / STEP_S  # [m/s] in the middle of each step
        table[:, k, 3] = np.interp(fine, times[:-1] + STEP_S / 2, moved)
    return table


class _Road:
    """All movers and obstacles at one time. Each stands as three discs in the others' way."""

    def __init__(self, movers: Sequence[Mover], parked: Sequence[Parked],
                 streets: Streets) -> None:
        self._movers, self._streets = movers, streets
        shapes = [discs(p.xy, p.yaw, p.actor.size) for p in parked]
        self._fixed = [np.array([d[i] for d in shapes]).reshape(-1, *shape)
                       for i, shape in ((0, (2,)), (1, ()))]
        self._standing = np.zeros(3 * len(parked))
        self._owner = np.repeat(np.arange(len(movers) + len(parked)), 3)
        self._behind = np.full(len(movers) + len(parked), -1)  # whom each mover waits for

    def step(self, time_s: float) -> None:
        """Note where all are, then move each, in order."""
        movers = self._movers
        places = [mover.path.at(mover.s) for mover in movers]
        shapes = [discs(*place, mover.size) for place, mover in zip(places, movers, strict=True)]
        centres = np.concatenate([*(d[0] for d in shapes), self._fixed[0]])
        radii = np.concatenate([*(d[1] for d in shapes), self._fixed[1]])
        speeds = np.concatenate([np.repeat([m.speed for m in movers], 3), self._standing])
        for mover in movers:
            mover.trace.append((mover.s, mover.speed))
        for k, mover in enumerate(movers):
            if mover.yields:
                near = (self._owner != k) & (np.abs(centres - places[k][0]).max(axis=1) < 50)
                passed = self._deadlocked(k)
                near &= ~np.isin(self._owner, passed)
                gap, ahead_speed, first = _leader(mover, centres[near], radii[near], speeds[near])
                if not passed:
                    self._behind[k] = -1 if first is None else self._owner[near][first]
                self._accelerate(mover, gap, ahead_speed, time_s)
            else:
                self._follow(k, time_s)
            mover.s = min(mover.s + mover.speed * STEP_S, mover.path.length)

    def _deadlocked(self, k: int) -> list[int]:
        """Who stands before mover k and waits for it, through others or not: the first in the list
        of those who wait for each other goes."""
        chain, j = [], int(self._behind[k])
        while 0 <= j < len(self._movers) and j not in chain and len(chain) < 8:
            if j == k:
                return [chain[0]] if k < min(chain) else []
            if self._movers[j].speed > 0.3:
                return []
            chain.append(j)
            j = j - 1 if self._movers[j].is_trailer else int(self._behind[j])
        return []

    def _follow(self, k: int, time_s: float) -> None:
        """A trailer goes with its truck, a walker at its own pace."""
        mover = self._movers[k]
        if mover.is_trailer:
            truck = self._movers[k - 1]
            wanted = truck.s + mover.wish  # the truck has moved already
            mover.speed = min(max(0.0, (wanted - mover.s) / STEP_S), truck.speed + 1.0)
        else:
            mover.speed = mover.wish if time_s >= mover.starts_s else 0.0

    def _accelerate(self, mover: Mover, gap: float, ahead_speed: float, time_s: float) -> None:
        """Towards the speed it likes, behind what is `gap` [m] ahead."""
        limit = min(mover.wish, float(mover.path.limit[_point(mover)]))
        if mover.chases_ego is not None:
            limit, gap = self._chase(mover, gap, time_s)
        gap, ahead_speed = self._obey(mover, gap, ahead_speed, time_s)
        end = mover.path.length - mover.s
        if end < gap:
            gap, ahead_speed = max(end, 0.1), 0.0
        v, closing = mover.speed, mover.speed - ahead_speed
        braking = v * closing / (2 * np.sqrt(ACCELERATION * BRAKING))
        wanted = GAP_M + max(0.0, v * HEADWAY_S + braking)
        a = ACCELERATION * (1 - (v / max(limit, 0.1)) ** 4 - (wanted / max(gap, 0.2)) ** 2)
        a = np.clip(a, -HARDEST_BRAKING, ACCELERATION)
        mover.speed = float(np.clip(v + a * STEP_S, 0.0, 30.0))

    def _chase(self, mover: Mover, gap: float, time_s: float) -> tuple[float, float]:
        """Speed and gap of a car that cuts in: it holds its place beside the ego until then."""
        chase, ego = mover.chases_ego, self._movers[0]
        if time_s >= chase.until_s:
            return chase.speed_then, gap
        return max(0.5, ego.speed + 0.8 * (ego.s + chase.distance_m - mover.s)), max(gap, 6.0)

    def _obey(self, mover: Mover, gap: float, ahead_speed: float,
              time_s: float) -> tuple[float, float]:
        """A red light is a standing obstacle, unless it is too late to brake for it."""
        for stop, node, axis in mover.path.stops:
            distance = stop - mover.s - mover.size[0] / 2
            red = not self._streets.is_green(node, axis, time_s)
            can_stop = mover.speed ** 2 / (2 * 3.5) < distance
            if red and 0 < distance < LIGHT_SEEN_M and can_stop and distance < gap:
                gap, ahead_speed = distance, 0.0
        return gap, ahead_speed


def _point(mover: Mover) -> int:
    """Index of the path's point where it is."""
    return min(int(mover.s / STEP), len(mover.path.limit) - 1)


def discs(xy: np.ndarray, yaw: float, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Three discs that cover a box, along its longer side: centres (3, 2), radii (3,)."""
    reach, radius = abs(size[0] - size[1]) / 2, min(size[0], size[1]) / 2
    along = yaw if size[0] >= size[1] else yaw + np.pi / 2
    ahead = np.array([np.cos(along), np.sin(along)])
    return xy + np.outer([-reach, 0.0, reach], ahead), np.full(3, radius)


def _leader(mover: Mover, centres: np.ndarray, radii: np.ndarray,
            speeds: np.ndarray) -> tuple[float, float, int | None]:
    """Free way ahead [m], the speed of what ends it, and its row; discs (D, 2), (D,), (D,)."""
    first = int(mover.s / STEP)
    ahead = mover.path.points[first:first + LOOK_AHEAD:2]  # 1 m apart
    if len(ahead) == 0 or len(centres) == 0:
        return 1e3, 0.0, None
    distance = np.linalg.norm(ahead[:, None] - centres[None], axis=2)
    blocked = distance < radii + mover.size[1] / 2 + SIDE_GAP_M
    blocked[:max(1, int(mover.size[0] * 0.4))] = False  # its own place
    if not blocked.any():
        return 1e3, 0.0, None
    where = int(np.argmax(blocked.any(axis=1)))
    which = int(np.argmax(blocked[where]))
    return max(where * 1.0 - mover.size[0] / 2 - 0.5, 0.1), float(speeds[which]), which
