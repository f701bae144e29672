"""Training: nuScenes as labelled samples. Every scene is decoded once, into a file of its own;
a scene whose file is there is kept, so that making them can be cut off any time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np

from perception_bev.errors import ConfigError
from perception_bev.manifest import Manifest
from perception_bev.recordings.nuscenes import CLASSES
from perception_bev.recordings.nuscenes_set import NuscenesRecording, Spacing
from perception_bev.recordings.nuscenes_truth import IGNORED
from perception_bev.train import cache
from perception_bev.train.cache import Drive
from perception_bev.train.drives import Drives


def classes(manifest: Manifest) -> dict[str, str | None]:
    """The detection task's ten classes, as far as the model has them; what belongs to none of them
    (ambulances, prams, ...) and what the model does not have is not supervised around."""
    return {name: name if name in manifest.classes else None for name in (*CLASSES, IGNORED)}


def scene_names(file: Path) -> list[str]:
    """Scenes to train on, one name a line; empty lines and what follows a # are skipped."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"--scenes {file}: not readable: {err}") from err
    names = [name for line in lines if (name := line.split("#")[0].strip())]
    if not names:
        raise ConfigError(f"--scenes {file}: no scene names in it (one a line)")
    return names


def recording(root: Path, scenes: list[str] | None, spacing: Spacing) -> NuscenesRecording:
    """As training wants it: truth in every sample, and no object taken for background because its
    category is none of the ten."""
    return NuscenesRecording(root, scenes, spacing=spacing, between="interpolated",
                             with_ignored=True)


def file_of(folder: Path, scene: str, spacing: Spacing) -> Path:
    """Key frames and 10 Hz samples of one scene are files of their own."""
    return folder / f"{scene}.{spacing}.safetensors"


def make(folder: Path, source: NuscenesRecording, manifest: Manifest,
         progress: Callable[[Iterator[int], int], Iterator[int]] = lambda made, total: made,
         ) -> None:
    """Decode the scenes that are missing in `folder`.

    Args:
        progress: wraps the iteration over the missing scenes, given their number (tqdm).
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [number for number, scene in enumerate(source.scenes)
               if not file_of(folder, scene, source.spacing).exists()]
    for number in progress(iter(missing), len(missing)):
        rows = np.flatnonzero(source.sequences == number).tolist()
        cache.write(file_of(folder, source.scenes[number], source.spacing),
                    (source[row] for row in rows), manifest, source.calibration_of(rows[0]))


class Scenes(Drives):
    """All samples of all scenes, one after the other, read when wanted."""

    def __init__(self, folder: Path, source: NuscenesRecording, manifest: Manifest) -> None:
        first = np.searchsorted(source.sequences, np.arange(len(source.scenes))).tolist()
        self.drives = [
            Drive(file_of(folder, scene, source.spacing), manifest, source.calibration_of(row))
            for scene, row in zip(source.scenes, first, strict=True)]
        self._first = [0, *accumulate(len(drive) for drive in self.drives)]
