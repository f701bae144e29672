"""Evaluation: cars by the protocol for Astyx HiRes2019, from boxes and truth alone.

- **Counted**: cars whose centre lies in x 0..80 m, |y| <= 32 m of the radar frame and projects into
  the image (`Truth.counted`), whatever the model's grid. easy, moderate, hard: occlusion up to
  0, 1, 2.
- **Ignored**: harder cars, cars not counted, other vehicles. Persons and two-wheelers are nothing
  here: a car detected on one is a false positive. `matching` says what ignored means.
- **AP of IoU**: 40 recall points, rotated IoU of at least 0.5, in 3D and in bird's-eye view.
- **AP of centre distance**: nuScenes' definition at 0.5, 1, 2 and 4 m in bird's-eye view, cars of
  every counted occlusion.
- **Errors**: plain means over the true positives at 2 m, and `heading_right` over those at
  bird's-eye-view IoU 0.5. No score threshold is applied: a detector that reports faint boxes has
  their errors in the mean.

All of it happens in base_link, where boxes are upright. The data set's frame, the radar's, is
tilted against the road by about 5 degrees and the annotated boxes with the road, so that they are
upright in base_link to about 1 degree; IoU and distance do not change under the rigid motion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from perception_bev.contracts import Boxes3D, check_array
from perception_bev.errors import ConfigError, ShapeMismatch
from perception_bev.eval import box_errors
from perception_bev.eval.average_precision import Curve, Scored, ap_nuscenes, ap_r40
from perception_bev.eval.matching import FALSE_POSITIVE, IGNORED, match, nearness
from perception_bev.eval.plain import without_nan
from perception_bev.outputs.iou import bev_iou, bev_rows, box_rows, iou_3d
from perception_bev.recordings.base import Truth

CAR = "car"
OTHER_VEHICLES = ("truck", "bus", "trailer", "towed object", "other vehicle")
MAX_OCCLUSION = {"easy": 0, "moderate": 1, "hard": 2}
MIN_IOU = 0.5
DISTANCES_M = (0.5, 1.0, 2.0, 4.0)
ERRORS_AT_M = 2.0

Figures = dict[str, dict[str, Any]]  # table -> column -> value


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What a model said about one sample, and what is true."""

    predictions: Boxes3D  # in base_link; every class of the model
    truth: Truth
    predicted_in_view: np.ndarray  # (N,) bool: prediction's centre is in the evaluated region

    def __post_init__(self) -> None:
        check_array("FrameResult.predicted_in_view", self.predicted_in_view,
                    (len(self.predictions),), np.bool_)
        if not np.isfinite(box_rows(self.predictions)).all():
            raise ShapeMismatch("FrameResult.predictions: every box must be finite")
        if CAR not in map(str.lower, self.predictions.classes):
            raise ConfigError(f"the model has no class '{CAR}'; it has: "
                              + ", ".join(self.predictions.classes))


@dataclass(frozen=True)
class CarReport:
    """The protocol's figures; AP in percent, NaN where there was nothing to find."""

    frames: int
    cars: dict[str, int]  # ground truths by difficulty
    car_ap_3d: dict[str, float]  # by difficulty
    car_ap_bev: dict[str, float]
    centre_distance_ap: dict[str, float]  # by distance [m]
    errors: dict[str, float]  # translation [m], scale, yaw [rad], heading_right [0..1], counts
    interval_90: Figures = field(default_factory=dict)  # (low, high) as the APs; empty: not asked

    def as_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes None, which JSON has."""
        return without_nan(asdict(self))


@dataclass(frozen=True, slots=True)
class Criterion:
    """One AP of the report: what a match is, what is to be found, how it is averaged."""

    table: str
    column: str
    affinity: Callable[[Boxes3D, Boxes3D], np.ndarray]  # (N,), (M,) -> (N, M), larger is better
    threshold: float
    max_occlusion: int
    average: Callable[[Curve], float]


def evaluate_cars(frames: Sequence[FrameResult], resamples: int = 0,
                  groups: Sequence[int] | None = None, seed: int = 0) -> CarReport:
    """Score detections against truth.

    Args:
        frames: one result a sample.
        resamples: how often to draw the groups anew, with replacement, for the 90 % intervals;
            0: no intervals.
        groups: (F,) frames that are not independent of each other share a number; default: each
            frame is its own group.
        seed: of the resampling.
    """
    if groups is not None and len(groups) != len(frames):
        raise ShapeMismatch(f"evaluate_cars: {len(groups)} groups for {len(frames)} frames")
    cars = [_only_cars(frame) for frame in frames]
    scored = {criterion: _score(criterion, cars) for criterion in CRITERIA}
    weights = _resampled(range(len(cars)) if groups is None else groups, resamples, seed)
    return CarReport(len(cars), _count(scored), **_averages(scored), errors=_errors(cars),
                     interval_90=_intervals(scored, weights))


def in_bev(found: Boxes3D, truth: Boxes3D) -> np.ndarray:
    """Rotated IoU in bird's-eye view (N, M)."""
    return bev_iou(bev_rows(found), bev_rows(truth))


CRITERIA = (
    *(Criterion("car_ap_3d", name, iou_3d, MIN_IOU, occlusion, ap_r40)
      for name, occlusion in MAX_OCCLUSION.items()),
    *(Criterion("car_ap_bev", name, in_bev, MIN_IOU, occlusion, ap_r40)
      for name, occlusion in MAX_OCCLUSION.items()),
    *(Criterion("centre_distance_ap", f"{distance:g}", nearness, -distance,
                MAX_OCCLUSION["hard"], ap_nuscenes) for distance in DISTANCES_M),
)


