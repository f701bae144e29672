"""Training: a drive, decoded once and kept compact: one safetensors file a drive.

Pictures are bytes at the model's scale; lidar coordinates are whole 1/256 m, intensities bytes,
point times whole 4 us: below what the sensors resolve. A sample is read when it is wanted, so that
a set larger than the memory can be trained on; the system's page cache holds what fits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from perception_bev.contracts import (
    Boxes3D,
    CameraFrame,
    LidarSweep,
    RadarScan,
    SensorBundle,
    SensorFrame,
    Slot,
)
from perception_bev.errors import RecordingError
from perception_bev.geometry import SE3
from perception_bev.manifest import Manifest
from perception_bev.pipeline.ingest import Ingest
from perception_bev.recordings.base import OdometrySample, Sample, Truth, Visibility
from perception_bev.rig import Calibration
from perception_bev.temporal.ego import EgoMotion
from perception_bev.train.samples import Labelled

VERSION = 1
METRES = 1.0 / 256.0  # a lidar coordinate's unit; it reaches 128 m
SECONDS = 4e-6  # a lidar point time's unit; it reaches 0.13 s
UNTIMED = 0x7FFF  # a sweep without point times
NO_ROWS = {"pictures": (0, 1, 1, 3), "points": (0, 3), "intensity": (0,), "times": (0,),
           "returns": (0, 5)}
TYPES = {"pictures": np.uint8, "points": np.int16, "intensity": np.uint8, "times": np.int16,
         "returns": np.float32}
SEEN = ("lidar_points", "radar_returns", "pixels")


def fingerprint(manifest: Manifest, calibration: Calibration) -> str:
    """Changes with everything that the decoded frames depend on."""
    camera = manifest.camera
    text = repr((VERSION, camera.width, camera.height, calibration.rig))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write(file: Path, samples: Iterable[Sample], manifest: Manifest,
          calibration: Calibration) -> None:
    """Decode one drive's samples, in time order, into `file`; whole or not at all."""
    ingest, drive = Ingest(manifest, calibration), _Writer(tuple(calibration.rig.sensors))
    for sample in samples:
        drive.add(sample, ingest.bundle(sample))
    header = {"fingerprint": fingerprint(manifest, calibration),
              "classes": json.dumps(drive.classes), "sensors": json.dumps(drive.sensors)}
    part = file.with_name(f"{file.name}.part")
    save_file(drive.arrays(), part, metadata=header)
    part.replace(file)


class _Writer:
    """Rows of every kind, one sample after the other."""

    def __init__(self, sensors: tuple[str, ...]) -> None:
        self.sensors, self.classes = sensors, ()
        self._rows: dict[str, list[np.ndarray]] = {name: [] for name in TYPES}
        self._counts = dict.fromkeys(("pictures", "points", "returns"), 0)
        self._frames: list[tuple[int, ...]] = []  # sample, sensor, stamp, first row, rows
        self._samples: list[tuple[int, ...]] = []  # t_ref, sequence, boxes, pose is known
        self._poses: list[np.ndarray] = []
        self._truths: list[Truth] = []
        self._odometry: list[OdometrySample] = []

    def add(self, sample: Sample, bundle: SensorBundle) -> None:
        if sample.truth is None:
            raise RecordingError(f"sample {sample.name} has no truth: nothing to train on")
        for sensor, name in enumerate(self.sensors):
            for frame in bundle.slots[name].frames:
                kind, rows = _packed(frame)
                self._frames.append((len(self._samples), sensor, frame.stamp_ns,
                                     self._counts[kind], len(rows[kind])))
                self._counts[kind] += len(rows[kind])
                for part, array in rows.items():
                    self._rows[part].append(array)
        pose = sample.odom_from_base
        self._samples.append((sample.t_ref_ns, sample.sequence, len(sample.truth.boxes),
                              int(pose is not None)))
        self._poses.append((pose or SE3.identity()).matrix[:3])
        self._truths.append(sample.truth)
        self._odometry.extend(sample.odometry)
        self.classes = sample.truth.boxes.classes

    def arrays(self) -> dict[str, np.ndarray]:
        made = {name: np.concatenate(rows) if rows else np.zeros(NO_ROWS[name], TYPES[name])
                for name, rows in self._rows.items()}
        made |= {"frames": np.array(self._frames, np.int64).reshape(-1, 5),
                 "samples": np.array(self._samples, np.int64).reshape(-1, 4),
                 "poses": np.array(self._poses).reshape(-1, 3, 4)}
        made |= {f"truth.{name}": np.concatenate([_truth_rows(t)[name] for t in self._truths])
                 for name in (_truth_rows(self._truths[0]) if self._truths else ())}
        odometry = self._odometry
        return made | {
            "odometry.stamp": np.array([o.stamp_ns for o in odometry], np.int64),
            "odometry.pose": np.array([o.odom_from_base.matrix[:3] for o in odometry]
                                      ).reshape(-1, 3, 4),
            "odometry.twist": np.array([[o.linear, o.angular] for o in odometry], np.float64
                                       ).reshape(-1, 2, 3)}


