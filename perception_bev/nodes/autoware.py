"""Nodes: objects and tracks as Autoware's messages, where autoware_perception_msgs is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from perception_bev.contracts import Boxes3D
from perception_bev.outputs.track import Tracks

AUTOWARE_LABELS = {"car": 1, "truck": 2, "bus": 3, "trailer": 4, "motorcycle": 5, "bicycle": 6,
                   "pedestrian": 7}  # autoware_perception_msgs/ObjectClassification; 0 unknown
STANDING_M_S = 0.3  # slower tracks are called stationary


def autoware_publisher(node: LifecycleNode, topic: str, kind: str, qos: QoSProfile
                       ) -> Publisher | None:
    """A publisher of autoware_perception_msgs/<kind>; None where that is not installed."""
    try:
        from autoware_perception_msgs import msg
    except ImportError:
        return None
    return node.create_lifecycle_publisher(getattr(msg, kind), topic, qos)


def autoware_objects(boxes: Boxes3D, header: Header) -> Any:
    """autoware_perception_msgs/DetectedObjects; the twist is in the object's own frame."""
    from autoware_perception_msgs.msg import DetectedObject, DetectedObjects
    message = DetectedObjects(header=header)
    for i in range(len(boxes)):
        found = _filled(DetectedObject(), boxes, i)
        found.kinematics.has_twist = bool(np.isfinite(boxes.velocity[i]).all())
        message.objects.append(found)
    return message


def autoware_tracks(tracks: Tracks, header: Header, run: bytes) -> Any:
    """autoware_perception_msgs/TrackedObjects.

    run: 8 bytes that another start of the node does not share; with the track's number they are
    its UUID.
    """
    from autoware_perception_msgs.msg import TrackedObject, TrackedObjects
    message = TrackedObjects(header=header)
    for i, number in enumerate(tracks.id):
        found = _filled(TrackedObject(), tracks.boxes, i)
        found.object_id.uuid = np.frombuffer(run + int(number).to_bytes(8, "big"), np.uint8)
        speed = float(np.linalg.norm(tracks.boxes.velocity[i]))
        found.kinematics.is_stationary = speed < STANDING_M_S
        message.objects.append(found)
    return message


def _filled(found: Any, boxes: Boxes3D, i: int) -> Any:
    """What detected and tracked objects have in common."""
    from autoware_perception_msgs.msg import ObjectClassification
    score = float(boxes.score[i])
    label = AUTOWARE_LABELS.get(boxes.classes[boxes.label[i]], 0)
    found.existence_probability = score
    found.classification = [ObjectClassification(label=label, probability=score)]
    _set_pose(found.kinematics.pose_with_covariance.pose, boxes, i)
    found.kinematics.orientation_availability = type(found.kinematics).AVAILABLE
    _set_twist(found.kinematics.twist_with_covariance.twist.linear, boxes, i)
    size = found.shape.dimensions
    size.x, size.y, size.z = (float(v) for v in boxes.size[i])
    return found


def _set_pose(pose: Any, boxes: Boxes3D, i: int) -> None:
    pose.position.x, pose.position.y, pose.position.z = (float(v) for v in boxes.centre[i])
    half = float(boxes.yaw[i]) / 2
    pose.orientation.z, pose.orientation.w = float(np.sin(half)), float(np.cos(half))


def _set_twist(linear: Any, boxes: Boxes3D, i: int) -> None:
    """Along and across the object; 0 where the velocity is unknown."""
    velocity = boxes.velocity[i]
    if not np.isfinite(velocity).all():
        return
    cos, sin = np.cos(boxes.yaw[i]), np.sin(boxes.yaw[i])
    linear.x = float(cos * velocity[0] + sin * velocity[1])
    linear.y = float(cos * velocity[1] - sin * velocity[0])
