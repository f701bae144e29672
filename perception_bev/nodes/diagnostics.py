"""Nodes: rows of diagnostics as messages, in the manner of diagnostic_updater: all of them once a
period, and what changes its level at once."""

from __future__ import annotations

from collections.abc import Iterable

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import QoSProfile

from perception_bev.latency.level import Level, Row

TOPIC = "/diagnostics"
HARDWARE_ID = "perception_bev"


class Diagnostics:
    """The publisher of /diagnostics."""

    def __init__(self, node: Node, period_ns: int = 1_000_000_000) -> None:
        self._node, self._period = node, period_ns
        self._publisher = node.create_publisher(DiagnosticArray, TOPIC, QoSProfile(depth=10))
        self._levels: dict[str, Level] = {}
        self._due: int | None = None

    def say(self, rows: Iterable[Row], mono_ns: int, stamp: Time) -> None:
        """Publish what is due at `mono_ns`, under ROS time `stamp`."""
        rows = list(rows)
        whole = self._due is None or mono_ns >= self._due
        if whole:
            self._due = mono_ns + self._period
        self._publish(rows if whole else [r for r in rows if self._levels.get(r.name) != r.level],
                      stamp)
        self._levels = {row.name: row.level for row in rows}

    def destroy(self) -> None:
        self._node.destroy_publisher(self._publisher)

    def _publish(self, rows: list[Row], stamp: Time) -> None:
        if rows:
            message = DiagnosticArray(status=[status_of(row) for row in rows])
            message.header.stamp = stamp
            self._publisher.publish(message)


def status_of(row: Row) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=bytes([row.level]), name=row.name, message=row.message, hardware_id=HARDWARE_ID,
        values=[KeyValue(key=key, value=value) for key, value in row.values.items()])