def _packed(frame: SensorFrame) -> tuple[str, dict[str, np.ndarray]]:
    """The kind of rows that a frame is, and its compact rows by part."""
    if isinstance(frame, CameraFrame):
        return "pictures", {"pictures": frame.image[None]}
    if isinstance(frame, RadarScan):
        return "returns", {"returns": np.column_stack(
            [frame.points, frame.doppler, frame.intensity]).astype(np.float32)}
    near = (np.abs(frame.points[:, :3]) < 127.9).all(axis=1)  # what is farther is off every grid
    points = frame.points[near]
    times = (np.full(len(points), UNTIMED) if frame.time_offset is None else
             np.clip(np.round(frame.time_offset[near] / SECONDS), -UNTIMED - 1, UNTIMED - 1))
    return "points", {"points": np.round(points[:, :3] / METRES).astype(np.int16),
                      "intensity": np.round(points[:, 3] * 255).clip(0, 255).astype(np.uint8),
                      "times": times.astype(np.int16)}


def _truth_rows(truth: Truth) -> dict[str, np.ndarray]:
    """All that is known of the boxes of one sample, (N, ...) each; -1 where it is not known."""
    boxes, unknown = truth.boxes, np.full(len(truth.boxes), -1)
    seen = {name: unknown.astype(np.int32) if truth.seen is None else getattr(truth.seen, name)
            for name in SEEN}
    track = unknown.astype(np.int64) if truth.track is None else truth.track
    return {"centre": boxes.centre, "size": boxes.size, "yaw": boxes.yaw, "label": boxes.label,
            "velocity": boxes.velocity, "occlusion": truth.occlusion, "counted": truth.counted,
            "track": track, **seen}


