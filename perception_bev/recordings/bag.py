"""Recordings: a bag as a Recording: its messages grouped around the reference sensor's sweep ends
as the live collector would group them, if nothing came late."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from perception_bev.contracts import Modality
from perception_bev.errors import BadMessage, PerceptionError, RecordingError
from perception_bev.geometry import SE3, CameraModel
from perception_bev.messages import read
from perception_bev.raw import RawFrame
from perception_bev.recordings.bag_metadata import TopicInfo
from perception_bev.recordings.bag_reader import BagReader, RawMessage
from perception_bev.recordings.bag_write import BagWriter, absolute
from perception_bev.recordings.base import OdometrySample, Sample, Truth
from perception_bev.recordings.convert import CLASSES_KEY, MAX_GAP_NS, log_time, shift_point_time
from perception_bev.recordings.playback import Epochs, leading_stamp
from perception_bev.recordings.player import is_epoch, is_latched
from perception_bev.recordings.sample_messages import TRUTH_TOPIC, class_of, read_truth
from perception_bev.rig import Calibration, Lidar, Rig, Sensor, resolve
from perception_bev.temporal.ego import EgoMotion
from perception_bev.tf import TransformTree

__all__ = ["BagReader", "BagRecording", "BagWriter", "TopicInfo"]

TRUTH_TOLERANCE_NS = 5_000_000  # between a truth message's stamp and the sweep's end

READERS: dict[str, Callable[[Any], RawFrame]] = {
    "sensor_msgs/msg/CompressedImage": read.read_compressed_image,
    "sensor_msgs/msg/Image": read.read_image,
    "sensor_msgs/msg/PointCloud2": read.read_cloud,
    "radar_msgs/msg/RadarScan": read.read_radar_scan,
}


class _Entry(NamedTuple):
    """Where one sensor message lies."""

    stamp_ns: int  # of the sweep's or exposure's end, in the reference's clock
    shift_ns: int  # to add to the message's own stamp: clock offset, or arrival instead of stamp
    type: str
    address: tuple[int, ...]


@dataclass
class _Epoch:
    """What lies between two epoch announcements or gaps."""

    frames: dict[str, list[_Entry]] = field(default_factory=dict)  # by sensor, in order of stamps
    motion: list[read.OdometryReading] = field(default_factory=list)


@dataclass
class _Place:
    """One sample, before its data is read."""

    sequence: int
    t_ref_ns: int
    entries: dict[str, list[_Entry]]
    odom_from_base: SE3 | None
    truth: tuple[int, ...] | None  # address
    odometry: tuple[OdometrySample, ...] = ()


class BagRecording:
    """A bag read as samples of `rig`. The bag is read once to find them, and stays open.

    Args:
        path: see `BagReader`.
        rig: its topics say which messages are which sensor's; holes are filled from the bag's
            /tf_static and CameraInfo (`calibration_of`).
        truth_topic: Detection3DArray in base_link; default: `ground_truth/objects` if there.
        classes: of the truth; default: what the bag's metadata or its messages say.

    Attributes:
        damage: the error after the readable part, or None. Iterating raises it after the last
            sample; so does asking for the sample after the last.
        drops: messages that could not be placed in time, by (sensor, reason). Frames whose content
            turns out to be broken are named in their sample's notes.
    """

    def __init__(self, path: str | Path, rig: Rig, truth_topic: str | None = None,
                 classes: tuple[str, ...] | None = None) -> None:
        self._rig = rig
        self._reader = BagReader(path).__enter__()
        self.damage: RecordingError | None = None
        self.drops: Counter[tuple[str, str]] = Counter()
        self._sensor_of = {absolute(sensor.topic): name for name, sensor in rig.sensors.items()}
        self._camera_of = {absolute(c.info_topic): name for name, c in rig.cameras.items()}
        self._odometry_topic = absolute(rig.odometry_topic or "odometry")
        self._truth_topic = absolute(truth_topic or TRUTH_TOPIC)
        self._tree, self._infos = TransformTree(), dict[str, CameraModel]()
        self._truths: list[tuple[int, tuple[int, ...]]] = []  # (stamp, address)
        self._class_names: dict[str, None] = {}  # in the order of their coming
        self._require_reference()
        self._places = list(self._samples(self._read_all()))
        self.classes = classes or self._known_classes()

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        if index == len(self) and self.damage:
            raise self.damage
        place = self._places[index]
        notes: dict[str, str] = {}
        raw = {name: tuple(self._frames(name, entries, notes))
               for name, entries in place.entries.items()}
        return Sample(f"{place.t_ref_ns}", place.sequence, place.t_ref_ns, raw,
                      self._truth(place.truth), place.odom_from_base, notes, place.odometry)

    def rig_of(self, index: int) -> Rig:
        return self._rig

    def calibration_of(self, index: int) -> Calibration:
        return self._calibration

    @cached_property
    def _calibration(self) -> Calibration:
        return resolve(self._rig, self._tree, self._infos)

    def close(self) -> None:
        self._reader.close()

    # -- one pass over the bag ---------------------------------------------------------------------

    def _require_reference(self) -> None:
        topic = absolute(self._rig.sensors[self._rig.reference.sensor].topic)
        if topic not in self._reader.topics:
            known = ", ".join(sorted(self._reader.topics)) or "none"
            self._reader.close()
            raise RecordingError(f"{self._reader.path}: no topic {topic} of the rig's reference "
                                 f"'{self._rig.reference.sensor}'; topics: {known}")

    def _read_all(self) -> list[_Epoch]:
        """All epochs of the bag; a damaged one's up to the damage."""
        topics = self._reader.topics
        wanted = {*self._sensor_of, *self._camera_of, self._odometry_topic, self._truth_topic,
                  "/tf_static"}
        marks = {name for name, info in topics.items() if is_epoch(name, info)}
        latched = {name for name, info in topics.items() if is_latched(name, info)}
        counter, epochs = Epochs(MAX_GAP_NS, marks, latched), [_Epoch()]
        try:
            for raw in self._reader.raw_messages(wanted | marks):
                if counter.before(raw) is not None:
                    epochs.append(_Epoch())
                if raw.topic not in marks:
                    self._take(raw, epochs[-1])
        except RecordingError as err:
            self.damage = err
        return epochs

    def _take(self, raw: RawMessage, epoch: _Epoch) -> None:
        """One message into the index; what cannot be read is counted."""
        name = self._sensor_of.get(raw.topic) or self._camera_of.get(raw.topic) or raw.topic
        try:
            if raw.topic in self._sensor_of:
                entry = self._entry(raw, self._rig.sensors[name])
                epoch.frames.setdefault(name, []).append(entry)
            elif raw.topic in self._camera_of:
                if name not in self._infos:
                    self._infos[name] = read.read_camera_info(self._decode(raw))
            elif raw.topic == self._odometry_topic:
                epoch.motion.append(read.read_odometry(self._decode(raw)))
            elif raw.topic == "/tf_static":
                self._tree.set_message(self._decode(raw), static=True)
            else:
                self._take_truth(raw)
        except BadMessage as err:
            self.drops[name, err.reason] += 1
        except PerceptionError:
            self.drops[name, "unreadable"] += 1

    def _entry(self, raw: RawMessage, sensor: Sensor) -> _Entry:
        if raw.type not in READERS:
            raise BadMessage("wrong_type", f"{raw.topic} carries {raw.type}")
        stamp = leading_stamp(raw.data)
        if sensor.stamp_source == "arrival":
            return _Entry(raw.stamp_ns, raw.stamp_ns - stamp, raw.type, raw.address)
        shift = round(sensor.clock_offset_ms * 1e6)
        return _Entry(log_time(sensor, stamp + shift), shift, raw.type, raw.address)

    def _take_truth(self, raw: RawMessage) -> None:
        message = self._decode(raw)
        self._class_names.update((class_of(d)[0], None) for d in message.detections)
        self._truths.append((read.stamp_ns(message.header), raw.address))

    def _decode(self, raw: RawMessage) -> Any:
        return self._reader.deserialize(raw.data, raw.type)

    def _known_classes(self) -> tuple[str, ...]:
        said = self._reader.metadata.custom.get(CLASSES_KEY) if self._reader.metadata else None
        return tuple(said.split(",")) if said else tuple(self._class_names)

    # -- samples -----------------------------------------------------------------------------------

    def _samples(self, epochs: list[_Epoch]) -> Iterator[_Place]:
        truths = sorted(self._truths)
        sequence, last = -1, None
        for epoch in epochs:
            for entries in epoch.frames.values():
                entries.sort(key=lambda entry: entry.stamp_ns)
            ego, t_refs = _Follower(epoch.motion), self._reference_times(epoch)
            moved = sorted(epoch.motion, key=lambda reading: reading.stamp_ns)
            used: dict[str, int] = {}
            for i, t_ref in enumerate(t_refs):
                sequence += i == 0 or last is None or t_ref - last > MAX_GAP_NS
                since, last = t_ref - MAX_GAP_NS if i == 0 else t_refs[i - 1], t_ref
                entries = {name: self._choose(name, epoch.frames.get(name, []), t_ref, used)
                           for name in self._rig.sensors}
                yield _Place(sequence, t_ref, entries, ego.at(t_ref), _nearest(truths, t_ref),
                             _between(moved, since, t_ref))

    def _reference_times(self, epoch: _Epoch) -> list[int]:
        """Sweep ends on the output grid: of a faster sensor not every one."""
        name = self._rig.reference.sensor
        output_ns = self._rig.reference.period_ms * 1e6
        soonest = output_ns - 0.5 * min(self._rig.sensors[name].period_ms * 1e6, output_ns)
        times: list[int] = []
        for entry in epoch.frames.get(name, ()):
            if not times or entry.stamp_ns - times[-1] >= soonest:
                times.append(entry.stamp_ns)
        return times

    def _choose(self, name: str, entries: list[_Entry], t_ref_ns: int,
                used: dict[str, int]) -> list[_Entry]:
        """Camera: the newest within the age limit. Radar: all that served none before. Lidar: the
        sweeps of one output period."""
        sensor, modality = self._rig.sensors[name], self._rig.modality(name)
        stamps = [entry.stamp_ns for entry in entries]
        low = bisect_left(stamps, t_ref_ns - sensor.age_limit_ns)
        high = bisect_right(stamps, t_ref_ns + round(sensor.max_lead_ms * 1e6))
        fits = _of_modality(modality, entries[low:high], used.get(name, -1),
                            (self._rig.reference.period_ms - 0.5 * sensor.period_ms) * 1e6)
        if fits:
            used[name] = fits[-1].stamp_ns
        return fits

    # -- data --------------------------------------------------------------------------------------

    def _frames(self, name: str, entries: list[_Entry], notes: dict[str, str]
                ) -> Iterator[RawFrame]:
        sensor = self._rig.sensors[name]
        for entry in entries:
            try:
                data = self._reader.fetch(entry.address)
                raw = READERS[entry.type](self._reader.deserialize(data, entry.type))
                yield _shifted(raw, sensor, entry.shift_ns)
            except PerceptionError as err:
                notes[name] = str(err)

    def _truth(self, address: tuple[int, ...] | None) -> Truth | None:
        if address is None:
            return None
        data = self._reader.fetch(address)
        kind = self._reader.topics[self._truth_topic].type
        return read_truth(self._reader.deserialize(data, kind), self.classes)


