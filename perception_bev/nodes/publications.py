"""Nodes: an output as messages: objects, tracks, status, occupancy, and Autoware's if installed."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from nav_msgs.msg import OccupancyGrid
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

from perception_bev.contracts import Boxes3D
from perception_bev.grid import BevGrid
from perception_bev.messages import objects_cloud
from perception_bev.messages.write import MessageWriter, packed_array, time_parts
from perception_bev.nodes import contract_qos
from perception_bev.nodes.autoware import autoware_objects, autoware_publisher, autoware_tracks
from perception_bev.nodes.rig_probe import message_class
from perception_bev.outputs.track import Tracks
from perception_bev.pipeline.output import Output
from perception_bev.raw import RawCloud

OUTPUT = QoSProfile(depth=5)  # reliable
PERIOD_NS = 100_000_000  # of the output, where nothing else is said
HARDWARE_ID = "perception_bev"
STATUS_NAME = "perception: output"
WRITER = MessageWriter(message_class, packed_array)


class Publications:
    """The publishers of the contract topics; `objects` carries detections of its t_ref only."""

    def __init__(self, node: LifecycleNode, frame_id: str, grid: BevGrid,
                 with_tracks: bool = True, period_ns: int = PERIOD_NS) -> None:
        """period_ns: of the output; silence for longer is told to who asks the middleware."""
        contract = contract_qos.offered(period_ns)
        self._frame_id, self._grid = frame_id, grid
        self._detections = DetectionMessages()
        self._objects = node.create_lifecycle_publisher(Detection3DArray, "objects", OUTPUT)
        self._status = node.create_lifecycle_publisher(DiagnosticArray, "status", contract)
        self._occupancy = node.create_lifecycle_publisher(OccupancyGrid, "bev/occupancy", OUTPUT)
        self._autoware = autoware_publisher(node, "objects_autoware", "DetectedObjects", OUTPUT)
        self._tracks = TrackPublications(node, frame_id, contract) if with_tracks else None
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

    def tracks(self, tracks: Tracks | None) -> None:
        """None: nobody knows, which is not the same as an empty street; nothing is said."""
        if tracks is not None and self._tracks is not None:
            self._tracks.publish(tracks)

    def status(self, t_ref_ns: int, level: bytes, message: str, values: Mapping[str, str]) -> None:
        status = DiagnosticStatus(level=level, name=STATUS_NAME, message=message,
                                  hardware_id=HARDWARE_ID,
                                  values=[KeyValue(key=k, value=v) for k, v in values.items()])
        self._status.publish(DiagnosticArray(header=header_of(t_ref_ns, self._frame_id),
                                             status=[status]))

    def destroy(self, node: LifecycleNode) -> None:
        for publisher in (*self._all, *(self._tracks.all if self._tracks else ())):
            node.destroy_lifecycle_publisher(publisher)


class TrackPublications:
    """`tracks` always; `tracks/cloud` and `tracks_autoware` for those who subscribe."""

    def __init__(self, node: LifecycleNode, frame_id: str, contract: QoSProfile) -> None:
        self._frame_id, self._detections = frame_id, DetectionMessages()
        self._run = os.urandom(8)  # this start of the node, in Autoware's ids
        self._tracks = node.create_lifecycle_publisher(Detection3DArray, "tracks", contract)
        self._cloud = node.create_lifecycle_publisher(PointCloud2, "tracks/cloud", OUTPUT)
        self._autoware = autoware_publisher(node, "tracks_autoware", "TrackedObjects", OUTPUT)
        self.all = [p for p in (self._tracks, self._cloud, self._autoware) if p is not None]

    def publish(self, tracks: Tracks) -> None:
        header = header_of(tracks.stamp_ns, self._frame_id)
        self._tracks.publish(self._detections.of(tracks.boxes, header, tracks.id))
        if self._cloud.get_subscription_count():
            self._cloud.publish(tracks_cloud(tracks, self._frame_id))
        if self._autoware is not None and self._autoware.get_subscription_count():
            self._autoware.publish(autoware_tracks(tracks, header, self._run))


def tracks_cloud(tracks: Tracks, frame_id: str) -> PointCloud2:
    """Point i is detection i of `tracks`; fields are those of messages/objects_cloud.OBJECT."""
    mode = np.where(tracks.unseen_s > 0, objects_cloud.COASTING, objects_cloud.SEEN)
    if tracks.predicted:
        mode = objects_cloud.PREDICTED
    ids = tracks.id & np.iinfo(np.int32).max  # a cloud has no 64 bits; years later they begin anew
    points = objects_cloud.object_points(tracks.boxes, ids, mode)
    return WRITER.cloud(RawCloud(tracks.stamp_ns, frame_id, points))


def header_of(stamp_ns: int, frame_id: str) -> Header:
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = time_parts(stamp_ns)
    return header


class DetectionMessages:
    """Detection3DArray of boxes. Its parts are made once and written anew: making them costs five
    times as much as filling them, and publishing serialises them before it returns."""

    def __init__(self) -> None:
        self._made: list[Detection3D] = []

    def of(self, boxes: Boxes3D, header: Header, ids: np.ndarray | None = None
           ) -> Detection3DArray:
        """Valid until the next call. ids: (N,) of tracks. vision_msgs has no velocity; the cloud
        and Autoware's messages have."""
        while len(self._made) < len(boxes):
            self._made.append(Detection3D(results=[ObjectHypothesisWithPose()]))
        rows = np.column_stack([boxes.centre, boxes.size, np.sin(boxes.yaw / 2),
                                np.cos(boxes.yaw / 2), boxes.score]).astype(np.float64).tolist()
        used = self._made[:len(boxes)]
        names = [""] * len(boxes) if ids is None else [str(number) for number in ids.tolist()]
        for detection, row, label, name in zip(used, rows, boxes.label, names, strict=True):
            _fill(detection, row, boxes.classes[label], header)
            detection.id = name
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
