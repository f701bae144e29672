"""Nodes: an output as messages: objects, status, occupancy, and Autoware's objects if installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from nav_msgs.msg import OccupancyGrid
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

from perception_bev.contracts import Boxes3D
from perception_bev.grid import BevGrid
from perception_bev.messages.write import packed_array, time_parts
from perception_bev.pipeline.perception import Output

OUTPUT = QoSProfile(depth=5)  # reliable
HARDWARE_ID = "perception_bev"
STATUS_NAME = "perception: output"


class Publications:
    """The publishers of the contract topics; `objects` carries detections of its t_ref only."""

    def __init__(self, node: LifecycleNode, frame_id: str, grid: BevGrid) -> None:
        self._frame_id, self._grid = frame_id, grid
        self._detections = DetectionMessages()
        self._objects = node.create_lifecycle_publisher(Detection3DArray, "objects", OUTPUT)
        self._status = node.create_lifecycle_publisher(DiagnosticArray, "status", OUTPUT)
        self._occupancy = node.create_lifecycle_publisher(OccupancyGrid, "bev/occupancy", OUTPUT)
        self._autoware = autoware_publisher(node)
        self._all = [p for p in (self._objects, self._status, self._occupancy, self._autoware)
                     if p is not None]

    @property
    def occupancy_wanted(self) -> bool:
        return self._occupancy.get_subscription_count() > 0

    def objects(self, output: Output) -> None:
        header = header_of(output.t_ref_ns, self._frame_id)
        self._objects.publish(self._detections.of(output.boxes, header))
        if self._autoware is not None and self._autoware.get_subscription_count():
            self._autoware.publish(autoware_objects(output.boxes, header))
        if output.occupancy is not None:
            self._occupancy.publish(occupancy_grid(output.occupancy, self._grid, header))

    def status(self, t_ref_ns: int, level: bytes, message: str, values: Mapping[str, str]) -> None:
        status = DiagnosticStatus(level=level, name=STATUS_NAME, message=message,
                                  hardware_id=HARDWARE_ID,
                                  values=[KeyValue(key=k, value=v) for k, v in values.items()])
        self._status.publish(DiagnosticArray(header=header_of(t_ref_ns, self._frame_id),
                                             status=[status]))

    def destroy(self, node: LifecycleNode) -> None:
        for publisher in self._all:
            node.destroy_lifecycle_publisher(publisher)


def header_of(stamp_ns: int, frame_id: str) -> Header:
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = time_parts(stamp_ns)
    return header


class DetectionMessages:
    """Detection3DArray of boxes. Its parts are made once and written anew: making them costs five
    times as much as filling them, and publishing serialises them before it returns."""

    def __init__(self) -> None:
        self._made: list[Detection3D] = []

    def of(self, boxes: Boxes3D, header: Header) -> Detection3DArray:
        """Valid until the next call. vision_msgs has no velocity; Autoware's messages have."""
        while len(self._made) < len(boxes):
            self._made.append(Detection3D(results=[ObjectHypothesisWithPose()]))
        rows = np.column_stack([boxes.centre, boxes.size, np.sin(boxes.yaw / 2),
                                np.cos(boxes.yaw / 2), boxes.score]).astype(np.float64).tolist()
        used = self._made[:len(boxes)]
        for detection, row, label in zip(used, rows, boxes.label, strict=True):
            _fill(detection, row, boxes.classes[label], header)
        return Detection3DArray(header=header, detections=used)


def _fill(detection: Detection3D, row: list[float], name: str, header: Header) -> None:
    """row: x y z [m], length width height [m], sine and cosine of half the yaw, score."""
    detection.header = header
    box, result = detection.bbox, detection.results[0]
    position, orientation, size = box.center.position, box.center.orientation, box.size
    position.x, position.y, position.z = row[0], row[1], row[2]
    size.x, size.y, size.z = row[3], row[4], row[5]
    orientation.z, orientation.w = row[6], row[7]
    result.hypothesis.class_id, result.hypothesis.score = name, row[8]
    result.pose.pose = box.center


def _set_pose(pose: Any, boxes: Boxes3D, i: int) -> None:
    pose.position.x, pose.position.y, pose.position.z = (float(v) for v in boxes.centre[i])
    half = float(boxes.yaw[i]) / 2
    pose.orientation.z, pose.orientation.w = float(np.sin(half)), float(np.cos(half))


def occupancy_grid(cells: np.ndarray, grid: BevGrid, header: Header) -> OccupancyGrid:
    """cells (Y, X) int8: -1 not seen, 0 free, 100 hit."""
    message = OccupancyGrid(header=header)
    message.info.map_load_time = header.stamp
    message.info.resolution = float(grid.cell)
    message.info.height, message.info.width = cells.shape
    message.info.origin.position.x = float(grid.x_min)
    message.info.origin.position.y = float(grid.y_min)
    message.info.origin.orientation.w = 1.0
    message.data = packed_array(cells.reshape(-1))
    return message


AUTOWARE_LABELS = {"car": 1, "truck": 2, "bus": 3, "trailer": 4, "motorcycle": 5, "bicycle": 6,
                   "pedestrian": 7}  # autoware_perception_msgs/ObjectClassification; 0 unknown


def autoware_publisher(node: LifecycleNode) -> Publisher | None:
    """`objects_autoware` where autoware_perception_msgs is installed."""
    try:
        from autoware_perception_msgs.msg import DetectedObjects
    except ImportError:
        return None
    return node.create_lifecycle_publisher(DetectedObjects, "objects_autoware", OUTPUT)


def autoware_objects(boxes: Boxes3D, header: Header) -> Any:
    """autoware_perception_msgs/DetectedObjects; the twist is in the object's own frame."""
    from autoware_perception_msgs.msg import (
        DetectedObject,
        DetectedObjectKinematics,
        DetectedObjects,
        ObjectClassification,
    )
    message = DetectedObjects(header=header)
    for i in range(len(boxes)):
        label = AUTOWARE_LABELS.get(boxes.classes[boxes.label[i]], 0)
        found = DetectedObject(existence_probability=float(boxes.score[i]), classification=[
            ObjectClassification(label=label, probability=float(boxes.score[i]))])
        _set_pose(found.kinematics.pose_with_covariance.pose, boxes, i)
        found.kinematics.orientation_availability = DetectedObjectKinematics.AVAILABLE
        _set_twist(found.kinematics, boxes, i)
        size = found.shape.dimensions
        size.x, size.y, size.z = (float(v) for v in boxes.size[i])
        message.objects.append(found)
    return message


def _set_twist(kinematics: Any, boxes: Boxes3D, i: int) -> None:
    velocity = boxes.velocity[i]
    if not np.isfinite(velocity).all():
        return
    cos, sin = np.cos(boxes.yaw[i]), np.sin(boxes.yaw[i])
    kinematics.has_twist = True
    linear = kinematics.twist_with_covariance.twist.linear
    linear.x = float(cos * velocity[0] + sin * velocity[1])
    linear.y = float(cos * velocity[1] - sin * velocity[0])
