"""Nodes: markers, bird's-eye picture and camera overlays, in a process of its own that may drop.

Subscribes to sensors only while someone subscribes to the picture that needs them. Queues hold one
message: when drawing takes longer than a period, objects are skipped, never delayed. Markers show
tracks, with where they come from, while somebody publishes `tracks/cloud`, else objects.

Publishes `markers`, `bev/image`, `camera/<name>/overlay`. Exit code 2: a wrong parameter or file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from perception_bev.contracts import Boxes3D
from perception_bev.errors import BadMessage, ConfigError, PerceptionError
from perception_bev.geometry import SE3
from perception_bev.grid import BevGrid
from perception_bev.manifest import load_manifest
from perception_bev.messages import read
from perception_bev.messages.detections import read_detections
from perception_bev.messages.objects_cloud import read_objects
from perception_bev.messages.write import packed_array
from perception_bev.nodes import spin
from perception_bev.nodes.markers import marker_array, track_markers
from perception_bev.nodes.rig_probe import message_class
from perception_bev.nodes.viz_scene import Scene, wanted_inputs
from perception_bev.nodes.viz_trails import Trails
from perception_bev.rig import FROM_CAMERA_INFO, FROM_TF, load_rig
from perception_bev.survey.check import expected_type
from perception_bev.temporal.ego import EgoMotion

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
OUTPUT = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)  # as RViz asks for
MOTION = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
DEFAULT_GRID = BevGrid(-20.0, 80.0, -40.0, 40.0, 0.5)
NAMELESS = tuple(f"class {number}" for number in range(256))  # where no model says their names
TRACKS = "tracks/cloud"
JUMP_BACK_NS = 1_000_000_000
WARN_PERIOD_S = 5.0


class VizNode(Node):
    """Wraps a `Scene`: subscriptions as needed, pictures whenever objects arrive."""

    def __init__(self, **options: Any) -> None:
        super().__init__("viz", **options)
        rig_path = self._parameter("rig", "", "file of the vehicle's sensors")
        model = self._parameter("model", "", "model.yaml or its folder; its grid is drawn")
        if not rig_path:
            raise ConfigError("no rig: give one with --ros-args -p rig:=FILE")
        manifest = load_manifest(model) if model else None
        self._classes = manifest.classes if manifest else NAMELESS
        self.scene = Scene(
            load_rig(rig_path), manifest.grid if manifest else DEFAULT_GRID,
            self._parameter("overlay_width", 960, "of the overlays, at most [px]"),
            self._parameter("pixels_per_metre", 6.0, "of the bird's-eye picture"))
        self._lifetime_s = self._parameter("marker_lifetime_ms", 500, "of the markers") * 1e-3
        self._trails = Trails(self._parameter("trail_s", 3.0, "of the trails of tracks"))
        self._ego, self._ego_generation = EgoMotion(), 0
        self._status = ""
        self._newest_ns = 0
        # subscriptions, by sensor, "objects", "tracks/cloud" or "odometry"
        self._inputs: dict[str, Any] = {}
        self._markers = self.create_publisher(MarkerArray, "markers", OUTPUT)
        self._bird_view = self.create_publisher(Image, "bev/image", OUTPUT)
        self._overlays = {name: self.create_publisher(Image, f"camera/{name}/overlay", OUTPUT)
                          for name in self.scene.rig.cameras}
        self.create_subscription(DiagnosticArray, "status", self._take_status, NEWEST)
        self._subscribe_calibration()
        refresh_ms = self._parameter("refresh_ms", 500, "how often to look who subscribes")
        self.create_timer(refresh_ms * 1e-3, self.refresh)

    def refresh(self) -> None:
        """Subscribe to what the watched outputs need, and to nothing else."""
        wanted = wanted_inputs(self.scene.rig, _watched(self._markers), _watched(self._bird_view),
                               {name for name, out in self._overlays.items() if _watched(out)})
        if _watched(self._markers) and self.count_publishers(TRACKS):
            wanted |= {TRACKS} | ({"odometry"} if self.scene.rig.odometry_topic else set())
        for name in set(self._inputs) - wanted:
            if (gone := self._inputs.pop(name)) is not None:
                self.destroy_subscription(gone)
        for name in wanted - set(self._inputs):
            self._inputs[name] = self._subscribe(name)
        if self.scene.dropped:
            counts = ", ".join(f"{k} {n}" for k, n in sorted(self.scene.dropped.items()))
            self.get_logger().warning(f"not drawn so far: {counts}",
                                      throttle_duration_sec=WARN_PERIOD_S)

    def draw(self, message: Detection3DArray) -> None:
        """Everything that is watched, for one message of objects."""
        try:
            stamp_ns = read.stamp_ns(message.header)
            boxes, left_out = read_detections(message)
        except BadMessage as err:
            self.scene.dropped[f"objects: {err.reason}"] += 1
            return
        if left_out:
            self.scene.dropped["objects: not finite"] += left_out
        if stamp_ns < self._newest_ns - JUMP_BACK_NS:
            self.scene.forget()
        self._newest_ns = stamp_ns
        if _watched(self._markers) and TRACKS not in self._inputs:
            self._markers.publish(
                marker_array(boxes, message.header, self._lifetime_s, self._status))
        self._publish_pictures(boxes, stamp_ns, message.header)

    def draw_tracks(self, message: PointCloud2) -> None:
        """Markers, for one message of tracks."""
        try:
            raw = read.read_cloud(message)
            boxes, ids, mode = read_objects(raw.points, self._classes)
        except BadMessage as err:
            self.scene.dropped[f"tracks: {err.reason}"] += 1
            return
        trails = self._trails_of(raw.stamp_ns, ids, boxes.centre)
        self._markers.publish(track_markers(boxes, ids, mode, trails, message.header,
                                            self._lifetime_s, self._status))

    def _trails_of(self, stamp_ns: int, ids: np.ndarray, centre: np.ndarray) -> list[np.ndarray]:
        """Where tracks come from; nowhere, while the rig has odometry but it does not come."""
        pose = self._ego.at(stamp_ns) if self.scene.rig.odometry_topic else SE3.identity()
        if self._ego.generation != self._ego_generation:
            self._ego_generation = self._ego.generation
            self._trails.forget()
        if pose is None:
            return [np.zeros((0, 3))] * len(ids)
        self._trails.take(stamp_ns, ids, centre, pose)
        return self._trails.of(ids, pose)

    def _take_odometry(self, message: Odometry) -> None:
        try:
            self._ego.push(*read.read_odometry(message))
        except BadMessage as err:
            self.scene.dropped[f"odometry: {err.reason}"] += 1

    def _publish_pictures(self, boxes: Boxes3D, stamp_ns: int, header: Header) -> None:
        if header.frame_id != self.scene.rig.base_frame:
            self._warn(f"objects are in {header.frame_id}, the rig's base frame is "
                       f"{self.scene.rig.base_frame}: no pictures")
            return
        if _watched(self._bird_view):
            picture = self.scene.bird_view(boxes, stamp_ns, self._status)
            self._bird_view.publish(_image(picture, header, header.frame_id))
        for name, out in self._overlays.items():
            if _watched(out):
                self._publish_overlay(name, out, boxes, stamp_ns, header)
        if self.scene.missing:
            self._warn(self.scene.missing)

    def _publish_overlay(self, name: str, out: Publisher, boxes: Boxes3D, stamp_ns: int,
                         header: Header) -> None:
        picture = self.scene.overlay(name, boxes, stamp_ns)
        if picture is not None:
            out.publish(_image(picture, header, self.scene.rig.cameras[name].frame_id))

    def _take_status(self, message: DiagnosticArray) -> None:
        self._status = message.status[0].message if message.status else ""

    def _subscribe(self, name: str) -> Any:
        if name == "objects":
            return self.create_subscription(Detection3DArray, name, self.draw, NEWEST)
        if name == TRACKS:
            return self.create_subscription(PointCloud2, name, self.draw_tracks, NEWEST)
        if name == "odometry":
            return self.create_subscription(Odometry, self.scene.rig.odometry_topic,
                                            self._take_odometry, MOTION)
        sensor = self.scene.rig.sensors[name]
        kind = message_class(expected_type(sensor))
        if kind is None:
            self._warn(f"{name}: {expected_type(sensor)} is not installed")
            return None
        return self.create_subscription(kind, sensor.topic, self._taker(name), NEWEST)

    def _taker(self, name: str) -> Callable[[Any], None]:
        return lambda message: self.scene.take(name, message)

    def _subscribe_calibration(self) -> None:
        rig, tf = self.scene.rig, self.scene.tf
        if any(sensor.extrinsics == FROM_TF for sensor in rig.sensors.values()):
            self.create_subscription(TFMessage, "/tf_static",
                                     lambda m: tf.set_message(m, static=True), LATCHED)
            self.create_subscription(TFMessage, "/tf", lambda m: tf.set_message(m, static=False),
                                     QoSProfile(depth=10))
        for name, camera in rig.cameras.items():
            if camera.intrinsics == FROM_CAMERA_INFO:
                self.create_subscription(CameraInfo, camera.info_topic,
                                         self._info_taker(name), NEWEST)

    def _info_taker(self, name: str) -> Callable[[CameraInfo], None]:
        return lambda message: self.scene.take_camera_info(name, message)

    def _parameter(self, name: str, default: Any, text: str) -> Any:
        return self.declare_parameter(name, default, ParameterDescriptor(
            description=text, read_only=True)).value

    def _warn(self, text: str) -> None:
        self.get_logger().warning(text, throttle_duration_sec=WARN_PERIOD_S)


def _watched(publisher: Publisher) -> bool:
    return publisher.get_subscription_count() > 0


def _image(picture: np.ndarray, header: Header, frame_id: str) -> Image:
    """(H, W, 3) uint8 RGB as a message with the header's stamp."""
    height, width, _ = picture.shape
    return Image(header=Header(stamp=header.stamp, frame_id=frame_id), height=height, width=width,
                 encoding="rgb8", step=3 * width, data=packed_array(picture.reshape(-1)))


def main(args: list[str] | None = None) -> int:
    """Entry point: draw until a signal comes; the exit code."""
    stopping = spin.init(args)
    try:
        spin.spin(VizNode(), stopping)
    except PerceptionError as err:
        print(f"viz: {err}", file=sys.stderr)
        return 2
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
