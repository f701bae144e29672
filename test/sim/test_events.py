"""Staged events: what a scenario asks for happens, at its time, wherever the town is."""

from functools import cache

import numpy as np
import pytest
import sim_worlds

from perception_bev.sim.actors import CLASSES
from perception_bev.sim.drive import SimRecording
from perception_bev.sim.scenario import CutIn, OccludedPedestrian, Scenario, World
from perception_bev.sim.streets import LANE

AT_S = 4.0
CASES = [(0, "left"), (3, "right")]


@cache
def staged(seed: int, kind, side: str):
    event = kind({CutIn: "cut_in", OccludedPedestrian: "occluded_pedestrian"}[kind], AT_S, side)
    return sim_worlds.traffic(seed, AT_S + 4, (event,))


def seen_from_ego(traffic, xy: np.ndarray, time_s: float) -> tuple[float, float]:
    """How far ahead of base_link and to the left a place is [m]."""
    (x, y), yaw, _ = traffic.ego_at(time_s)
    dx, dy = xy - [x, y]
    cos, sin = np.cos(yaw), np.sin(yaw)
    return float(cos * dx + sin * dy), float(cos * dy - sin * dx)


def actor(traffic, k: int, time_s: float) -> tuple[float, float]:
    return seen_from_ego(traffic, traffic.poses(time_s).xy[k], time_s)


# -- cut in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed, side", CASES)
def test_a_car_cuts_in_close_ahead(seed, side):
    traffic = staged(seed, CutIn, side)
    k = next(i for i, mover in enumerate(traffic.movers[1:]) if mover.chases_ego)
    assert CLASSES[traffic.actors[k].label] == "car"
    before, after = actor(traffic, k, AT_S), actor(traffic, k, AT_S + 2.5)
    assert before[1] == pytest.approx(LANE * (1 if side == "left" else -1), abs=0.2)
    assert after[1] == pytest.approx(0, abs=0.3)
    nose_to_tail = after[0] - 1.4 - (4.9 + traffic.actors[k].size[0]) / 2
    assert 8 < nose_to_tail < 16, "12 m were asked for"
    assert actor(traffic, k, AT_S + 4)[1] == pytest.approx(0, abs=0.3), "and it stays"


@pytest.mark.parametrize("seed, side", CASES)
def test_its_sideways_velocity_is_in_the_truth(seed, side):
    traffic = staged(seed, CutIn, side)
    k = next(i for i, mover in enumerate(traffic.movers[1:]) if mover.chases_ego)
    _, yaw, _ = traffic.ego_at(AT_S + 1.25)
    velocity = traffic.poses(AT_S + 1.25).velocity[k]
    left = np.cos(yaw) * velocity[1] - np.sin(yaw) * velocity[0]
    assert left * (1 if side == "left" else -1) < -1.0


# -- a pedestrian steps out ------------------------------------------------------------------------


@pytest.mark.parametrize("seed, side", CASES)
def test_a_pedestrian_walks_into_the_egos_way(seed, side):
    traffic, sign = staged(seed, OccludedPedestrian, side), 1 if side == "left" else -1
    k = len(traffic.actors) - 1
    assert CLASSES[traffic.actors[k].label] == "pedestrian"
    ahead, left = actor(traffic, k, AT_S)
    assert ahead == pytest.approx(25, abs=3) and 2 < left * sign < 4.2
    assert abs(actor(traffic, k, AT_S + 2)[1]) < 1.0
    assert min(actor(traffic, k, t)[0] for t in np.arange(AT_S, AT_S + 4, 0.1)) > 2.4, "unhurt"


@pytest.mark.parametrize("seed, side", CASES)
def test_the_bus_hides_them_until_then(seed, side):
    """A line from the front camera, seen from above."""
    traffic = staged(seed, OccludedPedestrian, side)
    k, bus = len(traffic.actors) - 1, traffic.parked[-1]
    for time_s, hidden in ((AT_S - 2, True), (AT_S - 0.3, True), (AT_S + 0.5, False)):
        (x, y), yaw, _ = traffic.ego_at(time_s)
        eye = np.array([x, y]) + 1.7 * np.array([np.cos(yaw), np.sin(yaw)])
        line = eye + np.linspace(0, 1, 300)[:, None] * (traffic.poses(time_s).xy[k] - eye)
        inside = sim_worlds.in_box(np.column_stack([line, np.zeros(300)]), bus.xy, bus.yaw,
                                   bus.actor.size)
        assert (np.abs(inside[:, :2]) < 1).all(axis=1).any() == hidden


def test_no_sensor_sees_them_until_then_and_then_all_do():
    pytest.importorskip("open3d", reason="the simulator needs Open3D")
    event = OccludedPedestrian("occluded_pedestrian", 2.0)
    drive = SimRecording(sim_worlds.small_rig(352, 198), 1, 3.6,
                         scenario=Scenario("a", "b", World(events=(event,))))
    track = drive.world.traffic.actors[-1].track
    before, after = (drive[round((time_s - 0.2) / 0.1)].truth for time_s in (1.0, 3.2))
    for truth, seen in ((before, False), (after, True)):
        i = int(np.nonzero(truth.track == track)[0][0])
        assert (truth.seen.pixels[i] > 0) == seen and (truth.seen.lidar_points[i] > 0) == seen
        assert seen or truth.seen.radar_returns[i] == 0
