"""Simulation: staged events of a scenario, put into the traffic before it moves.

The ego's way is made free, so that how far it gets is known beforehand: a rehearsal without the
others says where it will be, and the events are staged there. Where the first one would be on a
crossing, the ego starts a little farther on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from perception_bev.sim import driving
from perception_bev.sim.driving import EGO_SIZE, LEAD_S, STEP_S, Chase, Mover, Parked
from perception_bev.sim.population import Population
from perception_bev.sim.scenario import CutIn, Event, OccludedPedestrian
from perception_bev.sim.streets import LANE, STEP, Path, Streets, headings, path_from

EGO_CENTRE_M = 1.4  # of the ego's body, ahead of base_link
BUS_M = 4.1, 2.0  # its middle beside the ego's way, its front before the pedestrian's
BEFORE_M, BEHIND_M = 15.0, 45.0  # a stop line: between them is the crossing


def stage(events: Sequence[Event], cast: Population, streets: Streets, seconds: float) -> None:
    """Add the actors of events and take away what stands in their way."""
    if not events:
        return
    cast.ego.path = replace(cast.ego.path, stops=())
    _clear(cast, cast.ego.path.points)
    _off_crossings(cast, events[0], streets, seconds)
    for event in events:
        where = _Rehearsal(cast.ego, streets, seconds)
        if isinstance(event, CutIn):
            _cut_in(event, cast, where)
        else:
            _step_out(event, cast, where)


class _Rehearsal:
    """How far the ego gets when nobody is there."""

    def __init__(self, ego: Mover, streets: Streets, seconds: float) -> None:
        alone = replace(ego, trace=[])
        driving.run([alone], [], streets, seconds)
        self._trace = np.array(alone.trace)
        self._times = np.arange(len(self._trace)) * STEP_S - LEAD_S

    def s(self, time_s: float) -> float:
        """Arc length of base_link [m]."""
        return float(np.interp(time_s, self._times, self._trace[:, 0]))

    def speed(self, time_s: float) -> float:
        return float(np.interp(time_s, self._times, self._trace[:, 1]))


def _off_crossings(cast: Population, event: Event, streets: Streets, seconds: float) -> None:
    """Move the ego's start until the event's place is between crossings, as far as that goes."""
    ego = cast.ego
    for _ in range(12):
        s = _Rehearsal(ego, streets, seconds).s(event.at_s) + _ahead(event)
        if not any(-BEFORE_M < s - line < BEHIND_M for line in cast.stop_lines):
            return
        ego.s += 5.0


def _ahead(event: Event) -> float:
    return event.gap_m if isinstance(event, CutIn) else event.distance_m


def _cut_in(event: CutIn, cast: Population, where: _Rehearsal) -> None:
    """A car beside the ego comes over into its lane, close ahead."""
    ego, car = cast.ego, cast.new("car")
    distance = event.gap_m + (car.size[0] + EGO_SIZE[0]) / 2 + EGO_CENTRE_M
    ends = event.at_s + event.lane_change_s
    path = _merging(event, ego.path, where.s(event.at_s) + distance, where.s(ends) + distance)
    _clear(cast, path.points)
    begins = 4.0 if event.at_s > 5 else distance  # it passes first, where there is time
    cast.movers.append(Mover(car, path, ego.s + begins, 14.0, speed=ego.speed, chases_ego=Chase(
        ends, distance, max(2.0, event.speed_ratio * where.speed(event.at_s)))))


def _merging(event: CutIn, path: Path, first: float, last: float) -> Path:
    """The ego's path, one lane aside before an arc length `first` [m], on it from `last` on."""
    share = np.clip((np.arange(len(path.points)) * STEP - first) / (last - first), 0, 1)
    aside = LANE * (1 - share ** 3 * (10 - 15 * share + 6 * share ** 2))  # no jerk at the ends
    left = np.stack([-np.sin(path.heading), np.cos(path.heading)], axis=1)
    points = path.points + (1 if event.side == "left" else -1) * aside[:, None] * left
    return Path(points, headings(points), np.maximum(path.limit, 6.0))


def _step_out(event: OccludedPedestrian, cast: Population, where: _Rehearsal) -> None:
    """Somebody walks onto the road from behind a parked bus, in whose shadow they waited.

    From d metres away they are seen when the line past the bus's near front corner meets them.
    """
    here, yaw = cast.ego.path.at(where.s(event.at_s) + event.distance_m)
    ahead = np.array([np.cos(yaw), np.sin(yaw)])
    side = np.array([ahead[1], -ahead[0]]) * (1.0 if event.side == "right" else -1.0)
    bus = cast.new("bus")
    aside, before = BUS_M
    cast.parked = [p for p in cast.parked if np.linalg.norm(p.xy - here) > 20]
    cast.parked.append(Parked(bus, here + aside * side - (before + bus.size[0] / 2) * ahead,
                              float(yaw)))
    away = max(event.distance_m, 2 * before)
    seen_at = min((aside - bus.size[1] / 2) * away / (away - before), aside)
    walk = path_from(np.array([here + aside * side, here - 26 * side]), np.zeros(2), 5.0)
    cast.movers.append(Mover(cast.new("pedestrian"), walk, 0.0, event.speed_mps, yields=False,
                             starts_s=event.at_s - (aside - seen_at) / event.speed_mps))


def _clear(cast: Population, points: np.ndarray) -> None:
    """Take parked objects, and whoever comes there, out of a way (N, 2)."""
    way = points[::2]
    cast.parked = [p for p in cast.parked
                   if _is_free(way, *driving.discs(p.xy, p.yaw, p.actor.size))]
    kept = [m for m in cast.movers[1:]
            if m.chases_ego or _is_free(way, m.path.points[::4], np.float64(m.size[1] / 2))]
    paths = {id(m.path) for m in kept if not m.is_trailer}
    cast.movers = [cast.ego] + [m for m in kept if not m.is_trailer or id(m.path) in paths]


def _is_free(way: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> bool:
    """Whether the ego comes past discs, and sees that it does."""
    far = np.linalg.norm(way[:, None] - centres[None], axis=2)
    return bool((far > radii + EGO_SIZE[1] / 2 + driving.SIDE_GAP_M + 0.1).all())
