"""Who found what, by hand and by law."""

import numpy as np
import pytest

from perception_bev.errors import ShapeMismatch
from perception_bev.eval.matching import FALSE_POSITIVE, IGNORED, match


def run(affinity, score, valid, ignored=None, in_view=None, threshold=0.5):
    affinity = np.asarray(affinity, np.float64)
    n, m = affinity.shape
    return match(affinity, threshold, np.asarray(score, np.float32), np.asarray(valid, bool),
                 np.zeros(m, bool) if ignored is None else np.asarray(ignored, bool),
                 np.ones(n, bool) if in_view is None else np.asarray(in_view, bool)).tolist()


def test_the_higher_score_chooses_first():
    assert run([[0.9], [0.6]], [0.3, 0.8], [1]) == [FALSE_POSITIVE, 0]


def test_takes_the_best_that_is_free():
    assert run([[0.8, 0.7], [0.9, 0.6]], [0.9, 0.8], [1, 1]) == [0, 1]


def test_equal_scores_choose_in_order():
    assert run([[0.6], [0.9]], [0.5, 0.5], [1]) == [0, FALSE_POSITIVE]


def test_threshold_is_inclusive():
    assert run([[0.5]], [1], [1]) == [0]
    assert run([[0.4999]], [1], [1]) == [FALSE_POSITIVE]


def test_ignored_truth_absorbs_one_detection():
    assert run([[0.9], [0.8]], [0.9, 0.8], [0], ignored=[1]) == [IGNORED, FALSE_POSITIVE]


def test_truth_that_counts_goes_before_a_better_ignored_one():
    assert run([[0.6, 0.9]], [1], [1, 0], ignored=[0, 1]) == [0]


def test_second_detection_of_a_truth_may_be_the_ignored_ones():
    assert run([[0.9, 0.6], [0.8, 0.6]], [0.9, 0.8], [1, 0], ignored=[0, 1]) == [0, IGNORED]


def test_truth_without_a_role_is_not_there():
    assert run([[0.9]], [1], [0]) == [FALSE_POSITIVE]


def test_outside_the_region_an_invention_is_ignored_but_a_find_counts():
    assert run([[0.0], [0.9]], [0.9, 0.8], [1], in_view=[0, 0]) == [IGNORED, 0]


def test_no_detections_and_no_truth():
    assert run(np.zeros((0, 3)), [], [1, 1, 1]) == []
    assert run(np.zeros((2, 0)), [1, 1], []) == [FALSE_POSITIVE] * 2


@pytest.mark.parametrize("seed", range(5))
def test_lower_scores_change_nothing_and_no_truth_is_found_twice(seed):
    rng = np.random.default_rng(seed)
    n, m = 40, 25
    affinity, score = rng.random((n, m)) ** 3, rng.random(n)
    role = rng.integers(0, 3, m)
    in_view = rng.random(n) > 0.2
    outcome = np.array(run(affinity, score, role == 1, role == 2, in_view))
    best = np.argsort(-score)[:n // 2]
    assert run(affinity[best], score[best], role == 1, role == 2, in_view[best]) \
        == outcome[best].tolist()
    found = outcome[outcome >= 0]
    assert len(found) > 3 and len(set(found)) == len(found) and (role[found] == 1).all()


def test_wrong_lengths_are_refused():
    with pytest.raises(ShapeMismatch, match="valid"):
        run([[0.9, 0.1]], [1], [1], ignored=[0, 0])
