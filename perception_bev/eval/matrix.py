"""Evaluation: the sensor-loss matrix, one report for each subset of the sensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Protocol

import numpy as np

from perception_bev.contracts import MODALITIES, Boxes3D, Modality
from perception_bev.errors import ConfigError, RecordingError
from perception_bev.eval.astyx_protocol import CarReport, FrameResult, evaluate_cars
from perception_bev.recordings.astyx import in_evaluated_region
from perception_bev.recordings.base import Sample
from perception_bev.rig import Calibration

Subset = tuple[Modality, ...]
Detect = Callable[[Subset], Iterable[tuple[Sample, Boxes3D]]]


class Calibrated(Protocol):
    """What is needed of a recording: AstyxRecording has it."""

    def __len__(self) -> int: ...

    def calibration_of(self, index: int) -> Calibration: ...

    def groups(self) -> np.ndarray: ...


def parse_sensors(text: str) -> Subset:
    """"lidar,camera" -> ("camera", "lidar"), in the order of MODALITIES."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in MODALITIES]
    if unknown or not names:
        raise ConfigError(f"--sensors '{text}': expected some of {', '.join(MODALITIES)}, "
                          "with commas between")
    return tuple(name for name in MODALITIES if name in names)


def subsets_of(sensors: Subset) -> list[Subset]:
    """Every non-empty subset: single sensors first, all of them last."""
    return [subset for n in range(1, len(sensors) + 1) for subset in combinations(sensors, n)]


def subset_name(subset: Subset) -> str:
    return "+".join(subset)


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
