"""Messages: raw frames, transforms and odometry as messages; read(write(x)) == x.

The caller brings the message classes and how arrays are packed, so that one writer serves rclpy
and bags:

    MessageWriter(lambda name: typestore.types[name], np.ascontiguousarray)    # rosbags
    MessageWriter(lambda name: classes[name], packed_array)                    # rclpy
"""

from __future__ import annotations

import array
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from perception_bev.geometry import SE3, CameraModel
from perception_bev.messages.fields import cloud_fields, is_bigendian
from perception_bev.raw import EncodedImage, RawCloud, RawImage

__all__ = ["MessageWriter", "cloud_fields", "packed_array", "time_parts"]

_LENS_NAMES = {"pinhole": "plumb_bob"}  # CameraInfo says "no distortion" by empty coefficients


def time_parts(stamp_ns: int) -> tuple[int, int]:
    """(sec, nanosec) of builtin_interfaces/Time."""
    return divmod(int(stamp_ns), 1_000_000_000)


def packed_array(values: np.ndarray) -> array.array:
    """The array.array that rclpy's messages hold, copied as a block, not value by value."""
    packed = array.array(values.dtype.char)
    packed.frombytes(np.ascontiguousarray(values).tobytes())
    return packed


class MessageWriter:
    """Makes messages of the classes that `types("sensor_msgs/msg/Image")` gives."""

    def __init__(self, types: Callable[[str], type], pack: Callable[[np.ndarray], Any]) -> None:
        self._types = types
        self._pack = pack  # for sequences; arrays of fixed length are NumPy's in both worlds

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        sec, nanosec = time_parts(stamp_ns)
        time = self._make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
        return self._make("std_msgs/msg/Header", stamp=time, frame_id=frame_id)

    def compressed_image(self, raw: EncodedImage, format: str = "jpeg") -> Any:
        data = np.frombuffer(raw.data, np.uint8)
        return self._make("sensor_msgs/msg/CompressedImage", header=self._header_of(raw),
                          format=format, data=self._pack(data))

    def image(self, raw: RawImage) -> Any:
        return self._make("sensor_msgs/msg/Image", header=self._header_of(raw),
                          height=raw.height, width=raw.width, encoding=raw.encoding,
                          is_bigendian=0, step=raw.rows.shape[1],
                          data=self._pack(raw.rows.reshape(-1)))

    def cloud(self, raw: RawCloud) -> Any:
        """An unorganised PointCloud2 in the points' own layout, padding included."""
        points = np.ascontiguousarray(raw.points)
        step, fields = points.dtype.itemsize, cloud_fields(points.dtype)
        return self._make(
            "sensor_msgs/msg/PointCloud2", header=self._header_of(raw), height=1,
            width=len(points), fields=[self._field(*field) for field in fields],
            is_bigendian=is_bigendian(points.dtype), point_step=step,
            row_step=step * len(points), data=self._pack(points.view(np.uint8).reshape(-1)),
            is_dense=False)

    def camera_info(self, model: CameraModel, stamp_ns: int, frame_id: str) -> Any:
        projection = np.hstack([model.k, np.zeros((3, 1))])
        region = self._make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0,
                            width=0, do_rectify=False)
        return self._make(
            "sensor_msgs/msg/CameraInfo", header=self.header(stamp_ns, frame_id),
            height=model.height, width=model.width,
            distortion_model=_LENS_NAMES.get(model.model, model.model),
            d=self._pack(model.distortion), k=model.k.reshape(9), r=np.eye(3).reshape(9),
            p=projection.reshape(12), binning_x=0, binning_y=0, roi=region)

    def transforms(self, stamped: Iterable[tuple[str, str, SE3, int]]) -> Any:
        """tf2_msgs/TFMessage of (parent, child, parent_from_child, stamp [ns])."""
        return self._make("tf2_msgs/msg/TFMessage", transforms=[
            self._make("geometry_msgs/msg/TransformStamped", header=self.header(stamp, parent),
                       child_frame_id=child, transform=self._transform(pose))
            for parent, child, pose, stamp in stamped])

    def odometry(self, stamp_ns: int, odom_from_base: SE3, linear: np.ndarray,
                 angular: np.ndarray, frame_id: str = "odom",
                 child_frame_id: str = "base_link") -> Any:
        """nav_msgs/Odometry; velocities [m/s, rad/s] in the child frame, covariances 0."""
        pose = self._make("geometry_msgs/msg/Pose",
                          position=self._xyz("Point", odom_from_base.translation),
                          orientation=self._quaternion(odom_from_base))
        twist = self._make("geometry_msgs/msg/Twist", linear=self._xyz("Vector3", linear),
                           angular=self._xyz("Vector3", angular))
        return self._make(
            "nav_msgs/msg/Odometry", header=self.header(stamp_ns, frame_id),
            child_frame_id=child_frame_id,
            pose=self._make("geometry_msgs/msg/PoseWithCovariance", pose=pose,
                            covariance=np.zeros(36)),
            twist=self._make("geometry_msgs/msg/TwistWithCovariance", twist=twist,
                             covariance=np.zeros(36)))

    def _make(self, name: str, /, **values: Any) -> Any:
        return self._types(name)(**values)

    def _header_of(self, raw: EncodedImage | RawImage | RawCloud) -> Any:
        return self.header(raw.stamp_ns, raw.frame_id)

    def _field(self, name: str, offset: int, datatype: int, count: int) -> Any:
        return self._make("sensor_msgs/msg/PointField", name=name, offset=offset,
                          datatype=datatype, count=count)

    def _transform(self, pose: SE3) -> Any:
        return self._make("geometry_msgs/msg/Transform", rotation=self._quaternion(pose),
                          translation=self._xyz("Vector3", pose.translation))

    def _xyz(self, kind: str, values: np.ndarray) -> Any:
        x, y, z = (float(value) for value in values)
        return self._make(f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)

    def _quaternion(self, pose: SE3) -> Any:
        x, y, z, w = (float(value) for value in pose.quaternion)
        return self._make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
