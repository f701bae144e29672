"""Simulation: an automotive radar that measures range, azimuth, Doppler and radar cross section.

A fan of rays finds what is in sight; what sends an echo back depends on its cross section and
aspect. Clutter, ghosts behind strong reflectors and wrapped Doppler are part of it.
"""

from __future__ import annotations

import numpy as np

from perception_bev.geometry import SE3
from perception_bev.rig import Doppler
from perception_bev.sim.caster import Caster
from perception_bev.sim.lidar import add_actors
from perception_bev.sim.weather import Weather
from perception_bev.sim.world import World

HALF_VIEW_DEG = 60.0
RAYS = 180  # across the view
ELEVATIONS_DEG = (-2.5, 0.3, 2.0)
FARTHEST_M = 85.0
RANGE_NOISE_M, AZIMUTH_NOISE_DEG, DOPPLER_NOISE = 0.15, 0.7, 0.08
STATIC_SHARE = 0.12  # of rays on walls, kerbs and poles that give a return
CLUTTER = 2.0  # false returns a scan
GHOSTS = 0.04  # a return seen a second time, farther away
DTYPE = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("doppler", "<f4"), ("rcs", "<f4")])


class RadarSimulator:
    """Makes scans of one radar. It has no elevation: returns lie in its own plane."""

    def __init__(self, base_from_radar: SE3, doppler: Doppler, world: World, caster: Caster,
                 weather: Weather, ghosts: float = 1.0) -> None:
        self._place, self._doppler, self._world, self._caster = base_from_radar, doppler, world, caster
        self._ghosts = GHOSTS * ghosts
        self._clutter = CLUTTER * (2.0 if weather.name == "rain" else 1.0) * max(ghosts, 1.0) ** 0.5
        azimuth = np.deg2rad(np.linspace(-HALF_VIEW_DEG, HALF_VIEW_DEG, RAYS))
        elevation = np.deg2rad(ELEVATIONS_DEG)
        self._local = np.stack(np.broadcast_arrays(
            np.cos(elevation) * np.cos(azimuth)[:, None], np.cos(elevation) * np.sin(azimuth)[:, None],
            np.sin(elevation)), axis=-1).reshape(-1, 3)

    def scan(self, time_s: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (N,) of DTYPE in the radar's frame, and how many come from each actor (A,)."""
        rng, world = np.random.default_rng(seed), self._world
        xy, yaw, speed = world.traffic.ego_at(time_s)
        world_from_base = SE3.from_rpy(np.array([*xy, 0.0]), [0, 0, float(yaw)])
        world_from_radar = world_from_base @ self._place
        directions = (self._local @ world_from_radar.rotation.T).astype(np.float32)
        origins = np.broadcast_to(world_from_radar.translation.astype(np.float32), directions.shape)
        hits = self._caster.static(origins, directions)
        add_actors(hits, world, self._caster, origins, directions, np.full(len(directions), time_s))
        distance, owner, rcs = self._echoes(hits, directions, rng)
        azimuth = np.arctan2(self._local[:, 1], self._local[:, 0])
        chosen = np.nonzero(np.isfinite(distance))[0]
        radial = self._radial(time_s, directions[chosen], owner[chosen], float(yaw), float(speed))
        rows = np.stack([distance[chosen], azimuth[chosen], radial, rcs[chosen]], axis=1)
        rows, owner = self._disturbed(rows, owner[chosen], rng)
        counts = np.bincount(owner[owner >= 0], minlength=len(world.actors))
        return self._points(rows, rng), counts

    def _echoes(self, hits, directions: np.ndarray, rng: np.random.Generator):
        """Range (inf: no echo), actor or -1, and RCS [dBsm] of each ray."""
        world, n = self._world, len(directions)
        surface = np.maximum(hits.surface, 0)
        owner = np.where(hits.surface >= 0, world.surfaces.owner[surface], -1)
        facing = np.abs(np.einsum("ij,ij->i", hits.normal, directions))
        kinds = np.array([actor.kind.rcs_dbsm for actor in world.actors] + [0.0])
        rcs = kinds[owner] + 10 * np.log10(0.1 + 0.9 * facing) + rng.normal(0, 3, n)
        # Rays on an object are the more the nearer it is; returns are not.
        with np.errstate(invalid="ignore"):
            width = np.clip(hits.distance / 40.0, 0.08, 1.0)
            margin = rcs - 40 * np.log10(np.maximum(hits.distance, 1.0) / 55.0) + 4.0
            share = np.where(owner >= 0, 0.55 * width / (1 + np.exp(-margin / 4.0)),
                             STATIC_SHARE * width * (0.2 + facing))
        is_ground = np.abs(hits.normal[:, 2]) > 0.9
        silent = (rng.random(n) > share) | (hits.distance > FARTHEST_M) | (hits.surface < 0)
        silent |= is_ground & (rng.random(n) > 0.02)
        return np.where(silent, np.inf, hits.distance), owner, rcs

    def _radial(self, time_s: float, directions: np.ndarray, owner: np.ndarray, yaw: float,
                speed: float) -> np.ndarray:
        """(N,) [m/s] away from the radar, of the target less the radar's own."""
        traffic = self._world.traffic
        own = np.zeros((len(self._world.actors) + 1, 2))
        own[:self._world.moving] = traffic.poses(time_s).velocity
        _, heading, _ = traffic.ego_at(np.array([time_s - 0.02, time_s + 0.02]))
        rate = float(heading[1] - heading[0]) / 0.04
        at = self._place.translation
        radar = np.array([speed - rate * at[1], rate * at[0]])
        cos, sin = np.cos(yaw), np.sin(yaw)
        radar = np.array([cos * radar[0] - sin * radar[1], sin * radar[0] + cos * radar[1]])
        return np.einsum("ij,ij->i", own[owner] - radar, directions[:, :2])

    def _disturbed(self, rows: np.ndarray, owner: np.ndarray, rng: np.random.Generator):
        """Measurement noise, ghosts and clutter; rows are range, azimuth, radial speed, RCS."""
        n = len(rows)
        rows[:, 0] += rng.normal(0, RANGE_NOISE_M, n)
        rows[:, 1] += np.deg2rad(rng.normal(0, AZIMUTH_NOISE_DEG, n))
        rows[:, 2] += rng.normal(0, DOPPLER_NOISE, n)
        twice = rng.random(n) < self._ghosts
        ghosts = rows[twice] * [1.0, 1.0, 2.0, 1.0] + [0, 0, 0, -8.0]
        ghosts[:, 0] += rng.uniform(3, 20, len(ghosts))
        count = int(rng.poisson(self._clutter))
        clutter = np.stack([rng.uniform(2, FARTHEST_M, count),
                            np.deg2rad(rng.uniform(-HALF_VIEW_DEG, HALF_VIEW_DEG, count)),
                            rng.normal(0, 8, count), rng.normal(-5, 4, count)], axis=1)
        nobody = np.full(len(ghosts) + count, -1)
        return np.concatenate([rows, ghosts, clutter]), np.concatenate([owner, nobody]).astype(int)

    def _points(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        points = np.zeros(len(rows), DTYPE)
        points["x"], points["y"] = rows[:, 0] * np.cos(rows[:, 1]), rows[:, 0] * np.sin(rows[:, 1])
        low, high = self._doppler.away_interval or (-1e9, 1e9)
        wrapped = (rows[:, 2] - low) % (high - low) + low
        points["doppler"] = wrapped * (1 if self._doppler.positive == "away" else -1)
        points["rcs"] = rows[:, 3]
        return points