class _Follower:
    """The pose at ascending times, from odometry in order."""

    def __init__(self, motion: list[read.OdometryReading]) -> None:
        self._motion, self._next, self._ego = motion, 0, EgoMotion()

    def at(self, stamp_ns: int) -> SE3 | None:
        """odom_from_base; one sample beyond the time is taken, so that it is interpolated."""
        while self._next < len(self._motion):
            reading = self._motion[self._next]
            self._ego.push(*reading)
            self._next += 1
            if reading.stamp_ns >= stamp_ns:
                break
        return self._ego.at(stamp_ns)


def _between(moved: list[read.OdometryReading], since_ns: int, until_ns: int
             ) -> tuple[OdometrySample, ...]:
    """Readings, in order, with since < stamp <= until."""
    low, high = (bisect_right(moved, ns, key=lambda reading: reading.stamp_ns)
                 for ns in (since_ns, until_ns))
    return tuple(OdometrySample(*reading) for reading in moved[low:high])


def _of_modality(modality: Modality, fits: list[_Entry], used_ns: int,
                 span_ns: float) -> list[_Entry]:
    if modality == "camera" or not fits:
        return fits[-1:]
    if modality == "radar":
        fresh = [entry for entry in fits if entry.stamp_ns > used_ns]
        return fresh or fits[-1:]
    oldest = fits[-1].stamp_ns - span_ns
    return [entry for entry in fits if entry.stamp_ns > oldest or entry is fits[-1]]


def _shifted(raw: RawFrame, sensor: Sensor, shift_ns: int) -> RawFrame:
    if shift_ns == 0:
        return raw
    if isinstance(sensor, Lidar):
        raw = shift_point_time(raw, sensor, shift_ns)
    return replace(raw, stamp_ns=raw.stamp_ns + shift_ns)


def _nearest(truths: list[tuple[int, tuple[int, ...]]], t_ref_ns: int) -> tuple[int, ...] | None:
    i = bisect_left(truths, (t_ref_ns - TRUTH_TOLERANCE_NS,))
    near = [t for t in truths[i:i + 8] if abs(t[0] - t_ref_ns) <= TRUTH_TOLERANCE_NS]
    return min(near, key=lambda t: abs(t[0] - t_ref_ns))[1] if near else None
