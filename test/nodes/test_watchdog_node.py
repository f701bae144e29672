"""The watchdog as a process of its own, beside a stand-in for the perception node."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytestmark = pytest.mark.ros

import rclpy  # noqa: E402
import yaml  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from driving import wait_for  # noqa: E402
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor  # noqa: E402
from small_car import description  # noqa: E402
from vision_msgs.msg import Detection3DArray  # noqa: E402

from perception_bev.nodes import contract_qos, table  # noqa: E402
from perception_bev.nodes.degrade import DegradeReceiver  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = 20 + os.getpid() % 90
OK, WARN, ERROR, STALE = 0, 1, 2, 3
PERIOD_NS = 100_000_000
HEALTHY = {"plan": "full", "latency.claimed": "yes", "latency.wait_ms": "3.0",
           "latency.total_ms": "40.0", "sensor.top": "ok", "age.top_ms": "0.5",
           "heartbeat.extract_ms": "20", "heartbeat.fuse_ms": "10", "heartbeat.decide_ms": "5",
           "worker.fuse": "running, 0 restarts", "guard.delay_ms": "0.4", "guard.margin_ms": "10"}


class Stack:
    """`tracks` and `status` ten times a second, a receiver of `degrade`, a listener."""

    def __init__(self) -> None:
        self.text, self.values, self.speaking = "full", dict(HEALTHY), False
        self.rows: dict[str, DiagnosticStatus] = {}  # newest, by name
        self.arrays = 0
        self.changes: list = []
        self._out, self._lock = (), threading.Lock()
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node("perception", context=self.context)
        self.receiver = DegradeReceiver(self.node, lambda *new: self.changes.append(new),
                                        lambda: self.changes.append("gone"))
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._take, 10)
        self.publish_with(contract_qos.offered(PERIOD_NS))
        self._over = threading.Event()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._threads = [threading.Thread(target=work) for work in (self._spin, self._speak)]
        for thread in self._threads:
            thread.start()

    def publish_with(self, qos) -> None:
        """None: nothing is published."""
        with self._lock:
            for old in self._out:
                self.node.destroy_publisher(old)
            self._out = () if qos is None else (
                self.node.create_publisher(Detection3DArray, "tracks", qos),
                self.node.create_publisher(DiagnosticArray, "status", qos))

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def after(self, name: str, level: int, text: str = "") -> DiagnosticStatus:
        """The next row of a name that has this level and text."""
        self.rows.pop(name, None)
        return self.shown(name, level, text)

    def shown(self, name: str, level: int, text: str = "") -> DiagnosticStatus:
        """The same, or the newest one."""
        def found():
            row = self.rows.get(name)
            return row if row and row.level[0] == level and text in row.message else None

        return wait_for(found, f"{name} at {level} with '{text}'", 30)

    def _take(self, message: DiagnosticArray) -> None:
        assert message.header.stamp.sec > 0
        self.arrays += len(message.status) > 5
        self.rows.update({row.name: row for row in message.status})

    def _spin(self) -> None:
        try:
            while not self._over.is_set():
                self._executor.spin_once(timeout_sec=0.05)
        except ExternalShutdownException:
            return

    def _speak(self) -> None:
        received = 0
        while not self._over.wait(PERIOD_NS / 1e9):
            received += 1
            if not self.speaking:
                continue
            values = self.values | {"received.top": str(received)}
            status = DiagnosticStatus(name="perception: output", message=self.text,
                                      values=[KeyValue(key=k, value=v) for k, v in values.items()])
            tracks, said = Detection3DArray(), DiagnosticArray(status=[status])
            tracks.header.stamp = said.header.stamp = self.node.get_clock().now().to_msg()
            with self._lock:
                for publisher, message in zip(self._out, (tracks, said), strict=False):
                    publisher.publish(message)


class Watchdog:
    """`python -m perception_bev.nodes.watchdog_node` with parameters."""

    def __init__(self, log: Path, **parameters: object) -> None:
        words = [sys.executable, "-m", "perception_bev.nodes.watchdog_node",
                 *table.ros_words(parameters)]
        environment = {**os.environ, **table.environment(), "ROS_DOMAIN_ID": str(DOMAIN),
                       "ROS_LOG_DIR": str(log.parent)}
        self._log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=out,
                                            stderr=subprocess.STDOUT)

    @property
    def output(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="module")
def profile():
    """The test's own end of the topics uses the same Fast DDS profile."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in table.environment().items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def stack(profile):
    made = Stack()
    yield made
    made.close()


