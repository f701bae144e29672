"""Simulation: where everybody is at any time: a cast, moved once through the whole drive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perception_bev.sim import driving, events
from perception_bev.sim.actors import Actor
from perception_bev.sim.driving import FINE_S, LEAD_S
from perception_bev.sim.population import Population
from perception_bev.sim.scenario import Event
from perception_bev.sim.streets import Streets


@dataclass(frozen=True, slots=True)
class Poses:
    """All moving actors at one time, in the world frame."""

    xy: np.ndarray  # (N, 2) [m]
    yaw: np.ndarray  # (N,) [rad]
    velocity: np.ndarray  # (N, 2) [m/s]


class Traffic:
    """The moving and the parked actors round the ego's way."""

    def __init__(self, streets: Streets, rng: np.random.Generator, seconds: float,
                 staged: Sequence[Event] = (), density: float = 1.0) -> None:
        """
        Args:
            seconds: length of the drive; LEAD_S before it are there too.
            staged: events of a scenario.
            density: how many there are, relative.
        """
        cast = Population(streets, rng, seconds, density, straight=bool(staged))
        events.stage(staged, cast, streets, seconds)
        self.driven = cast.driven  # (N, 2) [m] the ego's way, roughly
        self.parked = cast.parked
        self.movers = cast.movers  # the ego first
        self._table = driving.run(cast.movers, cast.parked, streets, seconds)

    @property
    def actors(self) -> list[Actor]:
        """The moving ones, in the order of `poses`."""
        return [mover.actor for mover in self.movers[1:]]

    def ego_at(self, time_s: np.ndarray | float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position (..., 2) of base_link, heading (...), speed (...) at times [s]."""
        row = self._at(time_s, np.array([0]))[..., 0, :]
        return row[..., :2], row[..., 2], row[..., 3]

    def poses(self, time_s: float) -> Poses:
        """Where the moving actors are at one time."""
        row = self._at(time_s, np.arange(1, len(self.movers)))
        yaw, speed = row[:, 2], row[:, 3]
        return Poses(row[:, :2], yaw,
                     np.stack([np.cos(yaw), np.sin(yaw)], axis=1) * speed[:, None])

    def tracks(self, which: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        """(T, M, 4) x, y, heading, speed of some moving actors (M,) at times (T,)."""
        return self._at(times_s, which + 1)

    def _at(self, time_s: np.ndarray | float, columns: np.ndarray) -> np.ndarray:
        """(..., M, 4), linear between the rows of the table."""
        place = np.clip((np.asarray(time_s) + LEAD_S) / FINE_S, 0, len(self._table) - 1.001)
        k = place.astype(int)[..., None]
        share = (place[..., None] - k)[..., None]
        before, after = self._table[k, columns], self._table[k + 1, columns]
        return before + share * (after - before)
