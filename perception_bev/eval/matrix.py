"""Evaluation: the sensor-loss matrix, one report for each subset of the sensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.errors import RecordingError
from perception_bev.eval.astyx_protocol import CarReport, FrameResult, evaluate_cars
from perception_bev.eval.subsets import Subset, subset_name
from perception_bev.recordings.astyx import in_evaluated_region
from perception_bev.recordings.base import Sample
from perception_bev.rig import Calibration

Detect = Callable[[Subset], Iterable[tuple[Sample, Boxes3D]]]


class Calibrated(Protocol):
    """What is needed of a recording: AstyxRecording has it."""

    def __len__(self) -> int: ...

    def calibration_of(self, index: int) -> Calibration: ...

    def groups(self) -> np.ndarray: ...


def sensor_loss_matrix(recording: Calibrated, detect: Detect, subsets: Sequence[Subset],
                       resamples: int = 0) -> dict[str, CarReport]:
    """Run the detector with each subset of the sensors on the whole recording and score it.

    Args:
        recording: with truth.
        detect: yields every sample of the recording, in order, with its boxes.
        subsets: of the modalities.
        resamples: of `evaluate_cars`; frames close in time are drawn together.
    """
    groups = recording.groups()
    return {subset_name(subset): evaluate_cars(frame_results(recording, detect(subset)),
                                               resamples, groups) for subset in subsets}


def frame_results(recording: Calibrated,
                  detections: Iterable[tuple[Sample, Boxes3D]]) -> list[FrameResult]:
    """Put truth and field of view beside the boxes. Raises RecordingError when either lacks."""
    results = []
    for index, (sample, boxes) in enumerate(detections):
        if sample.truth is None:
            raise RecordingError(f"{sample.name}: it has no labels, so there is nothing to score")
        in_view = in_evaluated_region(boxes.centre, recording.calibration_of(index))
        results.append(FrameResult(boxes, sample.truth, in_view))
    if len(results) != len(recording):
        raise RecordingError(f"{len(results)} of {len(recording)} samples came back")
    return results
