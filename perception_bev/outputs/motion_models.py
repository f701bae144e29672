"""Outputs: how the classes move and how well they are measured: the numbers of the tracker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Motion:
    """One kind of road user. Deviations are one sigma."""

    kind: str  # a detection only continues a track of its own kind
    agility: float  # [m/s] by which the velocity wanders in a second
    position: float  # [m] of a detection's centre
    velocity: float  # [m/s] of a detection's velocity, where it has one
    along: float  # [m/s] of the velocity along the heading before anything is known
    across: float  # [m/s] the same across it


_CAR = Motion("vehicle", 2.0, 0.35, 1.5, 10.0, 2.0)
_LORRY = Motion("vehicle", 1.5, 0.6, 1.5, 10.0, 2.0)
_TWO_WHEELS = Motion("two_wheels", 2.0, 0.25, 1.5, 6.0, 2.0)
_THING = Motion("thing", 0.1, 0.15, 0.5, 0.2, 0.2)

MOTIONS = {
    "car": _CAR, "truck": _LORRY, "bus": _LORRY, "trailer": _LORRY, "construction_vehicle": _LORRY,
    "motorcycle": _TWO_WHEELS, "bicycle": _TWO_WHEELS,
    "pedestrian": Motion("pedestrian", 0.8, 0.2, 0.8, 1.5, 1.5),
    "traffic_cone": _THING, "barrier": _THING,
}
OTHER = Motion("other", 2.0, 0.4, 1.5, 8.0, 3.0)


class MotionTable:
    """The classes' numbers as arrays: `table.agility[label]`. Names are looked up in lower case."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        motions = [MOTIONS.get(name.lower(), OTHER) for name in classes]
        kinds = sorted({motion.kind for motion in motions})
        self.kind = np.array([kinds.index(motion.kind) for motion in motions], np.int64)
        for name in ("agility", "position", "velocity", "along", "across"):
            setattr(self, name, np.array([getattr(motion, name) for motion in motions]))
