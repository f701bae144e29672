"""Sensors: lidar clouds to sweeps: x, y, z, intensity and time of the points that are valid."""

from __future__ import annotations

from collections import Counter
from threading import Lock, local

import numpy as np

from perception_bev import rig
from perception_bev.contracts import LidarSweep
from perception_bev.errors import BadMessage
from perception_bev.raw import RawCloud
from perception_bev.sensors.checks import check_count, check_header, column

MAX_RANGE_M = 10_000.0  # beyond any lidar: such a value is a corrupt float
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


class LidarDecoder:
    """Raw clouds of one lidar to sweeps. `dropped` counts points dropped or repaired, by reason;
    threads may share it.

    The sweep's stamp is its end. A header stamp that is the start gets the rig's period added,
    with or without per-point time: the ends stay evenly spaced when the last beams see nothing.
    Stamps on arrival are taken as the end; absolute point times are then counted from the newest.
    `clock_offset_ms` is not applied here: absolute point times are in the header's clock.
    """

    def __init__(self, spec: rig.Lidar) -> None:
        from perception_bev.sensors import kernels  # compiles or loads, so not on import

        self._kernels = kernels
        self._spec = spec
        self._scratch = local()
        self._lock = Lock()
        self.dropped: Counter[str] = Counter()

    def decode(self, raw: RawCloud) -> LidarSweep:
        """Raises BadMessage: wrong_frame, zero_stamp, too_many_points, missing_field, bad_layout,
        empty (no point, or none that is valid)."""
        check_header(raw, self._spec.frame_id, self._spec.stamp_source)
        check_count(raw.points, self._spec.max_points)
        if len(raw.points) == 0:
            raise BadMessage("empty", "cloud without points")
        columns, times = self._gather(raw.points)
        points, offsets = self._sift(columns, times, self._limits(raw, times))
        return LidarSweep(self._end_ns(raw), points, offsets if len(times) else None)

    def _gather(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(4, N) float32 x, y, z, intensity and (N,) or (0,) float64 time, in scratch memory."""
        intensity, point_time = self._spec.intensity, self._spec.point_time
        columns, times = self._scratch_of(len(points))
        with np.errstate(all="ignore"):  # float64 that overflows becomes inf, and is dropped
            for row, field in zip(columns, "xyz", strict=False):
                row[:] = column(points, field)
            columns[3] = 0.0 if intensity is None else column(points, intensity.field)
        if point_time is None:
            return columns, times[:0]
        times[:] = column(points, point_time.field)
        return columns, times

    def _scratch_of(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(4, n) float32 and (n,) float64 of this thread: fresh pages cost more than the loop."""
        if len(getattr(self._scratch, "times", ())) < n:
            self._scratch.columns = np.empty(4 * n, np.float32)
            self._scratch.times = np.empty(n, np.float64)
        return self._scratch.columns[:4 * n].reshape(4, n), self._scratch.times[:n]

    def _limits(self, raw: RawCloud, times: np.ndarray) -> np.ndarray:
        """The kernel's `limits`. Offsets beyond two periods are no times of this sweep."""
        spec = self._spec
        unit = _SECONDS[spec.point_time.unit] if spec.point_time else 0.0
        gain = 1.0 / spec.intensity.scale if spec.intensity else 0.0
        return np.array([spec.min_range_m**2, MAX_RANGE_M**2, gain, unit,
                         self._end_of_times(raw, times), 2e-3 * spec.period_ms])

    def _end_of_times(self, raw: RawCloud, times: np.ndarray) -> float:
        """The sweep's end on the scale of the point times [s]."""
        point_time = self._spec.point_time
        if point_time is None:
            return 0.0
        if point_time.origin == "stamp":
            return 1e-3 * self._spec.period_ms if self._spec.stamp == "start" else 0.0
        if self._spec.stamp_source == "arrival":
            return self._newest(times) * _SECONDS[point_time.unit]
        return 1e-9 * self._end_ns(raw)

    def _newest(self, times: np.ndarray) -> float:
        """The largest time within a period of the median: corrupt ones lie far from it."""
        period = 1e-3 * self._spec.period_ms / _SECONDS[self._spec.point_time.unit]
        finite = times[np.isfinite(times)]
        if finite.size == 0:
            return 0.0
        middle = np.quantile(finite, 0.5, method="lower")  # one of them, so never alone
        return float(finite[np.abs(finite - middle) <= period].max())

    def _end_ns(self, raw: RawCloud) -> int:
        starts = self._spec.stamp == "start" and self._spec.stamp_source == "header"
        return raw.stamp_ns + (round(1e6 * self._spec.period_ms) if starts else 0)

    def _sift(self, columns: np.ndarray, times: np.ndarray,
              limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The valid points (M, 4) and their offsets (M,); the others are counted."""
        n = columns.shape[1]
        points, offsets = np.empty((n, 4), np.float32), np.empty(len(times), np.float32)
        counts = np.zeros(len(self._kernels.REASONS), np.int64)
        kept = self._kernels.sift(columns, times, limits, points, offsets, counts)
        lost = {reason: int(count)
                for reason, count in zip(self._kernels.REASONS, counts, strict=True) if count}
        with self._lock:
            self.dropped.update(lost)
        if kept == 0:
            raise BadMessage("empty", f"{n} points, all of them dropped: {lost}")
        return points[:kept], offsets[:kept]
