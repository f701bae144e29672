"""Evaluation: the detection task of nuScenes, from boxes and truth alone, in base_link.

Caesar et al., "nuScenes: a multimodal dataset for autonomous driving", CVPR 2020, in the form of
the task's configuration `detection_cvpr_2019`:

- **Counted**: ground truth and predictions whose centre is nearer to base_link than the range of
  their class; ground truth only if a lidar point or radar return is on it (`Truth.seen`; without
  that, `Truth.counted`). What is not counted is nothing: a box on it is a false positive.
- **AP**: detections choose in the order of their score, over all samples, the nearest free ground
  truth of their class within 0.5, 1, 2 and 4 m in bird's-eye view; the mean of the four areas
  under precision over recall, without the parts below 0.1. A class without ground truth has AP 0.
- **Errors** of the true positives at 2 m: running means over falling score, averaged over the
  recalls from 0.11 to the highest that was reached; 1 where that is below. Cones have no heading,
  barriers none from front to back, neither has a velocity.
- **NDS** = (5 mAP + sum of max(0, 1 - error) over the five mean errors) / 10.

Attributes (parked, standing, ...) are not part of this product, so every mAAE is 1, as the task has
it for a detector without them, and NDS cannot exceed 0.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.errors import ConfigError, ShapeMismatch
from perception_bev.eval import box_errors
from perception_bev.eval.average_precision import (
    NUSCENES_FIRST,
    NUSCENES_RECALLS,
    Curve,
    ap_nuscenes,
)
from perception_bev.eval.matching import FALSE_POSITIVE, closer_than, match, nearness
from perception_bev.eval.plain import without_nan
from perception_bev.outputs.iou import box_rows
from perception_bev.recordings.base import Truth

RANGES_M = {
    "car": 50.0, "truck": 50.0, "bus": 50.0, "trailer": 50.0, "construction_vehicle": 50.0,
    "pedestrian": 40.0, "motorcycle": 40.0, "bicycle": 40.0, "traffic_cone": 30.0, "barrier": 30.0}
CLASSES = tuple(RANGES_M)
DISTANCES_M = (0.5, 1.0, 2.0, 4.0)
ERRORS_AT_M = 2.0
AP_WEIGHT = 5
MAX_BOXES = 500  # predictions a sample
ERRORS = ("ATE", "ASE", "AOE", "AVE", "AAE")  # [m], 1 - IoU, [rad], [m/s], 1 - accuracy
UNDEFINED = {"traffic_cone": ("AOE", "AVE", "AAE"), "barrier": ("AVE", "AAE")}
HEADING_PERIOD = {"barrier": np.pi}  # [rad], of the others 2 pi


@dataclass(frozen=True, slots=True)
class SampleResult:
    """What a model said about one sample, and what is true."""

    predictions: Boxes3D  # in base_link
    truth: Truth

    def __post_init__(self) -> None:
        found = self.predictions
        if not (np.isfinite(box_rows(found)).all() and np.isfinite(found.score).all()):
            raise ShapeMismatch("SampleResult.predictions: every box and score must be finite")
        if len(found) > MAX_BOXES:
            raise ShapeMismatch(f"SampleResult.predictions: {len(found)} boxes; the task takes "
                                f"{MAX_BOXES} a sample (heads.max_boxes of model.yaml)")
        if not (found.size > 0).all():
            raise ShapeMismatch("SampleResult.predictions: every size must be above 0")


@dataclass(frozen=True, slots=True)
class ClassReport:
    """One class; errors are NaN where the task has none."""

    ap: float  # [0..1], mean of ap_at
    ap_at: dict[str, float]  # by distance [m]
    errors: dict[str, float]  # by ERRORS
    ground_truths: int
    predictions: int

    def as_json(self) -> dict[str, Any]:
        return without_nan({"AP": self.ap, "AP_at": self.ap_at, **self.errors,
                            "ground_truths": self.ground_truths, "predictions": self.predictions})


@dataclass(frozen=True, slots=True)
class NuscenesReport:
    """The task's figures; AP and scores in 0..1."""

    samples: int
    per_class: dict[str, ClassReport]  # every one of CLASSES

    @property
    def mean_ap(self) -> float:
        return float(np.mean([report.ap for report in self.per_class.values()]))

    @property
    def mean_ap_of_present(self) -> float:
        """Over the classes that have ground truth; NaN without any."""
        present = [report.ap for report in self.per_class.values() if report.ground_truths]
        return float(np.mean(present)) if present else float("nan")

    @property
    def mean_errors(self) -> dict[str, float]:
        """By "mATE" ...: over the classes that have the error."""
        return {f"m{name}": float(np.nanmean([report.errors[name]
                                              for report in self.per_class.values()]))
                for name in ERRORS}

    @property
    def nds(self) -> float:
        scores = [max(0.0, 1.0 - error) for error in self.mean_errors.values()]
        return (AP_WEIGHT * self.mean_ap + sum(scores)) / (AP_WEIGHT + len(scores))

    @property
    def classes_without_truth(self) -> tuple[str, ...]:
        """They have AP 0 and errors 1, and so lower the means."""
        return tuple(name for name, report in self.per_class.items() if not report.ground_truths)

    def as_json(self) -> dict[str, Any]:
        return {"mAP": self.mean_ap, "NDS": self.nds, **self.mean_errors,
                "mAP_of_present_classes": without_nan(self.mean_ap_of_present),
                "per_class": {name: report.as_json() for name, report in self.per_class.items()},
                "classes_without_truth": list(self.classes_without_truth),
                "samples": self.samples}


