"""Nodes: what the viz node knows, without rclpy: newest sensor messages, calibration, pictures.

Pictures are for people: points are not deskewed, and the image next in time to the boxes is taken.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.errors import BadMessage, CalibrationError
from perception_bev.geometry import CameraModel
from perception_bev.grid import BevGrid
from perception_bev.messages import read
from perception_bev.outputs import draw
from perception_bev.raw import RawFrame
from perception_bev.rig import Calibration, Camera, Radar, Rig, resolve
from perception_bev.sensors.camera import CameraDecoder
from perception_bev.sensors.lidar import LidarDecoder
from perception_bev.sensors.radar import RadarDecoder
from perception_bev.survey.check import expected_type
from perception_bev.tf import TransformTree

KEPT = 6  # messages per sensor: at 30 Hz those of the last 200 ms
MAX_GAP_NS = 300_000_000  # boxes are not drawn over a picture of another time
_READERS = {"sensor_msgs/msg/CompressedImage": read.read_compressed_image,
            "sensor_msgs/msg/Image": read.read_image,
            "sensor_msgs/msg/PointCloud2": read.read_cloud,
            "radar_msgs/msg/RadarScan": read.read_radar_scan}


class Scene:
    """Messages in, pictures out. What could not be used is counted in `dropped`, by reason."""

    def __init__(self, rig: Rig, grid: BevGrid, overlay_width: int = 960,
                 pixels_per_metre: float = 6.0) -> None:
        self.rig, self.grid = rig, grid
        self.tf = TransformTree()
        self.camera_infos: dict[str, CameraModel] = {}
        self.dropped: Counter[str] = Counter()
        self.missing = ""  # why there is no calibration yet
        self._overlay_width = overlay_width
        self._pixels_per_metre = pixels_per_metre
        self._calibration: Calibration | None = None
        self._messages = {name: deque(maxlen=KEPT) for name in rig.sensors}
        self._decoders: dict[str, CameraDecoder | LidarDecoder | RadarDecoder] = {}

    def take(self, sensor: str, message: Any) -> None:
        """Keep a sensor's message; it is read when a picture needs it."""
        self._messages[sensor].append(message)

    def take_camera_info(self, camera: str, message: Any) -> None:
        try:
            self.camera_infos[camera] = read.read_camera_info(message)
        except BadMessage as err:
            self.dropped[f"{camera}: {err.reason}"] += 1

    def forget(self) -> None:
        """Drop all messages, as after a clock jump; the calibration stays."""
        for kept in self._messages.values():
            kept.clear()
        self.tf.forget_motion()

    @property
    def calibration(self) -> Calibration | None:
        """Complete, or None and `missing` says what lacks."""
        if self._calibration is None:
            try:
                self._calibration = resolve(self.rig, self.tf, self.camera_infos)
                self.missing = ""
            except CalibrationError as err:
                self.missing = str(err)
        return self._calibration

    def overlay(self, camera: str, boxes: Boxes3D, stamp_ns: int) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB: the picture next to `stamp_ns`, undistorted, with the boxes."""
        raw = self._nearest(camera, stamp_ns)
        if raw is None or self.calibration is None:
            return None
        decoder = self._decoder(camera)
        try:
            image = decoder.decode(raw).image
        except BadMessage as err:
            self.dropped[f"{camera}: {err.reason}"] += 1
            return None
        camera_from_base = self._calibration.base_from_sensor[camera].inverse()
        return draw.camera_overlay(image, camera_from_base, decoder.pinhole, boxes)

    def bird_view(self, boxes: Boxes3D, stamp_ns: int, title: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB: boxes, and the points of the sensors whose place is known."""
        return draw.bev_image(self.grid, boxes, lidar=self._points(self.rig.lidars, stamp_ns),
                              radar=self._points(self.rig.radars, stamp_ns), title=title,
                              pixels_per_metre=self._pixels_per_metre)

    def _points(self, sensors: Any, stamp_ns: int) -> np.ndarray | None:
        """(N, 3) float32 in base_link, of all lidars or all radars."""
        if self.calibration is None:
            return None
        clouds = [self._cloud(name, stamp_ns) for name in sensors]
        clouds = [cloud for cloud in clouds if cloud is not None]
        return np.concatenate(clouds) if clouds else None

    def _cloud(self, sensor: str, stamp_ns: int) -> np.ndarray | None:
        raw = self._nearest(sensor, stamp_ns)
        if raw is None:
            return None
        try:
            points = self._decoder(sensor).decode(raw).points[:, :3]
        except BadMessage as err:
            self.dropped[f"{sensor}: {err.reason}"] += 1
            return None
        return self._calibration.base_from_sensor[sensor].apply(points)

    def _nearest(self, sensor: str, stamp_ns: int) -> RawFrame | None:
        """The sensor's frame next in time to `stamp_ns`, if it is near enough."""
        spec = self.rig.sensors[sensor]
        offset_ns = int(spec.clock_offset_ms * 1e6)
        frames = [frame for message in self._messages[sensor]
                  if (frame := self._read(sensor, message)) is not None]
        if spec.stamp_source == "arrival":
            return frames[-1] if frames else None
        near = [frame for frame in frames
                if abs(frame.stamp_ns + offset_ns - stamp_ns) <= MAX_GAP_NS]
        return min(near, key=lambda f: abs(f.stamp_ns + offset_ns - stamp_ns), default=None)

    def _read(self, sensor: str, message: Any) -> RawFrame | None:
        try:
            return _READERS[expected_type(self.rig.sensors[sensor])](message)
        except BadMessage as err:
            self.dropped[f"{sensor}: {err.reason}"] += 1
            return None

    def _decoder(self, sensor: str) -> CameraDecoder | LidarDecoder | RadarDecoder:
        if sensor not in self._decoders:
            self._decoders[sensor] = self._new_decoder(sensor)
        return self._decoders[sensor]

    def _new_decoder(self, sensor: str) -> CameraDecoder | LidarDecoder | RadarDecoder:
        spec = self.rig.sensors[sensor]
        if not isinstance(spec, Camera):
            return RadarDecoder(spec) if isinstance(spec, Radar) else LidarDecoder(spec)
        model = self._calibration.camera_models[sensor]
        width = min(self._overlay_width, model.width)
        height = max(1, round(model.height * width / model.width))
        return CameraDecoder(model, width, height, spec.frame_id, spec.stamp_source)


def wanted_inputs(rig: Rig, markers: bool, bird_view: bool, overlays: set[str]) -> set[str]:
    """Inputs to subscribe to, "objects" or a sensor's name, for the outputs that someone sees."""
    wanted = {"objects"} if markers or bird_view or overlays else set()
    clouds = {*rig.lidars, *rig.radars} if bird_view else set()
    return wanted | clouds | overlays
