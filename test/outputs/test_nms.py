"""Laws of greedy suppression."""

import numpy as np
import pytest

from perception_bev.contracts import Boxes3D
from perception_bev.outputs.iou import bev_iou, bev_rows
from perception_bev.outputs.nms import nms


def boxes(x, score, label=None, yaw=None) -> Boxes3D:
    """4 m x 2 m boxes along x."""
    n = len(x)
    return Boxes3D(centre=np.column_stack([x, np.zeros(n), np.zeros(n)]).astype(np.float32),
                   size=np.tile(np.array([4, 2, 1.5], np.float32), (n, 1)),
                   yaw=np.asarray(np.zeros(n) if yaw is None else yaw, np.float32),
                   score=np.asarray(score, np.float32),
                   label=np.asarray(np.zeros(n) if label is None else label, np.int32),
                   classes=("car", "truck"))


def random_boxes(n: int, seed: int) -> Boxes3D:
    rng = np.random.default_rng(seed)
    return Boxes3D(centre=rng.uniform(0, 25, (n, 3)).astype(np.float32),
                   size=rng.uniform(1.5, 5, (n, 3)).astype(np.float32),
                   yaw=rng.uniform(-4, 4, n).astype(np.float32),
                   score=rng.random(n).astype(np.float32),
                   label=rng.integers(0, 2, n).astype(np.int32), classes=("car", "truck"))


def test_keeps_the_best_of_overlapping_boxes():
    assert nms(boxes([0, 0.5, 20], [0.5, 0.9, 0.1]), 0.2, 10).tolist() == [1, 2]


def test_height_does_not_matter():
    stacked = boxes([0, 0], [0.5, 0.9])
    stacked.centre[1, 2] = 5.0
    assert nms(stacked, 0.2, 10).tolist() == [1]


def test_classes_do_not_suppress_each_other():
    assert nms(boxes([0, 0], [0.5, 0.9], label=[0, 1]), 0.2, 10).tolist() == [1, 0]


def test_threshold_by_hand():
    """1 m apart: 3 of 5 metres in common, IoU 0.6."""
    pair = boxes([0, 1], [0.9, 0.8])
    assert nms(pair, 0.59, 10).tolist() == [0]
    assert nms(pair, 0.61, 10).tolist() == [0, 1]


def test_rotation_matters():
    """Crossed at right angles: 4 of 12 m^2 in common, IoU 1/3."""
    pair = boxes([0, 0], [0.9, 0.8], yaw=[0, np.pi / 2])
    assert nms(pair, 0.32, 10).tolist() == [0]
    assert nms(pair, 0.34, 10).tolist() == [0, 1]


def test_a_suppressed_box_suppresses_nothing():
    """The middle one is covered by the first; the third overlaps the middle one only."""
    assert nms(boxes([0, 2, 4], [0.9, 0.8, 0.7]), 0.3, 10).tolist() == [0, 2]


def test_ties_keep_their_order():
    x = [10.0 * i for i in range(100)]
    kept = nms(boxes([*x, *x], [0.3, 0.5] * 100), 0.2, 200)
    assert kept.tolist() == [*range(1, 100, 2), *range(0, 100, 2)]


@pytest.mark.parametrize("limit", [0, 1, 7])
def test_limit_takes_the_best(limit):
    many = random_boxes(60, seed=1)
    assert nms(many, 0.2, limit).tolist() == nms(many, 0.2, 60).tolist()[:limit]


@pytest.mark.parametrize("seed", range(3))
def test_kept_are_apart_and_dropped_are_covered(seed):
    many, threshold = random_boxes(150, seed), 0.15
    kept = nms(many, threshold, 150)
    assert kept.dtype == np.int64 and 20 < len(kept) < 140
    assert (np.diff(many.score[kept]) <= 0).all()
    iou = bev_iou(bev_rows(many), bev_rows(many))
    rival = (iou > threshold) & (many.label[:, None] == many.label[None])
    assert rival[np.ix_(kept, kept)].sum() == len(kept)  # each with itself only
    better = many.score[None, kept] > many.score[:, None]
    dropped = np.setdiff1d(np.arange(150), kept)
    assert (rival[:, kept] & better)[dropped].any(axis=1).all()


def test_applied_twice_changes_nothing():
    many = random_boxes(100, seed=4)
    once = many[nms(many, 0.2, 100)]
    assert nms(once, 0.2, 100).tolist() == list(range(len(once)))


def test_no_boxes():
    kept = nms(Boxes3D.empty(("car",)), 0.2, 10)
    assert kept.shape == (0,) and kept.dtype == np.int64
