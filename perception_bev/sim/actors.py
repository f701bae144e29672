"""Simulation: the road users and street furniture that carry labels: the ten detection classes of
nuScenes in usual sizes, shapes and colours, and how fast they like to go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CLASSES = ("car", "truck", "bus", "trailer", "construction_vehicle", "pedestrian", "motorcycle",
           "bicycle", "traffic_cone", "barrier")

_CAR_COLOURS = ((225, 225, 225), (30, 32, 36), (120, 124, 130), (150, 25, 25), (30, 60, 130),
                (190, 190, 180), (60, 80, 60))
_CLOTHES = ((170, 40, 40), (40, 70, 150), (220, 210, 200), (60, 110, 60), (40, 40, 44),
            (200, 150, 40), (130, 80, 140))


@dataclass(frozen=True)
class Kind:
    """How the objects of one class look and move."""

    shapes: tuple[str, ...]
    size: tuple[float, float, float]  # [m] mean length, width, height
    spread: float  # standard deviation of the sizes, relative
    colours: tuple[tuple[int, int, int], ...]
    speed: tuple[float, float]  # [m/s] that it likes, from .. to
    rcs_dbsm: float  # radar cross section seen broadside


KINDS: dict[str, Kind] = {
    "car": Kind(("sedan", "suv"), (4.6, 1.92, 1.68), 0.06, _CAR_COLOURS, (7, 14), 10),
    "truck": Kind(("truck",), (7.0, 2.5, 3.0), 0.1, ((180, 90, 30), (40, 90, 60), (60, 70, 140)),
                  (6, 11), 18),
    "bus": Kind(("bus",), (11.2, 2.9, 3.4), 0.05, ((200, 60, 40), (215, 175, 45), (60, 120, 175)),
                (6, 10), 20),
    "trailer": Kind(("trailer",), (11.5, 2.7, 3.8), 0.07, ((190, 190, 195), (90, 110, 160)),
                    (6, 10), 20),
    "construction_vehicle": Kind(("digger",), (6.2, 2.6, 3.1), 0.1, ((225, 165, 20),), (0, 2), 17),
    "pedestrian": Kind(("pedestrian",), (0.68, 0.66, 1.75), 0.07, _CLOTHES, (0.8, 1.8), -4),
    "motorcycle": Kind(("motorcycle",), (2.1, 0.8, 1.55), 0.06, _CAR_COLOURS, (7, 13), 4),
    "bicycle": Kind(("bicycle",), (1.75, 0.62, 1.6), 0.05, _CLOTHES, (3.5, 6), 0),
    "traffic_cone": Kind(("cone",), (0.41, 0.41, 1.02), 0.06, ((235, 90, 25),), (0, 0), -8),
    "barrier": Kind(("barrier",), (0.5, 2.4, 0.98), 0.05, ((200, 40, 35),), (0, 0), 0),
}


@dataclass(frozen=True)
class Actor:
    """One object: what it is, how large and of which colour."""

    track: int
    label: int  # index into CLASSES
    size: np.ndarray  # (3,) length, width, height [m]
    shape: str
    colour: tuple[int, int, int]

    @property
    def kind(self) -> Kind:
        return KINDS[CLASSES[self.label]]


def drawn(name: str, track: int, rng: np.random.Generator) -> Actor:
    """A random individual of a class."""
    kind = KINDS[name]
    size = np.array(kind.size) * np.clip(rng.normal(1.0, kind.spread, 3), 0.8, 1.2)
    return Actor(track, CLASSES.index(name), size, str(rng.choice(kind.shapes)),
                 kind.colours[int(rng.integers(len(kind.colours)))])
