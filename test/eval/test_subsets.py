"""Subsets of the modalities."""

import pytest

from perception_bev.errors import ConfigError
from perception_bev.eval.subsets import parse_sensors, subset_name, subsets_of

ALL = ("camera", "lidar", "radar")


def test_subsets():
    names = [subset_name(subset) for subset in subsets_of(ALL)]
    assert names == ["camera", "lidar", "radar", "camera+lidar", "camera+radar", "lidar+radar",
                     "camera+lidar+radar"]
    assert subsets_of(("lidar",)) == [("lidar",)]


def test_sensors_are_read_in_one_order():
    assert parse_sensors("radar, camera") == ("camera", "radar")
    assert parse_sensors("lidar,lidar") == ("lidar",)
    for wrong in ("", "sonar", "lidar;radar", ","):
        with pytest.raises(ConfigError, match="camera, lidar, radar"):
            parse_sensors(wrong)
