"""Recordings: any Recording -> MCAP bags with the topics of its rig, one bag per rig.

**Epochs.** Samples of different sequences share nothing: a consumer must forget its memory and its
tracks between them. So every sequence begins with a message on `epoch` (std_msgs/UInt32, reliable,
transient local): its number, counted from 0, at a log time before all messages of the sequence and
after all of the one before.

**Spacing.** "original" keeps all stamps. "period" lays sample after sample on the rig's output grid
(one reference period apart, from the first stamp on): bag time is made up there, and the distances
in time within a sample stay what they were.

**Log time.** A message is logged when its sensor could have sent it: at its stamp, or one sensor
period later where the rig says that stamps are the start of the sweep or exposure.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from perception_bev.errors import RecordingError
from perception_bev.geometry import SE3
from perception_bev.raw import RawCloud, RawFrame
from perception_bev.recordings import sample_messages as messages
from perception_bev.recordings.bag_write import BagWriter, Compression, absolute
from perception_bev.recordings.base import Recording, Sample
from perception_bev.rig import Extrinsics, Intrinsics, Lidar, Rig, Sensor

Spacing = Literal["original", "period"]
Progress = Callable[[int, int], None]  # samples done, of all

CLASSES_KEY = "classes"  # in the bag's custom data: names of the truth's classes, with commas
MAX_GAP_NS = 300_000_000  # a longer one begins a new epoch, within a sequence too
# The announcement comes this long before the first message: topics overtake each other on the way,
# and a frame that arrives before its epoch is announced is lost with the old one.
_EPOCH_LEAD_NS = 25_000_000
_STANDING = (np.zeros(3), np.zeros(3))  # linear [m/s], angular [rad/s]; where nothing is known
_UNITS_PER_NS = {"s": 1e-9, "ms": 1e-6, "us": 1e-3, "ns": 1.0}


@dataclass
class Summary:
    """What was written."""

    path: Path
    rig: str
    samples: int = 0
    epochs: int = 0
    duration_s: float = 0.0
    messages: dict[str, int] = field(default_factory=dict)  # by topic
    skipped: list[str] = field(default_factory=list)  # what the recording or rig does not have


class _Timed(NamedTuple):
    """One message that waits for the writer."""

    log_ns: int
    topic: str
    type: str
    message: Any


def convert(recording: Recording, out: str | Path, *, spacing: Spacing = "original",
            compression: Compression = "zstd", progress: Progress | None = None,
            indices: Iterable[int] | None = None) -> list[Summary]:
    """Write `recording` (or the samples at `indices`) as bags; one Summary per bag.

    With one rig the bag is `out`; with several, each is `out`/<rig's name>. RecordingError when a
    folder exists already or the samples cannot be laid in time.
    """
    chosen = list(range(len(recording)) if indices is None else indices)
    by_rig: dict[str, list[int]] = {}
    for index in chosen:
        by_rig.setdefault(recording.rig_of(index).name, []).append(index)
    summaries, done = [], 0
    for name, group in by_rig.items():
        path = Path(out) if len(by_rig) == 1 else Path(out) / name
        offset = done
        step = progress and (lambda n, offset=offset: progress(offset + n, len(chosen)))
        summaries.append(_convert_rig(recording, group, path, spacing, compression, step))
        done += len(group)
    return summaries


def _convert_rig(recording: Recording, indices: list[int], path: Path, spacing: Spacing,
                 compression: Compression, step: Callable[[int], None] | None) -> Summary:
    rig = recording.rig_of(indices[0])
    summary, layout = Summary(path, rig.name), _Layout(rig, spacing)
    custom = {"rig": rig.name, "spacing": spacing}
    writer = BagWriter(path, compression, custom)
    with _whole_or_gone(path), writer:
        content = _Content(rig, writer, summary)
        for number, (sample, following) in enumerate(_pairs(recording, indices)):
            content.write(sample, following, *layout.place(sample))
            if step:
                step(number + 1)
        summary.messages = {name: info.count for name, info in writer.topics.items()}
        summary.samples, summary.duration_s = len(indices), layout.duration_s
    return summary


@contextmanager
def _whole_or_gone(path: Path) -> Iterator[None]:
    """Half a conversion would look like a short data set: it is removed when interrupted."""
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _pairs(recording: Recording, indices: list[int]) -> Iterator[tuple[Sample, Sample | None]]:
    """Each sample with the next; only two are held."""
    sample = recording[indices[0]]
    for index in indices[1:]:
        following = recording[index]
        yield sample, following
        sample = following
    yield sample, None


class _Layout:
    """Where samples go in bag time, and where epochs begin."""

    def __init__(self, rig: Rig, spacing: Spacing) -> None:
        if spacing not in ("original", "period"):
            raise RecordingError(f"unknown spacing '{spacing}'; known: original, period")
        self._rig, self._spacing = rig, spacing
        self._period_ns = round(rig.reference.period_ms * 1e6)
        self._before: Sample | None = None
        self._t_ref_ns = self._end_ns = self._start_ns = 0  # in bag time

    @property
    def duration_s(self) -> float:
        return (self._end_ns - self._start_ns) * 1e-9

    def place(self, sample: Sample) -> tuple[int, int | None]:
        """(ns to add to the sample's stamps, log time at which an epoch is announced or None)."""
        first = min([log_time(self._rig.sensors[name], raw.stamp_ns)
                     for name, raw in _frames(sample)] + [sample.t_ref_ns]
                    + [motion.stamp_ns for motion in sample.odometry[:1]]) - _EPOCH_LEAD_NS
        begins = self._begins_epoch(sample)
        shift = self._shift(sample, first, begins)
        if self._before is None:
            self._start_ns = first + shift
        elif begins and first + shift <= self._end_ns:
            raise RecordingError(
                f"sample {sample.name} begins a sequence, but before the end of the one before it: "
                "use the spacing 'period', which lays sequences one after the other")
        self._before, self._t_ref_ns = sample, sample.t_ref_ns + shift
        self._end_ns = max([self._end_ns, self._t_ref_ns] + [
            log_time(self._rig.sensors[name], raw.stamp_ns + shift)
            for name, raw in _frames(sample)])
        return shift, first + shift if begins else None

    def _begins_epoch(self, sample: Sample) -> bool:
        before = self._before
        return (before is None or sample.sequence != before.sequence
                or not 0 < sample.t_ref_ns - before.t_ref_ns <= MAX_GAP_NS)

    def _shift(self, sample: Sample, first_ns: int, begins: bool) -> int:
        if self._spacing == "original" or self._before is None:
            return 0
        place = self._t_ref_ns + self._period_ns
        while begins and first_ns + place - sample.t_ref_ns <= self._end_ns:
            place += self._period_ns
        return place - sample.t_ref_ns


class _Content:
    """Writes the messages of samples, each frame once."""

    def __init__(self, rig: Rig, writer: BagWriter, summary: Summary) -> None:
        self._rig, self._writer, self._summary = rig, writer, summary
        self._written: dict[str, int] = {}  # newest stamp by sensor, in the recording's time
        self._moved_ns = -1  # newest stamp of odometry, in the recording's time
        self._static_done = False
        self._twist = _STANDING
        for name, camera in rig.cameras.items():
            if not isinstance(camera.intrinsics, Intrinsics):
                summary.skipped.append(f"{name}: the rig has no intrinsics, so no CameraInfo")
        for name, sensor in rig.sensors.items():
            if not isinstance(sensor.extrinsics, Extrinsics):
                summary.skipped.append(f"{name}: the rig has no extrinsics, so no transform")

    def write(self, sample: Sample, following: Sample | None, shift: int,
              epoch_ns: int | None) -> None:
        """All messages of one sample, in the order of log time."""
        out: list[_Timed] = []
        if epoch_ns is not None:
            self._summary.epochs += 1
            self._written.clear()
            self._moved_ns, self._twist = -1, _STANDING
            out.append(_Timed(epoch_ns, messages.EPOCH_TOPIC, messages.EPOCH_TYPE,
                              messages.epoch_message(self._summary.epochs - 1)))
        if not self._static_done:
            out += self._static(sample, sample.t_ref_ns + shift if epoch_ns is None else epoch_ns)
        for name, raw in _frames(sample):
            if raw.stamp_ns > self._written.get(name, -1):
                self._written[name] = raw.stamp_ns
                out += self._frame(name, raw, shift)
        out += self._motion(sample, following, shift)
        if sample.truth is not None:
            self._writer.custom[CLASSES_KEY] = ",".join(sample.truth.boxes.classes)
            t_ref = sample.t_ref_ns + shift
            frame = self._rig.base_frame
            out += [_Timed(t_ref, messages.TRUTH_TOPIC, messages.TRUTH_TYPE,
                           messages.truth_message(sample.truth, t_ref, frame)),
                    _Timed(t_ref, messages.TRUTH_CLOUD_TOPIC, messages.TRUTH_CLOUD_TYPE,
                           messages.truth_cloud(sample.truth, t_ref, frame))]
        for timed in sorted(out, key=lambda item: item.log_ns):
            self._writer.write(timed.topic, timed.type, timed.message, timed.log_ns)

    def _static(self, sample: Sample, stamp_ns: int) -> list[_Timed]:
        """base_from_sensor of all sensors whose place the rig knows, once."""
        self._static_done = True
        edges = []
        for name, sensor in self._rig.sensors.items():
            frames = sample.raw.get(name, ())
            frame_id = frames[-1].frame_id if sensor.frame_id == "*" and frames else sensor.frame_id
            if isinstance(sensor.extrinsics, Extrinsics) and frame_id != "*":
                edges.append((self._rig.base_frame, frame_id, sensor.extrinsics.transform,
                              stamp_ns))
        return [_Timed(stamp_ns, "/tf_static", messages.TF_TYPE,
                       messages.WRITER.transforms(edges))]

    def _frame(self, name: str, raw: RawFrame, shift: int) -> list[_Timed]:
        sensor, stamp = self._rig.sensors[name], raw.stamp_ns + shift
        if isinstance(sensor, Lidar):
            raw = shift_point_time(raw, sensor, shift)
        msgtype, message = messages.frame_message(raw, stamp)
        when = log_time(sensor, stamp)
        out = [_Timed(when, sensor.topic, msgtype, message)]
        camera = self._rig.cameras.get(name)
        if camera is not None and isinstance(camera.intrinsics, Intrinsics):
            lens = camera.intrinsics.camera_model()
            info = messages.WRITER.camera_info(lens, stamp, raw.frame_id)
            out.append(_Timed(when, camera.info_topic, messages.CAMERA_INFO_TYPE, info))
        return out

    def _motion(self, sample: Sample, following: Sample | None, shift: int) -> list[_Timed]:
        """Odometry and /tf at the stamps of the sample's odometry, each once; without any, at the
        reference time, and the twist is the mean one to the next sample."""
        if sample.odometry:
            fresh = [m for m in sample.odometry if m.stamp_ns > self._moved_ns]
            self._moved_ns = max(self._moved_ns, sample.odometry[-1].stamp_ns)
            return [timed for m in fresh for timed in self._pose(
                m.stamp_ns + shift, m.odom_from_base, m.linear, m.angular)]
        if sample.odom_from_base is None:
            return []
        self._twist = _twist_to(sample, following) or self._twist
        return self._pose(sample.t_ref_ns + shift, sample.odom_from_base, *self._twist)

    def _pose(self, stamp: int, pose: SE3, linear: np.ndarray, angular: np.ndarray) -> list[_Timed]:
        rig = self._rig
        topic = rig.odometry_topic or "odometry"
        return [_Timed(stamp, topic, messages.ODOMETRY_TYPE, messages.WRITER.odometry(
                    stamp, pose, linear, angular, rig.odom_frame, rig.base_frame)),
                _Timed(stamp, "/tf", messages.TF_TYPE, messages.WRITER.transforms(
                    [(rig.odom_frame, rig.base_frame, pose, stamp)]))]


def _twist_to(sample: Sample, following: Sample | None) -> tuple[np.ndarray, np.ndarray] | None:
    if following is None or following.sequence != sample.sequence:
        return None
    pose, ahead = sample.odom_from_base, following.odom_from_base
    seconds = (following.t_ref_ns - sample.t_ref_ns) * 1e-9
    if not isinstance(pose, SE3) or ahead is None or not 0 < seconds <= MAX_GAP_NS * 1e-9:
        return None
    return messages.twist_between(pose, ahead, seconds)


def log_time(sensor: Sensor, stamp_ns: int) -> int:
    """When a message with this header stamp could have been recorded at the earliest."""
    return stamp_ns + (round(sensor.period_ms * 1e6) if sensor.stamp == "start" else 0)


def _frames(sample: Sample) -> list[tuple[str, RawFrame]]:
    return [(name, raw) for name, frames in sample.raw.items() for raw in frames]


def shift_point_time(raw: RawFrame, sensor: Lidar, shift: int) -> RawFrame:
    """Points that carry absolute time move with their header."""
    time = sensor.point_time
    if shift == 0 or time is None or time.origin != "absolute" or not isinstance(raw, RawCloud):
        return raw
    if time.field not in (raw.points.dtype.names or ()):
        return raw
    points = raw.points.copy()
    points[time.field] += np.asarray(shift * _UNITS_PER_NS[time.unit]).astype(
        points[time.field].dtype)
    return replace(raw, points=points)


def topics_of(rig: Rig) -> list[str]:
    """Every topic that `convert` may write for a rig, as the bag names them."""
    sensors = [sensor.topic for sensor in rig.sensors.values()]
    infos = [camera.info_topic for camera in rig.cameras.values()]
    own = [messages.TRUTH_TOPIC, messages.TRUTH_CLOUD_TOPIC, messages.EPOCH_TOPIC, "/tf",
           "/tf_static", rig.odometry_topic or "odometry"]
    return [absolute(topic) for topic in (*sensors, *infos, *own)]
