"""Shared by tests: the small car's messages as a bag has them, without a bag."""

from functools import lru_cache

import numpy as np
import small_car
from driving import DELAYS_MS, START_NS
from rosbags.typesys.store import Typestore

from perception_bev.geometry import SE3
from perception_bev.raw import RawFrame
from perception_bev.recordings import sample_messages as messages
from perception_bev.recordings.bag import READERS
from perception_bev.recordings.bag_reader import RawMessage
from perception_bev.recordings.bag_types import TypeBook, jazzy
from perception_bev.rig import Rig

MS = small_car.MS
TOPICS = {"/camera/front/image/compressed": "front", "/lidar/top/points": "top",
          "/radar/nose/points": "nose"}
TOPIC_OF = {name: topic for topic, name in TOPICS.items()}
INFO, ODOMETRY, CHATTER = "/camera/front/camera_info", "/odometry", "/chatter"
TYPES = TypeBook()


def drive(cycles: int) -> list[RawMessage]:
    """Every 100 ms: a picture with its CameraInfo, a scan, a sweep, odometry, a text and /tf."""
    made = [one for k in range(cycles) for one in _cycle(k)]
    return sorted(made, key=lambda one: one.stamp_ns)


@lru_cache
def _cycle(k: int) -> list[RawMessage]:
    stamp, rig = START_NS + k * 100 * MS, small_car.rig()
    made = []
    for name, raw in small_car.frames(stamp, k).items():
        msgtype, message = messages.frame_message(raw, stamp)
        made.append(stored(TOPIC_OF[name], msgtype, message, stamp + round(DELAYS_MS[name] * MS)))
    lens = rig.cameras["front"].intrinsics.camera_model()
    pose = SE3.from_rpy(np.array([0.5 * k, 0.0, 0.0]), np.zeros(3))
    write = messages.WRITER
    return [*made,
        stored(INFO, messages.CAMERA_INFO_TYPE,
               write.camera_info(lens, stamp, "front_optical"), stamp),
        stored(ODOMETRY, messages.ODOMETRY_TYPE,
               write.odometry(stamp, pose, np.array([5.0, 0, 0]), np.zeros(3)), stamp),
        stored("/tf", messages.TF_TYPE,
               write.transforms([("odom", "base_link", pose, stamp)]), stamp),
        stored(CHATTER, "std_msgs/msg/String", _text(f"cycle {k}"), stamp + 50 * MS)]


def stored(topic: str, msgtype: str, message, log_ns: int, store: Typestore | None = None
           ) -> RawMessage:
    data = bytes((store or jazzy()).serialize_cdr(message, msgtype))
    return RawMessage(topic, msgtype, log_ns, data, ())


def content(raw: RawMessage):
    """The message, as rosbags' class."""
    return TYPES.deserialize(raw.data, raw.type)


def stamp_of(raw: RawMessage) -> int:
    """Of the first header in it; of /tf the first transform's."""
    message = content(raw)
    header = message.transforms[0].header if hasattr(message, "transforms") else message.header
    return header.stamp.sec * 10**9 + header.stamp.nanosec


def frame(raw: RawMessage) -> RawFrame:
    """The raw frame of a sensor's message; BadMessage when it cannot be read."""
    return READERS[raw.type](content(raw))


def rig(**sensors: dict) -> Rig:
    return small_car.rig(**sensors)


def _text(text: str):
    return jazzy().types["std_msgs/msg/String"](data=text)
