"""The replay node as a process, heard by a node of the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

import rclpy
from bag_scenes import MS, RIG, SmallRecording, write_texts
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, PointCloud2
from std_msgs.msg import String, UInt32
from tf2_msgs.msg import TFMessage

from perception_bev.nodes import table
from perception_bev.recordings import bag_write
from perception_bev.recordings.bag_reader import BagReader
from perception_bev.recordings.convert import convert

pytestmark = pytest.mark.ros

DOMAIN = 20 + os.getpid() % 80  # so that runs beside each other do not hear each other
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
DEADLINE_S = 60.0


class Ear:
    """Hears topics and keeps what came, by topic."""

    def __init__(self) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=DOMAIN)
        self._node = rclpy.create_node("ear", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self.heard: dict[str, list] = {}

    def hear(self, kind: type, topic: str, qos) -> None:
        self.heard[topic] = []
        self._node.create_subscription(kind, topic, self.heard[topic].append, qos)

    def say(self, topic: str, text: str) -> None:
        publisher = self._node.create_publisher(String, topic, 10)
        assert self.until(publisher.get_subscription_count)
        publisher.publish(String(data=text))

    def until(self, condition) -> bool:
        limit = time.monotonic() + DEADLINE_S
        while not condition() and time.monotonic() < limit:
            self._executor.spin_once(timeout_sec=0.05)
        return bool(condition())

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()


@pytest.fixture
def ear():
    made = Ear()
    yield made
    made.close()


@pytest.fixture
def start():
    """Starts the node with parameters; what still runs at the end is killed."""
    running = []

    def begin(*words: str, **parameters) -> subprocess.Popen:
        arguments = [word for name, value in parameters.items()
                     for word in ("-p", f"{name}:={json.dumps(value)}")]
        process = subprocess.Popen(
            [sys.executable, "-m", "perception_bev.nodes.replay_node", "--ros-args", *arguments,
             *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **table.environment(), "ROS_DOMAIN_ID": str(DOMAIN)})
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def bag(tmp_path):
    convert(SmallRecording((3, 2)), tmp_path / "bag", spacing="period")
    return tmp_path / "bag"


def stamp_ns(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def recorded_stamps(bag: Path, topic: str) -> list[int]:
    with BagReader(bag) as reader:
        return [stamp_ns(message) for _, _, message in reader.messages([topic])]


def output_of(process: subprocess.Popen) -> tuple[int, str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out + err


def test_everything_is_heard_as_it_was_recorded(ear, start, bag, tmp_path):
    ear.hear(PointCloud2, "/lidar/top/points", BEST_EFFORT)
    ear.hear(CompressedImage, "/camera/front/image/compressed", 10)
    ear.hear(Odometry, "/odometry", 10)
    ear.hear(UInt32, "/epoch", LATCHED)
    ear.hear(Clock, "/clock", 1000)
    process = start(bag=str(bag), report=str(tmp_path / "report.json"),
                    expect=["lidar/top/points", "odometry", "/camera/front/image/compressed"])
    assert ear.until(lambda: process.poll() is not None)
    code, text = output_of(process)
    assert code == 0, text
    for topic in ("/lidar/top/points", "/camera/front/image/compressed", "/odometry"):
        assert [stamp_ns(m) for m in ear.heard[topic]] == recorded_stamps(bag, topic), topic
    assert [m.data for m in ear.heard["/epoch"]] == [0, 1]
    clock = [m.clock.sec * 10**9 + m.clock.nanosec for m in ear.heard["/clock"]]
    assert clock == sorted(clock) and len(clock) > 20
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["published"]["/lidar/top/points"] == 5 and report["epochs"] == 2
    assert report["complete"] and report["error"] is None
    assert "/lidar/top/points 5" in text, "the counts are the last line of the log"


def test_looping_until_it_is_interrupted(ear, start, bag, tmp_path):
    ear.hear(UInt32, "/small/epoch", LATCHED)
    ear.hear(PointCloud2, "/small/lidar/top/points", BEST_EFFORT)
    process = start("-r", "__ns:=/small", bag=str(bag), rate=5.0, loop=True, stamps="fresh",
                    report=str(tmp_path / "report.json"))
    epochs, clouds = ear.heard["/small/epoch"], ear.heard["/small/lidar/top/points"]
    assert ear.until(lambda: len(epochs) >= 5 and len(clouds) >= 8)
    assert [m.data for m in epochs] == list(range(epochs[0].data, epochs[0].data + len(epochs)))
    now = time.time_ns()
    assert all(0 <= now - stamp_ns(cloud) < DEADLINE_S * 1e9 for cloud in clouds)
    late = Ear()
    late.hear(TFMessage, "/tf_static", LATCHED)
    assert late.until(lambda: late.heard["/tf_static"]), "the static tree waits for late ones"
    late.close()
    process.send_signal(signal.SIGINT)
    code, text = output_of(process)
    assert code == 0, text
    assert not json.loads((tmp_path / "report.json").read_text())["complete"]


def test_a_torn_bag_is_played_as_far_as_it_goes_and_exits_with_1(ear, start, tmp_path,
                                                                 monkeypatch):
    monkeypatch.setattr(bag_write, "_CHUNK_BYTES", 1 << 12)
    write_texts(tmp_path / "bag", 100)
    path = tmp_path / "bag" / "bag_0.mcap"
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    ear.hear(String, "/text_0", 100)
    ear.hear(String, "/text_1", 100)
    process = start(bag=str(path), expect=["/text_0", "/text_1"], depth=100.0)
    assert ear.until(lambda: process.poll() is not None)
    code, text = output_of(process)
    heard = len(ear.heard["/text_0"]) + len(ear.heard["/text_1"])
    assert code == 1 and 10 < heard < 100
    assert f"{heard} messages before it were readable" in text


def test_the_faults_of_a_scenario_befall_what_is_played(ear, start, bag, tmp_path):
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(RIG))
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nwhat: No camera.\nfaults:\n  - {kind: off, sensor: front}\n"
        "  - {kind: clock_skew, sensor: top, offset_ms: 250}\n")
    ear.hear(PointCloud2, "/lidar/top/points", BEST_EFFORT)
    ear.hear(CompressedImage, "/camera/front/image/compressed", 10)
    process = start(bag=str(bag), scenario=str(tmp_path / "mine.yaml"),
                    rig=str(tmp_path / "rig.yaml"), report=str(tmp_path / "report.json"),
                    expect=["lidar/top/points", "/camera/front/image/compressed"])
    assert ear.until(lambda: process.poll() is not None)
    code, text = output_of(process)
    assert code == 0 and "scenario mine: No camera." in text, text
    assert not ear.heard["/camera/front/image/compressed"]
    assert [stamp_ns(m) - 250 * MS for m in ear.heard["/lidar/top/points"]] == recorded_stamps(
        bag, "/lidar/top/points")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["faults"]["off"]["/camera/front/image/compressed"] == 5


def test_a_fault_is_ordered_while_it_plays_and_every_order_is_answered(ear, start, bag, tmp_path):
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(RIG))
    ear.hear(PointCloud2, "/lidar/top/points", BEST_EFFORT)
    ear.hear(CompressedImage, "/camera/front/image/compressed", 10)
    ear.hear(String, "/replay/fault_answer", 10)
    start(bag=str(bag), rig=str(tmp_path / "rig.yaml"), loop=True, stamps="fresh",
          expect=["lidar/top/points", "/camera/front/image/compressed"])
    images, sweeps = (ear.heard[t] for t in ("/camera/front/image/compressed",
                                             "/lidar/top/points"))
    assert ear.until(lambda: len(images) > 3)
    for text in ("{kind: off, sensor: front, for_s: 60}", "{kind: off, sensor: frond}"):
        ear.say("/replay/fault", text)
    assert ear.until(lambda: len(ear.heard["/replay/fault_answer"]) == 2)
    taken, refused = (json.loads(m.data) for m in ear.heard["/replay/fault_answer"])
    assert taken["ends_mono_ns"] - taken["begins_mono_ns"] == 60 * 10**9
    assert "did you mean 'front'" in refused["error"]
    assert ear.until(lambda: time.monotonic_ns() > taken["begins_mono_ns"] + 200 * MS)
    before, swept = len(images), len(sweeps)
    assert ear.until(lambda: len(sweeps) >= swept + 3)
    assert len(images) == before


@pytest.mark.parametrize(("parameters", "reason"), (
    ({}, "no bag"),
    ({"bag": "/no/such/bag"}, "no such bag"),
    ({"bag": "/no/such/bag", "stamps": "newest"}, "original, fresh"),
    ({"bag": "/no/such/bag", "rate": 1000.0}, "rate"),
), ids=lambda value: value if isinstance(value, str) else "")
def test_wrong_parameters_are_said_and_exit_with_1(start, parameters, reason):
    code, text = output_of(start(**parameters))
    assert code == 1 and reason in text and "Traceback" not in text
