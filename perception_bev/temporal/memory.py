"""Temporal: past bird's-eye views, bounded, with the pose and time of each, chosen by their age."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from perception_bev import manifest
from perception_bev.contracts import check_array
from perception_bev.geometry import SE3
from perception_bev.grid import BevGrid
from perception_bev.manifest import Manifest
from perception_bev.temporal.warp import warp_theta

__all__ = ["ALONE", "BevMemory", "Memory", "Moment", "NoMemory", "Recall", "memory_of",
           "warp_theta"]

MAP_FACTOR = 4  # a remembered map's cells are this many of the grid's
NEAR, FAR = 0.5, 1.6  # of a wanted age: what serves for it
SPACING = 1 / 3  # of the smallest wanted age: maps that follow sooner are not kept


@dataclass(frozen=True, slots=True)
class Moment:
    """When and where a map was or is drawn."""

    t_ref_ns: int
    odom_from_base: SE3 | None  # None: nobody knows; nothing is recalled then, nothing stored
    era: tuple[int, ...] = ()  # what has to be the same for two poses to have a motion between them


ALONE = Moment(0, None)  # a frame that is taken for itself


@dataclass(frozen=True, slots=True)
class Recall:
    """What `fuse` gets of the past. Arrays are the memory's, the next recall overwrites them."""

    feeds: Mapping[str, np.ndarray] = field(default_factory=dict)  # by the names of fuse's inputs
    history_s: float | None = None  # [s] age of the oldest map in it; None: there is none


class Memory(Protocol):
    """What the fuse stage remembers with. One caller at a time."""

    drops: Counter[str]  # maps that could not be kept, by reason

    def recall(self, now: Moment) -> Recall: ...

    def store(self, now: Moment, made: Mapping[str, np.ndarray]) -> None:
        """Keep what the outputs of fuse say is to be remembered."""

    def reset(self) -> None: ...


class NoMemory:
    """Of a model that takes every frame for itself."""

    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()

    def recall(self, now: Moment) -> Recall:
        return Recall()

    def store(self, now: Moment, made: Mapping[str, np.ndarray]) -> None:
        pass

    def reset(self) -> None:
        pass


class BevMemory:
    """The maps of the last seconds, each in the grid of its own time.

    For every wanted age the nearest map that lies between NEAR and FAR of it is recalled, with its
    real age and its real motion; no map twice. All is forgotten when the era changes or t_ref goes
    back; what is older than FAR of the largest age serves nobody and is forgotten by itself.

    The wanted ages bound the memory: maps that follow each other closer than SPACING of the
    smallest age are passed over, so that the buffers reach back far enough at any output rate.
    """

    def __init__(self, spec: manifest.Memory, grid: BevGrid) -> None:
        """grid: the manifest's; maps have cells MAP_FACTOR times as large."""
        self._ages_ns = [round(age * 1e9) for age in spec.ages_s]
        self._reach_ns = round(FAR * self._ages_ns[-1])
        self._spacing_ns = round(SPACING * self._ages_ns[0])
        self._grid = grid.coarser(MAP_FACTOR)
        self._shape = (1, spec.channels + 1, *self._grid.shape)  # the last channel is the validity
        capacity = math.ceil(self._reach_ns / self._spacing_ns) + 1
        self._maps = np.full((capacity, *self._shape[1:]), 0.0, np.float32)  # touched: no faults
        self._kept: deque[tuple[Moment, int]] = deque(maxlen=capacity)  # and its row, newest last
        self._next_row = 0
        slots = len(spec.ages_s)
        self._feeds = self._zeros(slots)
        self._nothing = Recall(self._zeros(slots))
        self._filled = [False] * slots
        self.drops: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._kept)

    def recall(self, now: Moment) -> Recall:
        """The past as seen from now."""
        if now.odom_from_base is None:
            return self._nothing
        self._forget(now)
        chosen = self._choose(now.t_ref_ns)
        if not any(chosen):
            return self._nothing
        for slot, kept in enumerate(chosen):
            self._fill(slot, kept, now)
        return Recall(self._feeds, float(self._feeds["memory_age"].max()))

    def store(self, now: Moment, made: Mapping[str, np.ndarray]) -> None:
        """Copy the map of now, `remember` (1, C + 1, X / 4, Y / 4) float32.

        A map that is not finite would spoil the frames of the next second: it is counted instead.
        """
        if now.odom_from_base is None:
            return
        self._forget(now)
        if self._too_soon(now.t_ref_ns):
            return
        remembered = made["remember"]
        check_array("remember", remembered, self._shape, np.float32)
        if not np.isfinite(remembered).all():
            self.drops["not_finite"] += 1
            return
        row, self._next_row = self._next_row, (self._next_row + 1) % len(self._maps)
        self._maps[row] = remembered[0]
        self._kept.append((now, row))

    def reset(self) -> None:
        """Forget all."""
        self._kept.clear()

    def _zeros(self, slots: int) -> dict[str, np.ndarray]:
        return {"memory": np.zeros((1, slots, *self._shape[1:]), np.float32),
                "memory_warp": np.zeros((1, slots, 2, 3), np.float32),
                "memory_age": np.zeros((1, slots), np.float32)}

    def _forget(self, now: Moment) -> None:
        """What cannot serve now or later."""
        if self._kept:
            newest = self._kept[-1][0]
            if newest.era != now.era or newest.t_ref_ns > now.t_ref_ns:
                self._kept.clear()
        while self._kept and now.t_ref_ns - self._kept[0][0].t_ref_ns > self._reach_ns:
            self._kept.popleft()

    def _choose(self, t_ref_ns: int) -> list[tuple[Moment, int] | None]:
        """For every wanted age the nearest map that no smaller age took."""
        free = {t_ref_ns - kept[0].t_ref_ns: kept for kept in self._kept}
        return [free.pop(_nearest(wanted, free), None) for wanted in self._ages_ns]

    def _fill(self, slot: int, kept: tuple[Moment, int] | None, now: Moment) -> None:
        maps, warp, age = self._feeds.values()
        if kept is None:
            if self._filled[slot]:
                maps[0, slot], warp[0, slot], age[0, slot] = 0.0, 0.0, 0.0
        else:
            then, row = kept
            then_from_now = then.odom_from_base.inverse() @ now.odom_from_base
            maps[0, slot] = self._maps[row]
            warp[0, slot] = warp_theta(self._grid, then_from_now)
            age[0, slot] = (now.t_ref_ns - then.t_ref_ns) * 1e-9
        self._filled[slot] = kept is not None

    def _too_soon(self, t_ref_ns: int) -> bool:
        return bool(self._kept) and t_ref_ns - self._kept[-1][0].t_ref_ns < self._spacing_ns


def memory_of(model: Manifest) -> Memory:
    """The memory that a model's `fuse` wants."""
    return NoMemory() if model.memory is None else BevMemory(model.memory, model.grid)


def _nearest(wanted_ns: int, ages_ns: Mapping[int, object]) -> int | None:
    """The age nearest to the wanted one among those that serve for it."""
    fits = [age for age in ages_ns if NEAR * wanted_ns <= age <= FAR * wanted_ns]
    return min(fits, key=lambda age: abs(age - wanted_ns), default=None)