def evaluate(samples: Sequence[SampleResult]) -> NuscenesReport:
    """Score detections against truth.

    Of equal scores the later one chooses first: that is how the published evaluation sorts, and
    what makes the figures equal to its own.
    """
    return NuscenesReport(len(samples), {name: _of_class(name, samples) for name in CLASSES})


def counted(truth: Truth) -> np.ndarray:
    """(M,) bool: ground truths on which the lidar or a radar has something."""
    if truth.seen is None:
        return truth.counted
    return truth.seen.lidar_points + truth.seen.radar_returns > 0


def of_class(boxes: Boxes3D, name: str) -> np.ndarray:
    """(N,) bool: boxes of the class that are nearer than its range."""
    labels = [i for i, known in enumerate(boxes.classes) if known.lower() == name]
    distance = np.linalg.norm(boxes.centre[:, :2].astype(np.float64), axis=1)
    return np.isin(boxes.label, labels) & (distance < RANGES_M[name])


def check_classes(classes: Sequence[str]) -> None:
    """ConfigError unless at least one class is one of the task's."""
    if not {name.lower() for name in classes} & set(CLASSES):
        raise ConfigError(f"none of the classes {', '.join(classes)} is one of nuScenes': "
                          + ", ".join(CLASSES))


# -- one class -------------------------------------------------------------------------------------

@dataclass(frozen=True, slots=True)
class _Pair:
    """Predictions and ground truths of one class that count, in one sample."""

    found: Boxes3D  # the last of the input first
    truth: Boxes3D
    near: np.ndarray  # (N, M) float64, `nearness`


@dataclass(frozen=True, slots=True)
class _Ranked:
    """All detections of a class, the highest score first."""

    score: np.ndarray  # (K,) float64
    hit: np.ndarray  # (K,) bool
    errors: dict[str, np.ndarray]  # (hits,) float64 each, NaN: unknown; at ERRORS_AT_M only


def _of_class(name: str, samples: Sequence[SampleResult]) -> ClassReport:
    pairs = [_pair(name, sample) for sample in reversed(samples)]
    positives = sum(len(pair.truth) for pair in pairs)
    ranked = {distance: _rank(name, pairs, distance) for distance in DISTANCES_M}
    ap_at = {f"{distance:g}": _average_precision(ranked[distance], positives)
             for distance in DISTANCES_M}
    return ClassReport(float(np.mean(list(ap_at.values()))), ap_at,
                       _errors(name, ranked[ERRORS_AT_M], positives), positives,
                       sum(len(pair.found) for pair in pairs))


