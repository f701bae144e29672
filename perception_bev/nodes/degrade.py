"""Nodes: the topic `degrade`, by which the watchdog asks the perception node to compute less.

A diagnostic_msgs/DiagnosticStatus: `message` is the reason, the value `floor` the name of the
dearest plan that is still allowed; without it nothing is forbidden. The newest one holds, as long
as its publisher asserts that it lives: it repeats the message four times a second, and when it is
silent for a second (hung, stopped, killed) or leaves, the receiver releases the floor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.callback_groups import CallbackGroup
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

TOPIC = "degrade"
NAME = "degrade"  # of the DiagnosticStatus
FLOOR = "floor"  # key of its value
BEAT_S = 0.25  # how often a publisher repeats what holds
LEASE_S = 1.0  # silence after which its publisher counts as gone
# By topic, not automatic: the middleware's thread goes on living when the node's hangs.
QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                 durability=DurabilityPolicy.TRANSIENT_LOCAL,
                 liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
                 liveliness_lease_duration=Duration(seconds=LEASE_S))

Presence = Literal["never seen", "present", "gone"]


class DegradePublisher:
    """The watchdog's end. The owner calls `beat()` every BEAT_S."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticStatus, TOPIC, QOS)
        self._message = _message(None, "")
        self.beat()

    def set(self, floor: str | None, reason: str = "") -> None:
        """Ask for a floor, or release it with None; said at once when it is something new."""
        message = _message(floor, reason)
        if message != self._message:
            self._message = message
            self.beat()

    def beat(self) -> None:
        """Say again what holds. That asserts liveliness, and a receiver that took us for gone and
        released the floor hears of it again."""
        self._publisher.publish(self._message)

    def destroy(self) -> None:
        """Leave: receivers release the floor."""
        self._node.destroy_publisher(self._publisher)


class DegradeReceiver:
    """The perception node's end. Callbacks come from the node's executor.

    Attributes:
        floor: name of the dearest plan allowed, None: all are.
        reason: why, "" without a floor.
        watchdog: whether somebody lives who would ask for one.
    """

    def __init__(self, node: Node, on_change: Callable[[str | None, str], None],
                 on_watchdog_gone: Callable[[], None],
                 callback_group: CallbackGroup | None = None) -> None:
        """
        Args:
            on_change: (floor, reason), called when the floor or its reason changes; also with
                (None, "") before `on_watchdog_gone` where a floor stood.
            on_watchdog_gone: nobody asks any more, and nobody looks.
        """
        self.floor: str | None = None
        self.reason = ""
        self.watchdog: Presence = "never seen"
        self._alive: int | None = None  # publishers, as far as the middleware has said
        self._node, self._group = node, callback_group
        self._on_change, self._on_gone = on_change, on_watchdog_gone
        self._subscription = self._subscribe()

    def destroy(self) -> None:
        """Stop listening; what holds stays readable."""
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self) -> Subscription:
        def subscription(callbacks: SubscriptionEventCallbacks) -> Subscription:
            return self._node.create_subscription(
                DiagnosticStatus, TOPIC, self._take, QOS, callback_group=self._group,
                event_callbacks=callbacks)

        try:
            return subscription(SubscriptionEventCallbacks(liveliness=self._alive_changed))
        except UnsupportedEventTypeError:
            self._node.get_logger().warning(
                f"{TOPIC}: this middleware tells nobody who has died; a floor stays when the "
                "watchdog is gone")
            return subscription(SubscriptionEventCallbacks())

    def _take(self, message: DiagnosticStatus) -> None:
        if message.name != NAME:  # somebody else's message on our topic is no order
            self._node.get_logger().warning(f"{TOPIC}: a message named '{message.name}' is ignored",
                                            throttle_duration_sec=10.0)
            return
        if self._alive == 0:  # sent before it left; who comes back says it again
            return
        self.watchdog = "present"
        floor = next((pair.value for pair in message.values if pair.key == FLOOR), None) or None
        self._set(floor, message.message if floor else "")

    def _alive_changed(self, event: Any) -> None:
        """Only losses: who has come says so by its next message."""
        self._alive = event.alive_count
        if event.alive_count == 0 and self.watchdog == "present":
            self.watchdog = "gone"
            self._set(None, "")
            self._on_gone()

    def _set(self, floor: str | None, reason: str) -> None:
        if (floor, reason) != (self.floor, self.reason):
            self.floor, self.reason = floor, reason
            self._on_change(floor, reason)


def _message(floor: str | None, reason: str) -> DiagnosticStatus:
    level = DiagnosticStatus.OK if floor is None else DiagnosticStatus.WARN
    values = [] if floor is None else [KeyValue(key=FLOOR, value=floor)]
    return DiagnosticStatus(level=level, name=NAME, message=reason, hardware_id="perception_bev",
                            values=values)
