"""Recordings: the nuScenes tables (JSON), read without the devkit, scene by scene.

Facts relied on (the devkit's `docs/schema_nuscenes.md`): every table is one JSON list of records
with a `token`; stamps are Unix time in microseconds; rotations are quaternions w, x, y, z;
`calibrated_sensor` is ego_from_sensor, `ego_pose` is global_from_ego at the stamp of the
sample_data that names it; annotations are in the global frame, `size` is width, length, height;
a sample_data that is no key frame names the sample that follows.

The tables of the whole set are gigabytes. They are read record by record, and only what belongs to
the chosen scenes is kept, in arrays where it is much.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perception_bev.errors import RecordingError
from perception_bev.geometry import SE3

LIDAR_CHANNEL = "LIDAR_TOP"
ANNOTATION = np.dtype([
    ("sample", "<i4"), ("instance", "<i4"), ("category", "<i4"), ("visibility", "<i4"),
    ("lidar_points", "<i4"), ("radar_returns", "<i4"), ("centre", "<f8", 3),
    ("size", "<f8", 3), ("rotation", "<f8", 4)])  # global frame; l, w, h [m]; x, y, z, w
_CHUNK = 1 << 22  # characters
_SEPARATORS = re.compile(r"[\s,]*")


class Frame(NamedTuple):
    """One file of one sensor."""

    stamp_ns: int
    file: str  # relative to the data set's folder
    sample: int  # index of the key frame that it belongs to, -1 for a sweep between


@dataclass(frozen=True)
class CalibratedSensor:
    """A sensor's place on the vehicle and, of a camera, its lens."""

    base_from_sensor: SE3
    k: tuple[float, float, float, float] | None = None  # fx, fy, cx, cy [px]
    size: tuple[int, int] = (0, 0)  # width, height [px]


@dataclass(eq=False)  # filled table by table; each is itself
class Scene:
    """One drive of about 20 s."""

    name: str
    location: str
    vehicle: str
    sample_ns: list[int] = field(default_factory=list)  # stamps of the key frames, in time order
    frames: dict[str, list[Frame]] = field(default_factory=dict)  # by channel, in time order
    sensors: dict[str, CalibratedSensor] = field(default_factory=dict)  # by channel
    poses: np.ndarray | None = None  # (lidar frames, 7) float64 global_from_ego: x y z, x y z w
    annotations: np.ndarray | None = None  # (A,) ANNOTATION, in order of sample
    categories: tuple[str, ...] = ()  # of all scenes
    visibility: tuple[str, ...] = ()  # levels, as the table says them ("v0-40", ...)

    def global_from_base(self, lidar_frame: int) -> SE3:
        row = self.poses[lidar_frame]
        return SE3.from_quaternion(row[:3], row[3:])


def find_tables(root: str | Path) -> Path:
    """The folder with scene.json: `root` itself or its only v1.0-* folder."""
    root = Path(root)
    if (root / "scene.json").is_file():
        return root
    found = sorted(path.parent for path in root.glob("v1.0-*/scene.json"))
    if len(found) != 1:
        raise RecordingError(
            f"{root}: no v1.0-*/scene.json in it; expected the layout of the nuScenes data set"
            if not found else f"{root}: several versions of the tables: "
            f"{', '.join(path.name for path in found)}; name one, for example {found[0]}")
    return found[0]


