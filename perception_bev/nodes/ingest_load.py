"""Nodes: publishes what a rig's sensors would, each at its own rate, for `bev bench ingest`.
Messages are made beforehand: nothing but the sending costs time."""

from __future__ import annotations

import heapq
import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from rclpy.node import Node
from rclpy.serialization import serialize_message

from perception_bev.errors import ConfigError
from perception_bev.geometry import SE3
from perception_bev.messages.write import MessageWriter, packed_array
from perception_bev.nodes import spin
from perception_bev.raw import EncodedImage, RawCloud, RawFrame
from perception_bev.rig import Camera, Lidar, Radar, Rig, load_rig

ARGUMENTS = ["--ros-args", "-r", "__ns:=/bench_ingest"]  # beside a stack that runs
ODOMETRY_HZ = 50.0
JPEG_BYTES, SWEEP_POINTS, RETURNS = 60_000, 25_000, 100
SWEEP = [(name, "<f4") for name in ("x", "y", "z", "intensity", "time")]
SCAN = [(name, "<f4") for name in ("x", "y", "z", "doppler", "rcs")]


class Stream(NamedTuple):
    """One topic."""

    topic: str
    message: Any
    period_s: float


def rates(rig: Rig) -> dict[str, float]:
    """Messages a second, by sensor; and of "odometry"."""
    found = {name: 1000.0 / sensor.period_ms for name, sensor in rig.sensors.items()}
    return found | ({"odometry": ODOMETRY_HZ} if rig.odometry_topic else {})


def streams(rig: Rig, stamp_ns: int) -> list[Stream]:
    """Of every sensor, and of odometry. ConfigError for what only some rigs have."""
    writer = MessageWriter(_message_class, packed_array)
    made = [Stream(sensor.topic, _message(writer, _frame(sensor, stamp_ns)),
                   1.0 / rates(rig)[name]) for name, sensor in rig.sensors.items()]
    if rig.odometry_topic:
        still = np.zeros(3)
        made.append(Stream(rig.odometry_topic,
                           writer.odometry(stamp_ns, SE3.identity(), still, still,
                                           child_frame_id=rig.base_frame), 1.0 / ODOMETRY_HZ))
    return made


def _frame(sensor: Camera | Lidar | Radar, stamp_ns: int) -> RawFrame:
    if isinstance(sensor, Camera):
        if sensor.transport != "compressed":
            raise ConfigError(f"{sensor.topic}: only compressed pictures are sent here; "
                              "`bev bench guard` sends raw ones")
        noise = np.random.default_rng(0).integers(0, 256, JPEG_BYTES, np.uint8)
        return EncodedImage(stamp_ns, sensor.frame_id, np.r_[np.uint8([0xff, 0xd8]), noise])
    if isinstance(sensor, Radar) and sensor.message == "radar_scan":
        raise ConfigError(f"{sensor.topic}: only clouds are sent here, no RadarScan")
    count, layout = (SWEEP_POINTS, SWEEP) if isinstance(sensor, Lidar) else (RETURNS, SCAN)
    return RawCloud(stamp_ns, sensor.frame_id, np.ones(count, layout))


def _message(writer: MessageWriter, frame: RawFrame) -> Any:
    return writer.cloud(frame) if isinstance(frame, RawCloud) else writer.compressed_image(frame)


def _message_class(name: str) -> type:
    package, _, kind = name.split("/")
    return getattr(import_module(f"{package}.msg"), kind)


class Over:
    """Set by a signal, or when the parent is gone."""

    def __init__(self, stopping: threading.Event) -> None:
        self.stopping, self._parent = stopping, os.getppid()

    def is_set(self) -> bool:
        return self.stopping.is_set() or os.getppid() != self._parent


def send(node: Node, what: Iterable[Stream], over: Over) -> None:
    """Every stream at its own times, until it is over."""
    outputs = [(node.create_publisher(type(stream.message), stream.topic, 10),
                serialize_message(stream.message), stream.period_s) for stream in what]
    began = time.monotonic()
    due = [(began + period * number / len(outputs), number)  # spread, as sensors are
           for number, (_, _, period) in enumerate(outputs)]
    heapq.heapify(due)
    while not over.is_set():
        at, number = due[0]
        over.stopping.wait(max(0.0, at - time.monotonic()))
        output, data, period = outputs[number]
        output.publish(data)
        heapq.heapreplace(due, (max(at + period, time.monotonic() - period), number))


def main(args: Sequence[str] | None = None) -> int:
    """Entry point: a rig's file is the only word."""
    words = sys.argv[1:] if args is None else args
    stopping = spin.init(ARGUMENTS)
    rig = load_rig(words[0])
    send(Node("ingest_load"), streams(rig, time.time_ns()), Over(stopping))
    return 0


if __name__ == "__main__":
    sys.exit(main())
