"""Nodes: what a subscriber in a process of its own sees: counts, latencies, boxes. For the demo and
the benchmarks; writes a JSON file when it is stopped.

Latency is receipt here minus t_ref, so it is meaningful for live or fresh stamps only.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from vision_msgs.msg import Detection3DArray

from perception_bev.contracts import Boxes3D
from perception_bev.messages import read
from perception_bev.messages.detections import read_detections
from perception_bev.nodes import spin
from perception_bev.outputs.iou import box_rows

RELIABLE = QoSProfile(depth=100)


class MeasureNode(Node):
    """Keeps one row an output, by t_ref."""

    def __init__(self, **options: Any) -> None:
        super().__init__("measure", **options)
        text = "JSON file to write at the end"
        self.report = self.declare_parameter("report", "", ParameterDescriptor(
            description=text, read_only=True)).value
        self._rows: dict[int, dict[str, Any]] = {}
        self._repeated: Counter[str] = Counter()
        self._truth: dict[int, list] = {}
        self.create_subscription(Detection3DArray, "ground_truth/objects", self._take_truth,
                                 RELIABLE)
        self.create_subscription(Detection3DArray, "objects", self._take_objects, RELIABLE)
        self.create_subscription(DiagnosticArray, "status", self._take_status, RELIABLE)

    def _take_objects(self, message: Detection3DArray) -> None:
        received = time.time_ns()
        boxes, _ = read_detections(message)
        t_ref = read.stamp_ns(message.header)
        row = self._rows.setdefault(t_ref, {})
        self._repeated["objects"] += "latency_ms" in row
        row["latency_ms"] = (received - t_ref) / 1e6
        row["received_ns"] = received
        row["boxes"] = _rows(boxes)

    def _take_truth(self, message: Detection3DArray) -> None:
        self._truth[read.stamp_ns(message.header)] = _rows(read_detections(message)[0])

    def _take_status(self, message: DiagnosticArray) -> None:
        row = self._rows.setdefault(read.stamp_ns(message.header), {})
        row["mode"] = message.status[0].message
        row["status"] = {pair.key: pair.value for pair in message.status[0].values}

    def write(self) -> None:
        rows = [{"t_ref_ns": t_ref, **row, "truth": self._truth.get(t_ref)}
                for t_ref, row in sorted(self._rows.items())]
        Path(self.report).write_text(json.dumps(
            {"outputs": rows, "repeated": dict(self._repeated)}))


def _rows(boxes: Boxes3D) -> list[list]:
    """x y z l w h yaw score class, for JSON."""
    return [[*map(float, values), float(score), boxes.classes[label]] for values, score, label
            in zip(box_rows(boxes), boxes.score, boxes.label, strict=True)]


def main(args: list[str] | None = None) -> int:
    """Entry point: listen until a signal comes, then write the report."""
    stopping = spin.init(args)
    node = MeasureNode()
    try:
        spin.spin(node, stopping)
    finally:
        if node.report:
            node.write()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