def _pair(name: str, sample: SampleResult) -> _Pair:
    found, truth = sample.predictions[::-1], sample.truth
    found = found[of_class(found, name)]
    wanted = truth.boxes[of_class(truth.boxes, name) & counted(truth)]
    return _Pair(found, wanted, nearness(found, wanted))


def _rank(name: str, pairs: Sequence[_Pair], distance: float) -> _Ranked:
    outcomes = [_match(pair, distance) for pair in pairs]
    score = np.concatenate([np.zeros(0), *(pair.found.score for pair in pairs)])
    hit = np.concatenate([np.zeros(0, bool), *(each != FALSE_POSITIVE for each in outcomes)])
    order = np.argsort(-score, kind="stable")
    if distance != ERRORS_AT_M:
        return _Ranked(score[order], hit[order], {})
    errors = [_errors_of_hits(name, pair, outcome)
              for pair, outcome in zip(pairs, outcomes, strict=True)]
    of_hit = np.argsort(-score[hit], kind="stable")
    return _Ranked(score[order], hit[order], {
        error: np.concatenate([np.zeros(0), *(each[error] for each in errors)])[of_hit]
        for error in ERRORS})


def _match(pair: _Pair, distance: float) -> np.ndarray:
    n, m = pair.near.shape
    if not n or not m:
        return np.full(n, FALSE_POSITIVE)
    return match(pair.near, closer_than(distance), pair.found.score, np.ones(m, bool),
                 np.zeros(m, bool), np.ones(n, bool))


def _errors_of_hits(name: str, pair: _Pair, outcome: np.ndarray) -> dict[str, np.ndarray]:
    hit = outcome != FALSE_POSITIVE
    found, truth = pair.found[hit], pair.truth[outcome[hit]]
    return {"ATE": box_errors.translation_error(found, truth),
            "ASE": box_errors.scale_error(found, truth),
            "AOE": box_errors.yaw_error(found, truth, HEADING_PERIOD.get(name, 2 * np.pi)),
            "AVE": box_errors.velocity_error(found, truth),
            "AAE": np.full(len(found), np.nan)}


def _curve(ranked: _Ranked, positives: int) -> Curve:
    true = np.cumsum(ranked.hit)
    return Curve(true / np.arange(1, len(true) + 1), true / max(positives, 1), positives)


def _average_precision(ranked: _Ranked, positives: int) -> float:
    return ap_nuscenes(_curve(ranked, positives)) / 100.0 if ranked.hit.any() else 0.0


def _errors(name: str, ranked: _Ranked, positives: int) -> dict[str, float]:
    undefined = UNDEFINED.get(name, ())
    return {error: float("nan") if error in undefined else
            _error(ranked.errors[error], ranked, positives) for error in ERRORS}


def _error(values: np.ndarray, ranked: _Ranked, positives: int) -> float:
    """Mean over the reached recalls of the mean error of all hits with at least that score."""
    if not len(values):
        return 1.0
    recall = _curve(ranked, positives).recall
    score_at = np.interp(NUSCENES_RECALLS, recall, ranked.score, right=0.0)
    last = int(np.flatnonzero(score_at)[-1]) if score_at.any() else 0
    if last < NUSCENES_FIRST:
        return 1.0
    score_of_hit = ranked.score[ranked.hit]
    running = np.interp(score_at[::-1], score_of_hit[::-1], _running_mean(values)[::-1])[::-1]
    return float(running[NUSCENES_FIRST:last + 1].mean())


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Means of all values up to each one, without the NaN; 0 before the first, 1 if all are NaN."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    return np.nancumsum(values) / np.maximum(np.cumsum(known), 1)
