"""CLEAR MOT by hand; test_tracking.py compares whole drives with TrackEval."""

import numpy as np
import pytest

from perception_bev.eval.clear_mot import clear_mot


def run(objects, tracks, similarity):
    return clear_mot(objects, tracks, [np.array(each, float) for each in similarity], 0.5)


def test_keeping_a_track_is_worth_more_than_a_better_one():
    counts = run([[1], [1]], [[7], [7, 8]], [[[0.6]], [[0.5, 0.9]]])
    assert (counts.matches, counts.switches, counts.false_tracks) == (2, 0, 1)
    counts = run([[1], [1]], [[7], [7, 8]], [[[0.6]], [[0.4, 0.9]]])
    assert (counts.matches, counts.switches, counts.false_tracks) == (2, 1, 1)


def test_keeping_a_track_is_worth_more_than_another_pair():
    """Object 1 could take track 8 and leave 7 to object 2, which nothing else is near to."""
    counts = run([[1], [1, 2]], [[7], [7, 8]], [[[0.9]], [[0.9, 0.6], [0.8, 0.0]]])
    assert (counts.matches, counts.switches, counts.misses) == (2, 0, 1)


def test_a_switch_is_counted_across_a_gap():
    counts = run([[1], [1], [1]], [[7], [], [8]], [[[1]], np.zeros((1, 0)), [[1]]])
    assert (counts.switches, counts.misses, counts.fragmentations) == (1, 1, 0)
    counts = run([[1], [1], [1]], [[7], [9], [7]], [[[1]], [[0]], [[1]]])
    assert (counts.switches, counts.misses, counts.fragmentations) == (0, 1, 1)


@pytest.mark.parametrize("found, tracked, lost", [(10, 1, 0), (9, 1, 0), (8, 0, 0), (2, 0, 0),
                                                  (1, 0, 1), (0, 0, 1)])
def test_mostly_tracked_and_lost(found, tracked, lost):
    counts = run([[1]] * 10, [[5]] * 10, [[[float(t < found)]] for t in range(10)])
    assert (counts.mostly_tracked, counts.mostly_lost) == (tracked, lost)


def test_nothing_has_no_mota():
    assert np.isnan(run([[]], [[3]], [np.zeros((0, 1))]).mota)
    assert run([[3]], [[]], [np.zeros((1, 0))]).mota == 0
