"""Training: simulated drives as labelled samples. Those that are missing are generated and decoded
by several processes; what is there is kept, so that making a set can be cut off at any time."""

from __future__ import annotations

import json
import multiprocessing
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from perception_bev.errors import ConfigError
from perception_bev.manifest import Manifest
from perception_bev.recordings.base import Recording
from perception_bev.rig import Rig, resolve
from perception_bev.train import cache
from perception_bev.train.cache import Drive
from perception_bev.train.samples import Labelled

SET = "set.json"  # what all drives of a folder are made of

MakeRecording = Callable[[Rig, int, float], Recording]  # rig, seed, seconds


@dataclass(frozen=True)
class DriveSet:
    """Which drives: seeds from `first_seed` on, of `seconds` each, on one rig."""

    rig: Rig
    count: int
    seconds: float
    first_seed: int

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.count)


def classes(manifest: Manifest) -> dict[str, str | None]:
    """The simulator's classes are the model's own."""
    return {name: name for name in manifest.classes}


def simulated(rig: Rig, seed: int, seconds: float) -> Recording:
    """A drive whose streets, traffic and weather are drawn by its seed."""
    from perception_bev.sim.drive import SimRecording

    return SimRecording(rig, seed, seconds)


def file_of(folder: Path, seed: int) -> Path:
    return folder / f"drive_{seed:06d}.safetensors"


def make(folder: Path, drives: DriveSet, manifest: Manifest, processes: int = 2,
         progress: Callable[[Iterator, int], Iterator] = lambda made, total: made,
         recording: MakeRecording | None = None) -> None:
    """Generate what is missing in `folder`.

    Args:
        progress: wraps the iteration over the missing drives, given their number (tqdm).
        recording: makes a drive, default: the simulator; importable by name, for it runs in
            other processes.

    Raises ConfigError when the folder holds drives of another length.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _hold(folder, {"seconds": drives.seconds, "rig": drives.rig.name})
    missing = [seed for seed in drives.seeds if not file_of(folder, seed).exists()]
    jobs = [(folder, seed, drives, manifest, recording or simulated) for seed in missing]
    if processes <= 1 or len(jobs) <= 1:
        made = map(_make_one, jobs)
        for _ in progress(made, len(jobs)):
            pass
        return
    with multiprocessing.get_context("spawn").Pool(min(processes, len(jobs))) as pool:
        for _ in progress(pool.imap_unordered(_make_one, jobs), len(jobs)):
            pass


def _make_one(job: tuple) -> int:
    folder, seed, drives, manifest, recording = job
    drive = recording(drives.rig, seed, drives.seconds)
    samples = (drive[index] for index in range(len(drive)))
    cache.write(file_of(folder, seed), samples, manifest, resolve(drives.rig))
    return seed


def _hold(folder: Path, made_of: dict) -> None:
    """One folder, one kind of drives."""
    file = folder / SET
    if file.exists() and json.loads(file.read_text()) != made_of:
        raise ConfigError(f"{folder} holds drives of {file.read_text()}, wanted are "
                          f"{json.dumps(made_of)}: name another folder")
    file.write_text(json.dumps(made_of))


class Drives(Sequence[Labelled]):
    """All samples of a set of drives, one after the other, read when wanted."""

    def __init__(self, folder: Path, drives: DriveSet, manifest: Manifest) -> None:
        calibration = resolve(drives.rig)
        self.drives = [Drive(file_of(folder, seed), manifest, calibration)
                       for seed in drives.seeds]
        self._first = [0, *accumulate(len(drive) for drive in self.drives)]

    def __len__(self) -> int:
        return self._first[-1]

    def __getitem__(self, index: int) -> Labelled:
        drive, place = self.place(index)
        return drive[place]

    def place(self, index: int) -> tuple[Drive, int]:
        """The drive of a sample, and its number there."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        number = bisect_right(self._first, index) - 1
        return self.drives[number], index - self._first[number]
