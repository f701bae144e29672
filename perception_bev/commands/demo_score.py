"""Commands: what was published live against the ground truth of its t_ref. A truth whose output was
lost counts as one in which nothing was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perception_bev.commands.demo_truth import Moment, objects_of, tracks_of
from perception_bev.contracts import Boxes3D
from perception_bev.errors import PerceptionError
from perception_bev.eval.matching import FALSE_POSITIVE, closer_than, match, nearness
from perception_bev.eval.nuscenes_protocol import CLASSES, SampleResult, counted, evaluate, of_class
from perception_bev.eval.plain import without_nan
from perception_bev.recordings.base import Truth

MATCHED_M = 2.0
MOVING_MPS = 0.5
FIGURES = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE")


def score(moments: Sequence[Moment], classes: tuple[str, ...]) -> dict[str, Any]:
    """Figures of `objects` and, where there are any, of `tracks`; plain values for JSON."""
    objects = [objects_of(moment.output, classes) for moment in moments]
    report = {"objects": _detection(moments, objects), "tracks": None}
    if any(moment.output and "tracks" in moment.output for moment in moments):
        tracks = [tracks_of(moment.output, classes) for moment in moments]
        report["tracks"] = {**_detection(moments, [boxes for boxes, _ in tracks]),
                            **_identities(moments, tracks)}
    return without_nan(report)


def _detection(moments: Sequence[Moment], found: Sequence[Boxes3D]) -> dict[str, Any]:
    """nuScenes' figures of what was published, and what is there at 2 m whatever the score."""
    report = evaluate([SampleResult(boxes, moment.truth)
                       for boxes, moment in zip(found, moments, strict=True)])
    figures = report.as_json()
    present = [each.ap for each in report.per_class.values() if each.ground_truths]
    pairs = [at_two_metres(boxes, moment.truth)
             for boxes, moment in zip(found, moments, strict=True)]
    return {**{name: figures[name] for name in FIGURES},
            "mAP_of_present_classes": float(np.mean(present)) if present else float("nan"),
            "classes_without_truth": figures["classes_without_truth"],
            "AP": {name: each.ap for name, each in report.per_class.items() if each.ground_truths},
            **_shares(pairs), **_velocity(pairs)}


class Pairs:
    """The boxes of one sample that found a truth, and how many there are of which kind."""

    def __init__(self) -> None:
        self.hits = self.wrong = self.truths = 0
        self.speed_error: list[float] = []  # [m/s] of the hits, NaN where unknown
        self.moving: list[bool] = []  # whether the truth moves


def at_two_metres(found: Boxes3D, truth: Truth) -> Pairs:
    """Boxes choose, the best first, the nearest truth of their class within 2 m; a box on an object
    that no sensor sees is neither right nor wrong."""
    pairs, seen = Pairs(), counted(truth)
    for name in CLASSES:
        boxes = found[of_class(found, name)]
        wanted = of_class(truth.boxes, name)
        true, valid = truth.boxes[wanted], seen[wanted]
        outcome = match(nearness(boxes, true), closer_than(MATCHED_M), boxes.score, valid, ~valid,
                        np.ones(len(boxes), bool))
        hit = outcome >= 0
        pairs.hits += int(hit.sum())
        pairs.wrong += int((outcome == FALSE_POSITIVE).sum())
        pairs.truths += int(valid.sum())
        velocity = true.velocity[outcome[hit]]
        pairs.speed_error += np.linalg.norm(boxes.velocity[hit] - velocity, axis=1).tolist()
        pairs.moving += (np.linalg.norm(velocity, axis=1) > MOVING_MPS).tolist()
    return pairs


def _shares(pairs: Sequence[Pairs]) -> dict[str, Any]:
    hits, wrong, truths = (sum(getattr(each, name) for each in pairs)
                           for name in ("hits", "wrong", "truths"))
    return {"truths": truths, "found": hits, "wrong": wrong,
            "recall_2m": hits / truths if truths else float("nan"),
            "precision_2m": hits / (hits + wrong) if hits + wrong else float("nan")}


def _velocity(pairs: Sequence[Pairs]) -> dict[str, float]:
    """Mean length of the velocity's error [m/s] of what was found."""
    error = np.array([value for each in pairs for value in each.speed_error], np.float64)
    moving = np.array([value for each in pairs for value in each.moving], bool)
    return {"velocity_error_mps": _mean(error), "velocity_error_moving_mps": _mean(error[moving])}


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _identities(moments: Sequence[Moment], tracks: Sequence[tuple[Boxes3D, np.ndarray]]
                ) -> dict[str, Any]:
    """HOTA and its kin over the whole drive as one sequence."""
    from perception_bev.eval.tracking import TrackedSample, evaluate_tracks

    try:
        figures = evaluate_tracks([TrackedSample(0, boxes, ids, moment.truth)
                                   for (boxes, ids), moment in zip(tracks, moments, strict=True)])
    except PerceptionError as err:
        return {"identities": str(err)}
    wanted = ("HOTA", "MOTA", "IDF1", "id_switches", "fragmentations", "mostly_tracked",
              "mostly_lost", "objects", "tracks")
    return {name: figures["all"][name] for name in wanted}
