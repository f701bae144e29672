"""Evaluation: CLEAR MOT, which counts misses, false tracks and id switches sample by sample.

Bernardin and Stiefelhagen, "Evaluating multiple object tracking performance: the CLEAR MOT
metrics", 2008, as MOTChallenge applies it: an object keeps the track of the sample before if it
can, then similarity decides; a switch is another track than the last one, however long ago. Written
out here because motrics 0.3.0 makes as many pairs as possible before it keeps tracks, and so counts
fewer switches in crowds (docs/evaluation.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from perception_bev.outputs.assign import Solver, solver

KEPT = 1000.0  # worth of keeping a track, more than all similarities of a sample together
MOSTLY_TRACKED, MOSTLY_LOST = 0.8, 0.2  # shares of an object's samples


@dataclass
class Clear:
    """Counts over all samples."""

    matches: int = 0
    misses: int = 0
    false_tracks: int = 0
    switches: int = 0
    present: Counter[int] = field(default_factory=Counter)  # samples, by object
    matched: Counter[int] = field(default_factory=Counter)
    begun: Counter[int] = field(default_factory=Counter)  # how often tracking began

    @property
    def mota(self) -> float:
        """1 - (misses + false tracks + switches) / objects to be found; NaN without any."""
        errors = self.misses + self.false_tracks + self.switches
        total = self.matches + self.misses
        return 1.0 - errors / total if total else float("nan")

    @property
    def fragmentations(self) -> int:
        return sum(times - 1 for times in self.begun.values())

    @property
    def mostly_tracked(self) -> int:
        return sum(share > MOSTLY_TRACKED for share in self._shares())

    @property
    def mostly_lost(self) -> int:
        return sum(share < MOSTLY_LOST for share in self._shares())

    def _shares(self) -> list[float]:
        return [self.matched[one] / samples for one, samples in self.present.items()]


def clear_mot(objects: Sequence[Sequence[int]], tracks: Sequence[Sequence[int]],
              similarity: Sequence[np.ndarray], threshold: float) -> Clear:
    """Compare tracks with objects, a list of ids a sample each.

    similarity: (objects, tracks) in 0..1 a sample; pairs below `threshold` never match.
    """
    counts, solve = Clear(), solver()
    before: dict[int, int] = {}  # object -> track, of the last sample that had both
    last: dict[int, int] = {}  # of whenever it was
    for ours, theirs, near in zip(objects, tracks, similarity, strict=True):
        now = _pairs(ours, theirs, near, threshold, before, solve)
        counts.present.update(ours)
        counts.matches += len(now)
        counts.misses += len(ours) - len(now)
        counts.false_tracks += len(theirs) - len(now)
        counts.switches += sum(last.get(one, track) != track for one, track in now.items())
        counts.matched.update(now.keys())
        counts.begun.update(now.keys() - before.keys())
        last |= now
        if len(ours) and len(theirs):
            before = now
    return counts


def _pairs(objects: Sequence[int], tracks: Sequence[int], similarity: np.ndarray,
           threshold: float, before: dict[int, int], solve: Solver) -> dict[int, int]:
    """The matches of one sample: object -> track."""
    if not (len(objects) and len(tracks)):
        return {}
    kept = np.array([before.get(one, -1) for one in objects])[:, None] == np.asarray(tracks)
    worth = np.where(similarity >= threshold, similarity + KEPT * kept, 0.0)
    rows, columns = solve(-worth)
    return {objects[i]: tracks[j] for i, j in zip(rows, columns, strict=True) if worth[i, j] > 0}
