"""Pipeline: a model over a recording, without a collector: for evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from perception_bev.contracts import MODALITIES, Boxes3D, Modality
from perception_bev.deployment import Deployment
from perception_bev.latency.trace import Trace
from perception_bev.pipeline.ingest import Ingest
from perception_bev.pipeline.perception import Perception
from perception_bev.recordings.base import Recording, Sample
from perception_bev.rig import Calibration, resolve

EVALUATED_SCORE = 0.02  # precision-recall curves want the faint boxes too


def detect(model: Path, recording: Recording, sensors: Sequence[Modality] = MODALITIES,
           indices: Sequence[int] | None = None,
           progress: Callable[[Iterator], Iterator] | None = None,
           deployment: Deployment | None = None) -> Iterator[tuple[Sample, Boxes3D]]:
    """Every sample with the boxes that the model finds with these sensors.

    Args:
        model: folder of model.yaml.
        sensors: modalities to use; the others are masked.
        indices: samples to use, default: all.
        progress: wraps the iteration over indices (tqdm, rich).
    """
    chosen = iter(range(len(recording)) if indices is None else indices)
    runs: dict[tuple[str, ...], _Run] = {}
    try:
        for index in progress(chosen) if progress else chosen:
            calibration = calibration_of(recording, index)
            vehicle = (calibration.rig.name, *calibration.rig.sensors)
            if vehicle not in runs:
                runs[vehicle] = _Run(model, calibration, deployment or Deployment())
            yield runs[vehicle].detect(recording[index], calibration, sensors)
    finally:
        for run in runs.values():
            run.perception.close()


class _Run:
    """The model on one vehicle, whose calibration may differ from drive to drive."""

    def __init__(self, model: Path, calibration: Calibration, deployment: Deployment) -> None:
        self.perception = Perception(model, calibration, deployment, time.monotonic_ns)
        self._take(calibration)

    def detect(self, sample: Sample, calibration: Calibration,
               sensors: Sequence[Modality]) -> tuple[Sample, Boxes3D]:
        if not calibration.same_as(self._calibration):
            self.perception.recalibrate(calibration)
            self._take(calibration)
        bundle = self._ingest.bundle(sample)
        output = self.perception.process(bundle, Trace(0, 0), sensors, EVALUATED_SCORE)
        return sample, output.boxes

    def _take(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._ingest = Ingest(self.perception.manifest, calibration)


def calibration_of(recording: Recording, index: int) -> Calibration:
    """The recording's own calibration where its rig file has holes."""
    if hasattr(recording, "calibration_of"):
        return recording.calibration_of(index)
    return resolve(recording.rig_of(index))