class Drive:
    """A file of `write`, read sample by sample."""

    def __init__(self, file: Path, manifest: Manifest, calibration: Calibration) -> None:
        """RecordingError for a damaged file, or one of another rig or picture size."""
        self.file, self._calibration = file, calibration
        try:
            self._open = safe_open(file, "np")
        except (SafetensorError, OSError) as err:
            raise RecordingError(f"{file}: not a drive that can be read ({err}); delete it, it "
                                 "will be made again") from err
        header = self._open.metadata() or {}
        if header.get("fingerprint") != fingerprint(manifest, calibration):
            raise RecordingError(f"{file} was made of another rig, picture size or version; name "
                                 "another folder, or delete it")
        self._classes = tuple(json.loads(header["classes"]))
        self._sensors = tuple(json.loads(header["sensors"]))
        self._samples, self._frames = self._whole("samples"), self._whole("frames")
        self._first_box = np.concatenate([[0], np.cumsum(self._samples[:, 2])])
        self._poses = self._whole("poses")
        self._first_frame = np.searchsorted(self._frames[:, 0], np.arange(len(self) + 1))

    def __len__(self) -> int:
        return len(self._samples)

    def t_ref_ns(self, index: int) -> int:
        return int(self._samples[index, 0])

    def pose(self, index: int) -> SE3 | None:
        """odom_from_base at the sample's reference time."""
        if not self._samples[index, 3]:
            return None
        return SE3(self._poses[index, :, :3], self._poses[index, :, 3])

    def odometry(self, index: int) -> tuple[OdometrySample, ...]:
        """What odometry said since the sample before, up to this one's reference time."""
        stamps, poses, twists = self._odometry
        since = self.t_ref_ns(index - 1) if index else np.iinfo(np.int64).min
        first, last = np.searchsorted(stamps, [since, self.t_ref_ns(index)], side="right")
        return tuple(OdometrySample(int(stamps[i]), SE3(poses[i, :, :3], poses[i, :, 3]),
                                    *twists[i]) for i in range(first, last))

    def __getitem__(self, index: int) -> Labelled:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.file}: sample {index} of {len(self)}")
        t_ref, sequence = int(self._samples[index, 0]), int(self._samples[index, 1])
        frames: dict[str, list[SensorFrame]] = {}
        for row in range(self._first_frame[index], self._first_frame[index + 1]):
            name = self._sensors[self._frames[row, 1]]
            frames.setdefault(name, []).append(self._frame(name, *self._frames[row, 2:].tolist()))
        slots = {name: (Slot(tuple(frames[name]), t_ref - frames[name][-1].stamp_ns)
                        if name in frames else Slot(reason="missing")) for name in self._sensors}
        bundle = SensorBundle(t_ref, sequence, index, slots, odom_from_base=self.pose(index))
        return Labelled(f"{self.file.stem}/{index}", bundle, self._calibration, self.truth(index),
                        self.ego)

    def truth(self, index: int) -> Truth:
        rows = slice(self._first_box[index], self._first_box[index + 1])
        part = {name: values[rows] for name, values in self._truth.items()}
        n = len(part["centre"])
        boxes = Boxes3D(part["centre"], part["size"], part["yaw"], np.ones(n, np.float32),
                        part["label"], self._classes, part["velocity"])
        known = not (part["lidar_points"] < 0).any()
        return Truth(boxes, part["occlusion"], part["counted"], part["track"],
                     Visibility(*(part[name] for name in SEEN)) if known else None)

    @cached_property
    def ego(self) -> EgoMotion:
        """The drive's odometry."""
        stamps, poses, twists = self._odometry
        span_s = float(stamps[-1] - stamps[0]) * 1e-9 if len(stamps) else 0.0
        ego = EgoMotion(history_s=span_s + 1.0)
        for stamp, pose, twist in zip(stamps.tolist(), poses, twists, strict=True):
            ego.push(stamp, SE3(pose[:, :3], pose[:, 3]), twist[0], twist[1])
        return ego

    @cached_property
    def _odometry(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Stamps (N,) [ns], poses (N, 3, 4), twists (N, 2, 3) [m/s, rad/s]."""
        return tuple(self._whole(f"odometry.{name}") for name in ("stamp", "pose", "twist"))

    @cached_property
    def _truth(self) -> dict[str, np.ndarray]:
        return {key.removeprefix("truth."): self._whole(key)
                for key in self._open.keys() if key.startswith("truth.")}  # noqa: SIM118

    def _whole(self, key: str) -> np.ndarray:
        return self._open.get_tensor(key)

    def _frame(self, name: str, stamp_ns: int, first: int, rows: int) -> SensorFrame:
        modality = self._calibration.rig.modality(name)

        def part(key: str) -> np.ndarray:
            return self._open.get_slice(key)[first:first + rows]

        if modality == "camera":
            return CameraFrame(stamp_ns, part("pictures")[0])
        if modality == "radar":
            returns = part("returns")
            return RadarScan(stamp_ns, returns[:, :3].copy(), returns[:, 3].copy(),
                             returns[:, 4].copy())
        points, times = np.empty((rows, 4), np.float32), part("times")
        points[:, :3] = part("points") * np.float32(METRES)
        points[:, 3] = part("intensity") * np.float32(1 / 255)
        untimed = rows > 0 and times[0] == UNTIMED
        return LidarSweep(stamp_ns, points,
                          None if untimed else times * np.float32(SECONDS))
