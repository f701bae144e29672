"""Vocabulary: what the vehicle has. `Rig` is what the YAML says, holes allowed; `resolve` fills
them from TF and CameraInfo and gives a complete `Calibration`, or says all that is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np

from perception_bev import config
from perception_bev.config import Range
from perception_bev.contracts import Modality
from perception_bev.errors import CalibrationError, ConfigError
from perception_bev.geometry import SE3, CameraModel

FROM_TF = "from_tf"
FROM_CAMERA_INFO = "from_camera_info"
TODO = "TODO"  # what `bev rig init` could not find out; resolve() refuses it

Milliseconds = Annotated[float, Range(-100_000, 100_000)]
Period = Annotated[float, Range(1, 10_000)]


@dataclass(frozen=True)
class Extrinsics:
    """base_from_sensor. Rotation as quaternion or as roll, pitch, yaw; exactly one of the two."""

    translation: tuple[float, float, float]  # [m]
    rotation_xyzw: tuple[float, float, float, float] | None = None
    rotation_rpy_deg: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if (self.rotation_xyzw is None) == (self.rotation_rpy_deg is None):
            raise ConfigError("give one of rotation_xyzw and rotation_rpy_deg")
        self.transform  # noqa: B018  a wrong one is an error of the file, not of its first use

    @property
    def transform(self) -> SE3:
        if self.rotation_xyzw is not None:
            return SE3.from_quaternion(self.translation, self.rotation_xyzw)
        return SE3.from_rpy(self.translation, np.deg2rad(self.rotation_rpy_deg))


@dataclass(frozen=True)
class Intrinsics:
    """Of the picture as the camera sends it."""

    width: Annotated[int, Range(1, 65536)]  # [px]
    height: Annotated[int, Range(1, 65536)]  # [px]
    k: tuple[float, float, float, float]  # fx, fy, cx, cy [px]
    model: Literal["pinhole", "plumb_bob", "rational_polynomial", "equidistant"] = "pinhole"
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        self.camera_model()

    def camera_model(self) -> CameraModel:
        fx, fy, cx, cy = self.k
        return CameraModel(self.width, self.height, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]),
                           self.model, np.array(self.distortion))


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """What cameras, lidars and radars have in common."""

    topic: str
    frame_id: str  # expected in the header; "*" accepts any
    extrinsics: Extrinsics | Literal["from_tf", "TODO"]
    period_ms: Period = 100.0
    max_age_ms: Milliseconds | None = None  # how old at t_ref it may be; default 2 periods
    max_lead_ms: Milliseconds = 5.0  # how far after t_ref its stamp may lie
    stamp_source: Literal["header", "arrival"] = "header"
    clock_offset_ms: Milliseconds = 0.0  # added to the header's stamp
    stamp: Literal["start", "end"] = "end"  # of the exposure, sweep or scan
    required: bool = True  # False: its absence is not reported as a degradation

    @property
    def age_limit_ns(self) -> int:
        limit = 2.0 * self.period_ms if self.max_age_ms is None else self.max_age_ms
        return int(limit * 1e6)


@dataclass(frozen=True, kw_only=True)
class Camera(Sensor):
    intrinsics: Intrinsics | Literal["from_camera_info", "TODO"] = FROM_CAMERA_INFO
    camera_info_topic: str | None = None  # default: the topic's sibling camera_info
    transport: Literal["compressed", "raw"] = "compressed"

    @property
    def info_topic(self) -> str:
        if self.camera_info_topic is not None:
            return self.camera_info_topic
        stem = self.topic.removesuffix("/compressed")
        return f"{stem.rsplit('/', 1)[0]}/camera_info" if "/" in stem else "camera_info"


@dataclass(frozen=True)
class PointTime:
    """The field that holds each point's own time."""

    field: str
    unit: Literal["s", "ms", "us", "ns"] = "s"
    origin: Literal["stamp", "absolute"] = "stamp"  # from the header's stamp, or since 1970


@dataclass(frozen=True)
class Intensity:
    field: str = "intensity"
    scale: Annotated[float, Range(1e-9, 1e9)] = 1.0  # value / scale is in [0..1] (lidar) or dB
    unit: str = "dB"  # said in messages only


@dataclass(frozen=True, kw_only=True)
class Lidar(Sensor):
    intensity: Intensity | None = field(default_factory=Intensity)
    point_time: PointTime | None = None
    min_range_m: float = 1.0  # nearer returns come from the vehicle itself
    max_points: Annotated[int, Range(1, 10_000_000)] = 400_000


@dataclass(frozen=True)
class Doppler:
    """How a radar gives radial velocity. min, max: its unambiguous interval, else unwrapped."""

    field: str = "doppler"
    positive: Literal["away", "towards"] = "away"
    compensated: bool = False  # True: the radar has taken the ego motion out already
    min: float | None = None  # [m/s], in the sign of the field
    max: float | None = None  # [m/s]

    def __post_init__(self) -> None:
        if (self.min is None) != (self.max is None):
            raise ConfigError("doppler: give both min and max, or neither")
        if self.min is not None and self.min >= self.max:
            raise ConfigError(f"doppler: min {self.min} is not below max {self.max}")

    @property
    def away_interval(self) -> tuple[float, float] | None:
        """(min, max) of the radial velocity counted positive away from the radar."""
        if self.min is None:
            return None
        return (self.min, self.max) if self.positive == "away" else (-self.max, -self.min)


