"""Evaluation: precision over recall of a whole data set, and the two averages of it in use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_bev.contracts import check_array

KITTI_RECALLS = np.arange(1, 41) / 40
NUSCENES_RECALLS = np.linspace(0, 1, 101)
NUSCENES_MIN_RECALL = 0.1
NUSCENES_FIRST = round(100 * NUSCENES_MIN_RECALL) + 1  # of NUSCENES_RECALLS that counts
NUSCENES_MIN_PRECISION = 0.1


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision and recall at each score threshold, from the highest down."""

    precision: np.ndarray  # (K,) float64
    recall: np.ndarray  # (K,) float64, not decreasing
    positives: float  # ground truths that were to be found; 0: no average is defined


@dataclass(frozen=True, slots=True)
class Scored:
    """The detections of F frames that count, and how many there were to be found."""

    score: np.ndarray  # (K,) float32
    hit: np.ndarray  # (K,) bool: true positive, else false positive
    frame: np.ndarray  # (K,) int64 in 0..F-1
    positives: np.ndarray  # (F,) int64: ground truths

    def __post_init__(self) -> None:
        check_array("Scored.hit", self.hit, (len(self.score),), np.bool_)
        check_array("Scored.frame", self.frame, (len(self.score),), np.int64)

    def curve(self, weight: np.ndarray | None = None) -> Curve:
        """Precision and recall of thresholds that lie between scores, not between equal ones.

        weight: (F,) how often each frame counts, default once; for resampling.
        """
        weight = np.ones(len(self.positives)) if weight is None else weight
        order = np.argsort(-self.score, kind="stable")
        order = order[weight[self.frame[order]] > 0]
        hit, of_detection = self.hit[order], weight[self.frame[order]]
        ends = _ends_of_ties(self.score[order])
        true = np.cumsum(of_detection * hit)[ends]
        every = np.cumsum(of_detection)[ends]
        positives = float(weight @ self.positives)
        return Curve(true / every, true / max(positives, 1e-9), positives)


def _ends_of_ties(score: np.ndarray) -> np.ndarray:
    """Where a threshold can lie in descending scores: not between equal ones."""
    return np.flatnonzero(np.append(score[1:] != score[:-1], True)[:len(score)])


def ap_r40(curve: Curve) -> float:
    """AP|R40 [%]: mean over recall 1/40 .. 1 of the best precision at that recall or above.

    Simonelli et al., "Disentangling monocular 3D object detection", ICCV 2019; in use for KITTI
    since then. NaN when there was nothing to find.
    """
    if curve.positives <= 0:
        return float("nan")
    best = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0.0)
    at = np.searchsorted(curve.recall, KITTI_RECALLS - 1e-12, side="left")
    return 100.0 * float(best[at].mean())


def ap_nuscenes(curve: Curve) -> float:
    """AP of nuScenes [%]: precision interpolated at 101 recalls, without recall and precision below
    0.1, normalised to 1.

    Caesar et al., "nuScenes: a multimodal dataset for autonomous driving", CVPR 2020. NaN when
    there was nothing to find.
    """
    if curve.positives <= 0:
        return float("nan")
    if not len(curve.recall):
        return 0.0
    precision = np.interp(NUSCENES_RECALLS, curve.recall, curve.precision, right=0.0)
    above = precision[NUSCENES_FIRST:] - NUSCENES_MIN_PRECISION
    return 100.0 * float(np.maximum(above / (1.0 - NUSCENES_MIN_PRECISION), 0.0).mean())
