"""Recordings: what a bag holds of a sample beyond `messages/`: which message a raw frame is, truth
as vision_msgs and back, epochs; as rosbags' classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.errors import BadMessage, RecordingError
from perception_bev.geometry import SE3, rotation_from_rpy, rotvec_from_rotation
from perception_bev.messages import objects_cloud, read
from perception_bev.messages.write import MessageWriter
from perception_bev.raw import EncodedImage, RawCloud, RawFrame, RawImage
from perception_bev.recordings.bag_types import message_class
from perception_bev.recordings.base import Truth, Visibility

TRUTH_TOPIC = "ground_truth/objects"
TRUTH_TYPE = "vision_msgs/msg/Detection3DArray"
TRUTH_CLOUD_TOPIC = "ground_truth/cloud"
TRUTH_CLOUD_TYPE = "sensor_msgs/msg/PointCloud2"
EPOCH_TOPIC = "epoch"
EPOCH_TYPE = "std_msgs/msg/UInt32"
ODOMETRY_TYPE = "nav_msgs/msg/Odometry"
TF_TYPE = "tf2_msgs/msg/TFMessage"
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"

WRITER = MessageWriter(message_class, np.ascontiguousarray)
_SEEN = ("lidar_points", "radar_returns", "pixels")  # of a Visibility
_MAGIC = {b"\xff\xd8": "jpeg", b"\x89P": "png"}


def frame_message(raw: RawFrame, stamp_ns: int) -> tuple[str, Any]:
    """(type, message) of a raw frame, stamped anew."""
    if stamp_ns < 0:
        raise RecordingError(f"stamp {stamp_ns} ns is before 1970; a message cannot hold it")
    raw = replace(raw, stamp_ns=stamp_ns)
    if isinstance(raw, EncodedImage):
        return "sensor_msgs/msg/CompressedImage", WRITER.compressed_image(raw, _format(raw))
    if isinstance(raw, RawImage):
        return "sensor_msgs/msg/Image", WRITER.image(raw)
    return "sensor_msgs/msg/PointCloud2", WRITER.cloud(raw)


def _format(raw: EncodedImage) -> str:
    form = _MAGIC.get(bytes(raw.data[:2]))
    if form is None:
        raise RecordingError(f"picture in {raw.frame_id} is neither JPEG nor PNG")
    return form


def twist_between(before: SE3, after: SE3, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean linear and angular velocity of the motion from `before` to `after`, in its frame."""
    before_from_after = before.inverse() @ after
    return (before_from_after.translation / seconds,
            rotvec_from_rotation(before_from_after.rotation) / seconds)


def epoch_message(number: int) -> Any:
    return message_class(EPOCH_TYPE)(data=number)


def truth_message(truth: Truth, stamp_ns: int, frame_id: str) -> Any:
    """vision_msgs/Detection3DArray. What it has no field for is in each detection's id, as
    "occlusion=0 counted=1 vx=1.5 vy=0.0 track=7 lidar_points=12 radar_returns=2 pixels=900", each
    where it is known."""
    head = WRITER.header(stamp_ns, frame_id)
    return _vision("Detection3DArray", header=head,
                   detections=[_detection(truth, i, head) for i in range(len(truth.boxes))])


def _detection(truth: Truth, i: int, head: Any) -> Any:
    boxes = truth.boxes
    pose = _pose(boxes.centre[i], float(boxes.yaw[i]))
    size = message_class("geometry_msgs/msg/Vector3")(*(float(v) for v in boxes.size[i]))
    hypothesis = _vision("ObjectHypothesis", class_id=boxes.classes[boxes.label[i]],
                         score=float(boxes.score[i]))
    covariant = message_class("geometry_msgs/msg/PoseWithCovariance")(pose, np.zeros(36))
    result = _vision("ObjectHypothesisWithPose", hypothesis=hypothesis, pose=covariant)
    return _vision("Detection3D", header=head, results=[result],
                   bbox=_vision("BoundingBox3D", center=pose, size=size), id=_about(truth, i))


def _about(truth: Truth, i: int) -> str:
    text = f"occlusion={truth.occlusion[i]} counted={int(truth.counted[i])}"
    if np.isfinite(truth.boxes.velocity[i]).all():
        vx, vy = (float(v) for v in truth.boxes.velocity[i])
        text += f" vx={vx!r} vy={vy!r}"
    if truth.track is not None:
        text += f" track={truth.track[i]}"
    if truth.seen is not None:
        text += "".join(f" {name}={getattr(truth.seen, name)[i]}" for name in _SEEN)
    return text


