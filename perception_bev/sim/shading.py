"""Simulation: the colours of a picture's pixels. Flat faces with procedural textures in sunlight,
headlights and haze, and sensor noise from a counter-based hash (no generator is carried along)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from perception_bev.sim.surfaces import ASPHALT, FACADE, FOLIAGE, GRASS, LIGHT, SLABS
from perception_bev.sim.weather import Weather

LIT_SHARE = 0.35  # of windows at night
LAMP_REACH_M = 22.0  # at which the headlights' light has fallen to 1/e
NOISE_GAIN = 2.45  # the sum of two bytes has this much less spread than the noise wanted


class View(NamedTuple):
    """Where a picture is taken from."""

    origin: np.ndarray  # (3,) float32 [m], world
    rays: np.ndarray  # (H, W, 3) float32, world, of any length


class Seen(NamedTuple):
    """What each pixel's ray met."""

    depth: np.ndarray  # (H, W) float32, in units of the rays
    surface: np.ndarray  # (H, W) int32, negative: sky
    normal: np.ndarray  # (H, W, 3) float32, unit length


class Look(NamedTuple):
    """How surfaces look; rows are surfaces."""

    colour: np.ndarray  # (S, 3) float32, 0..255
    texture: np.ndarray  # (S,) int32
    owner: np.ndarray  # (S,) int32: an actor, or -1


class Air(NamedTuple):
    """Light and haze, as the kernel wants them."""

    sun: np.ndarray  # (3,) float32, unit vector towards it
    sunlight: np.ndarray  # (3,) float32
    ambient: np.ndarray  # (3,) float32
    sky: np.ndarray  # (2, 3) float32, 0..255
    haze: np.ndarray  # (3,) float32, 0..255
    fading: np.float32  # [1/m]
    headlights: np.float32
    noise: np.float32  # standard deviation of a pixel
    is_night: bool


def air(weather: Weather) -> Air:
    """Fading: 3 / visibility leaves 5 % of the contrast there (Koschmieder's law)."""
    light = (array.astype(np.float32) for array in (
        weather.sun, weather.sunlight, weather.ambient, weather.sky, weather.haze))
    return Air(*light, np.float32(3.0 / weather.visibility_m), np.float32(weather.headlights),
               np.float32(weather.noise), weather.name == "night")


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


@njit(nogil=True, inline="always")
def _cell(value):
    return np.int32(np.floor(value))


@njit(nogil=True, inline="always")
def _paving(px, py):
    """Slabs with dark joints."""
    fx, fy = px * 1.2 - np.floor(px * 1.2), py * 1.2 - np.floor(py * 1.2)
    return 0.75 if (fx < 0.07 or fy < 0.07) else (
        0.92 + 0.16 * _hash(_cell(px * 1.2), _cell(py * 1.2), 3))


@njit(nogil=True, cache=True, fastmath=True)
def shade(view, seen, look, air, gain, seed, image, pixels):
    """Draw a picture.

    Args:
        view, seen, look, air: View, Seen, Look, Air.
        gain: float32, of the exposure. seed: uint32, of the noise.
        image: (H, W, 3) uint8 BGR, written.
        pixels: (A + 1,) int64, counted up: pixels of each actor, and last of nobody.
    """
    origin, depth, surface, normal = view.origin, seen.depth, seen.surface, seen.normal
    height, width = depth.shape
    tint = np.empty(3, np.float32)
    for y in range(height):
        for x in range(width):
            s = surface[y, x]
            ray = view.rays[y, x]
            length = np.sqrt(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2])
            if s < 0:
                up = min(max(ray[2] / length, np.float32(0.0)), np.float32(1.0)) ** np.float32(0.6)
                for i in range(3):
                    tint[i] = air.sky[0, i] + up * (air.sky[1, i] - air.sky[0, i])
            else:
                pixels[look.owner[s]] += 1
                t = depth[y, x]
                px, py, pz = origin[0] + t * ray[0], origin[1] + t * ray[1], origin[2] + t * ray[2]
                nx, ny, nz = normal[y, x, 0], normal[y, x, 1], normal[y, x, 2]
                if nx * ray[0] + ny * ray[1] + nz * ray[2] > 0:
                    nx, ny, nz = -nx, -ny, -nz
                far = t * length
                kind = look.texture[s]
                tone = np.float32(1.0)
                glow = np.float32(0.0)
                if kind == ASPHALT:
                    tone = 0.85 + 0.3 * _hash(_cell(px * 3), _cell(py * 3), 1)
                elif kind == GRASS:
                    tone = 0.7 + 0.6 * _hash(_cell(px * 4), _cell(py * 4), 2)
                elif kind == SLABS:
                    tone = _paving(px, py)
                elif kind == FOLIAGE:
                    tone = 0.55 + 0.9 * _hash(_cell(px * 3), _cell(py * 3), _cell(pz * 3))
                elif kind == FACADE and abs(nz) < 0.5:
                    along = (px * -ny + py * nx) / 2.6
                    floor = pz / 3.0
                    fa, ff = along - np.floor(along), floor - np.floor(floor)
                    if 0.25 < fa < 0.75 and 0.3 < ff < 0.8:  # a window
                        lit = _hash(_cell(along), _cell(floor), s)
                        tone = 0.35 + 0.2 * lit
                        if air.is_night and lit > 1 - LIT_SHARE:
                            glow = np.float32(0.8)
                elif kind == LIGHT:
                    glow = np.float32(0.9) if air.headlights > 0.2 else np.float32(0.15)
                facing = max(nx * air.sun[0] + ny * air.sun[1] + nz * air.sun[2], np.float32(0.0))
                lamp = np.float32(0.0)
                if air.headlights > 0:
                    lamp = air.headlights * np.float32(0.9) * np.exp(
                        -far / np.float32(LAMP_REACH_M))
                    lamp += air.headlights * np.float32(0.12)
                clear = np.exp(-far * air.fading)
                for i in range(3):
                    light = (air.ambient[i] * (0.75 + 0.25 * nz) + air.sunlight[i] * facing + lamp
                             + glow)
                    tint[i] = (look.colour[s, i] * tone * min(light, np.float32(1.35)) * clear
                               + air.haze[i] * (1 - clear))
            first, second = _bits(x, y, seed), _bits(x, y, seed + np.uint32(77))
            for i in range(3):
                shift = np.uint32(8 * i)
                a = (np.float32((first >> shift) & np.uint32(255))
                     + np.float32((second >> shift) & np.uint32(255))) / np.float32(255.0) - 1.0
                value = gain * tint[i] + air.noise * np.float32(NOISE_GAIN) * a
                image[y, x, 2 - i] = np.uint8(min(max(value, np.float32(0.0)), np.float32(255.0)))
