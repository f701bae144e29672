"""Nodes: six raw cameras and a lidar that publish what was made beforehand, for `bev bench guard`.
Nothing but the sending costs time, and it is spread over the period as cameras' exposures are."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from perception_bev import config
from perception_bev.messages.write import MessageWriter, packed_array
from perception_bev.nodes import spin
from perception_bev.raw import RawCloud, RawImage
from perception_bev.rig import Rig

WIDTH, HEIGHT = 1600, 900
POINTS = 35_000  # of 16 bytes
PERIOD_S = 0.1
PLACE = {"translation": [0.0, 0.0, 1.5], "rotation_xyzw": [0.5, -0.5, 0.5, -0.5]}
LENS = {"width": WIDTH, "height": HEIGHT, "k": [1140.0, 1140.0, 799.5, 449.5]}
OUTPUT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def rig() -> Rig:
    """What publishes here."""
    cameras = {f"cam{i}": {"topic": f"bench_guard/cam{i}/image_raw", "frame_id": f"cam{i}",
                           "transport": "raw", "extrinsics": PLACE, "intrinsics": LENS}
               for i in range(6)}
    lidar = {"topic": "bench_guard/top/points", "frame_id": "top",
             "intensity": {"field": "intensity", "scale": 255}, "extrinsics": PLACE}
    return config.build(Rig, {"name": "bench_guard", "reference": {"sensor": "top"},
                              "cameras": cameras, "lidars": {"top": lidar}}, "bench_guard")


def messages(stamp_ns: int) -> dict[str, bytes]:
    """Serialized, by sensor."""
    made = MessageWriter(_types().__getitem__, packed_array)
    chance = np.random.default_rng(0)
    rows = chance.integers(0, 256, (HEIGHT, WIDTH * 3), np.uint8)
    points = np.zeros(POINTS, [(name, "<f4") for name in ("x", "y", "z", "intensity")])
    points["x"], points["y"] = chance.uniform(-50, 50, (2, POINTS))
    frames = {f"cam{i}": made.image(RawImage(stamp_ns, f"cam{i}", "rgb8", WIDTH, HEIGHT, rows))
              for i in range(6)}
    frames["top"] = made.cloud(RawCloud(stamp_ns, "top", points))
    return {name: serialize_message(message) for name, message in frames.items()}


def _types() -> dict[str, type]:
    from builtin_interfaces.msg import Time

    return {"builtin_interfaces/msg/Time": Time, "std_msgs/msg/Header": Header,
            "sensor_msgs/msg/Image": Image, "sensor_msgs/msg/PointCloud2": PointCloud2,
            "sensor_msgs/msg/PointField": PointField}


def main(args: list[str] | None = None) -> int:
    """Entry point: publishes until its parent is gone or a signal ends it."""
    stopping = spin.init(args)
    node, sensors = rclpy.create_node("sensor_load"), rig().sensors
    outputs = [(node.create_publisher(Image if name.startswith("cam") else PointCloud2,
                                      sensors[name].topic, OUTPUT), data)
               for name, data in messages(time.time_ns()).items()]
    parent, due = os.getppid(), time.monotonic()
    while os.getppid() == parent and not stopping.is_set():
        for number, (output, data) in enumerate(outputs):
            stopping.wait(max(0.0, due + number * PERIOD_S / len(outputs) - time.monotonic()))
            output.publish(data)
        due = max(due + PERIOD_S, time.monotonic() - PERIOD_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
