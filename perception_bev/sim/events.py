"""Simulation: staged events of a scenario, put into the traffic before it moves."""

from __future__ import annotations

import numpy as np

from perception_bev.sim.driving import CRUISE, EGO_SIZE, LEAD_S, Mover, Parked
from perception_bev.sim.population import Population
from perception_bev.sim.scenario import CutIn, Event, OccludedPedestrian
from perception_bev.sim.streets import LANE, STEP, Path, headings, path_from


def stage(event: Event, cast: Population) -> None:
    """Add the actors of an event and take away what stands in their way."""
    if isinstance(event, CutIn):
        _cut_in(event, cast)
    else:
        _step_out(event, cast)


def _cut_in(event: CutIn, cast: Population) -> None:
    """A car beside the ego comes over into its lane, close ahead."""
    ego = cast.ego
    moved = _merging(event, ego)
    _clear(cast, moved.points)
    car = cast.new("car")
    centres = event.gap_m + (car.size[0] + EGO_SIZE[0]) / 2
    cast.movers.append(Mover(car, moved, ego.s + 4.0, 14.0, speed=ego.speed,
                             chases_ego=(event, centres)))


def _merging(event: CutIn, ego: Mover) -> Path:
    """The ego's path, one lane aside at first; the change has the shape of a logistic curve."""
    path = ego.path
    merge = ego.s + CRUISE * (event.at_s + LEAD_S) + event.gap_m
    s = np.arange(len(path.points)) * STEP
    steep = CRUISE * event.lane_change_s / 8.0
    aside = LANE / (1 + np.exp(np.clip((s - merge - 4 * steep) / steep, -50, 50)))
    left = np.stack([-np.sin(path.heading), np.cos(path.heading)], axis=1)
    side = 1.0 if event.side == "left" else -1.0
    points = path.points + side * aside[:, None] * left
    return Path(points, headings(points), np.maximum(path.limit, 6.0), path.stops)


def _step_out(event: OccludedPedestrian, cast: Population) -> None:
    """Somebody walks onto the road from behind a parked truck."""
    ego = cast.ego
    here, yaw = ego.path.at(ego.s + 8.0 * (event.at_s + LEAD_S) + event.distance_m)
    ahead = np.array([np.cos(yaw), np.sin(yaw)])
    side = np.array([ahead[1], -ahead[0]]) * (1.0 if event.side == "right" else -1.0)
    cast.parked = [p for p in cast.parked if np.linalg.norm(p.xy - here) > 16]
    cast.parked.append(Parked(cast.new("truck"), here + 4.1 * side - 5.5 * ahead, float(yaw)))
    start = here + 7.2 * side
    walk = path_from(np.array([start, start - 30 * side]), np.zeros(2), 5.0)
    cast.movers.append(Mover(cast.new("pedestrian"), walk, 0.0, event.speed_mps, yields=False,
                             starts_s=event.at_s - 2.5 / event.speed_mps))


def _clear(cast: Population, points: np.ndarray) -> None:
    """Take parked objects and other vehicles out of a way (N, 2)."""
    def free(xy: np.ndarray) -> bool:
        return bool(np.min(np.linalg.norm(points[::4] - xy, axis=1)) > 3.0)
    cast.parked = [p for p in cast.parked if free(p.xy)]
    cast.movers = [cast.ego] + [m for m in cast.movers[1:] if free(m.path.at(m.s)[0])]
