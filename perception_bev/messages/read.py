"""Messages: one reader for rclpy's and rosbags' messages. Only attributes are looked at; every
size is checked against the data before anything is allocated; arrays are views of the message."""

from __future__ import annotations

import array
import math
from typing import Any, NamedTuple

import numpy as np

from perception_bev.errors import BadMessage, ConfigError
from perception_bev.geometry import SE3, CameraModel
from perception_bev.messages.fields import cloud_dtype
from perception_bev.raw import EncodedImage, RawCloud, RawImage

MAX_BYTES = 256 * 2**20  # of one message's data; an 8K rgb8 picture has 100 MB
MAX_RETURNS = 1_000_000  # of one RadarScan
RADAR_SCAN = np.dtype([(name, "<f4") for name in ("x", "y", "z", "doppler", "amplitude")])

# CameraInfo.distortion_model -> CameraModel.model; "fisheye" is what some drivers say
_LENSES = {"": "plumb_bob", "none": "plumb_bob", "pinhole": "plumb_bob", "plumb_bob": "plumb_bob",
           "rational_polynomial": "rational_polynomial", "equidistant": "equidistant",
           "fisheye": "equidistant"}


def stamp_ns(header: Any) -> int:
    """The header's stamp [ns]. BadMessage("bad_stamp") for a negative or unnormalised one."""
    return _time_ns(header.stamp)


def _time_ns(time: Any) -> int:
    seconds, nanoseconds = int(time.sec), int(time.nanosec)
    if seconds < 0 or not 0 <= nanoseconds < 1_000_000_000:
        raise BadMessage("bad_stamp", f"sec {seconds}, nanosec {nanoseconds} is no time")
    return seconds * 1_000_000_000 + nanoseconds


def read_compressed_image(msg: Any) -> EncodedImage:
    """sensor_msgs/CompressedImage. What it holds is told by its bytes, not by `format`."""
    data = _bytes(msg.data)
    if data.size == 0:
        raise BadMessage("empty", "compressed image without data")
    return EncodedImage(*_origin(msg), data)


def read_image(msg: Any) -> RawImage:
    """sensor_msgs/Image: rows with their padding; `sensors/` knows the encodings.

    Big-endian 16-bit pixels are swapped (a copy), so that `rows` is little-endian always.
    """
    width, height, step = int(msg.width), int(msg.height), int(msg.step)
    data = _bytes(msg.data)
    if width <= 0 or height <= 0 or data.size == 0:
        raise BadMessage("empty", f"image of {width}x{height} pixels in {data.size} bytes")
    _same_size(f"image step {step} x height {height}", step * height, data)
    if step < width:
        raise BadMessage("bad_size", f"image step {step} bytes is less than width {width}")
    rows, encoding = data.reshape(height, step), str(msg.encoding)
    if encoding.endswith("16") and msg.is_bigendian and step % 2 == 0:
        rows = rows.view(">u2").astype("<u2").view(np.uint8)
    return RawImage(*_origin(msg), encoding, width, height, rows)


def read_cloud(msg: Any) -> RawCloud:
    """sensor_msgs/PointCloud2, organised or not, of any layout.

    The points are a view of the message's data, unless rows of several are padded. An empty cloud
    is a cloud. Raises BadMessage: bad_size, bad_layout, too_large, bad_data, bad_stamp.
    """
    width, height = int(msg.width), int(msg.height)
    point_step, row_step = int(msg.point_step), int(msg.row_step)
    data = _bytes(msg.data)
    _same_size(f"cloud row_step {row_step} x height {height}", row_step * height, data)
    dtype = cloud_dtype(msg.fields, point_step, msg.is_bigendian)
    if width == 0 or height == 0:
        return RawCloud(*_origin(msg), np.zeros(0, dtype))
    if min(width, height, row_step) < 0 or point_step < 1 or width * point_step > row_step:
        raise BadMessage("bad_size", f"cloud width {width} x point_step {point_step} does not fit "
                                     f"into row_step {row_step}")
    points = np.ndarray((height, width), dtype, data, strides=(row_step, point_step))
    return RawCloud(*_origin(msg), points.reshape(-1))


def read_radar_scan(msg: Any) -> RawCloud:
    """radar_msgs/RadarScan -> cloud of x, y, z [m], doppler [m/s] and amplitude [dB] (float32).

    Azimuth is counted from x to y, elevation from the x-y plane to z (REP-103); a negative range
    gives a point that is not finite.
    """
    if len(msg.returns) > MAX_RETURNS:
        raise BadMessage("too_large", f"{len(msg.returns)} radar returns; limit {MAX_RETURNS}")
    rows = [(r.range, r.azimuth, r.elevation, r.doppler_velocity, r.amplitude)
            for r in msg.returns]
    polar = np.array(rows, np.float64).reshape(-1, 5)
    points = np.empty(len(polar), RADAR_SCAN)
    with np.errstate(all="ignore"):
        distance = np.where(polar[:, 0] >= 0, polar[:, 0], np.nan)
        flat = distance * np.cos(polar[:, 2])
        points["x"], points["y"] = flat * np.cos(polar[:, 1]), flat * np.sin(polar[:, 1])
        points["z"] = distance * np.sin(polar[:, 2])
        points["doppler"], points["amplitude"] = polar[:, 3], polar[:, 4]
    return RawCloud(*_origin(msg), points)


