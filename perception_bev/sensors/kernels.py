"""Sensors: compiled loops. Imported late, because importing it compiles or loads them.

`parallel` stays off: Numba's default threading layer aborts on concurrent calls.
"""

from __future__ import annotations

import numpy as np

try:
    from numba import njit
except ImportError as err:
    from perception_bev.errors import EngineUnavailable

    raise EngineUnavailable("decoding lidar sweeps needs Numba: pip install numba") from err

REASONS = ("not_finite", "near", "too_far", "bad_time", "intensity_not_finite")


def _sift(columns: np.ndarray, times: np.ndarray, limits: np.ndarray, points: np.ndarray,
          offsets: np.ndarray, counts: np.ndarray) -> int:
    """Valid points of (4, N) `columns` to (N, 4) `points`; returns how many.

    columns: x, y, z [m], intensity in the sensor's unit. times: (N,), or (0,) for none. limits:
    min and max squared range [m^2], 1 / intensity scale, time unit [s], time of the sweep's end
    [s], longest offset [s]. offsets: (N,) [s] from the sweep's end. counts: (5,) by REASONS.
    """
    not_finite, near, too_far, bad_time, bad_intensity = 0, 1, 2, 3, 4
    low, high, gain = np.float32(limits[0]), np.float32(limits[1]), np.float32(limits[2])
    unit, end, longest = limits[3], limits[4], limits[5]
    has_times = times.shape[0] > 0
    kept = 0
    for i in range(columns.shape[1]):
        x, y, z = columns[0, i], columns[1, i], columns[2, i]
        squared = x * x + y * y + z * z
        if not squared <= high:  # also NaN
            finite = np.isfinite(x) and np.isfinite(y) and np.isfinite(z)
            counts[too_far if finite else not_finite] += 1
            continue
        if squared < low:
            counts[near] += 1
            continue
        if has_times:
            offset = times[i] * unit - end
            if not abs(offset) <= longest:
                counts[bad_time] += 1
                continue
            offsets[kept] = offset
        intensity = columns[3, i] * gain
        if not np.isfinite(intensity):
            counts[bad_intensity] += 1
            intensity = np.float32(0.0)
        points[kept, 0], points[kept, 1], points[kept, 2] = x, y, z
        points[kept, 3] = min(max(intensity, np.float32(0.0)), np.float32(1.0))
        kept += 1
    return kept


_SIGNATURE = ("int64(float32[:,::1], float64[::1], float64[::1], "
              "float32[:,::1], float32[::1], int64[::1])")


def _compiled(function, signature: str):
    """Compiled now, not on the first sweep; cached on disk where there is a place for that."""
    try:
        return njit(signature, nogil=True, cache=True)(function)
    except RuntimeError:  # read-only installation and no home directory: compiled at each start
        return njit(signature, nogil=True)(function)


sift = _compiled(_sift, _SIGNATURE)
