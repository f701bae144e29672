"""Pipeline: a model over a recording, without a collector: for evaluation. Ego motion, memory and
all that follows are those of the vehicle; only what comes late or is lost there is here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from perception_bev.contracts import MODALITIES, Boxes3D, Modality, SensorBundle, Slot
from perception_bev.deployment import Deployment
from perception_bev.errors import ConfigError
from perception_bev.latency.ladder import PLANS, Plan
from perception_bev.latency.trace import Trace
from perception_bev.pipeline.ingest import Ingest
from perception_bev.pipeline.perception import Perception
from perception_bev.pipeline.shared_ego import SharedEgo
from perception_bev.recordings.base import Recording, Sample
from perception_bev.rig import Calibration, resolve
from perception_bev.temporal.ego import EgoMotion

EVALUATED_SCORE = 0.02  # precision-recall curves want the faint boxes too


@dataclass(frozen=True)
class Handicap:
    """What the model has to do without."""

    modalities: tuple[Modality, ...] = MODALITIES  # those that are used
    lost: tuple[str, ...] = ()  # names of sensors that are taken for missing
    memory: bool = True  # False: every sample is taken for itself
    plan: Plan = PLANS[0]  # of all frames


def detect(model: Path, recording: Recording, sensors: Sequence[Modality] = MODALITIES,
           indices: Sequence[int] | None = None,
           progress: Callable[[Iterator], Iterator] | None = None,
           deployment: Deployment | None = None, memory: bool = True,
           lost: Sequence[str] = (), plan: Plan = PLANS[0]) -> Iterator[tuple[Sample, Boxes3D]]:
    """Every sample with the boxes that the model finds with these sensors.

    A recording that keeps decoded samples gives them by `bundle_of(index)`.

    A model with memory remembers from sample to sample of one sequence, in the order of the
    indices; with another sequence, or where time goes back, it begins anew.

    Args:
        model: folder of model.yaml.
        sensors: modalities to use; the others are masked.
        indices: samples to use, default: all.
        progress: wraps the iteration over indices (tqdm, rich).
        memory: False takes every sample for itself.
        lost: names of sensors that are taken for missing.
        plan: what is computed for every sample.

    Raises:
        ConfigError: a lost sensor is none of the rig's.
    """
    handicap = Handicap(tuple(sensors), tuple(lost), memory, plan)
    chosen = iter(range(len(recording)) if indices is None else indices)
    runs: dict[tuple[str, ...], _Run] = {}
    try:
        for index in progress(chosen) if progress else chosen:
            calibration = calibration_of(recording, index)
            vehicle = (calibration.rig.name, *calibration.rig.sensors)
            if vehicle not in runs:
                runs[vehicle] = _Run(model, calibration, deployment or Deployment(), handicap)
            decoded = recording.bundle_of(index) if hasattr(recording, "bundle_of") else None
            yield runs[vehicle].detect(recording[index], calibration, decoded)
    finally:
        for run in runs.values():
            run.perception.close()


class _Run:
    """The model on one vehicle, whose calibration may differ from drive to drive."""

    def __init__(self, model: Path, calibration: Calibration, deployment: Deployment,
                 handicap: Handicap) -> None:
        unknown = sorted(set(handicap.lost) - set(calibration.rig.sensors))
        if unknown:
            raise ConfigError(f"lost: rig '{calibration.rig.name}' has no {', '.join(unknown)}; "
                              f"it has: {', '.join(calibration.rig.sensors)}")
        self.perception = Perception(model, calibration, deployment, time.monotonic_ns)
        self._handicap = handicap
        self._last: Sample | None = None
        self._take(calibration)

    def detect(self, sample: Sample, calibration: Calibration,
               decoded: SensorBundle | None = None) -> tuple[Sample, Boxes3D]:
        if not calibration.same_as(self._calibration):
            self.perception.recalibrate(calibration)
            self._take(calibration)
        if self._last is not None and not follows(sample, self._last):
            self.perception.new_epoch(f"sequence {sample.sequence}")
        self._last = sample
        push_motion(self.perception.ego, sample)
        bundle = decoded or self._ingest.bundle(sample)
        bundle, plan = self._what_is_left(bundle), self._handicap.plan
        if plan.cameras == "reused":
            self.perception.see(bundle, plan)
        output = self.perception.process(
            bundle, Trace(0, 0), self._handicap.modalities, EVALUATED_SCORE,
            "keep" if self._handicap.memory else "skip", plan)
        return sample, output.boxes

    def _what_is_left(self, bundle: SensorBundle) -> SensorBundle:
        gone = dict.fromkeys(self._handicap.lost, Slot(reason="missing"))
        return replace(bundle, slots={**bundle.slots, **gone})

    def _take(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._ingest = Ingest(self.perception.manifest, calibration)


def follows(sample: Sample, before: Sample) -> bool:
    """Whether what was known at one sample still holds at another."""
    return sample.sequence == before.sequence and sample.t_ref_ns >= before.t_ref_ns


def push_motion(ego: EgoMotion | SharedEgo, sample: Sample) -> None:
    """What odometry says up to a sample's t_ref, and the pose there where the recording knows it.

    That pose has no velocity of its own: a difference to an odometry sample shortly before would
    be mostly noise.
    """
    for at in sample.odometry:
        ego.push(at.stamp_ns, at.odom_from_base, at.linear, at.angular)
    known = any(at.stamp_ns == sample.t_ref_ns for at in sample.odometry)
    if sample.odom_from_base is not None and not known:
        twist = ego.twist_at(sample.t_ref_ns) or (None, None)
        ego.push(sample.t_ref_ns, sample.odom_from_base, *twist)


def calibration_of(recording: Recording, index: int) -> Calibration:
    """The recording's own calibration where its rig file has holes."""
    if hasattr(recording, "calibration_of"):
        return recording.calibration_of(index)
    return resolve(recording.rig_of(index))
