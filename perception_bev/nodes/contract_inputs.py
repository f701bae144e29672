"""Nodes: `tracks` and `status` as the watchdog takes them: when each came, and whether their
publisher lives."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_policy_name_from_kind
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from vision_msgs.msg import Detection3DArray

from perception_bev.errors import BadMessage
from perception_bev.latency.level import NA, Level, Row
from perception_bev.messages import read
from perception_bev.nodes import contract_qos
from perception_bev.nodes.clock import ClockReader
from perception_bev.sync.clock import Now

TOPICS = {"tracks": Detection3DArray, "status": DiagnosticArray}


@dataclass
class Publisher:
    """What the middleware says of a topic's publisher; None: it has not said anything."""

    alive: bool | None = None
    missed_deadlines: int = 0
    plain: str = ""  # the policy for whose lack it is heard without deadline and liveliness


class ContractInputs:
    """Two subscriptions. `tracks` stay bytes: making 100 detections costs milliseconds, and only
    their stamp is looked at.

    A publisher that offers neither deadline nor liveliness (a recording that is played) would not
    be connected at all: `repair()`, to be called now and then, asks for nothing then.
    """

    def __init__(self, node: Node, clock: ClockReader, period_ns: int,
                 take_tracks: Callable[[Now, int], None],
                 take_status: Callable[[Now, int, str, Mapping[str, str]], None]) -> None:
        """
        Args:
            period_ns: of the outputs.
            take_tracks: (receipt, stamp [ns]).
            take_status: (receipt, stamp [ns], message, values).
        """
        self.publishers = {topic: Publisher() for topic in TOPICS}
        self.unreadable = 0  # messages, of both topics
        self._node, self._clock = node, clock
        self._take_tracks, self._take_status = take_tracks, take_status
        self._asked = contract_qos.requested(period_ns)
        self._to_repair: set[str] = set()
        self._made = {topic: self._subscribe(topic, self._asked) for topic in TOPICS}

    @property
    def alive(self) -> bool | None:
        """Whether whoever publishes the outputs lives; None: nobody knows."""
        known = [p.alive for p in self.publishers.values() if p.alive is not None]
        return any(known) if known else None

    def row(self) -> Row:
        """What the middleware says, as a line of diagnostics."""
        plain = {f"{topic}: not offered": p.plain for topic, p in self.publishers.items()
                 if p.plain}
        values = {f"{topic}: missed deadlines": str(p.missed_deadlines)
                  for topic, p in self.publishers.items() if not p.plain}
        values |= plain | {"unreadable": str(self.unreadable)}
        if self.alive is False:
            return Row("publisher", Level.ERROR, "the perception node is gone, or does not move",
                       values)
        if plain:
            return Row("publisher", Level.OK, "heard without deadline and liveliness", values)
        if self.alive is None:
            return Row("publisher", Level.STALE, f"{NA}: nobody publishes tracks or status yet",
                       values)
        return Row("publisher", Level.OK, "alive", values)

    def repair(self) -> None:
        """Hear those publishers too that offer less than ours do; ask for all again when they
        have left."""
        for topic, state in self.publishers.items():
            # Nobody tells of the death of who offers no liveliness, but the graph knows who left.
            left = (bool(state.plain) and topic not in self._to_repair
                    and not self._node.count_publishers(topic))
            if left:
                state.plain = ""
            if left or topic in self._to_repair:
                self._to_repair.discard(topic)
                self._node.destroy_subscription(self._made[topic])
                state.alive = None
                self._made[topic] = self._subscribe(
                    topic, contract_qos.plain() if state.plain else self._asked)

    def destroy(self) -> None:
        for subscription in self._made.values():
            self._node.destroy_subscription(subscription)
        self._made.clear()

    def _subscribe(self, topic: str, qos: QoSProfile) -> Subscription:
        def made(events: SubscriptionEventCallbacks) -> Subscription:
            return self._node.create_subscription(
                TOPICS[topic], topic, self._tracks if topic == "tracks" else self._status, qos,
                event_callbacks=events, raw=True)

        try:
            return made(self._events(topic))
        except UnsupportedEventTypeError:  # then silence is all that one hears of a death
            return made(SubscriptionEventCallbacks())

    def _events(self, topic: str) -> SubscriptionEventCallbacks:
        state = self.publishers[topic]

        def alive(event: Any) -> None:
            state.alive = event.alive_count > 0

        def missed(event: Any) -> None:
            state.missed_deadlines += event.total_count_change

        def incompatible(event: Any) -> None:
            state.plain = qos_policy_name_from_kind(event.last_policy_kind)
            self._to_repair.add(topic)  # not from inside its own callback
            self._node.get_logger().warning(
                f"{topic}: its publisher offers no {state.plain.lower()}; only silence is noticed")

        return SubscriptionEventCallbacks(liveliness=alive, deadline=missed,
                                          incompatible_qos=incompatible)

    def _tracks(self, data: bytes, info: dict[str, int]) -> None:
        try:
            stamp_ns = leading_stamp(data)
        except BadMessage:
            self.unreadable += 1
            return
        self._take_tracks(self._receipt(info), stamp_ns)

    def _status(self, data: bytes, info: dict[str, int]) -> None:
        receipt = self._receipt(info)
        try:
            message = deserialize_message(data, DiagnosticArray)
            stamp_ns, status = read.stamp_ns(message.header), message.status[0]
        except Exception:  # whatever a foreign publisher puts on our topic
            self.unreadable += 1
            return
        self._take_status(receipt, stamp_ns, status.message,
                          {pair.key: pair.value for pair in status.values})

    def _receipt(self, info: dict[str, int]) -> Now:
        """When the middleware had the message, not when we came to look at it."""
        now = self._clock.now()
        waited = now.ros_ns - info.get("received_timestamp", 0)
        if not self._clock.live or not 0 <= waited < 1_000_000_000:
            return now
        return Now(now.mono_ns - waited, now.ros_ns - waited, now.rate)


def leading_stamp(data: bytes) -> int:
    """The stamp [ns] of the header that a serialised message begins with; BadMessage if none."""
    if len(data) < 12:
        raise BadMessage("truncated", f"{len(data)} bytes hold no header")
    sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return sec * 1_000_000_000 + nanosec
