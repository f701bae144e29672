"""Simulation: who is on the road and where everybody is at any time.

Vehicles follow lanes at their own speed, keep their distance (intelligent driver model, Treiber et
al. 2000), stop at red lights and for whatever stands in their way. Walkers walk straight.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from perception_bev.sim.cast_list import KINDS, Actor, drawn
from perception_bev.sim.scenario import CutIn, Event, OccludedPedestrian
from perception_bev.sim.streets import (
    DIRECTIONS,
    LANE,
    PARKING,
    PAVEMENT,
    Path,
    Streets,
    path_from,
    route,
)

STEP_S = 0.1
FINE_S = 0.02  # between it, everybody moves straight on
LEAD_S = 1.0  # simulated before time 0
REACH_M = 95.0  # from the ego's path: what is farther does not exist
ACCELERATION, BRAKING, GAP_M, HEADWAY_S = 1.6, 2.5, 2.0, 1.2
LOOK_AHEAD = 90  # points of the path
EGO_SIZE = np.array([4.9, 1.95, 1.75])
EGO_CENTRE_M = 1.4  # of the ego's body, ahead of base_link


@dataclass
class Mover:
    """An actor on a path; `yields` if it brakes for others."""

    actor: Actor | None  # None: the ego vehicle
    path: Path
    s: float  # [m]
    wish: float  # [m/s]
    yields: bool = True
    speed: float = 0.0
    trace: list[tuple[float, float]] = field(default_factory=list)  # s, speed of every step
    chases_ego: tuple[CutIn, float] | None = None  # and the distance of the centres it wants [m]
    starts_s: float = -1e9  # does not move before

    @property
    def size(self) -> np.ndarray:
        return EGO_SIZE if self.actor is None else self.actor.size


@dataclass(frozen=True)
class Poses:
    """All moving actors at one time."""

    xy: np.ndarray  # (N, 2) [m]
    yaw: np.ndarray  # (N,) [rad]
    velocity: np.ndarray  # (N, 2) [m/s]


@dataclass(frozen=True)
class Parked:
    actor: Actor
    xy: np.ndarray  # (2,)
    yaw: float


class Traffic:
    """A cast of actors, moved once through the whole drive."""

    def __init__(self, streets: Streets, rng: np.random.Generator, seconds: float,
                 events: tuple[Event, ...] = (), density: float = 1.0) -> None:
        self._streets, self._rng, self._density = streets, rng, density
        self._next_track = 1
        self.parked: list[Parked] = []
        self.ego = self._ego(seconds)
        self._movers: list[Mover] = [self.ego]
        self._park()
        self._works()
        self._drive()
        self._walk()
        for event in events:
            self._stage(event)
        self._run(seconds)

    @property
    def actors(self) -> list[Actor]:
        """The moving ones, in the order of `poses`."""
        return [mover.actor for mover in self._movers[1:]]

    def ego_at(self, time_s: np.ndarray | float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position (..., 2) of base_link, heading (...), speed (...) at times [s]."""
        return self._at(self._all[:, 0], time_s)

    def poses(self, time_s: float) -> Poses:
        """Where the moving actors are at one time."""
        xy, yaw, speed = self._at(self._all[:, 1:], time_s)
        return Poses(xy, yaw, np.stack([np.cos(yaw), np.sin(yaw)], axis=1) * speed[:, None])

    def one(self, k: int, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Actor k alone: positions (T, 2), headings (T,), speeds (T,)."""
        return self._at(self._all[:, k + 1], times_s)

    def _at(self, rows: np.ndarray, time_s: np.ndarray | float):
        """Linear between the rows of a table (T, ..., 4) of x, y, heading, speed."""
        place = np.clip((np.asarray(time_s) + LEAD_S) / FINE_S, 0, len(rows) - 1.001)
        k = place.astype(int)
        share = (place - k)[..., None] if place.ndim else place - k
        row = rows[k] + share * (rows[k + 1] - rows[k])
        return row[..., :2], row[..., 2], row[..., 3]

    # -- the cast ------------------------------------------------------------------------------

    def _new(self, name: str) -> Actor:
        actor = drawn(name, self._next_track, self._rng)
        self._next_track += 1
        return actor

    def _ego(self, seconds: float) -> Mover:
        """Through the town's middle, with turns."""
        rng, count = self._rng, len(self._streets.xs)
        node = np.array([count // 2, count // 2]) - rng.integers(0, 2, 2)
        turns = [int(t) for t in rng.choice([0, 0, 1, -1], 6)]
        path = route(self._streets, rng, node, int(rng.integers(4)), turns,
                     float(rng.uniform(9, 14)))
        start = float(rng.uniform(0, min(60, 0.3 * path.length)))
        lucky = tuple(stop for stop in path.stops if rng.random() < 0.4)  # the others are green
        path = Path(path.points, path.heading, path.limit, lucky)
        first, last = int(start / 0.5), int((start + 13.0 * (seconds + LEAD_S)) / 0.5)
        self.driven = path.points[first:last + 1:10]
        return Mover(None, path, start, 14.0, speed=float(rng.uniform(4, 11)))

    def _near_path(self, xy: np.ndarray, reach: float = REACH_M) -> bool:
        return bool(np.min(np.linalg.norm(self.driven - xy, axis=1)) < reach)

    def _kerb_places(self) -> list[tuple[np.ndarray, int, float]]:
        """(middle of the parking strip, driving direction, free length) of all block sides."""
        streets, out = self._streets, []
        for i in range(len(streets.xs)):
            for j in range(len(streets.ys)):
                for direction in range(4):
                    node, following = np.array([i, j]), np.array([i, j]) + DIRECTIONS[direction]
                    if not streets.inside(following):
                        continue
                    axis = direction % 2
                    a, b = streets.crossing(node), streets.crossing(following)
                    margin = [streets.half(streets.lanes(n, 1 - axis)) + 9 for n in (node, following)]
                    free = float(np.linalg.norm(b - a)) - sum(margin)
                    aside = streets.lanes(node, axis) * LANE + PARKING / 2
                    middle = a + DIRECTIONS[direction] * (margin[0] + free / 2)
                    middle = middle + aside * DIRECTIONS[(direction - 1) % 4]
                    if free > 12 and self._near_path(middle, REACH_M + 20):
                        out.append((middle, direction, free))
        return out

    def _park(self) -> None:
        rng = self._rng
        for middle, direction, free in self._kerb_places():
            at, share = -free / 2, rng.uniform(0.1, 0.75) * self._density
            while at < free / 2 - 5:
                name = str(rng.choice(["car"] * 12 + ["truck", "truck", "bus", "bus",
                                                      "trailer", "trailer", "motorcycle",
                                                      "motorcycle", "bicycle"]))
                actor = self._new(name)
                length = actor.size[0]
                if rng.random() < share and at + length < free / 2:
                    flip = np.pi if rng.random() < 0.15 else 0.0
                    jitter = rng.normal(0, [0.1, 0.03])
                    xy = middle + (at + length / 2) * DIRECTIONS[direction]
                    xy = xy + jitter[0] * DIRECTIONS[(direction - 1) % 4]
                    yaw = direction * np.pi / 2 + flip + jitter[1]
                    if self._near_path(xy):
                        self.parked.append(Parked(actor, xy, float(yaw)))
                at += length + rng.uniform(0.8, 2.5)

    def _works(self) -> None:
        """Road works on some parking strips: a digger, barriers, cones."""
        rng, places = self._rng, self._kerb_places()
        places.sort(key=lambda p: float(np.min(np.linalg.norm(self.driven - p[0], axis=1))))
        for middle, direction, free in places[:10]:
            if rng.random() > 0.35:
                continue
            length = min(free, rng.uniform(16, 30))
            ahead, right = DIRECTIONS[direction], DIRECTIONS[(direction - 1) % 4]
            along = [p for p in self.parked if abs((p.xy - middle) @ right) < 2
                     and abs((p.xy - middle) @ ahead) < length / 2 + 5]
            self.parked = [p for p in self.parked if all(p is not q for q in along)]
            def put(name: str, at: float, aside: float, yaw: float, origin=middle, a=ahead,
                    r=right) -> None:
                self.parked.append(Parked(self._new(name), origin + at * a + aside * r, yaw))
            yaw = direction * np.pi / 2
            put("construction_vehicle", float(rng.uniform(-2, 2)), 0.1,
                yaw + float(rng.normal(0, 0.25)) + np.pi * int(rng.integers(2)))
            for k in range(int(length // 3.0)):
                at = -length / 2 + 3.0 * k
                if rng.random() < 0.5:
                    put("traffic_cone", at, -PARKING / 2 - 0.2, float(rng.uniform(-np.pi, np.pi)))
                else:
                    put("barrier", at, -PARKING / 2 - 0.1, yaw + np.pi / 2)
            for aside in (-0.9, 0.9):
                put("traffic_cone", length / 2 + 1, aside, 0.0)
                put("traffic_cone", -length / 2 - 3, aside, 0.0)
            put("barrier", length / 2 + 2.5, 0.0, yaw)

    def _drive(self) -> None:
        rng, streets = self._rng, self._streets
        names = (["car"] * 9 + ["truck"] * 2 + ["bus"] * 2 + ["trailer"] * 2 + ["motorcycle"] * 3
                 + ["bicycle"] * 3)
        near = [node for node in np.ndindex(len(streets.xs), len(streets.ys))
                if self._near_path(streets.crossing(np.array(node)), 130)]
        for _ in range(int(180 * self._density)):
            name = str(rng.choice(names))
            node = np.array(near[int(rng.integers(len(near)))])
            turns = [int(t) for t in rng.choice([0, 0, 0, 1, -1], 3)]
            kind = KINDS[name]
            slow = name == "bicycle"
            path = route(streets, rng, node, int(rng.integers(4)), turns,
                         float(rng.uniform(*kind.speed)), aside=0.9 if slow else 0.0,
                         lane=9 if slow else None)
            s = float(rng.uniform(0, 0.75 * path.length))
            if not self._near_path(path.at(s)[0], 80):
                continue
            mover = Mover(self._new("truck" if name == "trailer" else name), path, s, 14.0)
            mover.speed = float(path.limit[int(s)]) * 0.6 if int(s) < len(path.limit) else 3.0
            if name != "trailer":
                self._enter(mover)
            elif self._enter(mover):
                trailer = self._new("trailer")
                back = (mover.size[0] + trailer.size[0]) / 2 + 0.7
                if s > back + 1:
                    self._movers.append(Mover(trailer, path, s - back, -back, yields=False))

    def _enter(self, mover: Mover) -> bool:
        """Add it unless its place is taken."""
        here = mover.path.at(mover.s)[0]
        for other in self._movers:
            reach = (other.size[0] + mover.size[0]) / 2 + 3.0
            if np.linalg.norm(other.path.at(other.s)[0] - here) < reach:
                return False
        self._movers.append(mover)
        return True

    def _walk(self) -> None:
        rng = self._rng
        for middle, direction, free in self._kerb_places():
            for _ in range(int(rng.poisson(1.6 * self._density))):
                right = DIRECTIONS[(direction - 1) % 4]
                ahead = DIRECTIONS[direction] * (1 if rng.random() < 0.5 else -1)
                aside = PARKING / 2 + rng.uniform(0.6, PAVEMENT - 0.6)
                start = middle + aside * right + rng.uniform(-free / 2, free / 2) * DIRECTIONS[direction]
                if rng.random() < 0.22:  # crosses the street
                    corners = np.array([start, start - 45.0 * right])
                else:
                    corners = np.array([start, start + 60.0 * ahead])
                if self._near_path(start, 70):
                    speed = float(rng.uniform(0.8, 1.8)) * float(rng.random() > 0.15)
                    path = path_from(corners, np.zeros(2), 2.0)
                    self._movers.append(Mover(self._new("pedestrian"), path, 0.0, speed,
                                              yields=False, speed=speed,
                                              starts_s=float(rng.uniform(-9, 4))))

    # -- staged events -------------------------------------------------------------------------

    def _stage(self, event: Event) -> None:
        if isinstance(event, CutIn):
            self._cut_in(event)
        else:
            self._step_out(event)

    def _cut_in(self, event: CutIn) -> None:
        """A car beside the ego comes over into its lane, close ahead."""
        path, cruise = self.ego.path, 9.0
        merge = self.ego.s + cruise * (event.at_s + LEAD_S) + event.gap_m
        s = np.arange(len(path.points)) * 0.5
        steep = cruise * event.lane_change_s / 8.0
        aside = LANE / (1 + np.exp(np.clip((s - merge - 4 * steep) / steep, -50, 50)))
        left = np.stack([-np.sin(path.heading), np.cos(path.heading)], axis=1)
        side = 1.0 if event.side == "left" else -1.0
        points = path.points + side * aside[:, None] * left
        ahead = np.gradient(points, axis=0)
        moved = Path(points, np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0])),
                     np.maximum(path.limit, 6.0), path.stops)
        self._clear(moved.points)
        car = self._new("car")
        self._movers.append(Mover(car, moved, self.ego.s + 4.0, 14.0, speed=self.ego.speed,
                                  chases_ego=(event, event.gap_m + (car.size[0] + EGO_SIZE[0]) / 2)))

    def _step_out(self, event: OccludedPedestrian) -> None:
        """Somebody walks onto the road from behind a parked truck."""
        path = self.ego.path
        here, yaw = path.at(self.ego.s + 8.0 * (event.at_s + LEAD_S) + event.distance_m)
        ahead = np.array([np.cos(yaw), np.sin(yaw)])
        side = np.array([ahead[1], -ahead[0]]) * (1.0 if event.side == "right" else -1.0)
        self.parked = [p for p in self.parked if np.linalg.norm(p.xy - here) > 16]
        truck = self._new("truck")
        self.parked.append(Parked(truck, here + 4.1 * side - 5.5 * ahead, float(yaw)))
        start = here + 7.2 * side
        walk = path_from(np.array([start, start - 30 * side]), np.zeros(2), 5.0)
        self._movers.append(Mover(self._new("pedestrian"), walk, 0.0, event.speed_mps, yields=False,
                                  starts_s=event.at_s - 2.5 / event.speed_mps))

    def _clear(self, points: np.ndarray) -> None:
        """Take parked objects and other vehicles out of a way."""
        def free(xy: np.ndarray) -> bool:
            return bool(np.min(np.linalg.norm(points[::4] - xy, axis=1)) > 3.0)
        self.parked = [p for p in self.parked if free(p.xy)]
        self._movers = [self.ego] + [m for m in self._movers[1:] if free(m.path.at(m.s)[0])]

    # -- motion --------------------------------------------------------------------------------

    def _run(self, seconds: float) -> None:
        steps = int(np.ceil((seconds + LEAD_S + 0.5) / STEP_S)) + 1
        self._times = np.arange(steps) * STEP_S - LEAD_S
        fixed = [(p.xy, p.yaw, p.actor.size) for p in self.parked]
        for time_s in self._times:
            self._step(float(time_s), fixed)
        fine = np.arange(0, self._times[-1] + LEAD_S, FINE_S) - LEAD_S
        self._all = np.empty((len(fine), len(self._movers), 4))
        for k, mover in enumerate(self._movers):
            trace = np.array(mover.trace)
            xy, yaw = mover.path.at(np.interp(fine, self._times, trace[:, 0]))
            self._all[:, k, :2], self._all[:, k, 2] = xy, yaw
            self._all[:, k, 3] = np.interp(fine, self._times, trace[:, 1])

    def _step(self, time_s: float, fixed: list) -> None:
        places = [(m.path.at(m.s), m.size) for m in self._movers]
        discs = [_discs(xy, yaw, size) for (xy, yaw), size in places]
        discs += [_discs(xy, yaw, size) for xy, yaw, size in fixed]
        speeds = np.repeat([m.speed for m in self._movers] + [0.0] * len(fixed), 3)
        centres = np.concatenate([d[0] for d in discs])
        radii = np.concatenate([d[1] for d in discs])
        owner = np.repeat(np.arange(len(discs)), 3)
        for k, mover in enumerate(self._movers):
            mover.trace.append((mover.s, mover.speed))
        for k, mover in enumerate(self._movers):
            if mover.yields:
                near = (owner != k) & (np.abs(centres - places[k][0][0]).max(axis=1) < 50)
                gap, ahead_speed = _leader(mover, centres[near], radii[near], speeds[near])
                self._accelerate(mover, gap, ahead_speed, time_s)
            else:
                self._follow(k, mover, time_s)
            mover.s = min(mover.s + mover.speed * STEP_S, mover.path.length)

    def _follow(self, k: int, mover: Mover, time_s: float) -> None:
        """A trailer goes with its truck, a walker at its own pace."""
        if mover.wish < 0:
            truck = self._movers[k - 1]
            mover.speed = max(0.0, (truck.s + truck.speed * STEP_S + mover.wish - mover.s) / STEP_S)
            mover.speed = min(mover.speed, truck.speed + 1.0)
        else:
            mover.speed = mover.wish if time_s >= mover.starts_s else 0.0

    def _accelerate(self, mover: Mover, gap: float, ahead_speed: float, time_s: float) -> None:
        point = min(int(mover.s / 0.5), len(mover.path.limit) - 1)
        limit = min(mover.wish, float(mover.path.limit[point]))
        if mover.chases_ego is not None:
            event, wanted = mover.chases_ego
            if time_s < event.at_s + event.lane_change_s:
                limit = max(0.5, self.ego.speed + 0.8 * (self.ego.s + wanted - mover.s))
                gap = max(gap, 6.0)
            else:
                limit = max(2.0, event.speed_ratio * 9.0)
        for stop, node, axis in mover.path.stops:
            distance = stop - mover.s - mover.size[0] / 2
            red = not self._streets.is_green(node, axis, time_s)
            if red and 0 < distance < 45 and mover.speed ** 2 / 7.0 < distance and distance < gap:
                gap, ahead_speed = distance, 0.0
        end = mover.path.length - mover.s
        if end < gap:
            gap, ahead_speed = max(end, 0.1), 0.0
        v, closing = mover.speed, mover.speed - ahead_speed
        wanted = GAP_M + max(0.0, v * HEADWAY_S + v * closing / (2 * np.sqrt(ACCELERATION * BRAKING)))
        a = ACCELERATION * (1 - (v / max(limit, 0.1)) ** 4 - (wanted / max(gap, 0.2)) ** 2)
        mover.speed = float(np.clip(v + np.clip(a, -7.0, ACCELERATION) * STEP_S, 0.0, 30.0))


def _discs(xy: np.ndarray, yaw: float, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Three discs that cover a box: centres (3, 2), radii (3,)."""
    reach = max(size[0] - size[1], 0.0) / 2
    ahead = np.array([np.cos(yaw), np.sin(yaw)])
    return xy + np.outer([-reach, 0.0, reach], ahead), np.full(3, size[1] / 2)


def _leader(mover: Mover, centres: np.ndarray, radii: np.ndarray,
            speeds: np.ndarray) -> tuple[float, float]:
    """Free way ahead [m] and the speed of what ends it."""
    first = int(mover.s / 0.5)
    ahead = mover.path.points[first:first + LOOK_AHEAD:2]
    if len(ahead) == 0 or len(centres) == 0:
        return 1e3, 0.0
    distance = np.linalg.norm(ahead[:, None] - centres[None], axis=2)
    blocked = distance < radii + mover.size[1] / 2 + 0.35
    blocked[:max(1, int(mover.size[0] * 0.4))] = False  # its own place
    if not blocked.any():
        return 1e3, 0.0
    where = int(np.argmax(blocked.any(axis=1)))
    which = int(np.argmax(blocked[where]))
    return max(where * 1.0 - mover.size[0] / 2 - 0.5, 0.1), float(speeds[which])
