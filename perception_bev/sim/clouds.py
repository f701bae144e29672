"""Simulation: point clouds as the rig file describes them: fields, units, signs, origin of time."""

from __future__ import annotations

import numpy as np

from perception_bev.errors import ConfigError
from perception_bev.rig import Lidar, Radar

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


def lidar_cloud(spec: Lidar, xyz: np.ndarray, intensity: np.ndarray, offsets_s: np.ndarray,
                end_ns: int) -> np.ndarray:
    """(N,) structured: x, y, z [m], and what the rig's lidar has of intensity and time.

    Args:
        xyz: (N, 3) in the lidar's frame. intensity: (N,) 0..255.
        offsets_s: (N,) times from the sweep's end. end_ns: stamp of the sweep's end.
    """
    points = np.empty(len(xyz), _lidar_type(spec))
    points["x"], points["y"], points["z"] = xyz.T
    if spec.intensity is not None:
        points[spec.intensity.field] = intensity * (spec.intensity.scale / 255)
    if spec.point_time is not None:
        points[spec.point_time.field] = _point_times(spec, offsets_s, end_ns)
    return points


def radar_cloud(spec: Radar, distance: np.ndarray, azimuth: np.ndarray, radial: np.ndarray,
                rcs_db: np.ndarray) -> np.ndarray:
    """(N,) structured: x, y, z [m], and what the rig's radar has of Doppler and intensity.

    Args:
        distance, azimuth: (N,) [m], [rad] in the radar's plane. radial: (N,) [m/s] away from it.
    """
    points = np.zeros(len(distance), _radar_type(spec))
    cos, sin = np.cos(azimuth), np.sin(azimuth)
    points["x"], points["y"] = distance * cos, distance * sin
    if spec.doppler is not None:
        away = _wrapped(radial, spec.doppler.away_interval)
        if spec.message == "cloud_vxvy":
            for field, part in zip(spec.velocity_fields, (cos, sin), strict=True):
                points[field] = away * part
        else:
            points[spec.doppler.field] = away * (1 if spec.doppler.positive == "away" else -1)
    if spec.intensity is not None:
        points[spec.intensity.field] = rcs_db * spec.intensity.scale
    return points


def check(name: str, spec: Lidar | Radar) -> None:
    """ConfigError when two of a cloud's fields have one name."""
    try:
        _lidar_type(spec) if isinstance(spec, Lidar) else _radar_type(spec)
    except ValueError as err:
        raise ConfigError(f"{name}: {err} in its point cloud; fields must differ") from err


def _lidar_type(spec: Lidar) -> np.dtype:
    fields = [(axis, "<f4") for axis in "xyz"]
    if spec.intensity is not None:
        fields.append((spec.intensity.field, "<f4"))
    if spec.point_time is not None:
        fields.append((spec.point_time.field, _time_type(spec)))
    return np.dtype(fields)


def _radar_type(spec: Radar) -> np.dtype:
    fields = ["x", "y", "z"]
    if spec.doppler is not None:
        fields += spec.velocity_fields if spec.message == "cloud_vxvy" else [spec.doppler.field]
    if spec.intensity is not None:
        fields.append(spec.intensity.field)
    return np.dtype([(field, "<f4") for field in fields])


def _time_type(spec: Lidar) -> str:
    """float32 holds a sweep to under a microsecond; the time since 1970 needs more."""
    return "<f4" if spec.point_time.origin == "stamp" else "<f8"


def _point_times(spec: Lidar, offsets_s: np.ndarray, end_ns: int) -> np.ndarray:
    unit = _PER_SECOND[spec.point_time.unit]
    if spec.point_time.origin == "absolute":
        return offsets_s * unit + end_ns * (unit * 1e-9)
    return (offsets_s + (spec.period_ms / 1e3 if spec.stamp == "start" else 0.0)) * unit


def _wrapped(radial: np.ndarray, interval: tuple[float, float] | None) -> np.ndarray:
    if interval is None:
        return radial
    low, high = interval
    return (radial - low) % (high - low) + low
