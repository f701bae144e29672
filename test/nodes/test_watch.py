"""What the watchdog thinks, with injected clocks and without ROS."""

import pytest

from perception_bev.latency.health_settings import HealthSettings, SensorLimit
from perception_bev.latency.level import Level, Row
from perception_bev.latency.remedy import RemedySettings
from perception_bev.nodes.watch import PacedTime, Watch, path_of
from perception_bev.sync.clock import Now

MS = 1_000_000
S = 1000 * MS
ROS = 1_700_000_000 * S
ALIVE, HOST = Row("publisher", Level.OK, "alive"), Row("host", Level.OK, "50 °C")
VALUES = {"plan": "full", "latency.claimed": "yes", "sensor.top": "ok", "age.top_ms": "1.0",
          "heartbeat.fuse_ms": "10", "heartbeat.decide_ms": "5", "worker.fuse": "running"}


class Scene:
    """A watch and outputs every 100 ms of ROS time."""

    def __init__(self, live=True, **settings) -> None:
        sensors = {"top": SensorLimit(), "front": SensorLimit()}
        self.watch = Watch(HealthSettings(sensors=sensors, **settings),
                           RemedySettings(overload_s=5.0, release_s=5.0), live)
        self.now, self.count = Now(10 * S, ROS), 0

    def pass_ms(self, ms, rate=1.0) -> None:
        self.now = Now(self.now.mono_ns + round(ms * MS),
                       self.now.ros_ns + round(ms * MS * rate), rate)

    def outputs(self, number, text="full", rate=1.0, age_ms=40.0, **changed) -> None:
        for _ in range(number):
            self.pass_ms(100 / rate, rate)
            self.count += 1
            stamp = self.now.ros_ns - round(age_ms * MS)
            values = VALUES | {"received.top": str(self.count)} | changed
            self.watch.tracks(self.now, stamp)
            self.watch.status(self.now, stamp, text, values)
            self.look()

    def look(self, **host):
        self.found = self.watch.look(self.now, ALIVE, HOST, **host) or self.found
        return {row.name: row for row in self.found.rows}


def test_names_are_grouped():
    assert path_of("sensor lidar_top") == "perception/sensors/lidar_top"
    assert path_of("stage fuse") == "perception/stages/fuse"
    assert path_of("worker fuse") == "perception/workers/fuse"
    assert path_of("latency") == "perception/latency"


def test_before_the_first_frame_every_row_of_the_stack_is_unknown():
    rows = Scene().look()
    unknown = {name: row for name, row in rows.items() if name not in (
        "perception/publisher", "perception/host", "perception/degrade")}
    assert {"perception/sensors/top", "perception/sensors/front", "perception/tracks",
            "perception/stages/decide"} <= set(unknown)
    for row in unknown.values():
        assert row.level == Level.STALE and row.message.startswith("n/a"), row
        assert not {"0", "0.0", "0.00"} & set(row.values.values()), row


def test_a_healthy_stack_is_ok():
    scene = Scene()
    scene.outputs(30)
    rows = scene.look()
    for name in ("output", "latency", "tracks", "misses", "sensors/top", "stages/fuse",
                 "workers/fuse", "degrade"):
        assert rows[f"perception/{name}"].level == Level.OK, rows[f"perception/{name}"]
    assert scene.found.floor is None


def test_latency_is_receipt_less_stamp():
    scene = Scene()
    scene.outputs(30, age_ms=81.0)
    for name in ("latency", "tracks"):
        assert scene.look()[f"perception/{name}"].level >= Level.WARN


@pytest.mark.parametrize("live, claimed", [(False, "yes"), (True, "n/a")])
def test_no_latency_of_another_clock_is_claimed(live, claimed):
    scene = Scene(live=live)
    scene.outputs(30, age_ms=5000.0, **{"latency.claimed": claimed})
    rows = scene.look()
    assert rows["perception/latency"].message.startswith("n/a")
    assert rows["perception/tracks"].values["p99_ms"] == "n/a"


def test_a_replay_at_half_speed_misses_nothing():
    scene = Scene(live=False)
    scene.outputs(60, rate=0.5)
    rows = scene.look()
    assert rows["perception/tracks"].level == Level.OK
    assert rows["perception/sensors/top"].level == Level.OK, rows["perception/sensors/top"]


def test_while_clock_stands_still_nothing_is_judged_and_nothing_missed_later():
    scene = Scene(live=False)
    scene.outputs(30)
    for _ in range(50):
        scene.pass_ms(100, rate=0.0)
        rows = scene.look()
    assert {rows["perception/output"].message, rows["perception/tracks"].message} == {
        "paused: /clock stands still"}
    assert rows["perception/host"].level == Level.OK, "this computer goes on"
    scene.outputs(5)
    assert scene.look()["perception/tracks"].values["without"] == "0"


def test_a_silent_stack_is_reported():
    scene = Scene(silent_ms=500.0)
    scene.outputs(30)
    for _ in range(7):
        scene.pass_ms(100)
        rows = scene.look()
    assert rows["perception/output"].level == Level.ERROR
    assert rows["perception/tracks"].values["without"] == "6"


def test_after_its_own_sleep_it_listens_before_it_judges():
    scene = Scene()
    scene.outputs(30)
    scene.pass_ms(5000)
    assert scene.watch.look(scene.now, ALIVE, HOST) is None
    scene.pass_ms(100)
    assert scene.watch.look(scene.now, ALIVE, HOST) is not None


def test_lasting_predictions_raise_a_floor_but_not_while_a_worker_starts():
    scene = Scene()
    scene.outputs(60, text="predicted (2 frames)")
    assert scene.found.floor == "no_history" and "overload" in scene.found.reason
    assert scene.look()["perception/degrade"].level == Level.WARN
    scene = Scene()
    scene.outputs(60, text="predicted (2 frames)", **{"worker.fuse": "starting, 1 restart"})
    assert scene.found.floor is None


def test_the_safe_state_is_overload_only_while_frames_are_finished():
    scene = Scene()
    scene.outputs(60, text="no output: safe state")
    assert scene.found.floor == "no_history"
    scene = Scene()
    scene.outputs(60, text="no output: safe state", **{"heartbeat.decide_ms": "5000"})
    assert scene.found.floor is None


def test_a_hot_computer_raises_the_floor():
    scene = Scene()
    scene.outputs(10)
    row = scene.look(host_floor=(2, "throttled: cpu"))["perception/degrade"]
    assert scene.found.floor == "reused_cameras" and "throttled: cpu" in row.message


def test_paced_time_never_goes_back():
    time = PacedTime()
    first = time.at(Now(10 * S, ROS))
    assert time.at(Now(9 * S, ROS)) == first
    assert time.at(Now(12 * S, ROS, rate=0.5)) == first + S
