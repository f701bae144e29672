"""Evaluation: which detection found which ground truth, in one frame.

Detections choose in the order of their score, each the best free ground truth that counts. One
that finds none takes the best free ground truth that is ignored (a harder car, another vehicle)
and is then itself ignored; so every ignored object absorbs one detection and a second one on it
is a false positive, as in the KITTI and COCO evaluations. What is left is a false positive,
except outside the evaluated region: there the truth is not counted, so neither are inventions.

A result depends on higher scores only, so one matching serves every score threshold.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from perception_bev.contracts import Boxes3D, check_array

FALSE_POSITIVE = -1
IGNORED = -2


def nearness(found: Boxes3D, truth: Boxes3D) -> np.ndarray:
    """Affinity (N, M) float64: negative distance of the centres in bird's-eye view [m]."""
    ours, theirs = (boxes.centre[:, :2].astype(np.float64) for boxes in (found, truth))
    return -np.linalg.norm(ours[:, None] - theirs[None], axis=2)


def closer_than(distance: float) -> float:
    """The threshold of `match` under which a nearness just counts as within `distance` [m]."""
    return float(np.nextafter(-distance, np.inf))


def match(affinity: np.ndarray, threshold: float, score: np.ndarray, valid: np.ndarray,
          ignored: np.ndarray, in_view: np.ndarray) -> np.ndarray:
    """What each of N detections is against M ground truths.

    Args:
        affinity: (N, M), larger is better: IoU, or the negative distance.
        threshold: the least affinity of a match, inclusive.
        score: (N,) of the detections; equal scores choose in their order of input.
        valid: (M,) bool, ground truths that are to be found.
        ignored: (M,) bool, ground truths that may be found; disjoint from `valid`.
        in_view: (N,) bool, detections inside the evaluated region.

    Returns:
        (N,) int64: the index of the ground truth found, FALSE_POSITIVE or IGNORED.
    """
    n, m = affinity.shape
    for name, mask, length in (("valid", valid, m), ("ignored", ignored, m),
                               ("in_view", in_view, n)):
        check_array(f"match: {name}", mask, (length,), np.bool_)
    order = np.argsort(-score, kind="stable")
    return _match(np.ascontiguousarray(affinity, np.float64), float(threshold), order,
                  valid, ignored, in_view)


@njit(nogil=True, cache=True)
def _match(affinity, threshold, order, valid, ignored, in_view):
    free_valid, free_ignored = valid.copy(), ignored.copy()
    outcome = np.full(len(order), FALSE_POSITIVE, np.int64)
    for i in order:
        found = _best(affinity[i], free_valid, threshold)
        if found >= 0:
            free_valid[found] = False
            outcome[i] = found
            continue
        found = _best(affinity[i], free_ignored, threshold)
        if found >= 0:
            free_ignored[found] = False
        if found >= 0 or not in_view[i]:
            outcome[i] = IGNORED
    return outcome


@njit(nogil=True, cache=True)
def _best(affinity, free, threshold) -> int:
    """The free ground truth with the largest affinity of at least `threshold`, or -1."""
    best = -1
    for j in range(len(affinity)):
        if free[j] and affinity[j] >= threshold and (best < 0 or affinity[j] > affinity[best]):
            best = j
    return best
