"""Average precision against cases computed by hand."""

import numpy as np
import pytest

from perception_bev.eval.average_precision import Scored, ap_nuscenes, ap_r40


def scored(hits: str, positives: int, scores=None) -> Scored:
    """Detections from the highest score down: "+" found something, "-" did not. One frame."""
    n = len(hits)
    score = np.linspace(0.9, 0.1, n) if scores is None else np.array(scores)
    return Scored(score.astype(np.float32), np.array([c == "+" for c in hits], bool),
                  np.zeros(n, np.int64), np.array([positives]))


@pytest.mark.parametrize("hits, positives, expected", [
    ("++++", 4, 100),
    ("----", 4, 0),
    ("", 4, 0),
    ("++", 4, 50),
    ("-+", 1, 50),
    ("++--", 2, 100),  # what comes after the last find costs nothing
    ("+-++", 4, (10 * 1 + 20 * 3 / 4) / 40 * 100),  # 1 to recall 1/4, then 3/4 to recall 3/4
    ("+-+-", 2, (20 * 1 + 20 * 2 / 3) / 40 * 100),
    ("+", 41, 0),  # recall 1/41 does not reach the first point, 1/40
    ("+", 40, 100 / 40),
])
def test_ap_r40_by_hand(hits, positives, expected):
    assert ap_r40(scored(hits, positives).curve()) == pytest.approx(expected)


@pytest.mark.parametrize("hits, positives, expected", [
    ("++", 2, 100),
    ("--", 2, 0),
    ("", 2, 0),
    ("+", 2, 100 * 40 / 90),  # precision 1 at recall 0.11 .. 0.50, of 0.11 .. 1.00
    ("-+", 2, 100 * sum(k / 100 for k in range(1, 41)) / 90 / 0.9),  # precision = recall to 0.5
    ("+", 10, 0),  # recall up to 0.1 does not count
])
def test_ap_nuscenes_by_hand(hits, positives, expected):
    assert ap_nuscenes(scored(hits, positives).curve()) == pytest.approx(expected)


@pytest.mark.parametrize("average", [ap_r40, ap_nuscenes])
def test_nothing_to_find_has_no_average(average):
    assert np.isnan(average(scored("--", 0).curve()))


def test_no_threshold_lies_between_equal_scores():
    """Whichever of two equal scores comes first, both are above or below a threshold."""
    for hits in ("+-", "-+"):
        curve = scored(hits, 1, scores=[0.5, 0.5]).curve()
        assert curve.precision.tolist() == [0.5] and curve.recall.tolist() == [1.0]
    assert scored("+-", 1, scores=[0.6, 0.5]).curve().precision.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("average", [ap_r40, ap_nuscenes])
def test_a_false_positive_never_helps_and_a_find_never_hurts(average):
    rng = np.random.default_rng(0)
    for _ in range(20):
        hits = "".join(rng.choice(["+", "-"], 15))
        base = average(scored(hits, 20).curve())
        assert average(scored("-" + hits, 20).curve()) <= base + 1e-9
        assert average(scored("+" + hits, 20).curve()) >= base - 1e-9


def test_weights_repeat_frames():
    rng = np.random.default_rng(1)
    frame, hit = rng.integers(0, 3, 60), rng.random(60) > 0.4
    score = rng.random(60).astype(np.float32)
    one = Scored(score, hit, frame, np.array([20, 30, 25]))
    copies = np.concatenate([np.flatnonzero(frame == 0)] * 2 + [np.flatnonzero(frame == 2)])
    again = Scored(score[copies], hit[copies], np.zeros(len(copies), np.int64), np.array([65]))
    weighted, repeated = one.curve(np.array([2.0, 0.0, 1.0])), again.curve()
    np.testing.assert_allclose(weighted.precision, repeated.precision)
    np.testing.assert_allclose(weighted.recall, repeated.recall)
    assert weighted.positives == repeated.positives