@pytest.fixture(scope="module")
def watchdog(stack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("watchdog")
    rig = folder / "rig.yaml"
    rig.write_text(yaml.safe_dump(description()))
    deployment = folder / "computer.yaml"  # a busy machine is slow, the tests are not about that
    deployment.write_text("budget_ms: 5000")
    made = Watchdog(folder / "log", rig=str(rig), deployment=str(deployment), overload_s=1.0,
                    overload_share=0.2, release_s=1.0, persist_s=0.5, silent_ms=1000.0,
                    window_s=2.0)
    yield made
    made.kill()


def test_before_the_first_frame_nothing_is_claimed(stack, watchdog):
    output = stack.after("perception/output", STALE, "n/a")
    assert "waiting" in output.message
    wait_for(lambda: len(stack.rows) > 8, "all rows")
    for name in ("perception/latency", "perception/tracks", "perception/clock",
                 "perception/sensors/top", "perception/sensors/front", "perception/stages/fuse"):
        row = stack.rows[name]
        assert row.level[0] == STALE and row.message.startswith("n/a"), row
        assert not [v for v in row.values if v.value in ("0", "0.0", "0.00")], "no false zeros"


def test_a_healthy_stack_is_ok_in_figures(stack, watchdog):
    stack.speaking = True
    row = stack.after("perception/output", OK, "full")
    assert row.hardware_id == "perception_bev"
    tracks = stack.shown("perception/tracks", OK, "Hz; 0 of")
    assert float(next(v.value for v in tracks.values if v.key == "rate_hz")) > 5
    stack.shown("perception/latency", OK, "p99")
    stack.shown("perception/host", OK)
    stack.shown("perception/sensors/top", OK, "Hz")
    stack.shown("perception/stages/fuse", OK, "last frame")
    stack.shown("perception/publisher", OK, "alive")
    stack.shown("perception/degrade", OK)
    count = stack.arrays
    wait_for(lambda: stack.arrays > count + 1, "a whole array a second")


def test_a_fault_of_clocks_is_named(stack, watchdog):
    fault = "top: this clock is TAI, 37 s ahead"
    stack.values = HEALTHY | {"clock.top": fault}
    row = stack.after("perception/clock", ERROR, "TAI")
    assert row.message == fault
    stack.values = dict(HEALTHY)
    stack.after("perception/clock", OK)


def test_silence_and_death_are_reported_by_timer(stack, watchdog):
    stack.speaking = False
    stack.after("perception/output", ERROR, "no status for")
    stack.shown("perception/tracks", ERROR, "nothing for")
    stack.shown("perception/latency", STALE, "n/a")
    stack.publish_with(None)
    stack.after("perception/publisher", ERROR, "gone")
    stack.publish_with(contract_qos.offered(PERIOD_NS))
    stack.speaking = True
    stack.after("perception/output", OK)


def test_lasting_overload_raises_the_floor_and_its_end_releases_it(stack, watchdog):
    stack.text = "predicted (3 frames)"
    wait_for(lambda: stack.receiver.floor is not None, "a floor")
    assert "overload" in stack.receiver.reason
    stack.after("perception/degrade", WARN, "at most '")
    stack.text = "full"
    wait_for(lambda: stack.receiver.floor is None, "the release")
    assert stack.receiver.watchdog == "present"
    stack.after("perception/output", OK)


def test_a_stopped_watchdog_is_gone_until_it_goes_on(stack, watchdog):
    stack.changes.clear()
    watchdog.process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: stack.receiver.watchdog == "gone", "the loss")
    finally:
        watchdog.process.send_signal(signal.SIGCONT)
    wait_for(lambda: stack.receiver.watchdog == "present", "the return")
    assert stack.changes == ["gone"], "no floor stood, none was released"
    stack.after("perception/output", OK)


def test_a_publisher_without_deadline_and_liveliness_is_heard_too(stack, watchdog):
    stack.publish_with(contract_qos.plain())
    row = stack.after("perception/publisher", OK, "without deadline")
    assert {v.value for v in row.values if v.key.endswith("not offered")} <= {
        "LIVELINESS", "DEADLINE"}
    stack.after("perception/output", OK)
    stack.shown("perception/tracks", OK)
    stack.publish_with(None)
    stack.after("perception/publisher", STALE, "nobody publishes")
    stack.publish_with(contract_qos.offered(PERIOD_NS))
    stack.after("perception/publisher", OK, "alive")


def test_sigterm_ends_it_cleanly_and_the_receiver_knows(stack, watchdog):
    """The last test with this process."""
    watchdog.process.send_signal(signal.SIGTERM)
    assert watchdog.process.wait(30) == 0 and "Traceback" not in watchdog.output
    wait_for(lambda: stack.receiver.watchdog == "gone", "the loss")


@pytest.mark.parametrize("wrong, said", [({"rig": "/gone/rig.yaml"}, "/gone/rig.yaml: no such"),
                                         ({"miss_share": 2.0}, "miss_share")])
def test_a_wrong_parameter_is_one_line_and_exit_code_two(tmp_path, profile, wrong, said):
    watchdog = Watchdog(tmp_path / "log", **wrong)
    try:
        code = watchdog.process.wait(60)
    finally:
        watchdog.kill()
    lines = [line for line in watchdog.output.splitlines() if said in line]
    assert code == 2 and len(lines) == 1, watchdog.output
    assert "Traceback" not in watchdog.output
