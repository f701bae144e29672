"""Weather: each kind has its range, and a scenario's fog is as thick as it says."""

import numpy as np
import pytest

from perception_bev.sim import shading, weather
from perception_bev.sim.weather import WEATHERS, drawn


@pytest.mark.parametrize("name", WEATHERS)
def test_the_sun_is_above_the_horizon(name):
    for seed in range(20):
        sun = drawn(name, np.random.default_rng(seed)).sun
        assert np.linalg.norm(sun) == pytest.approx(1) and sun[2] > 0.05


def test_a_generator_draws_one_weather():
    one, again = (drawn("rain", np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(one.sunlight, again.sunlight) and one.visibility_m == again.visibility_m


def test_shares_of_drives_add_up():
    assert len(weather.SHARES) == len(WEATHERS) and sum(weather.SHARES) == pytest.approx(1)


@pytest.mark.parametrize("visibility", [20.0, 50.0, 500.0])
def test_fog_is_as_thick_as_asked_for(visibility):
    fog = drawn("fog", np.random.default_rng(0), visibility)
    assert fog.visibility_m == visibility and fog.lidar_range_m <= 0.8 * visibility
    left = np.exp(-visibility * shading.air(fog).fading)
    assert left == pytest.approx(0.05, abs=0.001), "Koschmieder: 5 % of the contrast"
