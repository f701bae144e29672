"""Sensors: radar clouds by the rig's radar contract: field, sign, intensity unit.

Wrapping and ego motion stay as they are: `temporal/` compensates, it knows the ego motion.
"""

from __future__ import annotations

from collections import Counter
from threading import Lock

import numpy as np

from perception_bev import rig
from perception_bev.contracts import RadarScan
from perception_bev.errors import BadMessage
from perception_bev.raw import RawCloud
from perception_bev.sensors.checks import check_count, check_header, column

MAX_RANGE_M = 10_000.0  # beyond any radar: such a value is a corrupt float
MAX_SPEED_MPS = 1_000.0  # beyond any road: likewise


class RadarDecoder:
    """Raw clouds of one radar to scans. `dropped` counts points dropped or repaired,
    by reason; threads may share it.

    radar_msgs/RadarScan has fixed fields, so the rig's field names do not apply to it.
    """

    def __init__(self, spec: rig.Radar) -> None:
        self._spec = spec
        self._lock = Lock()
        self.dropped: Counter[str] = Counter()

    def decode(self, raw: RawCloud) -> RadarScan:
        """A scan without returns is a scan: nothing was there. Doppler is NaN where unknown.

        Raises BadMessage: wrong_frame, zero_stamp, too_many_points, missing_field, bad_layout,
        no_valid_points.
        """
        check_header(raw, self._spec.frame_id, self._spec.stamp_source)
        check_count(raw.points, self._spec.max_points)
        if len(raw.points) == 0:
            return _empty_scan(raw.stamp_ns)
        with np.errstate(all="ignore"):  # what overflows or is NaN is dropped or masked below
            xyz = np.stack([_float32(raw.points, name) for name in "xyz"], axis=1)
            doppler, intensity = self._doppler(raw.points, xyz), self._intensity(raw.points)
            near_enough = (np.abs(xyz) <= MAX_RANGE_M).all(axis=1)  # False for NaN and inf
        self._count(xyz, near_enough, doppler, intensity)
        return RadarScan(raw.stamp_ns, xyz[near_enough], _known_speed(doppler[near_enough]),
                         np.nan_to_num(intensity[near_enough], nan=0.0, posinf=0.0, neginf=0.0))

    def _doppler(self, points: np.ndarray, xyz: np.ndarray) -> np.ndarray:
        """(N,) float32 [m/s], positive away from the radar."""
        doppler = self._spec.doppler
        if doppler is None:
            return np.full(len(points), np.nan, np.float32)
        if self._spec.message == "cloud_vxvy":
            return _along_bearing(xyz, *(_float32(points, f) for f in self._spec.velocity_fields))
        is_scan = self._spec.message == "radar_scan"
        radial = _float32(points, "doppler" if is_scan else doppler.field)
        return radial if doppler.positive == "away" else -radial

    def _intensity(self, points: np.ndarray) -> np.ndarray:
        """(N,) float32 [dB]; 0 where the radar gives none."""
        intensity = self._spec.intensity
        if intensity is None:
            return np.zeros(len(points), np.float32)
        is_scan = self._spec.message == "radar_scan"
        return (_float32(points, "amplitude" if is_scan else intensity.field)
                / np.float32(intensity.scale))

    def _count(self, xyz: np.ndarray, kept: np.ndarray, doppler: np.ndarray,
               intensity: np.ndarray) -> None:
        finite = np.isfinite(xyz).all(axis=1)
        counts = {"not_finite": int((~finite).sum()), "too_far": int((finite & ~kept).sum()),
                  "intensity_not_finite": int((kept & ~np.isfinite(intensity)).sum()),
                  "doppler_absurd": int((kept & (np.abs(doppler) > MAX_SPEED_MPS)).sum())}
        with self._lock:
            self.dropped.update({reason: n for reason, n in counts.items() if n})
        if not kept.any():
            raise BadMessage("no_valid_points", f"{len(xyz)} points, all of them dropped: {counts}")


def _float32(points: np.ndarray, field: str) -> np.ndarray:
    return column(points, field).astype(np.float32)


def _along_bearing(xyz: np.ndarray, vx: np.ndarray, vy: np.ndarray) -> np.ndarray:
    """Radial part of a velocity in the radar's x-y plane; NaN where there is no bearing."""
    distance = np.hypot(xyz[:, 0], xyz[:, 1])
    return (vx * xyz[:, 0] + vy * xyz[:, 1]) / np.where(distance > 0, distance, np.float32(np.nan))


def _known_speed(doppler: np.ndarray) -> np.ndarray:
    return np.where(np.abs(doppler) <= MAX_SPEED_MPS, doppler, np.float32(np.nan))


def _empty_scan(stamp_ns: int) -> RadarScan:
    return RadarScan(stamp_ns, np.zeros((0, 3), np.float32), np.zeros(0, np.float32),
                     np.zeros(0, np.float32))
