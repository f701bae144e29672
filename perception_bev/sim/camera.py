"""Simulation: a global-shutter camera with noise and exposure.

Rays are cast for every second pixel of every second row; where the samples round a pixel lie on one
plane of one surface, its depth follows from that plane, elsewhere it gets a ray of its own.
"""

from __future__ import annotations

import cv2
import numpy as np

from perception_bev.geometry import SE3, CameraModel
from perception_bev.sim import fill, lens, shading
from perception_bev.sim.caster import NOTHING, Caster, Hits, Rays
from perception_bev.sim.weather import Weather
from perception_bev.sim.world import World

JPEG_QUALITY = 90
FARTHEST_M = 120.0  # moving actors farther away are not drawn


class CameraSimulator:
    """Takes pictures with one camera."""

    def __init__(self, model: CameraModel, world: World, caster: Caster, weather: Weather) -> None:
        self._model, self._world, self._caster, self._weather = model, world, caster, weather
        self._directions, self._blind = lens.directions(model)
        self._air = shading.air(weather)
        surfaces = world.surfaces
        self._look = shading.Look(surfaces.colour, surfaces.texture, surfaces.owner)

    def picture(self, world_from_camera: SE3, time_s: float,
                seed: int | list[int]) -> tuple[np.ndarray, np.ndarray]:
        """BGR (height, width, 3) uint8, and how many pixels show each actor (A,) int64."""
        rays, hits = self.cast(world_from_camera, time_s)
        rng = np.random.default_rng(seed)
        gain = np.float32(rng.uniform(0.9, 1.1))
        image = np.empty((*hits.distance.shape, 3), np.uint8)
        pixels = np.zeros(len(self._world.actors) + 1, np.int64)  # nobody's come last
        shading.shade(shading.View(rays.origins[0], rays.directions), shading.Seen(*hits.arrays),
                      self._look, self._air, gain, np.uint32(rng.integers(2**31)), image, pixels)
        if self._blind is not None:
            image[self._blind] = 0
        if self._weather.name == "rain":
            _raindrops(image, rng)
        return image, pixels[:-1]

    def cast(self, world_from_camera: SE3, time_s: float) -> tuple[Rays, Hits]:
        """The rays of all pixels, and what they meet."""
        origin = world_from_camera.translation.astype(np.float32)
        directions = np.empty_like(self._directions)
        fill.turn(self._directions, world_from_camera.rotation.astype(np.float32), directions)
        rays = Rays(origin[None], directions, np.array([time_s]))
        hits = self._static(rays)
        if self._blind is not None:
            hits.distance[self._blind], hits.surface[self._blind] = 0, NOTHING
        which, windows = self._windows(world_from_camera.inverse(), time_s)
        self._caster.add_moving(rays, hits, which, windows)
        return rays, hits

    def _static(self, rays: Rays) -> Hits:
        """(H, W) of the unmoving world."""
        origin, directions = rays.origins[0], rays.directions
        height, width = directions.shape[:2]
        rows, columns = (height + 1) // 2, (width + 1) // 2
        sparse = np.empty((rows * columns, 6), np.float32)
        fill.every_second(origin, directions, sparse)
        found = self._caster.static(sparse).reshaped(rows, columns)
        hits = Hits(np.empty((height, width), np.float32), np.empty((height, width), np.int32),
                    np.empty((height, width, 3), np.float32))
        todo = np.empty((height * width, 2), np.int32)
        count = fill.between(directions, *found.arrays, *hits.arrays, todo)
        rest = np.empty((count, 6), np.float32)
        fill.gather(origin, directions, todo[:count], rest)
        fill.scatter(*self._caster.static(rest).arrays, todo[:count], *hits.arrays)
        return hits

    def _windows(self, camera_from_world: SE3, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Moving actors that may be in the picture (M,), and in which rows and columns (M, 4)."""
        world, poses = self._world, self._world.traffic.poses(time_s)
        sizes = np.array([actor.size for actor in world.actors[:world.moving]]).reshape(-1, 3)
        k = self._model.k
        lines = np.array([k[0, 0], k[0, 2], k[1, 1], k[1, 2]])
        windows = np.empty((world.moving, 4), np.int64)
        lens.windows(camera_from_world.matrix, poses.xy, poses.yaw, sizes, lines,
                     self._model.height, self._model.width, FARTHEST_M, windows)
        which = np.nonzero((windows[:, 0] < windows[:, 1]) & (windows[:, 2] < windows[:, 3]))[0]
        if self._model.model != "pinhole":  # the box's corners do not bound its bent edges
            windows[:] = 0, self._model.height, 0, self._model.width
        return which, windows[which]


def jpeg(image: np.ndarray) -> np.ndarray:
    """BGR (H, W, 3) uint8 -> the file's bytes (n,) uint8."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.reshape(-1)


def _raindrops(image: np.ndarray, rng: np.random.Generator) -> None:
    """A few blurred drops on the lens."""
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(3, 12))):
        x, y, r = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(3, 10))
        part = image[max(0, y - r):y + r, max(0, x - r):x + r]
        if part.size:
            part[:] = cv2.blur(part, (7, 7))
