"""Nodes: looks at every live sensor topic for some seconds, for `bev rig init|check --live`.

Subscribes best effort, which every publisher accepts, and once more with transient local
durability where the message may have been sent before we came (/tf_static).
"""

from __future__ import annotations

import importlib
import os
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy

from perception_bev.nodes import table
from perception_bev.survey.observe import TF, WANTED_TYPES, Observations, Observer

DISCOVERY_PERIOD_S = 0.5
QUEUE = 5


def probe(seconds: float) -> Observations:
    """What is on the topics during the next `seconds`, with a context of its own."""
    os.environ.update(table.environment())  # read when the participant is made
    context = rclpy.Context()
    rclpy.init(context=context)
    node = RigProbe(context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=min(left_s, 0.1))
        return node.observer.result()
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


class RigProbe(Node):
    """Subscribes to whatever appears and hands it to the observer."""

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("rig_probe", context=context)
        self.observer = Observer("live topics")
        self._known: set[tuple[str, str]] = set()
        self._discover()
        self.create_timer(DISCOVERY_PERIOD_S, self._discover)

    def _discover(self) -> None:
        for topic, types in self.get_topic_names_and_types():
            for type_name in types:
                if type_name in WANTED_TYPES and (topic, type_name) not in self._known:
                    self._known.add((topic, type_name))
                    self._subscribe(topic, type_name)

    def _subscribe(self, topic: str, type_name: str) -> None:
        message = message_class(type_name)
        if message is None:
            self.get_logger().warning(f"{topic}: {type_name} is not installed, passed over")
            return
        latched = type_name == TF and topic.endswith("tf_static")
        self.create_subscription(
            message, topic, lambda msg: self._take(topic, type_name, msg),
            _latched_qos() if latched else _sensor_qos())

    def _take(self, topic: str, type_name: str, message: object) -> None:
        self.observer.add(topic, type_name, self.get_clock().now().nanoseconds, message)


def message_class(type_name: str) -> type | None:
    """The class of "package/msg/Name", or None where the package is not installed."""
    package, _, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except ModuleNotFoundError:
        return None


def _sensor_qos() -> QoSProfile:
    return QoSProfile(depth=QUEUE, reliability=QoSReliabilityPolicy.BEST_EFFORT)


def _latched_qos() -> QoSProfile:
    return QoSProfile(depth=100, reliability=QoSReliabilityPolicy.RELIABLE,
                      durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
