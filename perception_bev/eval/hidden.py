"""Evaluation: objects that no sensor has now but some had in the last second: what memory is for.

Hidden: no lidar point, no radar return, no pixel in this sample, something in a sample of the same
track at most `WITHIN_S` before, and still inside the range of its class. nuScenes' own figures do
not count these objects: there a box on one is a false positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.errors import RecordingError
from perception_bev.eval.matching import closer_than, match, nearness
from perception_bev.eval.nuscenes_protocol import CLASSES, of_class
from perception_bev.recordings.base import Sample, Truth

WITHIN_S = 1.0
MATCHED_M = 2.0


@dataclass(frozen=True, slots=True)
class Recall:
    """How many of the hidden objects have a box, at one score threshold."""

    score: float
    boxes_per_sample: float  # all boxes from that score on, inside the ranges
    found: int
    of: int

    @property
    def share(self) -> float:
        return self.found / self.of if self.of else float("nan")


def hidden_now(samples: Sequence[Sample]) -> list[np.ndarray]:
    """(M,) bool a sample; samples of one sequence in time order, sequences one after the other."""
    last_seen: dict[tuple[int, int], int] = {}
    hidden = []
    for sample in samples:
        truth, now = _checked(sample), sample.t_ref_ns
        keys = [(sample.sequence, int(track)) for track in truth.track]
        seen = _seen(truth)
        last_seen |= {key: now for key, visible in zip(keys, seen, strict=True) if visible}
        lately = np.array([0 <= now - last_seen.get(key, -1 << 62) <= WITHIN_S * 1e9
                           for key in keys], bool)
        hidden.append(~seen & lately & _in_range(truth.boxes))
    return hidden


def recall(samples: Sequence[Sample], found: Sequence[Boxes3D], hidden: Sequence[np.ndarray],
           score: float) -> Recall:
    """Boxes of at least `score` choose the nearest free object of their class within MATCHED_M,
    hidden or not: the box of a neighbour that is seen does not count for a hidden object."""
    chosen = [boxes[_in_range(boxes) & (boxes.score >= score)] for boxes in found]
    hits = [int((_matched(boxes, sample.truth) & wanted).sum())
            for boxes, sample, wanted in zip(chosen, samples, hidden, strict=True)]
    return Recall(score, sum(map(len, chosen)) / max(len(samples), 1), sum(hits),
                  int(sum(wanted.sum() for wanted in hidden)))


def score_of(found: Sequence[Boxes3D], boxes_per_sample: float) -> float:
    """The score from which on there are so many boxes a sample, inside the ranges, on average."""
    scores = np.concatenate([np.zeros(0), *(boxes.score[_in_range(boxes)] for boxes in found)])
    wanted = round(boxes_per_sample * len(found))
    if wanted >= len(scores):
        return 0.0
    return float(np.sort(scores)[::-1][max(wanted - 1, 0)])


def objects_per_sample(samples: Sequence[Sample], hidden: Sequence[np.ndarray]) -> float:
    """Objects that are seen or hidden, inside the ranges: as many boxes as a perfect model has."""
    total = sum(int(((_seen(s.truth) & _in_range(s.truth.boxes)) | wanted).sum())
                for s, wanted in zip(samples, hidden, strict=True))
    return total / max(len(samples), 1)


def _checked(sample: Sample) -> Truth:
    truth = sample.truth
    if truth is None or truth.track is None or truth.seen is None:
        raise RecordingError(f"{sample.name}: hidden objects need tracks and what each sensor saw "
                             "in the ground truth")
    return truth


def _seen(truth: Truth) -> np.ndarray:
    seen = truth.seen
    return seen.lidar_points + seen.radar_returns + seen.pixels > 0


def _in_range(boxes: Boxes3D) -> np.ndarray:
    return np.any([of_class(boxes, name) for name in CLASSES], axis=0)


def _matched(found: Boxes3D, truth: Truth) -> np.ndarray:
    """(M,) bool: truths that have a box."""
    has_box = np.zeros(len(truth.boxes), bool)
    for name in CLASSES:
        mine, theirs = of_class(found, name), np.flatnonzero(of_class(truth.boxes, name))
        boxes, m = found[mine], len(theirs)
        if len(boxes) and m:
            outcome = match(nearness(boxes, truth.boxes[theirs]), closer_than(MATCHED_M),
                            boxes.score, np.ones(m, bool), np.zeros(m, bool),
                            np.ones(len(boxes), bool))
            has_box[theirs[outcome[outcome >= 0]]] = True
    return has_box