def read_scenes(tables: Path, names: Collection[str] | None = None) -> list[Scene]:
    """The named scenes (default: all) in the order of the table."""
    reader = _Reader(tables)
    try:
        reader.scenes(names)
        reader.samples()
        reader.sensor_files()
        reader.ego_poses()
        reader.annotations()
    except (KeyError, TypeError, ValueError) as err:
        raise RecordingError(f"{tables / reader.table}.json: {type(err).__name__}: {err}") from err
    return list(reader.by_token.values())


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of one table, one after the other."""
    decode = json.JSONDecoder().raw_decode
    try:
        with path.open(encoding="utf-8") as file:
            text, at, count = file.read(_CHUNK).lstrip(), 1, 0
            if not text.startswith("["):
                raise RecordingError(f"{path}: not a JSON list")
            while True:
                at = _SEPARATORS.match(text, at).end()
                if text[at:at + 1] == "]":
                    return
                try:
                    record, at = decode(text, at)
                except ValueError as err:  # the chunk ends here, or the file does
                    more = file.read(_CHUNK)
                    if not more:
                        raise RecordingError(f"{path}: torn after {count} records") from err
                    text, at = text[at:] + more, 0
                    continue
                count += 1
                yield record
    except (OSError, UnicodeDecodeError) as err:
        raise RecordingError(f"{path}: not readable: {err}") from err


class _Reader:
    """Follows the tokens from table to table; what belongs to no chosen scene is passed over."""

    def __init__(self, tables: Path) -> None:
        self._tables = tables
        self.table = ""  # the one that is being read
        self.by_token: dict[str, Scene] = {}
        self._sample: dict[str, tuple[Scene, int]] = {}  # by token: scene, index in it
        self._pose_of: dict[str, tuple[Scene, int]] = {}  # by token: scene, index of lidar frame

    def scenes(self, names: Collection[str] | None) -> None:
        logs = {log["token"]: log for log in self._table("log")}
        known = []
        for record in self._table("scene"):
            known.append(record["name"])
            if names is None or record["name"] in names:
                log = logs[record["log_token"]]
                self.by_token[record["token"]] = Scene(record["name"], log["location"],
                                                       log["vehicle"])
        unknown = sorted(set(names or ()) - set(known))
        if unknown:
            raise RecordingError(f"{self._tables}: no such scenes: {', '.join(unknown[:10])}; "
                                 f"it has {len(known)}, from {min(known)} to {max(known)}")
        if not self.by_token:
            raise RecordingError(f"{self._tables}: no scenes")

    def samples(self) -> None:
        found: dict[str, list[tuple[int, str]]] = {token: [] for token in self.by_token}
        for record in self._table("sample"):
            if record["scene_token"] in found:
                found[record["scene_token"]].append((record["timestamp"] * 1000, record["token"]))
        for token, rows in found.items():
            scene = self.by_token[token]
            for index, (stamp, sample) in enumerate(sorted(rows)):
                scene.sample_ns.append(stamp)
                self._sample[sample] = scene, index

    def sensor_files(self) -> None:
        channels = {record["token"]: record["channel"] for record in self._table("sensor")}
        places = {record["token"]: record for record in self._table("calibrated_sensor")}
        poses: dict[Scene, list[tuple[int, str]]] = {scene: [] for scene in self.by_token.values()}
        for record in self._table("sample_data"):
            scene, index = self._sample.get(record["sample_token"], (None, -1))
            if scene is None:
                continue
            place = places[record["calibrated_sensor_token"]]
            channel = channels[place["sensor_token"]]
            stamp = record["timestamp"] * 1000
            frame = Frame(stamp, record["filename"], index if record["is_key_frame"] else -1)
            scene.frames.setdefault(channel, []).append(frame)
            if channel not in scene.sensors:
                scene.sensors[channel] = _calibrated(place, record)
            if channel == LIDAR_CHANNEL:
                poses[scene].append((stamp, record["ego_pose_token"]))
        for scene, rows in poses.items():
            self._sort(scene, [token for _, token in sorted(rows)])

    def _sort(self, scene: Scene, pose_tokens: list[str]) -> None:
        """Bring a scene's files in time order; its lidar files' poses are to be found."""
        if not pose_tokens:
            raise RecordingError(f"{self._tables}: scene {scene.name} has no {LIDAR_CHANNEL}")
        for frames in scene.frames.values():
            frames.sort()
        for row, token in enumerate(pose_tokens):
            self._pose_of[token] = scene, row
        scene.poses = np.full((len(pose_tokens), 7), np.nan)

    def ego_poses(self) -> None:
        for record in self._table("ego_pose"):
            scene, row = self._pose_of.get(record["token"], (None, -1))
            if scene is not None:
                scene.poses[row] = *record["translation"], *_xyzw(record["rotation"])
        for scene in self.by_token.values():
            if np.isnan(scene.poses).any():
                raise RecordingError(f"{self._tables}: scene {scene.name} has lidar files whose "
                                     "ego_pose is missing")

    def annotations(self) -> None:
        levels = {record["token"]: record["level"] for record in self._table("visibility")}
        visibility = {token: number for number, token in enumerate(levels)}
        names = {record["token"]: record["name"] for record in self._table("category")}
        category = {token: number for number, token in enumerate(names)}
        instance = {record["token"]: (number, category[record["category_token"]])
                    for number, record in enumerate(self._table("instance"))}
        rows: dict[Scene, array] = {scene: array("d") for scene in self.by_token.values()}
        for record in self._table("sample_annotation"):
            scene, index = self._sample.get(record["sample_token"], (None, -1))
            if scene is not None:
                width, length, height = record["size"]
                rows[scene].extend((
                    index, *instance[record["instance_token"]],
                    visibility.get(record["visibility_token"], -1), record["num_lidar_pts"],
                    record["num_radar_pts"], *record["translation"], length, width, height,
                    *_xyzw(record["rotation"])))
        for scene in self.by_token.values():
            scene.annotations = _annotations(rows[scene])
            scene.categories, scene.visibility = tuple(names.values()), tuple(levels.values())

    def _table(self, name: str) -> Iterator[dict[str, Any]]:
        self.table = name
        return records(self._tables / f"{name}.json")


def _calibrated(place: dict[str, Any], data: dict[str, Any]) -> CalibratedSensor:
    base_from_sensor = SE3.from_quaternion(place["translation"], _xyzw(place["rotation"]))
    if not place["camera_intrinsic"]:
        return CalibratedSensor(base_from_sensor)
    (fx, _, cx), (_, fy, cy), _ = place["camera_intrinsic"]
    return CalibratedSensor(base_from_sensor, (fx, fy, cx, cy), (data["width"], data["height"]))


def _annotations(rows: array) -> np.ndarray:
    """Flat rows of 16 numbers -> (A,) ANNOTATION, in order of sample."""
    table = np.frombuffer(rows, np.float64).reshape(-1, 16)
    result = np.empty(len(table), ANNOTATION)
    for column, name in enumerate(ANNOTATION.names[:6]):
        result[name] = table[:, column]
    result["centre"], result["size"], result["rotation"] = np.split(table[:, 6:], (3, 6), axis=1)
    return result[np.argsort(result["sample"], kind="stable")]


def _xyzw(wxyz: list[float]) -> tuple[float, float, float, float]:
    w, x, y, z = wxyz
    return x, y, z, w
