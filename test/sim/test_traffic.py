"""Traffic: it moves as vehicles move, stops at red, and does not drive through each other."""

from functools import cache

import numpy as np
import pytest
import sim_worlds
from sim_worlds import footprint, footprints, overlap_m

from perception_bev.sim.actors import CLASSES, KINDS
from perception_bev.sim.driving import FINE_S, LEAD_S, STEP_S
from perception_bev.sim.streets import Streets

SECONDS = 4.0
SEEDS = (0, 1, 2)
WALKER = CLASSES.index("pedestrian")


@cache
def made(seed: int):
    return sim_worlds.traffic(seed, SECONDS)


@pytest.fixture(scope="module", params=SEEDS)
def moved(request):
    return made(request.param)


def vehicles(traffic) -> np.ndarray:
    """Rows of `actors` that are neither walkers nor trailers."""
    return np.array([k for k, mover in enumerate(traffic.movers[1:])
                     if mover.actor.label != WALKER and not mover.is_trailer])


def states(traffic, which, times):
    """(T, M, 4) x, y, heading, speed."""
    return traffic.tracks(np.asarray(which), np.asarray(times))


def test_the_same_generator_gives_the_same_traffic():
    one, again = (sim_worlds.traffic(SEEDS[0], 0.5) for _ in range(2))
    times, every = np.arange(0, 0.5, 0.1), np.arange(len(one.actors))
    assert np.array_equal(states(one, every, times), states(again, every, times))


def test_all_ten_classes_are_there():
    found = set()
    for traffic in map(made, SEEDS):
        found |= {actor.label for actor in traffic.actors}
        found |= {place.actor.label for place in traffic.parked}
    assert found == set(range(len(CLASSES)))


def test_sizes_are_those_of_their_class(moved):
    for actor in [*moved.actors, *(place.actor for place in moved.parked)]:
        ratio = actor.size / np.array(KINDS[CLASSES[actor.label]].size)
        assert (ratio > 0.79).all() and (ratio < 1.21).all()


def test_track_numbers_differ(moved):
    numbers = [actor.track for actor in moved.actors] + [p.actor.track for p in moved.parked]
    assert len(set(numbers)) == len(numbers) and min(numbers) > 0


def test_velocity_is_the_difference_of_positions(moved):
    """Speeds are of the step's beginning: they lag by half a step of the model's braking."""
    times, h = np.arange(0.2, SECONDS - 0.2, 0.1), FINE_S
    every = np.arange(len(moved.actors))
    difference = (states(moved, every, times + h)[..., :2]
                  - states(moved, every, times - h)[..., :2]) / (2 * h)
    velocity = np.stack([moved.poses(t).velocity for t in times])
    off = np.linalg.norm(difference - velocity, axis=-1)
    assert off.mean() < 0.06 and np.quantile(off, 0.99) < 0.75 and off.max() < 7.5 * STEP_S + 1


def test_nobody_jumps(moved):
    times = np.arange(0, SECONDS, FINE_S)
    every = np.arange(len(moved.actors))
    step = np.linalg.norm(np.diff(states(moved, every, times)[..., :2], axis=0), axis=-1)
    assert step.max() / FINE_S < 20, "m/s"
    ego, _, speed = moved.ego_at(times)
    assert np.linalg.norm(np.diff(ego, axis=0), axis=1).max() / FINE_S < 20
    assert (speed >= 0).all() and speed.max() < 15


def test_vehicles_keep_to_their_paths_and_its_limits(moved):
    times = np.arange(0, SECONDS, 0.5)
    for k in vehicles(moved):
        path = moved.movers[k + 1].path
        row = states(moved, [k], times)[:, 0]
        off = np.min(np.linalg.norm(path.points[None] - row[:, None, :2], axis=2), axis=1)
        assert off.max() < 0.3
        assert row[:, 3].max() < path.limit.max() * 1.05 + 0.5


