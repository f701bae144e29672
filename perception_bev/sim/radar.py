"""Simulation: an automotive radar that measures range, azimuth, Doppler and radar cross section.

A fan of rays finds what is in sight; what sends an echo back depends on its cross section and
aspect. Clutter, ghosts behind strong reflectors and false Doppler of ghosts are part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_bev.geometry import SE3
from perception_bev.sim.caster import Caster, Hits, Rays
from perception_bev.sim.lidar import spherical
from perception_bev.sim.surfaces import NOBODY
from perception_bev.sim.weather import Weather
from perception_bev.sim.world import World

HALF_VIEW_DEG = 60.0
RAYS = 180  # across the view
ELEVATIONS_DEG = (-2.5, 0.3, 2.0)
FARTHEST_M = 85.0
ACTORS_M = 100.0  # moving actors whose middle is farther away are not seen
RANGE_NOISE_M, AZIMUTH_NOISE_DEG, DOPPLER_NOISE, RCS_NOISE_DB = 0.15, 0.7, 0.08, 3.0
STATIC_SHARE = 0.12  # of rays on walls, kerbs and poles that give a return
GROUND_SHARE = 0.02  # of those on level ground that are not silent
ACTOR_SHARE = 0.55  # at most, of rays on an actor
HALF_SEEN_M = 55.0  # about where 0 dBsm are seen half as often
CLUTTER = 2.0  # false returns a scan
GHOSTS = 0.04  # of returns that come a second time, farther away
TURN_S = 0.02  # half the time over which the turn rate is measured


@dataclass(frozen=True, slots=True)
class Scan:
    """Returns in the radar's own plane: it has no elevation."""

    distance: np.ndarray  # (N,) float64 [m]
    azimuth: np.ndarray  # (N,) float64 [rad]
    radial: np.ndarray  # (N,) float64 [m/s] away from the radar, not wrapped
    rcs_db: np.ndarray  # (N,) float64 [dBsm]
    actor: np.ndarray  # (N,) int64 row of World.actors, or -1

    def counts(self, actors: int) -> np.ndarray:
        """(A,) int64 returns of each actor."""
        return np.bincount(self.actor[self.actor >= 0], minlength=actors)


