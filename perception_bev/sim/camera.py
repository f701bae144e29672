"""Simulation: a global-shutter pinhole camera with noise and exposure.

Rays are cast for every second pixel of every second row; where the samples round a pixel lie on one
plane of one surface, its depth follows from that plane, elsewhere it gets a ray of its own.
"""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit

from perception_bev.geometry import SE3, CameraModel
from perception_bev.sim.caster import NOTHING, Caster, Hits
from perception_bev.sim.weather import Weather
from perception_bev.sim.world import (
    ASPHALT,
    FACADE,
    FOLIAGE,
    GRASS,
    LIGHT,
    SLABS,
    World,
)

JPEG_QUALITY = 90
NEAR_M = 0.3
_A, _G, _F, _L, _S, _E = ASPHALT, GRASS, FACADE, FOLIAGE, SLABS, LIGHT


class CameraSimulator:
    """Takes pictures with one camera."""

    def __init__(self, model: CameraModel, world: World, caster: Caster, weather: Weather) -> None:
        self._model, self._world, self._caster, self._weather = model, world, caster, weather
        u, v = np.meshgrid(np.arange(model.width), np.arange(model.height))
        k = model.k
        self._directions = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1],
                                     np.ones_like(u, float)], axis=-1).astype(np.float32)

    def picture(self, world_from_camera: SE3, time_s: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """JPEG bytes (n,) uint8, and how many pixels show each actor (A,) int64."""
        origin = world_from_camera.translation.astype(np.float32)
        rays = np.empty_like(self._directions)
        _turn(self._directions, world_from_camera.rotation.astype(np.float32), rays)
        hits = self._static(origin, rays)
        self._add_actors(hits, origin, rays, world_from_camera, time_s)
        surfaces, weather = self._world.surfaces, self._weather
        rng = np.random.default_rng(seed)
        gain = float(rng.uniform(0.9, 1.1))
        lights = np.array([*world_from_camera.rotation[:, 2][:2], 0.0])
        image = np.empty((*rays.shape[:2], 3), np.uint8)
        pixels = np.zeros(len(self._world.actors) + 1, np.int64)
        _shade(origin, rays, *hits, surfaces.colour, surfaces.texture, surfaces.owner,
               weather.sun.astype(np.float32), weather.sunlight.astype(np.float32),
               weather.ambient.astype(np.float32), weather.sky.astype(np.float32),
               weather.haze.astype(np.float32), np.float32(3.0 / weather.visibility_m),
               np.float32(weather.headlights), np.float32(weather.noise), np.float32(gain),
               np.uint32(rng.integers(2**31)), weather.name == "night", image, pixels)
        if weather.name == "rain":
            _raindrops(image, rng)
        _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return data.reshape(-1), pixels[:-1]

    def _static(self, origin: np.ndarray, rays: np.ndarray):
        """Depth (H, W), surface (H, W), normal (H, W, 3) of the unmoving world."""
        height, width = rays.shape[:2]
        coarse = rays[::2, ::2]
        found = self._caster.static(origin, coarse.reshape(-1, 3))
        shape = coarse.shape[:2]
        depth = np.empty((height, width), np.float32)
        surface = np.empty((height, width), np.int32)
        normal = np.empty((height, width, 3), np.float32)
        todo = np.empty((height * width, 2), np.int32)
        count = _fill(origin, rays, found.distance.reshape(shape), found.surface.reshape(shape),
                      found.normal.reshape(*shape, 3), depth, surface, normal, todo)
        rows, columns = todo[:count, 0], todo[:count, 1]
        fine = self._caster.static(origin, rays[rows, columns])
        depth[rows, columns], surface[rows, columns] = fine.distance, fine.surface
        normal[rows, columns] = fine.normal
        return depth, surface, normal

    def _add_actors(self, hits, origin: np.ndarray, rays: np.ndarray, world_from_camera: SE3,
                    time_s: float) -> None:
        depth, surface, normal = hits
        poses = self._world.traffic.poses(time_s)
        camera_from_world = world_from_camera.inverse()
        for k in range(self._world.moving):
            window = self._window(k, poses.xy[k], float(poses.yaw[k]), camera_from_world)
            if window is None:
                continue
            found = self._caster.actor(k, poses.xy[k], float(poses.yaw[k]), origin,
                                       np.ascontiguousarray(rays[window]).reshape(-1, 3))
            _nearer(found.distance, found.surface, found.normal, depth[window], surface[window],
                    normal[window])

    def _window(self, k: int, xy: np.ndarray, yaw: float, camera_from_world: SE3):
        """The pixels that actor k can be in, or None."""
        size = self._world.actors[k].size
        cos, sin = np.cos(yaw), np.sin(yaw)
        unit = np.array([[x, y, z] for x in (-.5, .5) for y in (-.5, .5) for z in (0, 1)]) * size
        corners = np.stack([cos * unit[:, 0] - sin * unit[:, 1] + xy[0],
                            sin * unit[:, 0] + cos * unit[:, 1] + xy[1], unit[:, 2]], axis=1)
        points = _before_camera(camera_from_world.apply(corners))
        if len(points) == 0 or np.linalg.norm(points.mean(axis=0)) > 120:
            return None
        width, height = self._model.width, self._model.height
        pixels = points @ self._model.k.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        low, high = np.floor(pixels.min(axis=0)), np.ceil(pixels.max(axis=0)) + 1
        left, right = (int(np.clip(v, 0, width)) for v in (low[0], high[0]))
        upper, lower = (int(np.clip(v, 0, height)) for v in (low[1], high[1]))
        if left >= right or upper >= lower:
            return None
        return slice(upper, lower), slice(left, right)


def _before_camera(corners: np.ndarray) -> np.ndarray:
    """Corners of a box (8, 3) in the camera's frame -> what of its edges lies before the camera."""
    a, b = corners[_EDGES[:, 0]], corners[_EDGES[:, 1]]
    crossing = (a[:, 2] < NEAR_M) != (b[:, 2] < NEAR_M)
    a, b = a[crossing], b[crossing]
    share = (NEAR_M - a[:, 2]) / (b[:, 2] - a[:, 2])
    return np.concatenate([corners[corners[:, 2] >= NEAR_M], a + share[:, None] * (b - a)])


_EDGES = np.array([(i, i ^ bit) for i in range(8) for bit in (1, 2, 4) if i < i ^ bit])


@njit(nogil=True, cache=True)
def _turn(directions, rotation, out):
    """out = rotation @ direction, for every pixel."""
    for y in range(directions.shape[0]):
        for x in range(directions.shape[1]):
            a, b, c = directions[y, x, 0], directions[y, x, 1], directions[y, x, 2]
            for i in range(3):
                out[y, x, i] = rotation[i, 0] * a + rotation[i, 1] * b + rotation[i, 2] * c


@njit(nogil=True, cache=True)
def _nearer(found_t, found_s, found_n, depth, surface, normal):
    """Put an actor's hits into a window of the picture where they are nearer."""
    height, width = depth.shape
    for y in range(height):
        for x in range(width):
            i = y * width + x
            if found_t[i] < depth[y, x]:
                depth[y, x], surface[y, x] = found_t[i], found_s[i]
                for k in range(3):
                    normal[y, x, k] = found_n[i, k]


def _raindrops(image: np.ndarray, rng: np.random.Generator) -> None:
    """A few blurred drops on the lens."""
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(3, 12))):
        x, y, r = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(3, 10))
        part = image[max(0, y - r):y + r, max(0, x - r):x + r]
        if part.size:
            part[:] = cv2.blur(part, (7, 7))


