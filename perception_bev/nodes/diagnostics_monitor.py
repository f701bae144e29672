"""Nodes: what /diagnostics says, with the time of its receipt, one JSON line a message.

For benchmarks: `python -m perception_bev.nodes.diagnostics_monitor --ros-args -p report:=OUT`
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import QoSProfile

from perception_bev.errors import ConfigError
from perception_bev.nodes import spin

RELIABLE = QoSProfile(depth=100)


class DiagnosticsMonitor(Node):
    """Writes a line where a message is received: they come seldom."""

    def __init__(self, **options: Any) -> None:
        super().__init__("diagnostics_monitor", **options)
        report = self.declare_parameter("report", "", ParameterDescriptor(
            description="file of JSON lines to write", read_only=True)).value
        if not report:
            raise ConfigError("no report: give one with --ros-args -p report:=OUT.jsonl")
        self._file = Path(report).open("w", buffering=1)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._take, RELIABLE)

    def _take(self, message: DiagnosticArray) -> None:
        self._file.write(json.dumps({"mono_ns": time.monotonic_ns(), "items": items(message)},
                                    separators=(",", ":")) + "\n")


def items(message: DiagnosticArray) -> dict[str, list]:
    """{name: [level, text]}; a publisher may spread its items over several messages."""
    return {one.name: [one.level[0], one.message] for one in message.status}


def main(args: list[str] | None = None) -> int:
    """Entry point: listen until a signal comes; 2 without a file to write."""
    stopping = spin.init(args)
    try:
        node = DiagnosticsMonitor()
    except (ConfigError, OSError) as err:
        print(f"diagnostics_monitor: {err}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    try:
        spin.spin(node, stopping)
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
