"""Evaluation: subsets of the modalities, of which the sensor-loss matrix has one row each."""

from __future__ import annotations

from itertools import combinations

from perception_bev.contracts import MODALITIES, Modality
from perception_bev.errors import ConfigError

Subset = tuple[Modality, ...]


def parse_sensors(text: str) -> Subset:
    """"lidar,camera" -> ("camera", "lidar"), in the order of MODALITIES."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in MODALITIES]
    if unknown or not names:
        raise ConfigError(f"--sensors '{text}': expected some of {', '.join(MODALITIES)}, "
                          "with commas between")
    return tuple(name for name in MODALITIES if name in names)


def subsets_of(sensors: Subset) -> list[Subset]:
    """Every non-empty subset: single sensors first, all of them last."""
    return [subset for n in range(1, len(sensors) + 1) for subset in combinations(sensors, n)]


def subset_name(subset: Subset) -> str:
    return "+".join(subset)
