"""Shared by tests: a vehicle made of topics, and nodes under test as processes of their own."""

import importlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from driving import wait_for
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile
from small_car import calibration, frames

from perception_bev.geometry import SE3
from perception_bev.messages.write import MessageWriter, packed_array
from perception_bev.nodes import table

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = 110 + os.getpid() % 90
TOPICS = {"front": ("sensor_msgs/msg/CompressedImage", "camera/front/image/compressed"),
          "top": ("sensor_msgs/msg/PointCloud2", "lidar/top/points"),
          "nose": ("sensor_msgs/msg/PointCloud2", "radar/nose/points"),
          "odometry": ("nav_msgs/msg/Odometry", "odometry"),
          "info": ("sensor_msgs/msg/CameraInfo", "camera/front/camera_info")}
INPUTS = ("front", "top", "nose", "odometry")  # of a rig without holes
PERIOD_S = 0.1


def message_class(name: str) -> type:
    package, _, kind = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), kind)


WRITER = MessageWriter(message_class, packed_array)


class Vehicle:
    """Publishes what `active` sensors see, ten times a second, and keeps what it receives."""

    def __init__(self, qos: QoSProfile | int) -> None:
        self.active: set[str] = set()
        self.spoil: dict[str, Callable[[Any], None]] = {}  # changes a sensor's messages
        self.clock_ns: Callable[[], int] = time.time_ns
        self.received: dict[str, list] = {}
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node("vehicle", context=self.context)
        self.publishers = {name: self.node.create_publisher(message_class(kind), topic, qos)
                           for name, (kind, topic) in TOPICS.items()}
        self._over = threading.Event()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._threads = [threading.Thread(target=work) for work in (self._spin, self._drive)]
        for thread in self._threads:
            thread.start()

    def subscribe(self, topic: str, kind: str, qos: QoSProfile | int = 50) -> list:
        """The growing list of what comes on a topic, from whichever node."""
        if topic not in self.received:
            got = self.received[topic] = []
            self.node.create_subscription(message_class(kind), topic, got.append, qos)
        return self.received[topic]

    def connected(self, names: Iterable[str] = INPUTS) -> bool:
        return all(self.publishers[n].get_subscription_count() == 1 for n in names)

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def _spin(self) -> None:
        try:
            while not self._over.is_set():
                self._executor.spin_once(timeout_sec=0.05)
        except ExternalShutdownException:
            return

    def _drive(self) -> None:
        while not self._over.wait(PERIOD_S):
            for name, message in messages(self.clock_ns()).items():
                if name in self.active:
                    self.spoil.get(name, lambda m: None)(message)
                    self.publishers[name].publish(message)


def messages(stamp_ns: int) -> dict[str, Any]:
    """What the vehicle sends at one time: it stands still before one and the same scene."""
    raws = frames(stamp_ns, seed=1)
    still = np.zeros(3)
    lens = calibration().camera_models["front"]
    return {"info": WRITER.camera_info(lens, stamp_ns, "front_optical"),
            "odometry": WRITER.odometry(stamp_ns, SE3.identity(), still, still),
            "front": WRITER.compressed_image(raws["front"]),
            "nose": WRITER.cloud(raws["nose"]), "top": WRITER.cloud(raws["top"])}


class NodeProcess:
    """`python -m perception_bev.nodes.perception_node` with parameters; its output is kept.

    Every one has a name of its own: what was discovered of the one before may linger.
    """

    numbers = itertools.count()

    def __init__(self, log: Path, **parameters: object) -> None:
        self.name = f"perception_{next(self.numbers)}"
        words = [sys.executable, "-m", "perception_bev.nodes.perception_node", "--ros-args",
                 "-r", f"__node:={self.name}"]
        for name, value in parameters.items():
            words += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
        environment = {**os.environ, **table.environment(), "ROS_DOMAIN_ID": str(DOMAIN),
                       "ROS_LOG_DIR": str(log.parent)}
        self._log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=out,
                                            stderr=subprocess.STDOUT)

    @property
    def output(self) -> str:
        return self._log.read_text()

    def alive(self) -> bool:
        return self.process.poll() is None

    def says(self, text: str) -> bool:
        assert self.alive() or text in self.output, self.output
        return text in self.output

    def wait(self, timeout_s: float = 60.0) -> int:
        return self.process.wait(timeout_s)

    def end(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Send a signal; the exit code and how long it took [s]."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(60), time.monotonic() - began

    def kill(self) -> None:
        if self.alive():
            self.process.kill()
            self.process.wait(10)


def stamp_of(message: Any) -> int:
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def status_of(message: Any) -> dict[str, str]:
    """The values of a status, with its message and level."""
    status, = message.status
    return {pair.key: pair.value for pair in status.values} | {
        "message": status.message, "level": status.level[0]}


def newest(got: list) -> dict[str, str]:
    return status_of(got[-1]) if got else {}


def after(got: list, condition: Callable[[dict], bool], what: str) -> dict[str, str]:
    """The first status, of those that come from now on, for which the condition holds."""
    seen = len(got)

    def found():
        return next((s for s in map(status_of, got[seen:]) if condition(s)), None)

    return wait_for(found, what)