@njit(nogil=True, cache=True)
def _fill(origin, rays, coarse_t, coarse_s, coarse_n, depth, surface, normal, todo):
    """Pixels from the coarse samples round them; those that need a ray go into `todo`."""
    height, width = depth.shape
    rows, columns = coarse_t.shape
    count = 0
    for y in range(height):
        a = y // 2
        b = min(a + (y & 1), rows - 1)
        for x in range(width):
            c = x // 2
            d = min(c + (x & 1), columns - 1)
            s = coarse_s[a, c]
            n = coarse_n[a, c]
            if y & 1 == 0 and x & 1 == 0:
                depth[y, x], surface[y, x] = coarse_t[a, c], s
                normal[y, x, 0], normal[y, x, 1], normal[y, x, 2] = n[0], n[1], n[2]
                continue
            same = True
            for i in (a, b):
                for j in (c, d):
                    if coarse_s[i, j] != s:
                        same = False
                    elif s >= 0:
                        m = coarse_n[i, j]
                        if abs(m[0] - n[0]) + abs(m[1] - n[1]) + abs(m[2] - n[2]) > 1e-3:
                            same = False
            if same and s < 0:
                depth[y, x], surface[y, x] = np.inf, s
                normal[y, x, 0], normal[y, x, 1], normal[y, x, 2] = 0.0, 0.0, 0.0
                continue
            if same:
                p = rays[2 * a, 2 * c]
                q = rays[y, x]
                plane = (n[0] * p[0] + n[1] * p[1] + n[2] * p[2]) * coarse_t[a, c]
                slope = n[0] * q[0] + n[1] * q[1] + n[2] * q[2]
                last = rays[2 * b, 2 * d]
                other = (n[0] * last[0] + n[1] * last[1] + n[2] * last[2]) * coarse_t[b, d]
                if abs(other - plane) < 0.02 + 1e-3 * abs(plane) and abs(slope) > 1e-6:
                    depth[y, x], surface[y, x] = plane / slope, s
                    normal[y, x, 0], normal[y, x, 1], normal[y, x, 2] = n[0], n[1], n[2]
                    continue
            todo[count, 0], todo[count, 1] = y, x
            count += 1
    return count


