"""Recordings: the nuScenes data set in its own layout, without its devkit.

Data set: H. Caesar et al., "nuScenes: A multimodal dataset for autonomous driving", CVPR 2020;
CC BY-NC-SA 4.0, Motional. base_link is the set's ego frame; odom is its global frame. A sample's
reference time is the stamp of its lidar sweep. Lidars turn at 20 Hz, cameras take 12 pictures a
second, radars scan 13 times; a sample holds of each what a vehicle's collector would have then:
the sweeps and scans of one output period and each camera's newest picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from perception_bev.errors import ConfigError, RecordingError
from perception_bev.geometry import rotvec_from_rotation
from perception_bev.raw import EncodedImage, RawCloud, RawFrame
from perception_bev.recordings import nuscenes_files as files
from perception_bev.recordings import nuscenes_rig, nuscenes_truth
from perception_bev.recordings.base import OdometrySample, Sample, Truth
from perception_bev.recordings.nuscenes_tables import (
    LIDAR_CHANNEL,
    Frame,
    Scene,
    find_tables,
    read_scenes,
)
from perception_bev.rig import Calibration, Rig

Spacing = Literal["period", "key_frame"]
Between = Literal["none", "interpolated"]
OUTPUT_NS = 100_000_000
MAX_POSE_STEP_NS = 300_000_000  # between poses that a twist is taken from


class _Place(NamedTuple):
    """Where a sample is found."""

    scene: int
    sweep: int  # index of its lidar frame
    before: int  # that of the sample before it in the scene, -1 for the first
    key_frame: int  # index of the key frame, or of the one before
    annotated: bool  # whether it is that key frame


class NuscenesRecording:
    """Samples of the chosen scenes, in time order; a scene is a sequence.

    Args:
        root: folder with samples/, sweeps/ and one v1.0-* folder of tables; or that folder, where
            there are several.
        scenes: their names ("scene-0061", ...); default: all of the tables.
        spacing: "period" gives samples at 10 Hz, as a vehicle would have them; "key_frame" gives
            the annotated ones, at 2 Hz.
        between: truth between key frames: None, or "interpolated", for training: such boxes never
            count, and an object that only one of the two key frames has is "ignored".
        sweeps: False uses key frames' files only (samples/ without sweeps/); then spacing must be
            "key_frame".
        with_ignored: boxes of categories outside the ten classes get the class "ignored", which
            never counts; else they are left out, as in the detection task.
        all_returns: True keeps radar returns that the set marks as invalid or ambiguous, which
            the devkit leaves out by default. `dropped` counts those left out.
    """

    def __init__(self, root: str | Path, scenes: Collection[str] | None = None, *,
                 spacing: Spacing = "period", between: Between = "none", sweeps: bool = True,
                 with_ignored: bool = False, all_returns: bool = False) -> None:
        _check("spacing", spacing, Spacing)
        _check("between", between, Between)
        if spacing == "period" and not sweeps:
            raise ConfigError("spacing 'period' needs the sweeps between the key frames: give "
                              "spacing='key_frame', or sweeps=True and the set's sweeps/")
        tables = find_tables(root)
        self._root = tables.parent
        self.spacing = spacing
        self._sweeps, self._between = sweeps, between
        self._with_ignored, self._all_returns = with_ignored, all_returns
        self._scenes = read_scenes(tables, scenes)
        self._places = [place for number, scene in enumerate(self._scenes)
                        for place in _places(number, scene, spacing)]
        empty = set(range(len(self._scenes))) - {place.scene for place in self._places}
        if empty:
            raise RecordingError(f"{tables}: no lidar key frames in the scenes "
                                 + ", ".join(self._scenes[number].name for number in empty))
        self._velocities = [nuscenes_truth.velocities(scene) for scene in self._scenes]
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        place = self._places[index]
        scene, calibration = self._scenes[place.scene], self.calibration_of(index)
        t_ref = self._frame(place).stamp_ns
        raw = {name: tuple(self._raw(calibration.rig, name, frame) for frame in frames)
               for name in calibration.rig.sensors
               if (frames := self._frames(scene, calibration.rig, name, place))}
        return Sample(self._name(place), place.scene, t_ref, raw, self.truth_of(index),
                      scene.global_from_base(place.sweep),
                      {"scene": scene.name, "location": scene.location},
                      tuple(_odometry(scene, row)
                            for row in range(place.before + 1, place.sweep + 1)))

    def rig_of(self, index: int) -> Rig:
        return self.calibration_of(index).rig

    def calibration_of(self, index: int) -> Calibration:
        return nuscenes_rig.calibration_of(self._scenes[self._places[index].scene])

    def truth_of(self, index: int) -> Truth | None:
        """The annotations of one sample, without its sensor data; None where it has none."""
        place = self._places[index]
        scene, velocity = self._scenes[place.scene], self._velocities[place.scene]
        labels = nuscenes_truth.at_key_frame(scene, place.key_frame, velocity)
        if not place.annotated:
            if self._between == "none":
                return None
            following = nuscenes_truth.at_key_frame(scene, place.key_frame + 1, velocity)
            begin, end = scene.sample_ns[place.key_frame:place.key_frame + 2]
            labels = nuscenes_truth.between(
                labels, following, (self._frame(place).stamp_ns - begin) / (end - begin),
                (end - begin) * 1e-9)
        truth = nuscenes_truth.truth(scene, labels, scene.global_from_base(place.sweep).inverse(),
                                     self.calibration_of(index), self._with_ignored)
        return replace(truth, counted=truth.counted & place.annotated)

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names, by sequence."""
        return tuple(scene.name for scene in self._scenes)

    @property
    def names(self) -> tuple[str, ...]:
        """"scene-0061/1532402927647951": the scene, and the lidar's stamp [us]."""
        return tuple(self._name(place) for place in self._places)

    @property
    def stamps_ns(self) -> np.ndarray:
        """(N,) int64: every sample's t_ref."""
        return np.array([self._frame(place).stamp_ns for place in self._places], np.int64)

    @property
    def sequences(self) -> np.ndarray:
        """(N,) int64: every sample's scene, counted from 0."""
        return np.array([place.scene for place in self._places], np.int64)

    @property
    def annotated(self) -> np.ndarray:
        """(N,) bool: key frames, whose truth people have drawn."""
        return np.array([place.annotated for place in self._places], bool)

    def _name(self, place: _Place) -> str:
        return f"{self._scenes[place.scene].name}/{self._frame(place).stamp_ns // 1000}"

    def _frame(self, place: _Place) -> Frame:
        return self._scenes[place.scene].frames[LIDAR_CHANNEL][place.sweep]

    def _frames(self, scene: Scene, rig: Rig, name: str, place: _Place) -> Sequence[Frame]:
        """The files of one sensor that serve a sample, newest last; maybe none."""
        t_ref, sensor = self._frame(place).stamp_ns, rig.sensors[name]
        known = scene.frames.get(name.upper(), ())
        if not self._sweeps:
            return [frame for frame in known if frame.sample == place.key_frame][-1:]
        lead = round(1e6 * sensor.max_lead_ms)
        fit = [frame for frame in known
               if t_ref - sensor.age_limit_ns <= frame.stamp_ns <= t_ref + lead]
        modality = rig.modality(name)
        if modality == "camera":
            return fit[-1:]
        if modality == "lidar":
            oldest = t_ref - OUTPUT_NS + round(0.5e6 * sensor.period_ms)
            return [frame for frame in fit if oldest < frame.stamp_ns <= t_ref]
        new = [frame for frame in fit if frame.stamp_ns > t_ref + lead - OUTPUT_NS]
        return new or fit[-1:]

    def _raw(self, rig: Rig, name: str, frame: Frame) -> RawFrame:
        path, frame_id = self._root / frame.file, rig.sensors[name].frame_id
        try:
            data = files.read(path)
        except RecordingError as err:
            raise RecordingError(f"{err}; the tables name it: is the data set complete? (sweeps/ "
                                 "can be done without: spacing 'key_frame', sweeps False)") from err
        if name in rig.cameras:
            return EncodedImage(frame.stamp_ns, frame_id, np.frombuffer(data, np.uint8))
        if name in rig.lidars:
            return RawCloud(frame.stamp_ns, frame_id, files.lidar_points(data, path))
        return RawCloud(frame.stamp_ns, frame_id, self._kept(files.radar_points(data, path)))

    def _kept(self, returns: np.ndarray) -> np.ndarray:
        if self._all_returns:
            return returns
        good = files.plausible(returns)
        self.dropped["radar_implausible"] += int((~good).sum())
        return returns[good]