# -- one frame -------------------------------------------------------------------------------------

def _only_cars(frame: FrameResult) -> FrameResult:
    chosen = _has_class(frame.predictions, (CAR,))
    return FrameResult(frame.predictions[chosen], frame.truth, frame.predicted_in_view[chosen])


def _has_class(boxes: Boxes3D, names: tuple[str, ...]) -> np.ndarray:
    wanted = [i for i, name in enumerate(boxes.classes) if name.lower() in names]
    return np.isin(boxes.label, wanted)


def _roles(truth: Truth, max_occlusion: int) -> tuple[np.ndarray, np.ndarray]:
    """(M,) bool twice: cars to be found, and what may be found but does not count."""
    car = _has_class(truth.boxes, (CAR,))
    valid = car & truth.counted & (truth.occlusion <= max_occlusion)
    return valid, (car & ~valid) | _has_class(truth.boxes, OTHER_VEHICLES)


def _outcome(frame: FrameResult, affinity: Callable[[Boxes3D, Boxes3D], np.ndarray],
             threshold: float, max_occlusion: int) -> np.ndarray:
    valid, ignored = _roles(frame.truth, max_occlusion)
    return match(affinity(frame.predictions, frame.truth.boxes), threshold,
                 frame.predictions.score, valid, ignored, frame.predicted_in_view)


# -- all frames ------------------------------------------------------------------------------------

def _score(criterion: Criterion, frames: Sequence[FrameResult]) -> Scored:
    scores, hits, numbers, positives = [np.zeros(0, np.float32)], [], [], []
    for i, frame in enumerate(frames):
        outcome = _outcome(frame, criterion.affinity, criterion.threshold, criterion.max_occlusion)
        counts = outcome != IGNORED
        scores.append(frame.predictions.score[counts])
        hits += (outcome[counts] != FALSE_POSITIVE).tolist()
        numbers += [i] * int(counts.sum())
        positives.append(int(_roles(frame.truth, criterion.max_occlusion)[0].sum()))
    return Scored(np.concatenate(scores), np.array(hits, bool), np.array(numbers, np.int64),
                  np.array(positives, np.int64))


def _averages(scored: Mapping[Criterion, Scored], weight: np.ndarray | None = None) -> Figures:
    figures: Figures = {}
    for criterion, detections in scored.items():
        value = criterion.average(detections.curve(weight))
        figures.setdefault(criterion.table, {})[criterion.column] = value
    return figures


def _count(scored: Mapping[Criterion, Scored]) -> dict[str, int]:
    return {criterion.column: int(detections.positives.sum())
            for criterion, detections in scored.items() if criterion.table == "car_ap_3d"}


def _errors(frames: Sequence[FrameResult]) -> dict[str, float]:
    near = [_pairs(frame, nearness, -ERRORS_AT_M) for frame in frames]
    overlapping = [_pairs(frame, in_bev, MIN_IOU) for frame in frames]
    return {
        "translation": _mean(box_errors.translation_error, near),
        "scale": _mean(box_errors.scale_error, near),
        "yaw": _mean(box_errors.yaw_error, near),
        "heading_right": _mean(box_errors.faces_right_way, overlapping),
        "true_positives": sum(len(found) for found, _ in near),
        "heading_of": sum(len(found) for found, _ in overlapping),
    }


def _pairs(frame: FrameResult, affinity: Callable[[Boxes3D, Boxes3D], np.ndarray],
           threshold: float) -> tuple[Boxes3D, Boxes3D]:
    """True positives and what they found, in the same order."""
    outcome = _outcome(frame, affinity, threshold, MAX_OCCLUSION["hard"])
    hit = outcome >= 0
    return frame.predictions[hit], frame.truth.boxes[outcome[hit]]


def _mean(error: Callable[[Boxes3D, Boxes3D], np.ndarray],
          pairs: Sequence[tuple[Boxes3D, Boxes3D]]) -> float:
    values = [error(found, truth) for found, truth in pairs if len(found)]
    return float(np.concatenate(values).mean()) if values else float("nan")


# -- how sure the figures are ----------------------------------------------------------------------

def _resampled(groups: Sequence[int], resamples: int, seed: int) -> list[np.ndarray]:
    """How often each frame counts in each resample, (F,) float64."""
    names, group = np.unique(np.asarray(groups, np.int64), return_inverse=True)
    rng = np.random.default_rng(seed)
    draws = (rng.choice(len(names), len(names)) for _ in range(resamples if len(names) else 0))
    return [np.bincount(draw, minlength=len(names))[group].astype(np.float64) for draw in draws]


def _intervals(scored: Mapping[Criterion, Scored], weights: Sequence[np.ndarray]) -> Figures:
    """The 5th and 95th percentile over the resamples."""
    drawn = [_averages(scored, weight) for weight in weights]
    return {} if not drawn else {
        table: {column: _percentiles([figures[table][column] for figures in drawn])
                for column in columns} for table, columns in drawn[0].items()}


def _percentiles(values: Sequence[float]) -> list[float]:
    finite = [value for value in values if np.isfinite(value)]
    return [float(p) for p in np.percentile(finite, (5, 95))] if finite else [float("nan")] * 2