def overlaps(traffic, times) -> dict[tuple[int, int], float]:
    """Deepest overlap [m] of each pair of the ego (0) and vehicles (k + 1) in driving."""
    which = [0, *(vehicles(traffic) + 1)]
    deepest: dict[tuple[int, int], float] = {}
    for time_s in times:
        shapes = footprints(traffic, time_s)
        centres = np.array([shapes[k].mean(axis=0) for k in which])
        near = np.linalg.norm(centres[:, None] - centres[None], axis=2) < 14
        for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True):
            depth = overlap_m(shapes[which[i]], shapes[which[j]])
            if depth > 0.1:
                pair = which[i], which[j]
                deepest[pair] = max(deepest.get(pair, 0.0), depth)
    return deepest


def test_vehicles_hardly_ever_drive_through_each_other():
    """Paths cross without right of way: a share of pairs is unlucky, and it must stay small."""
    times = np.arange(0, SECONDS, 0.5)
    bad, driving = 0, 0
    for traffic in map(made, SEEDS):
        pairs = overlaps(traffic, times)
        assert not [pair for pair in pairs if pair[0] == 0], "the ego hits nobody"
        bad, driving = bad + len(pairs), driving + len(vehicles(traffic))
    assert bad <= 0.06 * driving, f"{bad} pairs among {driving} vehicles"


def test_the_check_finds_vehicles_that_overlap():
    size = np.array([4.0, 2.0, 1.5])
    one = footprint(np.zeros(2), 0.0, size)
    assert overlap_m(one, footprint(np.array([0.0, 1.5]), 0.3, size)) > 0.4
    assert overlap_m(one, footprint(np.array([0.0, 2.2]), 0.0, size)) == 0


def test_vehicles_hardly_ever_stand_in_parked_ones():
    """Those that begin beside road works may: a share that must stay small."""
    inside, driving = set(), 0
    for traffic in map(made, SEEDS):
        driving += len(vehicles(traffic))
        for time_s in (0.0, SECONDS - 0.1):
            shapes = footprints(traffic, time_s)
            inside |= {(id(traffic), k) for k in vehicles(traffic)
                       if in_something_parked(traffic, shapes[k + 1])}
    assert len(inside) <= 0.06 * driving, f"{len(inside)} of {driving} vehicles"


def in_something_parked(traffic, shape: np.ndarray) -> bool:
    near = [p for p in traffic.parked if np.linalg.norm(p.xy - shape.mean(axis=0)) < 14]
    return any(overlap_m(shape, footprint(p.xy, p.yaw, p.actor.size)) > 0.2 for p in near)


def test_trailers_stay_behind_their_trucks(moved):
    movers = moved.movers
    pairs = [k for k, mover in enumerate(movers) if k and mover.is_trailer]
    for k in pairs:
        truck = CLASSES.index("truck")
        assert movers[k - 1].actor.label == truck and movers[k - 1].path is movers[k].path
        gap = np.array(movers[k - 1].trace)[:, 0] - np.array(movers[k].trace)[:, 0]
        assert np.abs(gap + movers[k].wish).max() < 2.0


def test_nobody_starts_over_a_stop_line_at_red():
    """Whoever could have stopped does not cross; those already too near may."""
    crossings = 0
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        streets = Streets.drawn(rng)
        traffic = made(seed)
        for mover in (traffic.movers[0], *(traffic.movers[k + 1] for k in vehicles(traffic))):
            crossings += ran_red(mover, streets)
    assert crossings == 0


def ran_red(mover, streets: Streets) -> int:
    """Stop lines that it crossed although the light was red while it could still brake."""
    trace = np.array(mover.trace)
    times = np.arange(len(trace)) * STEP_S - LEAD_S
    count = 0
    for stop, node, axis in mover.path.stops:
        left = stop - mover.size[0] / 2 - trace[:, 0]
        passed = np.nonzero((left[:-1] > 0) & (left[1:] <= 0))[0]
        if len(passed) == 0:
            continue
        could = np.nonzero((left > trace[:, 1] ** 2 / 4 + 2)[:passed[0]])[0]
        if len(could):
            since = times[could[-1]:passed[0] + 1]
            count += not any(streets.is_green(node, axis, t) for t in since)
    return count


@pytest.mark.parametrize("seed", [5, 6])
def test_road_works_and_crossings_do_not_stop_the_ego_for_good(seed):
    """Where it stood behind a barrier, or waited for who waited for it."""
    _, _, speed = sim_worlds.traffic(seed, 12.0).ego_at(np.arange(4.0, 12.0, 0.1))
    assert (speed < 0.3).mean() < 0.2
