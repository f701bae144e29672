"""Health: what `status` says over a window, as rows."""

from __future__ import annotations

import pytest

from perception_bev.errors import ConfigError
from perception_bev.latency import health
from perception_bev.latency.health import Health
from perception_bev.latency.health_settings import HealthSettings, SensorLimit
from perception_bev.latency.level import Level, Row

SECOND = 1_000_000_000
SENSORS = {"top": SensorLimit(100.0), "side": SensorLimit(100.0, required=False)}


class Vehicle:
    """Says `status` every 100 ms and reads the rows."""

    def __init__(self, **settings) -> None:
        self.health = Health(HealthSettings(sensors=SENSORS, **settings))
        self.health.rows(0)
        self.now, self.count = 0, 0

    def say(self, periods: int = 1, message: str = "full", age_ms: float | None = 60.0,
            **values: str) -> None:
        """Keys are written with `__` for a dot; None leaves one out."""
        for _ in range(periods):
            self.now += SECOND // 10
            self.count += 1
            said = {"latency.wait_ms": "10", "latency.total_ms": "55",
                    "sensor.top": "ok", "age.top_ms": "0.0", "received.top": str(self.count),
                    "sensor.side": "ok", "age.side_ms": "0.0", "received.side": str(self.count),
                    "heartbeat.extract_ms": "30", "heartbeat.fuse_ms": "20",
                    "heartbeat.decide_ms": "10"}
            said |= {key.replace("__", "."): value for key, value in values.items()}
            said = {key: value for key, value in said.items() if value is not None}
            self.health.observe(self.now, message, said, age_ms)
            self.health.rows(self.now)  # a timer

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.now += SECOND // 10
            self.health.rows(self.now)

    def row(self, name: str) -> Row:
        found, = (row for row in self.health.rows(self.now) if row.name == name)
        return found


@pytest.fixture
def vehicle() -> Vehicle:
    return Vehicle()


def test_before_the_first_status_nothing_is_known(vehicle):
    rows = vehicle.health.rows(0)
    assert {row.level for row in rows} == {Level.STALE}
    assert all(row.message.startswith("n/a") for row in rows)
    assert {"output", "latency", "sensor top", "stage fuse"} <= {row.name for row in rows}
    assert not vehicle.health.heard


def test_a_stack_that_never_says_anything_is_reported(vehicle):
    vehicle.wait(20)
    assert vehicle.row("output").level == Level.STALE
    vehicle.wait(0.1)
    assert vehicle.row("output").level == Level.ERROR
    assert vehicle.row("output").message == "no status since the start, 20 s ago"


def test_names_are_unique_and_the_output_is_first(vehicle):
    for _ in range(2):
        names = [row.name for row in vehicle.health.rows(vehicle.now)]
        assert len(set(names)) == len(names) and names[0] == "output"
        vehicle.say(worker__fuse="running, 0 restarts")


def test_when_all_is_well_all_rows_are_ok(vehicle):
    vehicle.say(100, worker__fuse="running, 0 restarts", guard__delay_ms="0.4",
                guard__margin_ms="10.0")
    assert {row.level for row in vehicle.health.rows(vehicle.now)} == {Level.OK}
    assert all(row.message and len(row.message) < 80 for row in vehicle.health.rows(vehicle.now))


def test_a_stack_that_fell_silent_is_reported(vehicle):
    vehicle.say(50)
    vehicle.wait(0.5)
    assert vehicle.row("output").level == Level.OK
    vehicle.wait(0.1)
    assert vehicle.row("output") == Row("output", Level.ERROR, "no status for 0.6 s",
                                        vehicle.row("output").values)
    assert vehicle.row("latency").level == Level.STALE
    vehicle.say()
    assert vehicle.row("output").level == Level.OK


# -- output, latency, misses, budget ---------------------------------------------------------------

@pytest.mark.parametrize("message, level", [
    ("full", Level.OK), ("degraded (top: late)", Level.WARN), ("predicted (2 frames)", Level.WARN),
    ("no output: safe state", Level.ERROR), ("what nobody knows", Level.ERROR)])
def test_the_output_says_what_status_says(vehicle, message, level):
    vehicle.say(message=message)
    assert (vehicle.row("output").level, vehicle.row("output").message) == (level, message)


def test_predictions_that_last_are_an_error(vehicle):
    vehicle.say(30, "predicted (1 frame)")
    assert vehicle.row("output").level == Level.WARN
    vehicle.say(2, "predicted (31 frames)")
    assert vehicle.row("output").level == Level.ERROR
    vehicle.say(16)
    assert vehicle.row("output").level == Level.OK


def test_the_output_counts_its_modes(vehicle):
    vehicle.say(20)
    vehicle.say(3, "predicted (1 frame)", plan="no_history")
    values = vehicle.row("output").values
    assert (values["full"], values["predicted"], values["plan"]) == ("20", "3", "no_history")
    assert values["rate_hz"] == "10.00"