def read_camera_info(msg: Any) -> CameraModel:
    """sensor_msgs/CameraInfo -> the lens of the pictures as they are sent (ROI, then binning).

    Raises BadMessage: "uncalibrated" when K is zero, else "bad_camera_info".
    """
    k = np.asarray(msg.k, np.float64)
    if k.size != 9:
        raise BadMessage("bad_camera_info", f"K has {k.size} values, expected 9")
    if not k.any():
        raise BadMessage("uncalibrated", "CameraInfo.k is all zeros: calibrate the camera, or "
                                         "write intrinsics into the rig file")
    try:
        model, coefficients = _lens(str(msg.distortion_model), np.asarray(msg.d, np.float64))
        full = CameraModel(int(msg.width), int(msg.height), k.reshape(3, 3), model, coefficients)
        return _windowed(full, getattr(msg, "roi", None), getattr(msg, "binning_x", 0),
                         getattr(msg, "binning_y", 0))
    except ConfigError as err:
        raise BadMessage("bad_camera_info", str(err)) from err


def _lens(name: str, d: np.ndarray) -> tuple[str, np.ndarray]:
    """CameraModel's model and its coefficients; missing ones are 0, and so must surplus ones be."""
    if name not in _LENSES:
        raise ConfigError(f"distortion model '{name}'; known: {', '.join(filter(None, _LENSES))}")
    if d.size == 0 and _LENSES[name] == "plumb_bob":
        return "pinhole", d
    if name in ("", "none", "pinhole") and d.any():
        raise ConfigError(f"{d.size} distortion coefficients, but distortion model '{name}'")
    known = CameraModel.COEFFICIENTS[_LENSES[name]]
    if d[known:].any():
        raise ConfigError(f"{d.size} coefficients for '{name}'; only the first {known} are known")
    return _LENSES[name], np.pad(d[:known], (0, max(known - d.size, 0)))


def _windowed(full: CameraModel, roi: Any, binning_x: int, binning_y: int) -> CameraModel:
    """What is left of the full sensor after region of interest and binning."""
    k, width, height = full.k.copy(), full.width, full.height
    if roi is not None and roi.width and roi.height:
        k[:2, 2] -= (roi.x_offset, roi.y_offset)
        width, height = int(roi.width), int(roi.height)
    bins = np.array([max(int(binning_x), 1), max(int(binning_y), 1)])
    k[:2] /= bins[:, None]
    k[:2, 2] += 0.5 / bins - 0.5
    return CameraModel(width // int(bins[0]), height // int(bins[1]), k, full.model,
                       full.distortion)


def read_transforms(msg: Any) -> list[tuple[str, str, SE3, int]]:
    """tf2_msgs/TFMessage -> (parent, child, parent_from_child, stamp [ns]) of each transform.

    Raises BadMessage("bad_transform") that names the frames.
    """
    return [_transform(stamped) for stamped in msg.transforms]


def _transform(stamped: Any) -> tuple[str, str, SE3, int]:
    parent, child = _frame(stamped.header.frame_id), _frame(stamped.child_frame_id)
    try:
        pose = _pose(stamped.transform.translation, stamped.transform.rotation)
    except ConfigError as err:
        raise BadMessage("bad_transform", f"{parent} <- {child}: {err}") from err
    return parent, child, pose, stamp_ns(stamped.header)


class OdometryReading(NamedTuple):
    """nav_msgs/Odometry; a tuple in this order."""

    stamp_ns: int
    odom_from_base: SE3
    linear: np.ndarray  # (3,) float64 [m/s], in the child frame
    angular: np.ndarray  # (3,) float64 [rad/s], in the child frame


def read_odometry(msg: Any) -> OdometryReading:
    """nav_msgs/Odometry. Raises BadMessage("bad_odometry") for values that are not finite."""
    try:
        pose = _pose(msg.pose.pose.position, msg.pose.pose.orientation)
    except ConfigError as err:
        raise BadMessage("bad_odometry", str(err)) from err
    linear, angular = _xyz(msg.twist.twist.linear), _xyz(msg.twist.twist.angular)
    if not all(map(math.isfinite, (*linear.tolist(), *angular.tolist()))):
        raise BadMessage("bad_odometry", f"twist {linear.tolist()}, {angular.tolist()}")
    return OdometryReading(stamp_ns(msg.header), pose, linear, angular)


def _pose(translation: Any, rotation: Any) -> SE3:
    return SE3.from_quaternion(
        _xyz(translation), np.array([rotation.x, rotation.y, rotation.z, rotation.w], float))


def _xyz(vector: Any) -> np.ndarray:
    return np.array([vector.x, vector.y, vector.z], np.float64)


def _origin(msg: Any) -> tuple[int, str]:
    return stamp_ns(msg.header), _frame(msg.header.frame_id)


def _frame(name: str) -> str:
    """Frame names without the leading slash of ROS 1, which bags converted from it keep."""
    return str(name).lstrip("/")


def _bytes(data: Any) -> np.ndarray:
    """(n,) uint8, a view wherever the data is a buffer. A list of bytes is copied."""
    if len(data) > MAX_BYTES:
        raise BadMessage("too_large", f"{len(data)} bytes of data; limit {MAX_BYTES}")
    try:
        if isinstance(data, (bytes, bytearray, memoryview, array.array, np.ndarray)):
            return _view(memoryview(data))
        return np.frombuffer(bytes(data), np.uint8)
    except (TypeError, ValueError) as err:
        raise BadMessage("bad_data", f"data is not a sequence of bytes: {err}") from err


def _view(buffer: memoryview) -> np.ndarray:
    if buffer.itemsize != 1 or buffer.ndim != 1:
        raise ValueError(f"{buffer.ndim} dimensions of {buffer.itemsize} bytes")
    return np.ascontiguousarray(buffer).view(np.uint8)


def _same_size(what: str, expected: int, data: np.ndarray) -> None:
    if expected != data.size:
        raise BadMessage("bad_size", f"{what} is {expected} bytes, but data has {data.size}")
