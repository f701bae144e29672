"""Simulation: when each sensor of a rig measures, and which chance each measurement has.

Cameras are taken when the lidar's beam passes their axis; radars have a phase each. A sensor whose
period divides the sweep's keeps its place in every sweep; any other runs free, from its first
place on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from perception_bev.geometry import SE3

START_NS = 1_700_000_000_000_000_000  # stamp of time 0
RADAR_PHASE_S, RADAR_STEP_S = 0.003, 0.006  # of the first radar before the sweep's end; of the next
_PLACES = 64  # chances of a sample that have numbers of their own; later ones have lists
_LATEST_FRAME = 1 << 20  # added to the number of a free frame, which may be negative


@dataclass(frozen=True, slots=True)
class Moment:
    """One measurement."""

    time_s: float
    seed: int | list[int]  # of its noise


@dataclass(frozen=True, slots=True)
class Place:
    """Which of a sample's chances are a sensor's: `width` numbers from `first` on."""

    first: int
    width: int


def camera_place(k: int) -> Place:
    """Of the rig's camera k."""
    return Place(k if k < 30 else _PLACES + k, 1)


def radar_place(k: int) -> Place:
    """Of the rig's radar k."""
    return Place(32 + 4 * k, 4)


LIDAR_PLACE = Place(30, 2)


def stamp_ns(time_s: float) -> int:
    """Of a time of the drive, in whole microseconds."""
    return START_NS + round(time_s * 1e6) * 1000


def beam_share(base_from_camera: SE3) -> float:
    """When in a sweep the beam, clockwise from behind, passes a camera's axis, in [0, 1)."""
    axis = base_from_camera.rotation[:, 2]
    return float(((np.pi - np.arctan2(axis[1], axis[0])) % (2 * np.pi)) / (2 * np.pi))


class Schedule:
    """The measurements of one sensor that belong to each sample."""

    def __init__(self, seed: int, place: Place, phase_s: float, period_s: float,
                 sweep_s: float) -> None:
        """
        Args:
            seed: of the drive.
            phase_s: how long before the sweep's end the last measurement of a sweep is.
            period_s, sweep_s: of the sensor, and of the samples.
        """
        self._seed, self._place, self._phase_s = seed, place, phase_s
        self._period_s, self._sweep_s = period_s, sweep_s
        self._count = round(sweep_s / period_s)

    @property
    def is_locked(self) -> bool:
        """Whether the sensor measures at the same places in every sweep."""
        return abs(self._sweep_s - self._count * self._period_s) < 1e-9

    def of(self, index: int, t_ref: float) -> list[Moment]:
        """Those of the sweep that ends at t_ref [s], oldest first; at least the newest one."""
        if self.is_locked:
            return self._locked(index, t_ref - self._phase_s)
        return self._free(t_ref)

    def _locked(self, index: int, last: float) -> list[Moment]:
        times = [last - self._period_s * k for k in reversed(range(self._count))]
        sample, place = (self._seed * 1_000_003 + index) * _PLACES, self._place
        numbered = place.first + place.width <= _PLACES
        return [Moment(time, sample + place.first + i if numbered and i < place.width
                       else [sample, place.first, i]) for i, time in enumerate(times)]

    def _free(self, t_ref: float) -> list[Moment]:
        """Measurement n is at the first one's time and n periods, in whatever sample it is."""
        first = self._sweep_s - self._phase_s
        newest, before = (math.floor((end - first) / self._period_s + 1e-9)
                          for end in (t_ref, t_ref - self._sweep_s))
        return [Moment(first + self._period_s * n,
                       [self._seed, self._place.first, n + _LATEST_FRAME])
                for n in range(min(before + 1, newest), newest + 1)]
