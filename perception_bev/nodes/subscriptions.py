"""Nodes: subscriptions to everything that the rig names, and what its holes need.

Pictures, clouds and odometry are taken as bytes and read by `messages/cdr.py`: building the typed
message would hold up all threads of this process (docs/ingest.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from nav_msgs.msg import Odometry
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import UInt32
from tf2_msgs.msg import TFMessage

from perception_bev.errors import BadMessage, ConfigError, PerceptionError
from perception_bev.geometry import CameraModel
from perception_bev.messages import cdr, read
from perception_bev.nodes import serialized
from perception_bev.nodes.clock import ClockReader
from perception_bev.pipeline.perception import Perception
from perception_bev.raw import RawFrame
from perception_bev.rig import FROM_CAMERA_INFO, FROM_TF, Camera, Radar, Rig, Sensor
from perception_bev.sync.clock import Now
from perception_bev.tf import TransformTree

# Best effort accepts every publisher; no deadline and no liveliness: they silently disconnect.
SENSOR = QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
STREAM = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Subscriptions:
    """Made on activation, destroyed on deactivation. Callbacks read sizes, push and return.

    `raw` is how they are taken: "unlocked" (other threads run meanwhile), "rclpy"
    (its raw=True), or None, typed; the latter two for comparison and where the first cannot be.
    """

    def __init__(self, node: Node, rig: Rig, clock: ClockReader, tf: TransformTree,
                 infos: dict[str, CameraModel],
                 raw: Literal["unlocked", "rclpy"] | None = "unlocked") -> None:
        self.perception: Perception | None = None  # until the calibration is complete
        self._node, self._rig, self._clock, self._tf, self._infos = node, rig, clock, tf, infos
        self._epoch_number: int | None = None
        self._raw = raw
        self._made: list[Subscription] = []
        self._takers: list[serialized.Taker] = []
        try:
            self._subscribe_all()
        except PerceptionError:
            self.destroy()
            raise

    def _subscribe_all(self) -> None:
        rig = self._rig
        for name, sensor in rig.sensors.items():
            self._subscribe_sensor(name, sensor)
        self._add(UInt32, "epoch", self._epoch,
                  QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        if rig.odometry == FROM_TF:
            self._add(TFMessage, "/tf", self._tf_odometry, STREAM)
        elif rig.odometry_topic is not None:
            self._subscribe_odometry(rig.odometry_topic)
        if rig.odometry == FROM_TF or any(
                sensor.extrinsics == FROM_TF for sensor in rig.sensors.values()):
            self._subscribe_static()
        for name, camera in rig.cameras.items():
            if camera.intrinsics == FROM_CAMERA_INFO:
                self._add(CameraInfo, camera.info_topic, self._info_taker(name), SENSOR)

    def _subscribe_odometry(self, topic: str) -> None:
        """The fastest topic of all, and the typed message is mostly covariances."""
        def make(**how: Any) -> Subscription:
            take = self._odometry if self._raw is None else self._odometry_bytes
            return self._make(Odometry, topic, take, STREAM, **how)

        if self._raw == "unlocked":
            self._take_unlocked("odometry", make, self._refuse_odometry)
        else:
            self._made.append(make(raw=self._raw is not None))

    def _subscribe_static(self) -> None:
        """Twice: what was published before, and publishers that keep nothing for late comers."""
        def take(message: TFMessage) -> None:
            self._tf.set_message(message, static=True)

        quiet = SubscriptionEventCallbacks(incompatible_qos=lambda event: None)
        self._made.append(self._make(TFMessage, "/tf_static", take, LATCHED,
                                     event_callbacks=quiet))
        self._add(TFMessage, "/tf_static", take, STREAM)

    def destroy(self) -> None:
        for taker in self._takers:
            self._node.remove_waitable(taker)
        self._takers.clear()
        for subscription in self._made:
            self._node.destroy_subscription(subscription)
        self._made.clear()

    def _subscribe_sensor(self, name: str, sensor: Sensor) -> None:
        kind, typed_reader, bytes_reader = _readers_of(sensor)
        reader = typed_reader if self._raw is None or bytes_reader is None else bytes_reader

        def take(message: Any) -> None:
            perception = self.perception
            if perception is None:
                return
            now = self._clock.now()
            try:
                perception.push(name, reader(message), now)
            except BadMessage as err:
                self._refuse(perception, name, err, now)

        def refuse(err: BadMessage) -> None:
            if self.perception is not None:
                self._refuse(self.perception, name, err, self._clock.now())

        def make(**how: Any) -> Subscription:
            return self._make(kind, sensor.topic, take, SENSOR,
                              QoSOverridingOptions.with_default_policies(), **how)

        if reader is typed_reader or self._raw == "rclpy":
            self._made.append(make(raw=reader is bytes_reader))
        else:
            self._take_unlocked(name, make, refuse)

    def _take_unlocked(self, name: str, make: Callable[..., Subscription],
                       refuse: Callable[[BadMessage], None]) -> None:
        def failed(code: int) -> None:
            refuse(BadMessage("not_taken", f"rcl could not take it, code {code}"))

        if obstacle := serialized.obstacle():
            self._node.get_logger().warning(
                f"{name}: messages are taken by rclpy, which holds up other threads: {obstacle}")
        subscription, taker = serialized.subscribe(self._node, make, failed)
        self._made.append(subscription)
        if taker is not None:
            self._takers.append(taker)

    def _refuse(self, perception: Perception, name: str, err: BadMessage, now: Now) -> None:
        perception.refuse(name, err.reason, now)
        self._node.get_logger().warning(f"{name}: message refused: {err}",
                                        throttle_duration_sec=5.0)

    def _refuse_odometry(self, err: BadMessage) -> None:
        self._node.get_logger().warning(f"odometry refused: {err}", throttle_duration_sec=5.0)

    def _odometry_bytes(self, serialized: Any) -> None:
        try:
            message = cdr.odometry(serialized)
        except BadMessage as err:
            self._refuse_odometry(err)
        else:
            self._odometry(message)

    def _odometry(self, message: Odometry | cdr.Odometry) -> None:
        if self.perception is None:
            return
        try:
            stamp, pose, linear, angular = read.read_odometry(message)
            if message.child_frame_id.lstrip("/") not in ("", self._rig.base_frame):
                raise BadMessage("wrong_frame", f"it moves {message.child_frame_id}, the rig's "
                                                f"base frame is {self._rig.base_frame}")
        except BadMessage as err:
            self._refuse_odometry(err)
            return
        self.perception.push_odometry(stamp, pose, linear, angular)

    def _tf_odometry(self, message: TFMessage) -> None:
        """odom_frame <- base_frame, through any frames between; the twist is derived from it."""
        if self.perception is None or not self._tf.set_message(message, static=False):
            return
        header = message.transforms[-1].header
        pose = self._tf.lookup(self._rig.odom_frame, self._rig.base_frame, read.stamp_ns(header))
        if pose is not None:
            self.perception.push_odometry(read.stamp_ns(header), pose, None, None)
        elif self._tf.lookup(self._rig.odom_frame, self._rig.base_frame) is None:
            self._node.get_logger().warning(
                f"/tf does not connect {self._rig.odom_frame} with {self._rig.base_frame}: no ego "
                "motion", throttle_duration_sec=10.0)

    def _epoch(self, message: UInt32) -> None:
        """A player announces a jump; the first number is only where it stands."""
        if self._epoch_number not in (None, message.data) and self.perception is not None:
            self.perception.new_epoch("announced")
        self._epoch_number = message.data

    def _info_taker(self, name: str) -> Callable[[CameraInfo], None]:
        def take(message: CameraInfo) -> None:
            try:
                self._infos[name] = read.read_camera_info(message)
            except (BadMessage, ConfigError) as err:
                self._node.get_logger().warning(f"{name}: CameraInfo refused: {err}",
                                                throttle_duration_sec=5.0)
        return take

    def _add(self, kind: type, topic: str, take: Callable[[Any], None], qos: QoSProfile) -> None:
        self._made.append(self._make(kind, topic, take, qos))

    def _make(self, kind: type, topic: str, take: Callable[[Any], None], qos: QoSProfile,
              overrides: QoSOverridingOptions | None = None, **how: Any) -> Subscription:
        def incompatible(event: Any) -> None:
            policy = qos_policy_name_from_kind(event.last_policy_kind)
            name = self._node.resolve_topic_name(topic)
            cure = "change the publisher" if overrides is None else (
                f"set qos_overrides.{name}.subscription.{policy.lower()} for this node, or change "
                "the publisher")
            self._node.get_logger().error(f"{name}: a publisher does not offer what this node asks "
                                          f"for ({policy}); nothing of it arrives. Cure: {cure}")

        try:
            events = SubscriptionEventCallbacks(incompatible_qos=incompatible)
            return self._node.create_subscription(
                kind, topic, take, qos, qos_overriding_options=overrides,
                **({"event_callbacks": events} | how))
        except (RuntimeError, ParameterException) as err:  # what rclpy raises for overrides
            raise ConfigError(f"cannot subscribe to {topic}: {err}") from err


Reader = Callable[[Any], RawFrame]


def _readers_of(sensor: Sensor) -> tuple[type, Reader, Reader | None]:
    """Message class of a sensor's topic, how it is read, and how its bytes are."""
    if isinstance(sensor, Camera):
        return ((CompressedImage, read.read_compressed_image, cdr.read_compressed_image)
                if sensor.transport == "compressed" else (Image, read.read_image, cdr.read_image))
    if isinstance(sensor, Radar) and sensor.message == "radar_scan":
        try:
            from radar_msgs.msg import RadarScan
        except ImportError as err:
            raise ConfigError(f"{sensor.topic}: RadarScan needs the package radar_msgs "
                              "(apt install ros-$ROS_DISTRO-radar-msgs)") from err
        return RadarScan, read.read_radar_scan, None
    return PointCloud2, read.read_cloud, cdr.read_cloud
