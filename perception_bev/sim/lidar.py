"""Simulation: a spinning lidar of 32 beams. Every ray starts where the vehicle is at the ray's own
time, so that the distortion by motion is real."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_bev.geometry import SE3
from perception_bev.sim.caster import Caster, Hits, Rays
from perception_bev.sim.weather import Weather
from perception_bev.sim.world import World

BEAMS = 32
STEPS = 1080  # firings a turn
LOWEST_DEG, HIGHEST_DEG = -30.67, 10.67
RANGE_NOISE_M = 0.02
NEAREST_M = 0.9
FARTHEST_M = 100.0  # moving actors farther away are not seen


@dataclass(frozen=True, slots=True)
class Sweep:
    """One turn's returns."""

    xyz: np.ndarray  # (N, 3) float64 [m] in the lidar's frame
    intensity: np.ndarray  # (N,) float64, 0..255
    offsets_s: np.ndarray  # (N,) float64 from the sweep's end, in (-period, 0]
    actor: np.ndarray  # (N,) int32 row of World.actors, or -1

    def counts(self, actors: int) -> np.ndarray:
        """(A,) int64 points on each actor."""
        return np.bincount(self.actor[self.actor >= 0], minlength=actors)


class LidarSimulator:
    """Makes sweeps that end at a given time; the beam turns clockwise, from behind to behind."""

    def __init__(self, base_from_lidar: SE3, world: World, caster: Caster, weather: Weather,
                 period_s: float = 0.1) -> None:
        self._place, self._world, self._caster = base_from_lidar, world, caster
        self._weather, self._period_s = weather, period_s
        elevation = np.deg2rad(np.linspace(LOWEST_DEG, HIGHEST_DEG, BEAMS))
        azimuth = np.pi - (np.arange(STEPS) + 0.5) * 2 * np.pi / STEPS
        self._local = spherical(azimuth, elevation)  # (STEPS, BEAMS, 3)

    @property
    def offsets_s(self) -> np.ndarray:
        """(STEPS,) time of each firing, from the end of the sweep."""
        return (np.arange(STEPS) + 1 - STEPS) * (self._period_s / STEPS)

    def sweep(self, end_s: float, seed: int | list[int]) -> Sweep:
        """The turn that ends at a time [s]."""
        rng = np.random.default_rng(seed)
        rays, hits = self.cast(end_s)
        distance, intensity, actor = self._measure(hits, rays.directions, rng)
        kept = np.isfinite(distance)
        return Sweep(self._local[kept] * distance[kept, None], intensity[kept],
                     np.broadcast_to(self.offsets_s[:, None], kept.shape)[kept], actor[kept])

    def cast(self, end_s: float) -> tuple[Rays, Hits]:
        """Rays and hits (STEPS, BEAMS) of the turn that ends at a time [s]."""
        rays = self._rays(end_s + self.offsets_s)
        flat = np.empty((STEPS, BEAMS, 6), np.float32)
        flat[..., :3], flat[..., 3:] = rays.origins[:, None], rays.directions
        hits = self._caster.static(flat.reshape(-1, 6)).reshaped(STEPS, BEAMS)
        self._caster.add_moving(rays, hits, self._near(rays))
        return rays, hits

    def _near(self, rays: Rays) -> np.ndarray:
        """Moving actors that may be hit, by where they are in the middle of the turn."""
        poses = self._world.traffic.poses(float(rays.times_s[STEPS // 2]))
        away = np.linalg.norm(poses.xy - rays.origins[STEPS // 2, :2], axis=1)
        return np.nonzero(away < FARTHEST_M)[0]

    def _rays(self, times: np.ndarray) -> Rays:
        """Of firings at times (STEPS,) [s]."""
        xy, yaw, _ = self._world.traffic.ego_at(times)
        cos, sin = np.cos(yaw), np.sin(yaw)
        at = self._place.translation
        origin = np.stack([xy[:, 0] + cos * at[0] - sin * at[1],
                           xy[:, 1] + sin * at[0] + cos * at[1],
                           np.full(len(times), at[2])], axis=1)
        turned = self._local @ self._place.rotation.T
        cos, sin = cos[:, None], sin[:, None]
        direction = np.stack([cos * turned[..., 0] - sin * turned[..., 1],
                              sin * turned[..., 0] + cos * turned[..., 1], turned[..., 2]], axis=-1)
        return Rays(origin.astype(np.float32), direction.astype(np.float32), times)

    def _measure(self, hits: Hits, directions: np.ndarray,
                 rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Range [m] (NaN: no return), intensity 0..255, actor (-1: none) of each ray.

        The range that a ray reaches goes with the root of what comes back of it.
        """
        weather, surfaces = self._weather, self._world.surfaces
        shape, surface = hits.distance.shape, np.maximum(hits.surface, 0)
        noise, luck, drop = rng.standard_normal(shape), rng.random(shape), rng.random(shape)
        facing = np.abs(np.einsum("...j,...j->...", hits.normal, directions))
        with np.errstate(invalid="ignore"):
            fade = np.exp(-hits.distance * (3.0 / weather.visibility_m) * 0.5)
            power = surfaces.reflectivity[surface] * (0.25 + 0.75 * facing) * fade
            reach = weather.lidar_range_m * np.sqrt(np.clip(power / 0.25, 0.05, 1.0))
            lost = (hits.surface < 0) | (hits.distance > reach) | (hits.distance < NEAREST_M)
            far = np.clip(hits.distance / reach, 0, 1)
            lost |= luck < weather.lidar_dropout + 0.25 * far ** 4
        distance = np.where(lost, np.nan, hits.distance + RANGE_NOISE_M * noise)
        intensity = np.clip(255 * power * (1 + 0.08 * noise), 1, 255)
        drops = 2.0 + 12.0 * luck ** 2  # [m] of what rain or fog sends back
        is_drop = (drop < weather.spurious) & ~(drops > np.nan_to_num(distance, nan=1e9))
        return (np.where(is_drop, drops, distance), np.where(is_drop, 3.0, intensity),
                np.where(lost | is_drop, -1, surfaces.owner[surface]))


def spherical(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """(A, E, 3) unit vectors of azimuths (A,) and elevations (E,) [rad]."""
    return np.stack(np.broadcast_arrays(
        np.cos(elevation) * np.cos(azimuth)[:, None], np.cos(elevation) * np.sin(azimuth)[:, None],
        np.sin(elevation)), axis=-1)
