"""Streets and paths: lanes, bends, stop lines, traffic lights."""

import numpy as np
import pytest

from perception_bev.sim.streets import (
    CYCLE_S,
    DIRECTIONS,
    LANE,
    STEP,
    Streets,
    path_from,
    right_of,
    route,
)

STREETS = Streets.drawn(np.random.default_rng(3))


def drawn_route(seed: int, turns=(0, 1, -1), direction: int = 0, **more):
    return route(STREETS, np.random.default_rng(seed), np.array([3, 3]), direction, turns, 12.0,
                 **more)


def test_blocks_have_the_sizes_of_blocks():
    for middles in (STREETS.xs, STREETS.ys):
        assert (np.diff(middles) >= 60).all() and (np.diff(middles) <= 110).all()


@pytest.mark.parametrize("direction", range(4))
def test_right_is_right_of_ahead(direction):
    ahead, right = DIRECTIONS[direction], right_of(direction)
    assert ahead[0] * right[1] - ahead[1] * right[0] == -1


def test_crossing_streets_never_have_green_together():
    times = np.arange(0, CYCLE_S, 0.1)
    for node in ((0, 0), (3, 4)):
        both = [STREETS.is_green(node, 0, t) and STREETS.is_green(node, 1, t) for t in times]
        each = [sum(STREETS.is_green(node, axis, t) for t in times) for axis in (0, 1)]
        assert not any(both) and min(each) > 0.3 * len(times)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("direction", range(4))
def test_points_of_a_route_are_evenly_spaced_and_bend_gently(seed, direction):
    path = drawn_route(seed, direction=direction)
    step = np.linalg.norm(np.diff(path.points, axis=0), axis=1)
    assert step.max() <= STEP + 1e-6 and np.median(step) == pytest.approx(STEP, abs=1e-3)
    assert np.abs(np.diff(path.heading)).max() < 0.25


@pytest.mark.parametrize("turn", [-1, 0, 1])
def test_a_route_turns_as_told_and_stays_on_the_right(turn):
    path = drawn_route(1, turns=(turn,))
    assert path.heading[-1] - path.heading[0] == pytest.approx(turn * np.pi / 2, abs=1e-3)
    start = STREETS.crossing(np.array([3, 3]))
    aside = (path.points[0] - start) @ right_of(0)
    assert 0.4 * LANE < aside < 2 * LANE, "in a lane to the right of the street's middle"


def test_a_bend_is_slow_and_is_slowed_down_for():
    path = drawn_route(1, turns=(1,))
    bend = np.abs(np.gradient(path.heading)) / STEP
    assert (path.limit ** 2 * bend).max() < 2.3, "m/s^2 sideways"
    braking = (path.limit[:-1] ** 2 - path.limit[1:] ** 2) / (2 * STEP)
    assert braking.max() < 1.9 and path.limit.max() == 12.0


def test_stop_lines_lie_on_the_path_before_their_crossing():
    path = drawn_route(2, turns=(0, 0))
    assert len(path.stops) == 2
    for s, node, axis in path.stops:
        xy, _ = path.at(s)
        ahead = STREETS.crossing(np.array(node)) - xy
        assert axis == 0 and ahead[0] > STREETS.half(STREETS.lanes(np.array(node), 1)) + 4


def test_a_bicycle_keeps_to_the_right_of_the_outer_lane():
    car, bicycle = drawn_route(0, (0,), lane=9), drawn_route(0, (0,), lane=9, aside=0.9)
    assert np.allclose(bicycle.points[0] - car.points[0], 0.9 * right_of(0))


def test_a_straight_path_is_where_it_was_asked_for():
    path = path_from(np.array([[0.0, 0], [30, 40]]), np.zeros(2), 5.0)
    xy, heading = path.at(np.array([0.0, 10.0]))
    assert np.allclose(xy, [[0, 0], [6, 8]]) and np.allclose(heading, np.arctan2(4, 3))