@dataclass(frozen=True, kw_only=True)
class Radar(Sensor):
    message: Literal["cloud", "cloud_vxvy", "radar_scan"] = "cloud"
    doppler: Doppler | None = field(default_factory=Doppler)
    velocity_fields: tuple[str, str] = ("vx", "vy")  # of cloud_vxvy
    intensity: Intensity | None = field(default_factory=Intensity)
    max_points: Annotated[int, Range(1, 1_000_000)] = 50_000


@dataclass(frozen=True)
class Reference:
    """The sensor whose sweep ends are the output times."""

    sensor: str
    period_ms: Period = 100.0  # of the output grid
    wait_ms: Annotated[float, Range(0, 1000)] = 25.0  # for the others, after t_ref


@dataclass(frozen=True)
class Odometry:
    topic: str = "odometry"
    max_extrapolation_ms: Annotated[float, Range(0, 1000)] = 100.0


@dataclass(frozen=True)
class Rig:
    """One vehicle. Names of sensors are the file's own and appear in topics, status and drops."""

    name: str
    reference: Reference
    cameras: dict[str, Camera] = field(default_factory=dict)
    lidars: dict[str, Lidar] = field(default_factory=dict)
    radars: dict[str, Radar] = field(default_factory=dict)
    base_frame: str = "base_link"
    odom_frame: str = "odom"
    odometry: Odometry | Literal["from_tf"] | None = None  # from_tf: odom_frame <- base_frame
    traffic: Literal["right", "left"] = "right"  # the side of the road that one drives on

    def __post_init__(self) -> None:
        names = [*self.cameras, *self.lidars, *self.radars]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigError(f"sensor names must differ; twice: {', '.join(sorted(twice))}")
        if self.reference.sensor not in names:
            raise ConfigError(f"reference.sensor '{self.reference.sensor}' is none of the sensors: "
                              + (", ".join(names) or "there are none"))

    @property
    def odometry_topic(self) -> str | None:
        """Where nav_msgs/Odometry comes from; None: from /tf, or from nowhere."""
        return self.odometry.topic if isinstance(self.odometry, Odometry) else None

    @property
    def sensors(self) -> dict[str, Sensor]:
        return {**self.cameras, **self.lidars, **self.radars}

    def modality(self, name: str) -> Modality:
        return ("camera" if name in self.cameras else
                "lidar" if name in self.lidars else "radar")


def load_rig(path: str | Path) -> Rig:
    """Read and check a rig file; ConfigError names what is wrong."""
    return config.load(path, Rig)


class TransformSource(Protocol):
    """Where "from_tf" is looked up."""

    def lookup(self, target: str, source: str) -> SE3 | None:
        """target_from_source, static, or None when it is not known (yet)."""


class NoTransforms:
    """A source that knows none: for rigs whose file is complete."""

    def lookup(self, target: str, source: str) -> SE3 | None:
        return None


@dataclass(frozen=True)
class Calibration:
    """A complete rig: every sensor with its place and every camera with its lens."""

    rig: Rig
    base_from_sensor: Mapping[str, SE3]  # by sensor name
    camera_models: Mapping[str, CameraModel]  # by camera name, as the pictures arrive

    def same_as(self, other: Calibration) -> bool:
        """Whether every sensor has the same place and every camera the same lens."""
        return (all(np.array_equal(place.matrix, other.base_from_sensor[name].matrix)
                    for name, place in self.base_from_sensor.items())
                and all(lens.same_as(other.camera_models[name])
                        for name, lens in self.camera_models.items()))


def resolve(rig: Rig, tf: TransformSource | None = None,
            camera_infos: Mapping[str, CameraModel] | None = None) -> Calibration:
    """Fill the rig's holes from TF and CameraInfo (by camera name).

    Raises CalibrationError that lists everything that is still missing and how to give it.
    """
    tf, camera_infos = tf or NoTransforms(), camera_infos or {}
    missing: list[str] = []
    places = {name: _place(rig, name, sensor, tf, missing) for name, sensor in rig.sensors.items()}
    lenses = {name: _lens(name, camera, camera_infos, missing)
              for name, camera in rig.cameras.items()}
    if missing:
        raise CalibrationError(f"rig '{rig.name}' is not complete: " + "; ".join(missing))
    return Calibration(rig, places, lenses)


def _place(rig: Rig, name: str, sensor: Sensor, tf: TransformSource,
           missing: list[str]) -> SE3 | None:
    if isinstance(sensor.extrinsics, Extrinsics):
        return sensor.extrinsics.transform
    if sensor.extrinsics == TODO:
        missing.append(f"{name}: extrinsics are TODO in the file")
        return None
    place = tf.lookup(rig.base_frame, sensor.frame_id)
    if place is None:
        missing.append(f"{name}: no transform {rig.base_frame} <- {sensor.frame_id} on /tf_static "
                       "(publish it, or write extrinsics into the rig file)")
    return place


def _lens(name: str, camera: Camera, infos: Mapping[str, CameraModel],
          missing: list[str]) -> CameraModel | None:
    if isinstance(camera.intrinsics, Intrinsics):
        return camera.intrinsics.camera_model()
    if camera.intrinsics == TODO:
        missing.append(f"{name}: intrinsics are TODO in the file")
    elif name not in infos:
        missing.append(f"{name}: no CameraInfo on {camera.info_topic} yet "
                       "(publish it, or write intrinsics into the rig file)")
    return infos.get(name)
