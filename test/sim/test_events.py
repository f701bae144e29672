"""Staged events: who is added where, and what makes room for them."""

import numpy as np
import pytest
import sim_worlds

from perception_bev.sim.actors import CLASSES
from perception_bev.sim.scenario import CutIn, OccludedPedestrian
from perception_bev.sim.streets import LANE

SECONDS = 1.0
SIDES = ["left", "right"]


def names(actors) -> list[str]:
    return [CLASSES[actor.label] for actor in actors]


@pytest.mark.parametrize("side", SIDES)
def test_a_car_that_cuts_in_comes_over_from_its_side(side):
    event = CutIn("cut_in", at_s=3.0, side=side)
    traffic = sim_worlds.traffic(2, SECONDS, (event,))
    car, ego = traffic.movers[-1], traffic.movers[0]
    assert names([car.actor]) == ["car"] and car.chases_ego[0] is event
    off = car.path.points - ego.path.points
    left = np.stack([-np.sin(ego.path.heading), np.cos(ego.path.heading)], axis=1)
    aside = np.einsum("ij,ij->i", off, left) * (1 if side == "left" else -1)
    assert aside[0] == pytest.approx(LANE, abs=0.01) and aside[-1] == pytest.approx(0, abs=0.01)
    assert (np.diff(aside) < 1e-9).all(), "it never goes back"


def test_nothing_stands_in_the_way_of_a_car_that_cuts_in():
    traffic = sim_worlds.traffic(2, SECONDS, (CutIn("cut_in", at_s=3.0),))
    way = traffic.movers[-1].path.points
    places = [place.xy for place in traffic.parked]
    assert min(np.min(np.linalg.norm(way - xy, axis=1)) for xy in places) > 2.5


@pytest.mark.parametrize("side", SIDES)
def test_a_pedestrian_steps_out_from_behind_a_truck(side):
    event = OccludedPedestrian("occluded_pedestrian", at_s=3.0, side=side)
    traffic = sim_worlds.traffic(2, SECONDS, (event,))
    walker, truck = traffic.movers[-1], traffic.parked[-1]
    assert names([walker.actor, truck.actor]) == ["pedestrian", "truck"]
    assert walker.starts_s < event.at_s and walker.wish == event.speed_mps
    crossing = traffic.movers[0].path.points
    assert np.min(np.linalg.norm(walker.path.points[:, None] - crossing[None], axis=2)) < 0.5
    assert hidden(truck, walker.path.points[0], viewer(traffic.movers[0].path, walker, truck))


def viewer(path, walker, truck) -> np.ndarray:
    """A point of the ego's path before the truck."""
    to_truck = np.linalg.norm(path.points - truck.xy, axis=1)
    return path.points[max(int(np.argmin(to_truck)) - 30, 0)]


def hidden(box, target: np.ndarray, eye: np.ndarray) -> bool:
    """Whether a box, seen from above, is between the eye and the target."""
    line = eye + np.linspace(0, 1, 200)[:, None] * (target - eye)
    inside = sim_worlds.in_box(np.column_stack([line, np.zeros(len(line))]), box.xy,
                               box.yaw, box.actor.size)
    return bool((np.abs(inside[:, :2]) < 1).all(axis=1).any())


def test_other_parked_objects_do_not_hide_the_pedestrian():
    traffic = sim_worlds.traffic(2, SECONDS, (OccludedPedestrian("occluded_pedestrian", 3.0),))
    walker = traffic.movers[-1].path.points[0]
    near = [p for p in traffic.parked if np.linalg.norm(p.xy - walker) < 8]
    assert len(near) == 1