class RadarSimulator:
    """Makes scans of one radar.

    `compensated`: it takes its own motion out of the Doppler, as some radars do.
    """

    def __init__(self, base_from_radar: SE3, world: World, caster: Caster, weather: Weather,
                 ghosts: float = 1.0, compensated: bool = False) -> None:
        """ghosts: how much clutter and how many ghosts, relative."""
        self._place, self._world, self._caster = base_from_radar, world, caster
        self._ghosts, self._compensated = GHOSTS * ghosts, compensated
        self._clutter = CLUTTER * (2.0 if weather.name == "rain" else 1.0) * max(ghosts, 1.0) ** 0.5
        azimuth = np.deg2rad(np.linspace(-HALF_VIEW_DEG, HALF_VIEW_DEG, RAYS))
        self._local = spherical(azimuth, np.deg2rad(ELEVATIONS_DEG)).reshape(-1, 3)
        self._rcs = np.array([actor.kind.rcs_dbsm for actor in world.actors] + [0.0])

    def scan(self, time_s: float, seed: int | list[int]) -> Scan:
        """What is measured at a time [s]."""
        rng = np.random.default_rng(seed)
        directions, hits = self.cast(time_s)
        distance, actor, rcs = self._echoes(hits, directions, rng)
        chosen = np.nonzero(np.isfinite(distance))[0]
        local = self._local[chosen]
        radial = self._radial(time_s, directions[chosen], actor[chosen])
        rows = np.stack([distance[chosen], np.arctan2(local[:, 1], local[:, 0]), radial,
                         rcs[chosen]], axis=1)
        return self._disturbed(rows, actor[chosen], rng)

    def cast(self, time_s: float) -> tuple[np.ndarray, Hits]:
        """Directions (N, 3) in world, and hits (N,)."""
        xy, yaw, _ = self._world.traffic.ego_at(time_s)
        world_from_base = SE3.from_rpy(np.array([*xy, 0.0]), [0, 0, float(yaw)])
        world_from_radar = world_from_base @ self._place
        directions = (self._local @ world_from_radar.rotation.T).astype(np.float32)
        origin = world_from_radar.translation.astype(np.float32)
        rays = Rays(origin[None], directions[None], np.array([time_s]))
        flat = np.hstack([np.broadcast_to(origin, directions.shape), directions])
        hits = self._caster.static(flat)
        away = np.linalg.norm(self._world.traffic.poses(time_s).xy - origin[:2], axis=1)
        self._caster.add_moving(rays, hits.reshaped(1, len(flat)), np.nonzero(away < ACTORS_M)[0])
        return directions, hits

    def _echoes(self, hits: Hits, directions: np.ndarray,
                rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Range (inf: no echo), actor or -1, and RCS [dBsm] of each ray."""
        surface, n = np.maximum(hits.surface, 0), len(directions)
        actor = np.where(hits.surface >= 0, self._world.surfaces.owner[surface], NOBODY)
        facing = np.abs(np.einsum("ij,ij->i", hits.normal, directions))
        rcs = self._rcs[actor] + 10 * np.log10(0.1 + 0.9 * facing) + rng.normal(0, RCS_NOISE_DB, n)
        # Rays on an object are the more the nearer it is; returns are not.
        with np.errstate(invalid="ignore"):
            width = np.clip(hits.distance / 40.0, 0.08, 1.0)
            margin = rcs - 40 * np.log10(np.maximum(hits.distance, 1.0) / HALF_SEEN_M) + 4.0
            share = np.where(actor >= 0, ACTOR_SHARE * width / (1 + np.exp(-margin / 4.0)),
                             STATIC_SHARE * width * (0.2 + facing))
        is_ground = np.abs(hits.normal[:, 2]) > 0.9
        silent = (rng.random(n) > share) | (hits.distance > FARTHEST_M) | (hits.surface < 0)
        silent |= is_ground & (rng.random(n) > GROUND_SHARE)
        return np.where(silent, np.inf, hits.distance), actor, rcs

    def _radial(self, time_s: float, directions: np.ndarray, actor: np.ndarray) -> np.ndarray:
        """(N,) [m/s] away from the radar, of the target less the radar's own."""
        velocity = np.zeros((len(self._world.actors) + 1, 2))  # of nobody in the last place
        velocity[:self._world.moving] = self._world.traffic.poses(time_s).velocity
        relative = velocity[actor]
        if not self._compensated:
            relative = relative - self._velocity(time_s)
        return np.einsum("ij,ij->i", relative, directions[:, :2])

    def _velocity(self, time_s: float) -> np.ndarray:
        """(2,) [m/s] the radar's own in world: the vehicle's, and what its turning adds there."""
        _, yaw, speed = self._world.traffic.ego_at(time_s)
        _, heading, _ = self._world.traffic.ego_at(np.array([time_s - TURN_S, time_s + TURN_S]))
        rate = float(heading[1] - heading[0]) / (2 * TURN_S)
        at, cos, sin = self._place.translation, np.cos(float(yaw)), np.sin(float(yaw))
        ahead, left = float(speed) - rate * at[1], rate * at[0]
        return np.array([cos * ahead - sin * left, sin * ahead + cos * left])

    def _disturbed(self, rows: np.ndarray, actor: np.ndarray, rng: np.random.Generator) -> Scan:
        """Measurement noise, ghosts and clutter; rows are range, azimuth, radial speed, RCS."""
        n = len(rows)
        rows[:, 0] += rng.normal(0, RANGE_NOISE_M, n)
        rows[:, 1] += np.deg2rad(rng.normal(0, AZIMUTH_NOISE_DEG, n))
        rows[:, 2] += rng.normal(0, DOPPLER_NOISE, n)
        twice = rng.random(n) < self._ghosts
        ghosts = rows[twice] * [1.0, 1.0, 2.0, 1.0] + [0, 0, 0, -8.0]  # reflected twice: weaker
        ghosts[:, 0] += rng.uniform(3, 20, len(ghosts))
        clutter = _clutter(int(rng.poisson(self._clutter)), rng)
        nobody = np.full(len(ghosts) + len(clutter), NOBODY)
        return Scan(*np.concatenate([rows, ghosts, clutter]).T,
                    np.concatenate([actor, nobody]).astype(np.int64))


def _clutter(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 4) returns from nothing, anywhere in the view."""
    return np.stack([
        rng.uniform(2, FARTHEST_M, count),
        np.deg2rad(rng.uniform(-HALF_VIEW_DEG, HALF_VIEW_DEG, count)),
        rng.normal(0, 8, count), rng.normal(-5, 4, count)], axis=1)
