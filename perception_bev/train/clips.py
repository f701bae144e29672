"""Training: clips for the memory: one frame to be understood, and frames of about the remembered
ages before it, all in one view, with the motion between them. What may be missing is missing often:
single memories, all of them, sensors now or then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from perception_bev.contracts import Boxes3D, Modality
from perception_bev.errors import ConfigError
from perception_bev.geometry import SE3
from perception_bev.inputs.view import View
from perception_bev.manifest import Manifest
from perception_bev.outputs.heads import Targets
from perception_bev.recordings.base import Truth
from perception_bev.temporal.warp import warp_theta
from perception_bev.train import samples
from perception_bev.train.samples import Labelled, SampleMaker, TrainingSample, seen_by

AGE_SPREAD = 0.35  # of a wanted age, either way
EMPTY_SLOT = 0.15  # share of the slots
NO_MEMORY = 0.2  # share of the clips: the model without memory has to stay as good as it was
OTHER_SENSORS = 0.25  # share of the clips whose past was seen by other modalities


@dataclass(frozen=True)
class Clip:
    """Arrays of one clip."""

    now: TrainingSample
    past: tuple[TrainingSample | None, ...]  # of each slot, without targets; None: empty
    warp: np.ndarray  # (K, 2, 3) float32, 0 for an empty slot
    age: np.ndarray  # (K,) float32 [s], 0 for an empty slot

    @property
    def targets(self) -> Targets:
        return self.now.targets


class Sequences(Protocol):
    """Samples that know their drive; `train.drives.Drives` is one."""

    def __len__(self) -> int: ...

    def place(self, index: int) -> tuple[Sequence[Labelled], int]:
        """The drive of a sample, in time order, and its number there."""


class ClipMaker:
    """Draws clips. One caller at a time."""

    def __init__(self, drives: Sequences, manifest: Manifest, classes: dict[str, str | None],
                 weak: bool = False, turn_deg: float = 180.0, period_s: float = 0.1) -> None:
        """weak, turn_deg: as for SampleMaker; period_s: between two samples of a drive."""
        if manifest.memory is None:
            raise ConfigError(f"model '{manifest.name}' has no memory to be trained")
        self._manifest, self._drives, self._period_s = manifest, drives, period_s
        self._weak, self._turn_deg = weak, turn_deg
        self._grid, self._ages_s = manifest.grid.coarser(4), manifest.memory.ages_s
        self._maker = SampleMaker(manifest, classes)

    def starts(self) -> list[int]:
        """Samples with so much past that every slot could be filled."""
        reach = round(self._ages_s[-1] / self._period_s)
        return [i for i in range(len(self._drives)) if self._drives.place(i)[1] >= reach]

    def make(self, index: int, rng: np.random.Generator) -> Clip:
        """The clip that ends with sample `index`."""
        drive, last = self._drives.place(index)
        view = samples._random_view(rng, self._manifest, self._turn_deg)
        present = samples._random_modalities(rng, self._weak)
        present_then = present
        if rng.random() < OTHER_SENSORS:
            present_then = samples._random_modalities(rng, self._weak)
        item = drive[last]
        lost = samples._random_lost_cameras(item, rng)
        frames = self._past(last, rng)
        past = [None if k is None else samples._without_cameras(drive[k], lost) for k in frames]
        then = [None if p is None or now_from(p, item) is None else p for p in past]
        item = samples._without_cameras(item, lost)
        return Clip(
            self._maker.build(item, view, present, rng, seen_before(item, then, present_then)),
            tuple(None if p is None else self._maker.build(untaught(p), view, present_then, rng)
                  for p in then),
            np.stack([np.zeros((2, 3), np.float32) if p is None else self._warp(p, item, view)
                      for p in then]),
            np.array([0.0 if p is None else (item.bundle.t_ref_ns - p.bundle.t_ref_ns) * 1e-9
                      for p in then], np.float32))

    def _past(self, last: int, rng: np.random.Generator) -> list[int | None]:
        """A sample number of each slot, newest first; no sample twice."""
        nothing, steps, taken = rng.random() < NO_MEMORY, 0, []
        for age in self._ages_s:
            wanted = age * rng.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)
            steps = max(steps + 1, round(wanted / self._period_s))
            empty = rng.random() < EMPTY_SLOT
            taken.append(None if nothing or empty else max(last - steps, 0))
        return [None if k is None or k >= last or k in taken[:i] else k
                for i, k in enumerate(taken)]

    def _warp(self, then: Labelled, now: Labelled, view: View) -> np.ndarray:
        return warp_theta(self._grid, now_from(then, now).inverse(), view.linear, view.shift)


def now_from(then: Labelled, now: Labelled) -> SE3 | None:
    """base_link(now) from base_link(then); None when the motion is not known."""
    before, after = then.bundle.odom_from_base, now.bundle.odom_from_base
    return None if before is None or after is None else after.inverse() @ before


def seen_before(now: Labelled, past: Sequence[Labelled | None],
                present: Sequence[Modality]) -> np.ndarray:
    """(N,) bool: boxes of now that one of the past frames shows to these modalities."""
    tracks = now.truth.track
    if tracks is None:
        return np.zeros(len(now.truth.boxes), bool)
    shown = [p.truth.track[seen_by(p, present)] for p in past
             if p is not None and p.truth.track is not None]
    return np.isin(tracks, np.concatenate([*shown, np.zeros(0, np.int64)]))


def untaught(item: Labelled) -> Labelled:
    """The same without truth: of a past frame only the inputs are wanted."""
    none = Boxes3D.empty(item.truth.boxes.classes)
    return replace(item, truth=Truth(none, np.zeros(0, np.int32), np.zeros(0, bool)))