def _pose(centre: np.ndarray, yaw: float) -> Any:
    x, y, z, w = SE3(rotation_from_rpy(0.0, 0.0, yaw), np.zeros(3)).quaternion
    return message_class("geometry_msgs/msg/Pose")(
        message_class("geometry_msgs/msg/Point")(*(float(v) for v in centre)),
        message_class("geometry_msgs/msg/Quaternion")(float(x), float(y), float(z), float(w)))


def _vision(name: str, **values: Any) -> Any:
    return message_class(f"vision_msgs/msg/{name}")(**values)


def class_of(detection: Any) -> tuple[str, float]:
    """The class and score of the best hypothesis; ("", 1) without any."""
    if not detection.results:
        return "", 1.0
    best = max((result.hypothesis for result in detection.results), key=lambda h: h.score)
    return str(best.class_id), float(best.score)


def read_truth(message: Any, classes: tuple[str, ...]) -> Truth:
    """A Detection3DArray (ours, or another's without our ids: visible and counted) -> Truth.

    RecordingError for a class that is not in `classes`.
    """
    rows = [_read_detection(detection) for detection in message.detections]
    unknown = {name for _, name, _ in rows} - set(classes)
    if unknown:
        raise RecordingError(f"truth has the classes {', '.join(sorted(unknown))}; known: "
                             + ", ".join(classes))
    table = np.array([row for row, _, _ in rows], np.float64).reshape(-1, 10).astype(np.float32)
    label = np.array([classes.index(name) for _, name, _ in rows], np.int32)
    boxes = Boxes3D(table[:, 0:3], table[:, 3:6], table[:, 6], table[:, 7], label, classes,
                    table[:, 8:10])
    about = [said for _, _, said in rows]
    seen = [_said(about, name, np.int32) for name in _SEEN]
    return Truth(boxes, np.array([int(a.get("occlusion", 0)) for a in about], np.int32),
                 np.array([a.get("counted", "1") == "1" for a in about], np.bool_),
                 _said(about, "track", np.int64),
                 None if any(counts is None for counts in seen) else Visibility(*seen))


def _said(about: list[dict[str, str]], key: str, dtype: type) -> np.ndarray | None:
    """(N,) values of a key that all ids have; None where one lacks it."""
    if any(key not in said for said in about):
        return None
    return np.array([int(said[key]) for said in about], dtype)


def _read_detection(detection: Any) -> tuple[list[float], str, dict[str, str]]:
    """x y z l w h yaw score vx vy; class; what the id says."""
    about = dict(part.split("=", 1) for part in str(detection.id).split() if "=" in part)
    name, score = class_of(detection)
    centre, size = detection.bbox.center.position, detection.bbox.size
    q = detection.bbox.center.orientation
    yaw = SE3.from_quaternion(np.zeros(3), np.array([q.x, q.y, q.z, q.w])).yaw
    velocity = [float(about.get(key, "nan")) for key in ("vx", "vy")]
    row = [centre.x, centre.y, centre.z, size.x, size.y, size.z, yaw, score, *velocity]
    return row, name, about


def truth_cloud(truth: Truth, stamp_ns: int, frame_id: str) -> Any:
    """sensor_msgs/PointCloud2 of messages/objects_cloud.TRUTH_OBJECT; row i is detection i of
    `truth_message`. RecordingError for track numbers that do not fit."""
    n = len(truth.boxes)
    ids = np.full(n, objects_cloud.NO_ID) if truth.track is None else truth.track
    try:
        points = objects_cloud.object_points(truth.boxes, ids, dtype=objects_cloud.TRUTH_OBJECT)
    except BadMessage as err:
        raise RecordingError(f"truth: {err}") from err
    points["occlusion"], points["counted"] = truth.occlusion, truth.counted
    for name in _SEEN:
        points[name] = (objects_cloud.UNKNOWN_COUNT if truth.seen is None
                        else getattr(truth.seen, name))
    return WRITER.cloud(RawCloud(stamp_ns, frame_id, points))


def read_truth_cloud(message: Any, classes: tuple[str, ...]) -> Truth:
    """Truth from a `truth_cloud`. BadMessage for a cloud that is none."""
    points = read.read_cloud(message).points
    objects_cloud.require(points, objects_cloud.TRUTH_OBJECT)
    boxes, ids, _ = objects_cloud.read_objects(points, classes)
    counts = [points[name].astype(np.int32) for name in _SEEN]
    known = all((values >= 0).all() for values in counts)
    return Truth(boxes, points["occlusion"].astype(np.int32), points["counted"].astype(np.bool_),
                 ids if (ids >= 0).all() else None, Visibility(*counts) if known else None)
