"""Assignment: the best sum, nobody twice, nothing for the sake of numbers."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perception_bev.outputs.assign import assign, solver

SOLVE = solver()


def value(worth, pairs):
    return sum(worth[i, j] for i, j in zip(pairs.tracks, pairs.boxes, strict=True))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.integers(0, 4), columns=st.integers(0, 4), seed=st.integers(0, 2**32 - 1))
def test_no_other_assignment_is_worth_more(rows, columns, seed):
    worth = np.random.default_rng(seed).uniform(-5, 5, (rows, columns))
    pairs = assign(worth, SOLVE)
    assert len(set(pairs.tracks)) == len(pairs.tracks)
    assert len(set(pairs.boxes)) == len(pairs.boxes)
    assert all(worth[i, j] > 0 for i, j in zip(pairs.tracks, pairs.boxes, strict=True))
    size = max(rows, columns)
    square = np.zeros((size, size))
    square[:rows, :columns] = np.maximum(worth, 0)
    best = max((square[np.arange(size), list(p)].sum() for p in permutations(range(size))),
               default=0.0)
    assert value(worth, pairs) == pytest.approx(best)


def test_two_poor_pairs_do_not_break_up_a_good_one():
    pairs = assign(np.array([[10.0, 3.0], [3.0, 0.0]]), SOLVE)
    assert (pairs.tracks.tolist(), pairs.boxes.tolist()) == ([0], [0])
