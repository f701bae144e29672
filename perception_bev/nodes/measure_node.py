"""Nodes: what a subscriber in a process of its own sees: counts, latencies, boxes, tracks. For the
demo and the benchmarks; writes a JSON file when it is stopped, and prints figures on the way.

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
from sensor_msgs.msg import PointCloud2
from vision_msgs.msg import Detection3DArray

from perception_bev.contracts import Boxes3D
from perception_bev.errors import BadMessage
from perception_bev.messages import objects_cloud, read
from perception_bev.messages.detections import read_detections
from perception_bev.nodes import spin
from perception_bev.nodes.live_figures import LiveCounter, digest
from perception_bev.outputs.iou import box_rows

RELIABLE = QoSProfile(depth=100)

PARAMETERS = {
    "report": ("", "JSON file to write at the end"),
    "truth": ("objects", "objects: keep ground_truth/objects; cloud: only say which cloud of "
                         "ground_truth/cloud came at which stamp, which costs less"),
    "live_s": (0.0, "print live figures so often [s]; 0: never"),
}


class MeasureNode(Node):
    """Keeps one row an output, by t_ref."""

    def __init__(self, **options: Any) -> None:
        super().__init__("measure", **options)
        values = {name: self.declare_parameter(name, default, ParameterDescriptor(
            description=text, read_only=True)).value
            for name, (default, text) in PARAMETERS.items()}
        self.report = values["report"]
        self._rows: dict[int, dict[str, Any]] = {}
        self._repeated: Counter[str] = Counter()
        self._unreadable: Counter[str] = Counter()
        self._truth: dict[int, list] = {}
        self._truth_clouds: list[tuple[int, str]] = []  # (stamp, digest), in order of receipt
        self._live = LiveCounter()
        if values["truth"] == "cloud":
            self.create_subscription(PointCloud2, "ground_truth/cloud", self._take_truth_cloud,
                                     RELIABLE)
        else:
            self.create_subscription(Detection3DArray, "ground_truth/objects", self._take_truth,
                                     RELIABLE)
        self.create_subscription(Detection3DArray, "objects", self._take_objects, RELIABLE)
        self.create_subscription(PointCloud2, "tracks/cloud", self._take_tracks, RELIABLE)
        self.create_subscription(DiagnosticArray, "status", self._take_status, RELIABLE)
        if values["live_s"] > 0:
            self.create_timer(values["live_s"], self._say)

    def _take_objects(self, message: Detection3DArray) -> None:
        received = time.time_ns()
        boxes, _ = read_detections(message)
        t_ref = read.stamp_ns(message.header)
        row = self._rows.setdefault(t_ref, {})
        self._repeated["objects"] += "latency_ms" in row
        row["latency_ms"] = (received - t_ref) / 1e6
        row["received_ns"] = received
        row["boxes"] = _rows(boxes)
        self._live.objects(t_ref, len(boxes), row["latency_ms"])

    def _take_tracks(self, message: PointCloud2) -> None:
        received = time.time_ns()
        try:
            points = read.read_cloud(message).points
            objects_cloud.require(points, objects_cloud.OBJECT)
        except BadMessage as err:
            self._unreadable[f"tracks/cloud: {err.reason}"] += 1
            return
        row = self._rows.setdefault(read.stamp_ns(message.header), {})
        row["tracks"] = [[point[name].item() for name in objects_cloud.OBJECT.names]
                         for point in points]
        row["tracks_received_ns"] = received
        self._live.tracks(len(points))

    def _take_truth(self, message: Detection3DArray) -> None:
        self._truth[read.stamp_ns(message.header)] = _rows(read_detections(message)[0])

    def _take_truth_cloud(self, message: PointCloud2) -> None:
        self._truth_clouds.append((read.stamp_ns(message.header), digest(message.data)))

    def _take_status(self, message: DiagnosticArray) -> None:
        row = self._rows.setdefault(read.stamp_ns(message.header), {})
        row["mode"] = message.status[0].message
        row["status"] = {pair.key: pair.value for pair in message.status[0].values}
        self._live.status(row["mode"], row["status"])

    def _say(self) -> None:
        print(self._live.figures().line(), flush=True)

    def write(self) -> None:
        rows = [{"t_ref_ns": t_ref, **row, "truth": self._truth.get(t_ref)}
                for t_ref, row in sorted(self._rows.items())]
        Path(self.report).write_text(json.dumps(
            {"outputs": rows, "repeated": dict(self._repeated),
             "unreadable": dict(self._unreadable), "truth_clouds": self._truth_clouds,
             "track_fields": list(objects_cloud.OBJECT.names)}))


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
