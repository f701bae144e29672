"""Nodes: the topics `features/<engine>/request` and `.../answer` between a perception node and a
stage node, and how large messages are put there and taken.

Reliable, of which only the newest counts; both ends offer and request liveliness, because both are
ours. Messages are made by messages/features.py and cross rclpy as bytes, with Python's other
threads running meanwhile where that is possible (serialized.py).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import LivelinessPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from std_msgs.msg import UInt8MultiArray

from perception_bev.nodes import serialized
from perception_bev.nodes.table import FASTDDS_PROFILE, FASTDDS_VARIABLES, HOSTS_PROFILE

LEASE_S = 1.0  # silence after which the other end counts as gone
QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                 liveliness=LivelinessPolicy.AUTOMATIC,
                 liveliness_lease_duration=Duration(seconds=LEASE_S))


def advice(present: Mapping[str, str]) -> str | None:
    """What to say when the profile in force is the one for a single computer."""
    if Path(present.get(FASTDDS_VARIABLES[0], "")).name != Path(FASTDDS_PROFILE).name:
        return None
    return (f"{FASTDDS_VARIABLES[0]} is for one computer: large messages to others are slow with "
            f"it; set it to .../{HOSTS_PROFILE}")


def request_topic(engine: str, namespace: str = "") -> str:
    """namespace: of the stage node; empty: whoever uses the name."""
    return f"{_prefix(namespace)}features/{engine}/request"


def answer_topic(engine: str, namespace: str = "") -> str:
    return f"{_prefix(namespace)}features/{engine}/answer"


def _prefix(namespace: str) -> str:
    return f"/{namespace.strip('/')}/" if namespace.strip("/") else ""


class _Serialized(ctypes.Structure):
    """rcl_serialized_message_t with memory that is not its own, and an allocator of zeros."""

    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_size_t),
                ("capacity", ctypes.c_size_t), ("allocator", ctypes.c_void_p * 5)]


@cache
def _publish() -> Callable | None:
    """rcl's own call, which lets other threads run; None where rclpy has to do it."""
    if serialized.obstacle() is not None:
        return None
    try:
        publish = ctypes.CDLL("librcl.so").rcl_publish_serialized_message
    except (OSError, AttributeError):
        return None
    publish.argtypes = [ctypes.c_void_p] * 3  # publisher, message, allocation
    return publish


class Outlet:
    """A publisher of serialized messages."""

    def __init__(self, node: Node, topic: str) -> None:
        self._node = node
        self.publisher: Publisher = node.create_publisher(UInt8MultiArray, topic, QOS)

    @property
    def listeners(self) -> int:
        return self.publisher.get_subscription_count()

    def send(self, message: np.ndarray) -> bool:
        """(n,) uint8, contiguous; False: the middleware did not take it."""
        publish = _publish()
        if publish is None:
            self.publisher.publish(message.tobytes())
            return True
        raw = _Serialized(message.ctypes.data, len(message), len(message))
        with (handle := self.publisher.handle):  # not destroyed meanwhile
            return publish(handle.pointer, ctypes.addressof(raw), None) == 0

    def destroy(self) -> None:
        self._node.destroy_publisher(self.publisher)


class Inlet:
    """A subscription whose callback gets (n,) uint8, and how many publishers live."""

    def __init__(self, node: Node, topic: str, take: Callable[[np.ndarray], None],
                 failed: Callable[[int], None],
                 alive_changed: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            failed: told rcl's code of a message that could not be taken.
            alive_changed: `alive` may be another now; from the executor's thread.
        """
        self._node, self._changed = node, alive_changed
        # None: the middleware never told, or not yet: those that are there at once are no news.
        self._alive: int | None = None
        self._take = take

        def make(**options: Any) -> Subscription:
            return self._subscription(topic, options)

        self._subscribed, self._taker = serialized.subscribe(node, make, failed)

    @property
    def alive(self) -> int:
        """Publishers that live, or, as long as nobody says so, that are connected."""
        return self._subscribed.get_publisher_count() if self._alive is None else self._alive

    def destroy(self) -> None:
        if self._taker is not None:
            self._node.remove_waitable(self._taker)
        self._node.destroy_subscription(self._subscribed)

    def _subscription(self, topic: str, options: dict[str, Any]) -> Subscription:
        def subscription(callbacks: SubscriptionEventCallbacks) -> Subscription:
            return self._node.create_subscription(
                UInt8MultiArray, topic, self._received, QOS, event_callbacks=callbacks, **options)

        try:
            return subscription(SubscriptionEventCallbacks(liveliness=self._liveliness))
        except UnsupportedEventTypeError:
            return subscription(SubscriptionEventCallbacks())

    def _received(self, message: Any) -> None:
        self._take(np.frombuffer(message, np.uint8) if isinstance(message, bytes) else message)

    def _liveliness(self, event: Any) -> None:
        self._alive = event.alive_count
        self._changed()
