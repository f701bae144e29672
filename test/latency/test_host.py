"""The computer's condition as a floor of the ladder and as a row."""

from __future__ import annotations

import pytest

from perception_bev.errors import ConfigError
from perception_bev.latency.host import (
    HostFloor,
    HostLimits,
    HostState,
    Temperature,
    floor_for,
    host_row,
    nearest,
)
from perception_bev.latency.level import Level

SECOND = 1_000_000_000
LIMITS = HostLimits(headroom_c=8, throttles_at_c=90, power_w=50.0, recover_s=20)


def at(celsius: float, **more) -> HostState:
    return HostState(temperatures=(Temperature("cpu", celsius, 100.0),), **more)


@pytest.mark.parametrize("celsius, floor", [(50, 0), (91.9, 0), (92, 1), (99.9, 1), (100, 2)])
def test_the_floor_rises_before_and_at_the_throttling_point(celsius, floor):
    assert floor_for(at(celsius), LIMITS)[0] == floor


@pytest.mark.parametrize("celsius, floor", [(81, 0), (82, 1), (90, 2)])
def test_a_sensor_that_does_not_say_has_the_limit_of_the_settings(celsius, floor):
    host = HostState(temperatures=(Temperature("x", celsius),))
    assert floor_for(host, LIMITS)[0] == floor


def test_the_nearest_to_its_own_limit_counts_not_the_hottest():
    host = HostState(temperatures=(Temperature("gpu", 84, 90.0), Temperature("cpu", 88, 105.0)))
    sensor, headroom = nearest(host, LIMITS)
    assert sensor.name == "gpu" and headroom == 6
    assert floor_for(host, LIMITS) == (1, "gpu at 84 °C, 6 °C below throttling")


def test_what_is_throttled_is_named():
    assert floor_for(at(50, throttled=("cpu-throttle-alert",)), LIMITS) == (
        2, "throttled: cpu-throttle-alert")


@pytest.mark.parametrize("watts, floor", [(25.0, 0), (25.1, 2)])
def test_power_is_the_sum_of_the_rails(watts, floor):
    host = at(50, power_w={"cpu": watts, "gpu": 25.0})
    assert floor_for(host, LIMITS)[0] == floor
    assert floor_for(host, HostLimits())[0] == 0, "without a limit it is only shown"


def test_a_computer_that_says_nothing_has_no_floor_and_no_false_zero():
    assert floor_for(HostState(), LIMITS) == (0, "")
    row = host_row(HostState(), LIMITS)
    assert row.level == Level.OK and row.message == "n/a: this computer says nothing"
    assert "0" not in "".join(row.values.values())


def test_load_is_no_reason():
    assert floor_for(at(50, cpu_load=1.0, gpu_load=1.0, cpu_pressure=1.0), LIMITS)[0] == 0


# -- over time -------------------------------------------------------------------------------------

def test_up_at_once_down_slowly_one_step_at_a_time():
    floor = HostFloor(LIMITS)
    assert floor.choose(at(50), 0) == (0, "")
    assert floor.choose(at(101), 1 * SECOND)[0] == 2
    seen = [floor.choose(at(50), t * SECOND)[0] for t in range(2, 50)]
    assert seen == [2] * 20 + [1] * 20 + [0] * 8


def test_heat_in_between_begins_the_wait_anew():
    floor = HostFloor(LIMITS)
    floor.choose(at(95), 0)
    floor.choose(at(50), 1 * SECOND)
    floor.choose(at(95), 20 * SECOND)
    assert floor.choose(at(50), 21 * SECOND)[0] == 1
    assert floor.choose(at(50), 40 * SECOND)[0] == 1
    assert floor.choose(at(50), 41 * SECOND) == (0, "")


def test_every_floor_has_a_reason():
    floor = HostFloor(LIMITS)
    floor.choose(at(101), 0)
    for t in range(1, 60):
        index, reason = floor.choose(at(50), t * SECOND)
        assert bool(reason) == bool(index)


def test_an_event_between_two_readings_is_throttling():
    floor = HostFloor(LIMITS)
    assert floor.choose(at(50, throttle_events=7), 0)[0] == 0, "of before the start"
    assert floor.choose(at(50, throttle_events=9), SECOND) == (
        2, "throttled 2 × since the last reading")


def test_a_counter_that_vanishes_or_falls_is_no_event():
    floor = HostFloor(LIMITS)
    for t, events in enumerate((7, None, 9, 3)):
        assert floor.choose(at(50, throttle_events=events), t * SECOND)[0] == 0


def test_a_ladder_with_fewer_steps_bounds_it():
    assert HostFloor(LIMITS, steps=1).choose(at(101), 0)[0] == 1
    assert HostFloor(LIMITS, steps=0).choose(at(101), 0)[0] == 0


# -- the row ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("host, level, message", [
    (at(50, cpu_load=0.25, power_w={"VDD_IN": 12.0}), Level.OK, "50 °C, load 25%, 12.0 W"),
    (at(95), Level.WARN, "cpu at 95 °C, 5 °C below throttling"),
    (at(101), Level.ERROR, "cpu at 101 °C, where it is throttled"),
    (at(50, memory_free_mb=120.0), Level.WARN, "120 MB of memory left"),
    (at(95, memory_free_mb=120.0), Level.WARN,
     "120 MB of memory left; cpu at 95 °C, 5 °C below throttling")])
def test_the_row(host, level, message):
    row = host_row(host, LIMITS)
    assert (row.name, row.level, row.message) == ("host", level, message)


def test_its_figures():
    values = host_row(at(50.4, power_w={"VDD_IN": 12.34}, throttle_events=3), LIMITS).values
    assert values["temperature.cpu_c"] == "50.4" and values["power.VDD_IN_w"] == "12.3"
    assert values["headroom_c"] == "49.6" and values["throttle_events"] == "3"


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="host"):
        HostLimits(headroom_c=-1)
