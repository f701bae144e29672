"""Sync: the predictor of output stamps."""

import numpy as np
import pytest

from perception_bev.sync.clock import MS, SECOND
from perception_bev.sync.grid import OutputGrid

T0 = 1_700_000_000 * SECOND


def locked(sweep_ms=100.0, true_ms=None, count=40, jitter_ms=0.0, output_ms=100.0, seed=0):
    """A grid that saw `count` sweeps, the last at T0."""
    grid, rng = OutputGrid(sweep_ms * MS, output_ms * MS), np.random.default_rng(seed)
    for k in range(count):
        error = jitter_ms * rng.uniform(-1, 1)
        grid.update(T0 + round(((k - count + 1) * (true_ms or sweep_ms) + error) * MS))
    return grid


@pytest.mark.parametrize("sweep_ms, sweeps", [(100, 1), (50, 2), (1000 / 30, 3), (1000 / 12, 1),
                                              (104, 1), (200, 1), (10, 10)])
def test_sweeps_per_output(sweep_ms, sweeps):
    assert OutputGrid(sweep_ms * MS, 100 * MS).sweeps == sweeps


@pytest.mark.parametrize("true_ms", [83.3, 97.0, 100.0, 103.0, 115.0])
def test_learns_the_true_period(true_ms):
    grid = locked(true_ms=true_ms)
    assert abs(grid.after(T0) - T0 - true_ms * MS) < 1 * MS


def test_smooths_jitter():
    """The prediction is nearer to the truth than last stamp + period would be."""
    errors = [locked(jitter_ms=5, seed=s).after(T0) - T0 - 100 * MS for s in range(30)]
    assert np.std(errors) < 0.85 * 5 * MS / np.sqrt(3)


def test_free_runs_without_sweeps():
    grid, stamp = locked(), T0
    for k in range(1, 600):
        stamp = grid.after(stamp)
        assert abs(stamp - T0 - k * 100 * MS) < k * 10_000 + 10


def test_keeps_the_phase_of_every_second_sweep():
    grid = locked(sweep_ms=50)
    assert grid.after(T0) == T0 + 100 * MS
    assert grid.after(T0 + 50 * MS) == T0 + 150 * MS


def test_one_wild_stamp_changes_nothing():
    grid = locked()
    grid.update(T0 + 145 * MS)
    assert abs(grid.after(T0) - T0 - 100 * MS) < 1 * MS


@pytest.mark.parametrize("jump_ms", [-45, -20, 20, 45])
def test_a_new_phase_is_taken_after_a_few_sweeps(jump_ms):
    grid = locked()
    for k in range(1, 16):
        grid.update(T0 + (100 * k + jump_ms) * MS)
        error = grid.after(T0 + (100 * k + jump_ms) * MS) - T0 - (100 * k + 100 + jump_ms) * MS
        assert k < 5 or abs(error) < 5 * MS
    assert abs(error) < 1 * MS


def test_after_a_gap_the_phase_is_taken_at_once():
    grid = locked()
    grid.update(T0 + 2040 * MS)
    assert grid.after(T0 + 2040 * MS) == T0 + 2140 * MS
    following = grid.after(T0 + 2000 * MS) - T0 - 2000 * MS
    assert 50 * MS <= following <= 150 * MS


def test_a_seeded_grid_takes_the_references_phase_when_it_comes():
    grid = OutputGrid(100 * MS, 100 * MS)
    grid.seed(T0)
    assert grid.after(T0) == T0 + 100 * MS
    grid.update(T0 + 530 * MS)
    assert grid.after(T0 + 530 * MS) == T0 + 630 * MS


def test_a_wrong_period_in_the_rig_does_not_shake_the_phase():
    """The rig says 100 ms, sweeps come every 50."""
    grid = OutputGrid(100 * MS, 100 * MS)
    for k in range(60):
        grid.update(T0 + k * 50 * MS)
    assert abs(grid.sweep_ns - 100 * MS) < 1 * MS
    assert abs((grid.after(T0) - T0) % (50 * MS)) < 1 * MS