def test_latency_is_that_of_the_receiver(vehicle):
    for age in range(1, 101):
        vehicle.say(age_ms=age / 2)
    row = vehicle.row("latency")
    assert row.level == Level.OK
    assert [row.values[f"{p}_ms"] for p in ("p50", "p95", "p99", "max")] == [
        "25.0", "47.5", "49.5", "50.0"]


def test_one_late_output_is_a_warning_and_a_hiccup_no_error(vehicle):
    vehicle.say(50)
    vehicle.say(10, age_ms=200.0)
    assert vehicle.row("latency").level == Level.WARN
    assert vehicle.row("latency").message.startswith("10 of 60 older than 80 ms")
    vehicle.say(50)
    assert vehicle.row("latency").level == Level.WARN, "still in the window"
    vehicle.say(60)
    assert vehicle.row("latency").level == Level.OK


def test_every_second_output_late_is_an_error_in_the_end(vehicle):
    for i in range(34):
        vehicle.say(age_ms=200.0 if i % 2 else 50.0)
    assert vehicle.row("latency").level == Level.ERROR


@pytest.mark.parametrize("said", [{"age_ms": None}, {"latency__claimed": "n/a"}])
def test_latency_is_not_claimed_of_stamps_that_mean_nothing(vehicle, said):
    vehicle.say(20)
    vehicle.say(1, **said)
    row = vehicle.row("latency")
    assert row.level == Level.OK and row.message.startswith("n/a") and not row.values


def test_misses_are_a_share_of_the_periods(vehicle):
    vehicle.say(99)
    vehicle.say(1, "predicted (1 frame)")
    row = vehicle.row("misses")
    assert row.level == Level.WARN and row.message == "1 of 100 periods, 1.0%"
    vehicle.say(101)
    assert vehicle.row("misses").level == Level.OK


def test_a_budget_that_cannot_be_kept_is_said_in_figures(vehicle):
    late = {"latency__wait_ms": "55", "latency__compute_ms": "38"}
    vehicle.say(30, "predicted (1 frame)", **late)
    assert vehicle.row("budget").level == Level.WARN
    vehicle.say(2, "predicted (1 frame)", **late)
    row = vehicle.row("budget")
    assert row.level == Level.ERROR
    assert row.message.startswith("transport 55 + p95 compute 38 = 93 ms exceeds the budget of 80")
    assert "3.1 s" in row.message and "sensors' messages come too late" in row.message


def test_a_slow_computer_is_told_from_slow_sensors(vehicle):
    vehicle.say(40, latency__wait_ms="20", latency__total_ms="110")
    assert "smaller model" in vehicle.row("budget").message


def test_a_hiccup_is_no_budget_fault(vehicle):
    vehicle.say(30)
    vehicle.say(10, latency__total_ms="300")
    vehicle.say(12)
    assert vehicle.row("budget").level == Level.WARN
    vehicle.say(20)
    assert vehicle.row("budget").level == Level.OK


def test_the_total_of_a_prediction_is_not_compute(vehicle):
    vehicle.say(40, "predicted (1 frame)", latency__total_ms="71")
    assert vehicle.row("budget").message.startswith("n/a")


# -- parts -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("reason", ["missing", "late", "bad: truncated"])
def test_a_sensor_that_does_not_contribute(vehicle, reason):
    vehicle.say(20)
    vehicle.say(30, sensor__top=reason)
    assert (vehicle.row("sensor top").level, vehicle.row("sensor top").message) == (
        Level.WARN, reason)
    vehicle.say(2, sensor__top=reason)
    assert vehicle.row("sensor top").level == Level.ERROR
    vehicle.say()
    assert vehicle.row("sensor top").level == Level.OK, "it is back at once"


def test_a_sensor_that_is_not_required_is_never_an_error(vehicle):
    vehicle.say(60, sensor__side="missing")
    assert vehicle.row("sensor side").level == Level.WARN


def test_a_sensor_that_is_used_twice_contributes(vehicle):
    vehicle.say(20, sensor__top="reused")
    row = vehicle.row("sensor top")
    assert row.level == Level.OK and row.message.endswith("reused")


def test_a_sensor_from_which_nothing_comes_while_nobody_closes_bundles(vehicle):
    vehicle.say(20)
    vehicle.say(10, "predicted (1 frame)", received__top="20", sensor__top=None)
    assert vehicle.row("sensor top").message == "nothing received for 1.0 s"
    assert vehicle.row("sensor top").level == Level.WARN


