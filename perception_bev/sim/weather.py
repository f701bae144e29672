"""Simulation: light and air, and what they do to each sensor."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perception_bev.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Weather:
    """Colours are 0..255, light is relative to a sunny day."""

    name: str
    sun: np.ndarray  # (3,) unit vector towards it
    sunlight: np.ndarray  # (3,) of a surface that faces the sun
    ambient: np.ndarray  # (3,)
    sky: np.ndarray  # (2, 3) at the horizon, in the zenith
    haze: np.ndarray  # (3,) what distance fades into
    visibility_m: float  # at which 5 % of a surface's light is left
    headlights: float  # 0: off
    noise: float  # standard deviation of a pixel
    lidar_range_m: float  # to a surface that reflects a quarter of the light
    lidar_dropout: float  # share of points lost, near
    spurious: float  # share of lidar rays that rain or fog sends back


# The sun is put in, and light and visibility are varied, when one is drawn.
_USUAL = {usual.name: usual for usual in (
    Weather("day", np.zeros(3), np.array([.75, .74, .70]), np.array([.42, .45, .50]),
            np.array([(190., 205, 225), (95, 140, 205)]), np.array([195., 205, 215]),
            visibility_m=900.0, headlights=0.0, noise=3.0,
            lidar_range_m=90.0, lidar_dropout=0.02, spurious=0.0),
    Weather("dusk", np.zeros(3), np.array([.45, .30, .18]), np.array([.26, .25, .30]),
            np.array([(225., 160, 115), (70, 80, 125)]), np.array([150., 130, 125]),
            visibility_m=500.0, headlights=0.25, noise=5.0,
            lidar_range_m=90.0, lidar_dropout=0.02, spurious=0.0),
    Weather("night", np.zeros(3), np.array([.02, .02, .03]), np.array([.10, .10, .13]),
            np.array([(26., 26, 36), (8, 8, 18)]), np.array([18., 18, 26]),
            visibility_m=400.0, headlights=1.0, noise=7.0,
            lidar_range_m=90.0, lidar_dropout=0.02, spurious=0.0),
    Weather("rain", np.zeros(3), np.array([.08, .08, .09]), np.array([.42, .44, .47]),
            np.array([(150., 155, 162), (112, 120, 132)]), np.array([145., 150, 158]),
            visibility_m=170.0, headlights=0.25, noise=6.0,
            lidar_range_m=70.0, lidar_dropout=0.07, spurious=0.004),
    Weather("fog", np.zeros(3), np.array([.04, .04, .04]), np.array([.56, .57, .58]),
            np.array([(188., 190, 192), (170, 174, 180)]), np.array([184., 186, 188]),
            visibility_m=75.0, headlights=0.2, noise=4.0,
            lidar_range_m=48.0, lidar_dropout=0.10, spurious=0.012))}
WEATHERS = tuple(_USUAL)
SHARES = (0.5, 0.14, 0.14, 0.12, 0.10)  # of drives whose weather is left to chance


def drawn(name: str, rng: np.random.Generator, visibility_m: float | None = None) -> Weather:
    """A weather with a random sun and a little variety.

    visibility_m: of fog; the lidar reaches 0.8 of it at most.
    """
    if name not in _USUAL:
        raise ConfigError(f"no weather '{name}'; there are {', '.join(WEATHERS)}")
    usual, azimuth = _USUAL[name], rng.uniform(-np.pi, np.pi)
    height = rng.uniform(0.1, 0.25) if name == "dusk" else rng.uniform(0.4, 1.2)
    sun = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height),
                    np.sin(height)])
    weather = replace(usual, sun=sun, sunlight=usual.sunlight * rng.uniform(0.85, 1.15),
                      ambient=usual.ambient * rng.uniform(0.85, 1.15),
                      visibility_m=usual.visibility_m * rng.uniform(0.8, 1.25))
    if visibility_m is None:
        return weather
    return replace(weather, visibility_m=visibility_m,
                   lidar_range_m=min(weather.lidar_range_m, 0.8 * visibility_m))