def _check(name: str, value: str, choice: object) -> None:
    if value not in get_args(choice):
        raise ConfigError(f"unknown {name} '{value}'; known: {', '.join(get_args(choice))}")


def _places(number: int, scene: Scene, spacing: Spacing) -> list[_Place]:
    """The samples of one scene. Between key frames, sweeps nearest to an even division of the time
    by about 100 ms: 20 Hz lidars lose a sweep now and then."""
    sweeps = scene.frames[LIDAR_CHANNEL]
    stamps = np.array([frame.stamp_ns for frame in sweeps], np.int64)
    keys = [row for row, frame in enumerate(sweeps) if frame.sample >= 0]
    chosen: list[int] = keys[:1]
    for begin, end in pairwise(keys):
        if spacing == "period":
            chosen += _between(stamps, begin, end)
        chosen.append(end)
    before = [-1, *chosen]
    key_frames = np.searchsorted(scene.sample_ns, stamps[chosen], side="right") - 1
    return [_Place(number, row, before[i], max(sweeps[row].sample, int(key_frames[i])),
                   sweeps[row].sample >= 0) for i, row in enumerate(chosen)]


def _between(stamps: np.ndarray, begin: int, end: int) -> list[int]:
    """Rows between two key frames."""
    steps = round((stamps[end] - stamps[begin]) / OUTPUT_NS)
    wanted = np.linspace(stamps[begin], stamps[end], max(steps, 1) + 1)[1:-1]
    if end - begin < 2 or len(wanted) == 0:
        return []
    distance = np.abs(stamps[begin + 1:end, None] - wanted)
    return [begin + 1 + int(row) for row in np.unique(distance.argmin(axis=0))]


def _odometry(scene: Scene, row: int) -> OdometrySample:
    """Pose and twist at a lidar stamp, the twist from the neighbours' poses."""
    sweeps = scene.frames[LIDAR_CHANNEL]
    near = [i for i in (row - 1, row, row + 1) if 0 <= i < len(sweeps)
            and abs(sweeps[i].stamp_ns - sweeps[row].stamp_ns) <= MAX_POSE_STEP_NS]
    first, last, here = (scene.global_from_base(i) for i in (near[0], near[-1], row))
    seconds = max(sweeps[near[-1]].stamp_ns - sweeps[near[0]].stamp_ns, 1) * 1e-9
    return OdometrySample(
        sweeps[row].stamp_ns, here,
        here.rotation.T @ (last.translation - first.translation) / seconds,
        rotvec_from_rotation(first.rotation.T @ last.rotation) / seconds)

