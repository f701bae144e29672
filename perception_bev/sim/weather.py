"""Simulation: light and air, and what they do to each sensor."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

WEATHERS = ("day", "dusk", "night", "rain", "fog")


@dataclass(frozen=True)
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
    lidar_range_m: float
    lidar_dropout: float  # share of points lost, near
    spurious: float  # share of lidar rays that rain or fog sends back


_BASE = {
    "day": ((.75, .74, .70), (.42, .45, .50), ((190, 205, 225), (95, 140, 205)), (195, 205, 215),
            900.0, 0.0, 3.0, 90.0, 0.02, 0.0),
    "dusk": ((.45, .30, .18), (.26, .25, .30), ((225, 160, 115), (70, 80, 125)), (150, 130, 125),
             500.0, 0.25, 5.0, 90.0, 0.02, 0.0),
    "night": ((.02, .02, .03), (.10, .10, .13), ((26, 26, 36), (8, 8, 18)), (18, 18, 26),
              400.0, 1.0, 7.0, 90.0, 0.02, 0.0),
    "rain": ((.08, .08, .09), (.42, .44, .47), ((150, 155, 162), (112, 120, 132)), (145, 150, 158),
             170.0, 0.25, 6.0, 70.0, 0.07, 0.004),
    "fog": ((.04, .04, .04), (.56, .57, .58), ((188, 190, 192), (170, 174, 180)), (184, 186, 188),
            75.0, 0.2, 4.0, 48.0, 0.10, 0.012),
}


def drawn(name: str, rng: np.random.Generator, visibility_m: float | None = None) -> Weather:
    """A weather with a random sun and a little variety."""
    sunlight, ambient, sky, haze, far, lights, noise, reach, dropout, spurious = _BASE[name]
    azimuth = rng.uniform(-np.pi, np.pi)
    height = rng.uniform(0.1, 0.25) if name == "dusk" else rng.uniform(0.4, 1.2)
    sun = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height),
                    np.sin(height)])
    weather = Weather(name, sun, np.array(sunlight) * rng.uniform(0.85, 1.15), np.array(ambient)
                      * rng.uniform(0.85, 1.15), np.array(sky, float), np.array(haze, float),
                      far * rng.uniform(0.8, 1.25), lights, noise, reach, dropout, spurious)
    if visibility_m is None:
        return weather
    return replace(weather, visibility_m=visibility_m,
                   lidar_range_m=min(weather.lidar_range_m, 0.8 * visibility_m))
