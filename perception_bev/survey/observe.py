"""Survey: messages in, what their topics are like out. Time of arrival is an argument."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perception_bev.errors import BadMessage
from perception_bev.geometry import CameraModel
from perception_bev.messages import read
from perception_bev.tf import TransformTree

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
CLOUD = "sensor_msgs/msg/PointCloud2"
RADAR_SCAN = "radar_msgs/msg/RadarScan"
ODOMETRY = "nav_msgs/msg/Odometry"
TF = "tf2_msgs/msg/TFMessage"
SENSOR_TYPES = (IMAGE, COMPRESSED_IMAGE, CLOUD, RADAR_SCAN)
WANTED_TYPES = (*SENSOR_TYPES, CAMERA_INFO, ODOMETRY, TF)

CLOUDS_READ = 3  # per topic: enough to know a driver's fields; the others only count
MAX_TIMES = 10_000  # per topic


@dataclass(frozen=True, slots=True)
class Timing:
    """When a topic's messages came."""

    period_ms: float | None  # between two messages; None: fewer than two came
    delay_ms: float  # least (arrival - stamp)
    delay_spread_ms: float  # 95th percentile over that
    stamped: bool = True  # False: the stamps are zero or stand still
    lost: int = 0  # messages that the period lets one expect between those that came


@dataclass(frozen=True, slots=True)
class FieldRange:
    """Finite values of one cloud field."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TopicSeen:
    """One topic of a sensor or of odometry."""

    topic: str
    type: str
    frame_id: str
    count: int
    timing: Timing
    points: int = 0  # largest number of points in the clouds that were read
    fields: Mapping[str, FieldRange] = field(default_factory=dict)  # of a cloud, in its order
    stamp_ns: int = 0  # of the cloud whose fields these are
    child_frame_id: str = ""  # of odometry
    unreadable: str = ""  # why its contents could not be read


@dataclass(frozen=True)
class Observations:
    """What was seen in some seconds of a vehicle's topics."""

    source: str  # the bag's name, or "live topics"
    seconds: float
    topics: Mapping[str, TopicSeen]
    tf: TransformTree
    camera_infos: Mapping[str, CameraModel]  # by topic
    bad_camera_infos: Mapping[str, str]  # by topic, why


class Observer:
    """Collects messages, rclpy's or rosbags', into `Observations`."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._notes: dict[str, _Notes] = {}
        self._tf = TransformTree()
        self._infos: dict[str, CameraModel] = {}
        self._bad_infos: dict[str, str] = {}
        self._first_ns: int | None = None
        self._last_ns = 0

    def add(self, topic: str, type_name: str, arrival_ns: int, message: Any) -> None:
        """Take one message; types other than `WANTED_TYPES` are passed over."""
        if type_name not in WANTED_TYPES:
            return
        self._first_ns = arrival_ns if self._first_ns is None else self._first_ns
        self._last_ns = max(self._last_ns, arrival_ns)
        if type_name == TF:
            self._tf.set_message(message, static=topic.endswith("tf_static"))
        elif type_name == CAMERA_INFO:
            self._add_info(topic, message)
        else:
            self._notes.setdefault(topic, _Notes(topic, type_name)).add(arrival_ns, message)

    def result(self) -> Observations:
        seconds = 0.0 if self._first_ns is None else (self._last_ns - self._first_ns) * 1e-9
        return Observations(self._source, seconds,
                            {topic: notes.result() for topic, notes in self._notes.items()},
                            self._tf, dict(self._infos), dict(self._bad_infos))

    def _add_info(self, topic: str, message: Any) -> None:
        try:
            self._infos[topic] = read.read_camera_info(message)
        except BadMessage as err:
            self._bad_infos[topic] = str(err)


class _Notes:
    """What is kept of one topic while it is watched."""

    def __init__(self, topic: str, type_name: str) -> None:
        self._topic, self._type = topic, type_name
        self._frames: Counter[str] = Counter()
        self._times: list[tuple[int, int]] = []  # arrival, stamp [ns]
        self._count = self._points = self._stamp_ns = 0
        self._fields: dict[str, FieldRange] = {}
        self._child = self._unreadable = ""

    def add(self, arrival_ns: int, message: Any) -> None:
        self._count += 1
        self._frames[message.header.frame_id.lstrip("/")] += 1
        self._child = getattr(message, "child_frame_id", self._child).lstrip("/")
        if len(self._times) < MAX_TIMES:
            stamp = message.header.stamp
            self._times.append((arrival_ns, stamp.sec * 1_000_000_000 + stamp.nanosec))
        if self._type in (CLOUD, RADAR_SCAN) and self._count <= CLOUDS_READ:
            self._read_cloud(message)

    def _read_cloud(self, message: Any) -> None:
        try:
            cloud = (read.read_cloud if self._type == CLOUD else read.read_radar_scan)(message)
        except BadMessage as err:
            self._unreadable = str(err)
            return
        self._points = max(self._points, len(cloud.points))
        if len(cloud.points) or not self._fields:
            self._stamp_ns = cloud.stamp_ns
            self._fields = {name: _range(cloud.points[name]) for name in cloud.points.dtype.names}

    def result(self) -> TopicSeen:
        return TopicSeen(self._topic, self._type, self._frames.most_common(1)[0][0], self._count,
                         _timing(np.array(self._times, np.int64)), self._points, self._fields,
                         self._stamp_ns, self._child, self._unreadable)


def _range(values: np.ndarray) -> FieldRange:
    numbers = values.reshape(-1).astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    return FieldRange(float(finite.min()), float(finite.max())) if len(finite) else \
        FieldRange(0.0, 0.0)


def _timing(times: np.ndarray) -> Timing:
    """(N, 2) int64 arrival and stamp [ns], N >= 1."""
    arrivals, stamps = times[:, 0], times[:, 1]
    stamped = bool(stamps.all()) and (len(stamps) == 1 or len(np.unique(stamps)) > 1)
    period, lost = _period(np.diff(np.sort(stamps if stamped else arrivals)) * 1e-6)
    delays = (arrivals - stamps) * 1e-6
    return Timing(period, float(delays.min()),
                  float(np.percentile(delays, 95) - delays.min()), stamped, lost)


def _period(steps: np.ndarray) -> tuple[float | None, int]:
    """Median of the steps [ms] over which nothing was lost, and how many messages were lost.

    Steps of several periods (up to five: more is a pause) do not count for the median, so that a
    transport that drops every second frame does not halve the rate.
    """
    steps = steps[steps > 0]
    if len(steps) == 0:
        return None, 0
    period = float(np.median(steps[steps <= 1.5 * np.percentile(steps, 20)]))
    multiples = np.round(steps / period)
    return period, int((multiples[multiples <= 5] - 1).clip(min=0).sum())