def test_a_sensor_that_is_slower_than_the_rig_says(vehicle):
    for i in range(40):
        vehicle.say(received__top=str(i // 2))
    assert vehicle.row("sensor top").message.endswith("Hz instead of 10.0 Hz")
    assert vehicle.row("sensor top").values["expected_hz"] == "10.0"


def test_drops_are_named_above_the_limit_only(vehicle):
    vehicle.say(10, drops__top="late 0")
    vehicle.say(50, drops__top="late 7, superseded 30")
    row = vehicle.row("sensor top")
    assert row.level == Level.WARN and row.message.endswith("dropped: late 7")
    assert row.values["dropped_in_window"] == "late 7, superseded 30"
    vehicle.say(120, drops__top="late 7, superseded 90")
    assert vehicle.row("sensor top").level == Level.OK


def test_figures_of_a_sensor(vehicle):
    for i in range(50):
        vehicle.say(age__top_ms=str(10 + i % 5))
    values = vehicle.row("sensor top").values
    assert (values["age_p50_ms"], values["age_max_ms"], values["jitter_ms"]) == (
        "12.0", "14.0", "2.0")
    vehicle.say(jitter__top_ms="7.5")
    assert vehicle.row("sensor top").values["jitter_ms"] == "7.5"


@pytest.mark.parametrize("age", ["n/a", "nan", "inf", "", "what"])
def test_ages_that_are_no_number_are_none(vehicle, age):
    vehicle.say(3, age__top_ms=age)
    assert vehicle.row("sensor top").values["age_max_ms"] == "n/a"


def test_a_stage_that_does_not_beat(vehicle):
    vehicle.say(10)
    for i in range(25):
        vehicle.say(heartbeat__fuse_ms=str(20 + i * 100))
    row = vehicle.row("stage fuse")
    assert row.level == Level.WARN and row.message == "no frame for 2420 ms"
    vehicle.say(20, heartbeat__fuse_ms="5000")
    assert vehicle.row("stage fuse").level == Level.ERROR
    assert vehicle.row("stage decide").level == Level.OK


def test_a_heartbeat_ages_while_nothing_is_said():
    vehicle = Vehicle(silent_ms=1e6)
    vehicle.say(10, heartbeat__fuse_ms="0")
    vehicle.wait(0.4)
    assert vehicle.row("stage fuse").message == "no frame for 400 ms"


def test_a_stage_that_never_finished_anything(vehicle):
    vehicle.say(10, heartbeat__fuse_ms="n/a", heartbeat__decide_ms=None)
    assert (vehicle.row("stage fuse").level, vehicle.row("stage fuse").message) == (
        Level.WARN, "n/a: no frame yet")
    assert vehicle.row("stage decide").level == Level.OK, "nobody claims that it should beat"


@pytest.mark.parametrize("text, level", [
    ("running, 0 restarts", Level.OK), ("starting", Level.WARN), ("lost: killed", Level.WARN)])
def test_a_worker_is_what_the_supervisor_says(vehicle, text, level):
    vehicle.say(worker__fuse=text)
    assert (vehicle.row("worker fuse").level, vehicle.row("worker fuse").message) == (level, text)


@pytest.mark.parametrize("form", ["running, {} restarts", "running (restarts {})",
                                  "running restarts={}", "running, restarts: {}"])
def test_a_worker_that_was_restarted_is_a_warning_for_a_while(vehicle, form):
    vehicle.say(10, worker__fuse=form.format(3))
    vehicle.say(10, worker__fuse=form.format(4))
    row = vehicle.row("worker fuse")
    assert row.level == Level.WARN and row.message.endswith("; 1 in the last seconds")
    vehicle.say(110, worker__fuse=form.format(4))
    assert vehicle.row("worker fuse").level == Level.OK


def test_a_worker_that_stays_away_is_an_error(vehicle):
    vehicle.say(32, worker__fuse="lost: killed")
    assert vehicle.row("worker fuse").level == Level.ERROR


@pytest.mark.parametrize("delay, level", [
    ("5.0", Level.OK), ("5.1", Level.WARN), ("n/a", Level.OK)])
def test_a_guard_that_is_held_up(vehicle, delay, level):
    vehicle.say(guard__delay_ms=delay, guard__margin_ms="10.0")
    assert vehicle.row("guard").level == level


def test_clock_faults_are_named(vehicle):
    fault = "top: stamps are 37 s in the future: this clock is TAI"
    vehicle.say(clock__top=fault)
    assert (vehicle.row("clock").level, vehicle.row("clock").message) == (Level.WARN, fault)
    vehicle.say(31, clock__top=fault, clock__side="side: something", odometry="too old")
    row = vehicle.row("clock")
    assert row.level == Level.ERROR and row.message == f"{fault} (and 2 more)"
    assert row.values["odometry"] == "too old"


def test_advice_is_a_warning_however_long(vehicle):
    vehicle.say(60, advice__0="top: set max_age_ms")
    assert (vehicle.row("clock").level, vehicle.row("clock").message) == (
        Level.WARN, "top: set max_age_ms")


def test_a_node_that_started_anew_is_not_misread(vehicle):
    vehicle.say(50)
    vehicle.count = 0
    vehicle.say(50)
    assert vehicle.row("sensor top").values["rate_hz"] == "10.00"


def test_names_that_nobody_announced_are_bounded(vehicle):
    for i in range(3):
        vehicle.say(**{f"sensor__s{i}_{j}": "ok" for j in range(100)})
    assert len(vehicle.health.rows(vehicle.now)) < 2 * health.MOST_ITEMS


@pytest.mark.parametrize("wrong", [{"window_s": 0}, {"persist_s": -1}, {"silent_ms": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        HealthSettings(**wrong)
