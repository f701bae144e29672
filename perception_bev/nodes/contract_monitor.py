"""Nodes: the contract topics as a subscriber in a process of its own gets them, one JSON line a
message, for benchmarks that count outputs by their receipt.

The time of receipt is read first; messages are taken as bytes and unpacked by another thread, so
that one output does not delay the receipt of the next. `commands/live_bench_receipts.py` reads the
lines. Start: `python -m perception_bev.nodes.contract_monitor --ros-args -p report:=OUT.jsonl`
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from vision_msgs.msg import Detection3DArray

from perception_bev.errors import ConfigError
from perception_bev.messages import read
from perception_bev.nodes import spin
from perception_bev.recordings.playback import leading_stamp

RELIABLE = QoSProfile(depth=100)
QUEUED = 10_000  # receipts that may wait for the writer
SWITCH_S = 0.0005  # the writer leaves the interpreter to the receiver so often
STRING_AT = 12  # of the header's frame_id, in a serialised message: encapsulation, sec, nanosec


class Received(NamedTuple):
    """One message, not yet unpacked."""

    topic: str
    mono_ns: int  # of the callback
    ros_ns: int
    arrived_ns: int  # ROS time at which the middleware had it; 0 where it does not say
    data: bytes


class ContractMonitor(Node):
    """Hands what `tracks`, `status` and `objects` bring to a writer."""

    def __init__(self, **options: Any) -> None:
        super().__init__("contract_monitor", **options)
        report = self.declare_parameter("report", "", ParameterDescriptor(
            description="file of JSON lines to write", read_only=True)).value
        if not report:
            raise ConfigError("no report: give one with --ros-args -p report:=OUT.jsonl")
        self.writer = Writer(Path(report))
        for topic, kind in (("tracks", Detection3DArray), ("status", DiagnosticArray),
                            ("objects", Detection3DArray)):
            self.create_subscription(kind, topic, self._taker(topic), RELIABLE, raw=True)

    def _taker(self, topic: str) -> Callable[[bytes, dict[str, int]], None]:
        def take(data: bytes, info: dict[str, int]) -> None:
            self.writer.put(Received(topic, time.monotonic_ns(), time.time_ns(),
                                     info.get("received_timestamp", 0), data))
        return take


class Writer:
    """Lines to a file, from a thread of its own; who puts never waits."""

    def __init__(self, file: Path) -> None:
        self._queue: queue.Queue[Received | None] = queue.Queue(QUEUED)
        self.lost = 0  # receipts that the full queue did not take
        self._thread = threading.Thread(target=self._run, args=(file.open("w"),), name="writer")
        self._thread.start()

    def put(self, received: Received) -> None:
        try:
            self._queue.put_nowait(received)
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        """Write what is left, then a line that says that this was all."""
        self._queue.put(None)
        self._thread.join()

    def _run(self, file: TextIO) -> None:
        with file:
            _say(file, {"topic": "begin", **_now(), "pid": os.getpid()})
            while (received := self._queue.get()) is not None:
                _say(file, line_of(received))
            _say(file, {"topic": "end", **_now(), "lost": self.lost})


def line_of(received: Received) -> dict[str, Any]:
    """A receipt as it is written: times, header stamp, and `count` of detections or what `status`
    says: level, text, values."""
    values = {name: getattr(received, name) for name in ("topic", "mono_ns", "ros_ns",
                                                         "arrived_ns")}
    if received.topic == "status":
        return values | _status(received.data)
    return values | {"stamp_ns": leading_stamp(received.data), "count": count(received.data)}


def _status(data: bytes) -> dict[str, Any]:
    message = deserialize_message(data, DiagnosticArray)
    first = message.status[0]
    return {"stamp_ns": read.stamp_ns(message.header), "level": first.level[0],
            "text": first.message, "values": {pair.key: pair.value for pair in first.values}}


def count(data: bytes) -> int:
    """Length of the sequence that follows the header of a serialised message."""
    order = "little" if data[1] & 1 else "big"
    length = int.from_bytes(data[STRING_AT:STRING_AT + 4], order)
    at = (STRING_AT + 4 + length + 3) // 4 * 4  # encapsulation is 4 bytes: alignment is the same
    return int.from_bytes(data[at:at + 4], order)


def _now() -> dict[str, int]:
    return {"mono_ns": time.monotonic_ns(), "ros_ns": time.time_ns()}


def _say(file: TextIO, values: dict[str, Any]) -> None:
    file.write(json.dumps(values, separators=(",", ":")) + "\n")
    file.flush()


def main(args: list[str] | None = None) -> int:
    """Entry point: listen until a signal comes; 2 without a file to write."""
    sys.setswitchinterval(SWITCH_S)
    stopping = spin.init(args)
    try:
        node = ContractMonitor()
    except (ConfigError, OSError) as err:
        print(f"contract_monitor: {err}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    try:
        spin.spin(node, stopping)
    finally:
        node.writer.close()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
