"""Evaluation: simulated drives as one recording of decoded samples, generated once and kept.

A model runs over the same drives fifteen times and more; generating a sample takes longer than all
of that. What is kept depends on the rig, the picture size, the length and the simulator's sources:
each combination has a folder of its own, so that no figure is of another simulator than this one.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import perception_bev
from perception_bev.contracts import SensorBundle
from perception_bev.errors import ConfigError
from perception_bev.manifest import Manifest
from perception_bev.recordings.base import Sample
from perception_bev.rig import Calibration, Rig, resolve
from perception_bev.train import cache, drives

Progress = Callable[[Iterator, int], Iterator]


class DecodedDrives:
    """A Recording whose samples have no raw frames but a bundle: `bundle_of` (pipeline/offline)."""

    def __init__(self, files: dict[int, Path], manifest: Manifest, rig: Rig) -> None:
        """files: by seed, which is the sequence of its samples."""
        self._calibration = resolve(rig)
        self._seeds = list(files)
        self._drives = [cache.Drive(file, manifest, self._calibration) for file in files.values()]
        self._first = [0, *accumulate(len(drive) for drive in self._drives)]

    def __len__(self) -> int:
        return self._first[-1]

    def __getitem__(self, index: int) -> Sample:
        seed, drive, place = self._place(index)
        return Sample(f"seed {seed}, sample {place}", seed, drive.t_ref_ns(place), {},
                      drive.truth(place), drive.pose(place), odometry=drive.odometry(place))

    def bundle_of(self, index: int) -> SensorBundle:
        seed, drive, place = self._place(index)
        return replace(drive[place].bundle, epoch=seed)

    def rig_of(self, index: int) -> Rig:
        return self._calibration.rig

    def calibration_of(self, index: int) -> Calibration:
        return self._calibration

    def _place(self, index: int) -> tuple[int, cache.Drive, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        number = bisect_right(self._first, index) - 1
        return self._seeds[number], self._drives[number], index - self._first[number]


def generated(folder: Path, rig: Rig, seeds: Sequence[int], seconds: float, manifest: Manifest,
              processes: int = 2, progress: Progress = lambda made, total: made,
              recording: drives.MakeRecording = drives.simulated) -> DecodedDrives:
    """The drives of these seeds; those that are missing in `folder` are generated.

    Args:
        folder: where drives of every kind are kept; each kind gets a folder of its own in it.
        progress: wraps the iteration over drives that are made, given their number.
        recording: makes a drive.
    """
    own = folder / kind_of(rig, seconds, manifest)
    for run in _runs(seeds):
        wanted = drives.DriveSet(rig, len(run), seconds, run[0])
        drives.make(own, wanted, manifest, processes, progress, recording)
    return DecodedDrives({seed: drives.file_of(own, seed) for seed in seeds}, manifest, rig)


def kind_of(rig: Rig, seconds: float, manifest: Manifest) -> str:
    """Name of the folder of all drives that differ in nothing but their seed."""
    total = hashlib.sha256(cache.fingerprint(manifest, resolve(rig)).encode())
    for source in sorted((Path(perception_bev.__file__).parent / "sim").glob("*.py")):
        total.update(source.read_bytes())
    return f"{rig.name}-{seconds:g}s-{total.hexdigest()[:12]}"


def default_folder() -> Path:
    """Below the user's cache folder (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "perception_bev" / "drives"


def parse_seeds(text: str) -> tuple[int, ...]:
    """"1-3,8" -> (1, 2, 3, 8). ConfigError for anything else than whole numbers from 0 on."""
    seeds: list[int] = []
    for part in text.split(","):
        first, to, last = part.strip().partition("-")
        if not first.isdigit() or bool(to) != last.isdigit():
            raise ConfigError(f"--seeds '{text}': whole numbers and ranges expected, as in 1-8,12")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds '{text}': at least one seed expected, and none twice")
    return tuple(seeds)


def _runs(seeds: Sequence[int]) -> list[list[int]]:
    """Seeds in runs that follow each other: [1, 2, 5] -> [[1, 2], [5]]."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return runs