@njit(nogil=True, inline="always")
def _bits(x, y, z):
    """Three integers -> 32 scrambled bits."""
    h = np.uint32(x) * np.uint32(374761393) + np.uint32(y) * np.uint32(668265263)
    h = h + np.uint32(z) * np.uint32(2246822519)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    return h ^ (h >> np.uint32(16))


@njit(nogil=True, inline="always")
def _hash(x, y, z):
    """Three integers -> [0, 1)."""
    return np.float32(_bits(x, y, z) & np.uint32(0xFFFFFF)) * np.float32(1.0 / 16777216.0)


@njit(nogil=True, cache=True, fastmath=True)
def _shade(origin, rays, depth, surface, normal, colour, texture, owner, sun, sunlight, ambient, sky, haze,
           fading, headlights, noise, gain, seed, is_night, image, pixels):
    height, width = depth.shape
    tint = np.empty(3, np.float32)
    for y in range(height):
        for x in range(width):
            s = surface[y, x]
            ray = rays[y, x]
            length = np.sqrt(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2])
            if s < 0:
                up = min(max(ray[2] / length, np.float32(0.0)), np.float32(1.0)) ** np.float32(0.6)
                for i in range(3):
                    tint[i] = sky[0, i] + up * (sky[1, i] - sky[0, i])
            else:
                pixels[owner[s]] += 1  # nobody's are counted in the last place
                t = depth[y, x]
                px, py, pz = origin[0] + t * ray[0], origin[1] + t * ray[1], origin[2] + t * ray[2]
                nx, ny, nz = normal[y, x, 0], normal[y, x, 1], normal[y, x, 2]
                if nx * ray[0] + ny * ray[1] + nz * ray[2] > 0:
                    nx, ny, nz = -nx, -ny, -nz
                far = t * length
                kind = texture[s]
                shade = np.float32(1.0)
                glow = np.float32(0.0)
                if kind == _A:
                    shade = 0.85 + 0.3 * _hash(np.int32(np.floor(px * 3)), np.int32(np.floor(py * 3)), 1)
                elif kind == _G:
                    shade = 0.7 + 0.6 * _hash(np.int32(np.floor(px * 4)), np.int32(np.floor(py * 4)), 2)
                elif kind == _S:
                    fx, fy = px * 1.2 - np.floor(px * 1.2), py * 1.2 - np.floor(py * 1.2)
                    shade = 0.75 if (fx < 0.07 or fy < 0.07) else (
                        0.92 + 0.16 * _hash(np.int32(np.floor(px * 1.2)),
                                            np.int32(np.floor(py * 1.2)), 3))
                elif kind == _L:
                    shade = 0.55 + 0.9 * _hash(np.int32(np.floor(px * 3)), np.int32(np.floor(py * 3)),
                                               np.int32(np.floor(pz * 3)))
                elif kind == _F and abs(nz) < 0.5:
                    along = (px * -ny + py * nx) / 2.6
                    floor = pz / 3.0
                    fa, ff = along - np.floor(along), floor - np.floor(floor)
                    if 0.25 < fa < 0.75 and 0.3 < ff < 0.8:
                        lit = _hash(np.int32(np.floor(along)), np.int32(np.floor(floor)), s)
                        shade = 0.35 + 0.2 * lit
                        if is_night and lit > 0.65:
                            glow = np.float32(0.8)
                elif kind == _E:
                    glow = np.float32(0.9) if headlights > 0.2 else np.float32(0.15)
                facing = max(nx * sun[0] + ny * sun[1] + nz * sun[2], np.float32(0.0))
                lamp = np.float32(0.0)
                if headlights > 0:
                    lamp = headlights * np.float32(0.9) * np.exp(-far / np.float32(22.0))
                    lamp += headlights * np.float32(0.12)
                clear = np.exp(-far * fading)
                for i in range(3):
                    light = ambient[i] * (0.75 + 0.25 * nz) + sunlight[i] * facing + lamp + glow
                    tint[i] = (colour[s, i] * shade * min(light, np.float32(1.35)) * clear
                               + haze[i] * (1 - clear))
            first, second = _bits(x, y, seed), _bits(x, y, seed + np.uint32(77))
            for i in range(3):
                shift = np.uint32(8 * i)
                a = (np.float32((first >> shift) & np.uint32(255))
                     + np.float32((second >> shift) & np.uint32(255))) / np.float32(255.0) - 1.0
                value = gain * tint[i] + noise * np.float32(2.45) * a
                image[y, x, i] = np.uint8(min(max(value, np.float32(0.0)), np.float32(255.0)))
