"""Nodes: short calls to a running stack for `bev fault`: one `status` with the processes that it
names, and an order to the player. Each has a context of its own and is over when it returns."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from perception_bev.errors import ConfigError
from perception_bev.nodes import table

PLAYER = "replay"  # name of the replay node
LOOK_S = 0.02


def status(patience_s: float = 3.0, namespace: str = "") -> dict[str, str] | None:
    """The values of the next `status`; None when none comes."""
    got: list[dict[str, str]] = []

    def take(message: DiagnosticArray) -> None:
        if message.status:
            got.append({pair.key: pair.value for pair in message.status[0].values})

    with _node(namespace) as (node, until):
        node.create_subscription(DiagnosticArray, "status", take, QoSProfile(depth=1))
        until(lambda: bool(got), patience_s)
    return got[-1] if got else None


def order(fault: dict[str, Any], patience_s: float = 5.0, namespace: str = "") -> dict[str, int]:
    """Order a fault of messages from the player: when it begins and ends, `begins_mono_ns` and
    `ends_mono_ns`. ConfigError when there is no player, or with what it refuses the order for."""
    text = json.dumps(fault)
    answers: list[dict[str, Any]] = []
    with _node(namespace) as (node, until):
        orders = node.create_publisher(String, f"{PLAYER}/fault", 10)
        node.create_subscription(String, f"{PLAYER}/fault_answer",
                                 lambda message: answers.append(json.loads(message.data)), 10)
        there = until(lambda: orders.get_subscription_count() > 0 and
                      node.count_publishers(f"{PLAYER}/fault_answer") > 0, patience_s)
        if not there:
            raise ConfigError("no player runs here (`bev up --bag`, `bev bag play --rig`): "
                              "messages of live sensors cannot be changed")
        orders.publish(String(data=text))
        until(lambda: any(each["order"] == text for each in answers), patience_s)
    answer = next((each for each in answers if each["order"] == text), None)
    if answer is None:
        raise ConfigError(f"the player did not answer within {patience_s:g} s")
    if "error" in answer:
        raise ConfigError(answer["error"])
    return {name: answer[name] for name in ("begins_mono_ns", "ends_mono_ns")}


@contextmanager
def _node(namespace: str) -> Iterator[tuple[Node, Callable[[Callable[[], bool], float], bool]]]:
    """A node, and a function that serves it until a condition holds or the patience is over."""
    os.environ.update(table.environment())  # read when the participant is made
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("fault_call", context=context, namespace=namespace,
                             start_parameter_services=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def until(holds: Callable[[], bool], patience_s: float) -> bool:
        limit = time.monotonic() + patience_s
        while not holds() and time.monotonic() < limit:
            executor.spin_once(timeout_sec=LOOK_S)
        return holds()

    try:
        yield node, until
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
