"""Recordings: message types of bags. Each type is read by the definition that its bag carries,
else by that of ROS 2 Jazzy; message classes are rosbags', shaped like rclpy's."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from perception_bev.errors import RecordingError

# Fields of the released packages, for bags that carry no definition and for writing.
EXTRA_DEFINITIONS = {
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/ObjectHypothesisWithPose":
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n",
    "vision_msgs/msg/BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size\n",
    "vision_msgs/msg/Detection3D":
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox3D bbox\nstring id\n",
    "vision_msgs/msg/Detection3DArray":
        "std_msgs/Header header\nvision_msgs/Detection3D[] detections\n",
    "radar_msgs/msg/RadarReturn":
        "float32 range\nfloat32 azimuth\nfloat32 elevation\nfloat32 doppler_velocity\n"
        "float32 amplitude\n",
    "radar_msgs/msg/RadarScan": "std_msgs/Header header\nradar_msgs/RadarReturn[] returns\n",
}

_IDL_RULE = "=" * 80 + "\n"


@lru_cache
def jazzy() -> Typestore:
    """The types of ROS 2 Jazzy, with vision_msgs and radar_msgs."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict = {}
    for name, text in EXTRA_DEFINITIONS.items():
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store


def message_class(msgtype: str) -> type:
    """The class to build a message of `msgtype` ("pkg/msg/Name") with keyword arguments."""
    try:
        return jazzy().types[msgtype]
    except KeyError as err:
        raise RecordingError(f"message type {msgtype} is not known here") from err


def definition(msgtype: str) -> tuple[str, str]:
    """(text with all its dependencies in the "ros2msg" format, RIHS01 hash) of a known type."""
    message_class(msgtype)
    text, _ = jazzy().generate_msgdef(msgtype, ros_version=2)
    return text, jazzy().hash_rihs01(msgtype)


class TypeBook:
    """The types of one bag; every top-level type has a store of its own, so that bags merged from
    several distributions do not contradict themselves."""

    def __init__(self) -> None:
        self._definitions: dict[str, MessageDefinition] = {}
        self._stores: dict[str, Typestore] = {}

    def add(self, msgtype: str, encoding: str, text: str) -> None:
        """Take a definition as the bag stores it; encoding "ros2msg" or "ros2idl"."""
        form = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}
        if encoding in form and text.strip():
            self._definitions.setdefault(full_name(msgtype),
                                         MessageDefinition(form[encoding], text))

    def deserialize(self, data: bytes, msgtype: str) -> Any:
        """A message from its CDR bytes; RecordingError when type or bytes are not understood."""
        name, store = full_name(msgtype), self.store(msgtype)
        try:
            return store.deserialize_cdr(data, name)
        except Exception as err:  # rosbags lets index, struct and assertion errors through
            raise RecordingError(f"{len(data)} bytes are not a {msgtype}: "
                                 f"{type(err).__name__} {err}".rstrip()) from err

    def definition(self, msgtype: str) -> tuple[str, str]:
        """As the module's `definition`, by the bag's own definition of the type."""
        store, name = self.store(msgtype), full_name(msgtype)
        return store.generate_msgdef(name, ros_version=2)[0], store.hash_rihs01(name)

    def store(self, msgtype: str) -> Typestore:
        """rosbags' store in which `msgtype` and what it contains are known; else RecordingError."""
        name = full_name(msgtype)
        if name not in self._stores:
            self._stores[name] = self._make_store(name)
        return self._stores[name]

    def _make_store(self, msgtype: str) -> Typestore:
        found = self._definitions.get(msgtype)
        if found is None:
            message_class(msgtype)
            return jazzy()
        store = get_typestore(Stores.EMPTY)
        try:
            store.register(_types_from_idl(found.data)
                           if found.format is MessageDefinitionFormat.IDL
                           else get_types_from_msg(found.data, msgtype))
        except Exception as err:  # the parser's own errors are many
            reason = str(err).splitlines()[0] if str(err) else type(err).__name__
            raise RecordingError(f"the bag's definition of {msgtype} is not readable: {reason}"
                                 ) from err
        return store


def _types_from_idl(text: str) -> dict:
    """All types of a definition; rosbag2 sets those it needs apart by a line and "IDL: <name>"."""
    if not text.startswith(_IDL_RULE + "IDL: "):
        return get_types_from_idl(text)
    types: dict = {}
    for section in text.split(_IDL_RULE)[1:]:
        types.update(get_types_from_idl(section.partition("\n")[2]))
    return types


def full_name(msgtype: str) -> str:
    """"std_msgs/String", as the first distributions wrote it, -> "std_msgs/msg/String"."""
    package, *rest = msgtype.split("/")
    return f"{package}/msg/{rest[0]}" if len(rest) == 1 else msgtype
