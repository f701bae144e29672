"""Simulation: a spinning lidar of 32 beams. Every ray starts where the vehicle is at the ray's own
time, so that the distortion by motion is real."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from perception_bev.geometry import SE3
from perception_bev.sim.caster import Caster, Hits
from perception_bev.sim.weather import Weather
from perception_bev.sim.world import World

BEAMS = 32
STEPS = 1080  # firings a turn
LOWEST_DEG, HIGHEST_DEG = -30.67, 10.67
RANGE_NOISE_M = 0.02
NEAREST_M = 0.9
DTYPE = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("time", "<f4")])

Placed = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


class LidarSimulator:
    """Makes sweeps that end at a given time; the beam turns clockwise and starts and ends behind."""

    def __init__(self, base_from_lidar: SE3, world: World, caster: Caster, weather: Weather,
                 period_s: float = 0.1) -> None:
        self._place, self._world, self._caster = base_from_lidar, world, caster
        self._weather, self._period_s = weather, period_s
        elevation = np.deg2rad(np.linspace(LOWEST_DEG, HIGHEST_DEG, BEAMS))
        azimuth = np.pi - (np.arange(STEPS) + 0.5) * 2 * np.pi / STEPS
        self._local = np.stack(np.broadcast_arrays(
            np.cos(elevation) * np.cos(azimuth)[:, None], np.cos(elevation) * np.sin(azimuth)[:, None],
            np.sin(elevation)), axis=-1)  # (STEPS, BEAMS, 3)

    @property
    def offsets_s(self) -> np.ndarray:
        """(STEPS,) time of each firing, from the end of the sweep."""
        return (np.arange(STEPS) + 1 - STEPS) * (self._period_s / STEPS)

    def sweep(self, end_s: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Points (N,) of DTYPE in the lidar's frame, and how many hit each actor (A,) int64."""
        rng = np.random.default_rng(seed)
        times = end_s + self.offsets_s
        origins, directions = self._rays(times)
        hits = self._caster.static(origins, directions)
        add_actors(hits, self._world, self._caster, origins, directions, np.repeat(times, BEAMS))
        distance, intensity, actor = self._measure(hits, directions, rng)
        kept = np.isfinite(distance)
        points = np.empty(int(kept.sum()), DTYPE)
        xyz = self._local.reshape(-1, 3)[kept] * distance[kept, None]
        points["x"], points["y"], points["z"] = xyz.T
        points["intensity"] = intensity[kept]
        points["time"] = np.repeat(self.offsets_s, BEAMS)[kept]
        seen = actor[kept]
        return points, np.bincount(seen[seen >= 0], minlength=len(self._world.actors))

    def _rays(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(STEPS * BEAMS, 3) float32 origins and directions in world."""
        xy, yaw, _ = self._world.traffic.ego_at(times)
        cos, sin = np.cos(yaw), np.sin(yaw)
        at = self._place.translation
        origin = np.stack([xy[:, 0] + cos * at[0] - sin * at[1], xy[:, 1] + sin * at[0] + cos * at[1],
                           np.full(len(times), at[2])], axis=1)
        turned = self._local @ self._place.rotation.T
        direction = np.stack([cos[:, None] * turned[..., 0] - sin[:, None] * turned[..., 1],
                              sin[:, None] * turned[..., 0] + cos[:, None] * turned[..., 1],
                              turned[..., 2]], axis=-1)
        return (np.repeat(origin, BEAMS, axis=0).astype(np.float32),
                direction.reshape(-1, 3).astype(np.float32))

    def _measure(self, hits: Hits, directions: np.ndarray, rng: np.random.Generator):
        """Range [m] (NaN: no return), intensity 0..255, actor (-1: none) of each ray."""
        weather, surfaces = self._weather, self._world.surfaces
        n, surface = len(directions), np.maximum(hits.surface, 0)
        noise, luck, haze = rng.standard_normal(n), rng.random(n), rng.random(n)
        facing = np.abs(np.einsum("ij,ij->i", hits.normal, directions))
        with np.errstate(invalid="ignore"):
            fade = np.exp(-hits.distance * (3.0 / weather.visibility_m) * 0.5)
            power = surfaces.reflectivity[surface] * (0.25 + 0.75 * facing) * fade
            reach = weather.lidar_range_m * np.sqrt(np.clip(power / 0.25, 0.05, 1.0))
            lost = (hits.surface < 0) | (hits.distance > reach) | (hits.distance < NEAREST_M)
            lost |= luck < weather.lidar_dropout + 0.25 * np.clip(hits.distance / reach, 0, 1) ** 4
        distance = np.where(lost, np.nan, hits.distance + RANGE_NOISE_M * noise)
        actor = np.where(lost, -1, surfaces.owner[surface])
        intensity = np.where(lost, 0, np.clip(255 * power * (1 + 0.08 * noise), 1, 255))
        drops = haze < weather.spurious
        near = 2.0 + 12.0 * luck ** 2
        drops &= ~(near > np.nan_to_num(distance, nan=1e9))
        return (np.where(drops, near, distance), np.where(drops, 3.0, intensity),
                np.where(drops, -1, actor))


def add_actors(hits: Hits, world: World, caster: Caster, origins: np.ndarray,
               directions: np.ndarray, times: np.ndarray, reach_m: float = 100.0) -> None:
    """Put moving actors into hits of rays that go out level, each at its own time; only rays within
    an actor's angular bounds are cast."""
    bearing = np.arctan2(directions[:, 1], directions[:, 0])
    middle, ends = len(times) // 2, [0, -1]
    passed = abs(float(times[-1] - times[0])) / 2
    poses = world.traffic.poses(float(times[middle]))
    away = poses.xy - origins[middle, :2]
    drift = np.linalg.norm(poses.velocity, axis=1) * passed + float(
        np.abs(origins[ends, :2] - origins[middle, :2]).sum())
    for k in np.nonzero(np.linalg.norm(away, axis=1) < reach_m)[0]:
        distance = float(np.linalg.norm(away[k]))
        radius = float(np.linalg.norm(world.actors[k].size)) / 2 + float(drift[k])
        if radius < 0.95 * distance:
            off = (bearing - np.arctan2(away[k, 1], away[k, 0]) + np.pi) % (2 * np.pi) - np.pi
            mine = np.nonzero(np.abs(off) < np.arcsin(radius / distance) + 0.01)[0]
        else:
            mine = np.arange(len(times))
        if len(mine) == 0:
            continue
        xy, yaw, _ = world.traffic.one(k, times[mine])
        found = caster.actor(k, xy, yaw, origins[mine], directions[mine])
        nearer = found.distance < hits.distance[mine]
        chosen = mine[nearer]
        hits.distance[chosen] = found.distance[nearer]
        hits.surface[chosen] = found.surface[nearer]
        hits.normal[chosen] = found.normal[nearer]
