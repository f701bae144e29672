"""Inputs: the radar raster, and the Doppler residual that tells movers from the static world."""

from __future__ import annotations

import numpy as np
from numba import njit

from perception_bev.grid import BevGrid
from perception_bev.inputs.raster import Raster
from perception_bev.inputs.view import IDENTITY, View
from perception_bev.manifest import RadarInputs

UNWRAPPED = (-1e4, 1e4)  # an interval that no road user leaves
ROAD_USER_MPS = 25.0  # along the line of sight
BELOW_M = -2.0  # returns lower than this under the ground are multipath


def doppler_residual(doppler: np.ndarray, direction: np.ndarray, sensor_velocity: np.ndarray,
                     interval: tuple[float, float] | None) -> np.ndarray:
    """Radial velocity less the sensor's own motion, wrapped into the radar's interval.

    A static world gives about 0 at any speed, beyond the wrap too: wrap(v_r + v_sensor . dir).

    Args:
        doppler: (N,) float32 [m/s], positive away.
        direction: (N, 3) float32, unit vectors from the radar to the points.
        sensor_velocity: (3,) [m/s] of the radar over ground, in the frame of `direction`.
        interval: (min, max) [m/s] of the radar, None when it does not wrap.

    Returns:
        (N,) float32 [m/s], positive away; NaN stays NaN.
    """
    residual = doppler + direction @ sensor_velocity.astype(np.float32)
    if interval is None:
        return residual
    # Around zero: a residual is small against the interval, whose own centre may lie elsewhere.
    period = np.float32(interval[1] - interval[0])
    return residual - period * np.round(residual / period)


def ambiguous(residual: np.ndarray, interval: tuple[float, float] | None) -> np.ndarray | float:
    """1 where the residual (N,) may as well be its other reading, a period away: where that is no
    faster than road users come and go. Else its sign says which way something moves."""
    if interval is None:
        return 0.0
    period = np.float32(interval[1] - interval[0])
    return (period - np.abs(residual) < ROAD_USER_MPS).astype(np.float32)


def ego_speed(doppler: np.ndarray, direction: np.ndarray, forward: np.ndarray,
              interval: tuple[float, float] | None) -> float | None:
    """Speed along `forward` [m/s] that makes most returns static, or None when none stands out.

    A search over speeds with a kernel on the wrapped residual; the idea of instantaneous ego
    motion from one scan is Kellner et al., ITSC 2013. Used only where there is no odometry.
    """
    good = np.isfinite(doppler)
    if good.sum() < MIN_RETURNS:
        return None
    step = max(1, int(good.sum()) // MAX_RETURNS)
    along = (direction[good][::step] @ forward.astype(np.float32))
    period = np.float32(0.0 if interval is None else interval[1] - interval[0])
    votes = _votes(doppler[good][::step], along, SPEEDS, period, np.float32(KERNEL_MPS))
    best = int(np.argmax(votes))
    return float(SPEEDS[best]) if votes[best] > MIN_SHARE * len(along) else None


MIN_RETURNS = 30
MAX_RETURNS = 600
SPEEDS = np.arange(-5.0, 45.0, 0.05, dtype=np.float32)  # [m/s]
KERNEL_MPS = 0.3
MIN_SHARE = 0.35  # of the returns, softly counted


class RadarRaster(Raster):
    """Rasterises radar returns into a buffer of its own, reused by every call.

    Channels: density (log), strongest return, mean height, mean and largest |residual|, signed
    mean residual where it is not ambiguous, share of returns without a usable or unambiguous one;
    where the model wants it that signed mean as a vector along the line of sight.
    """

    def __init__(self, spec: RadarInputs, grid: BevGrid) -> None:
        super().__init__(spec.channels, grid)
        self._spec = spec

    def draw(self, returns: np.ndarray, plane: np.ndarray, view: View = IDENTITY) -> np.ndarray:
        """(N, 8) float32: x y z [m] in base_link, intensity [dB], residual [m/s] or NaN, ambiguous
        0/1, line of sight x y (unit vector away from the radar, in base_link). The line of sight
        may be missing where the model has no radial vector.

        -> (1, C, X, Y) float32, overwritten by the next call.
        """
        out = self.clear()
        spec = self._spec
        self._used = _draw(
            returns, *self._place(plane, view), np.float32(spec.intensity_offset),
            np.float32(spec.intensity_scale), np.float32(spec.max_height),
            np.float32(spec.doppler_scale), np.float32(spec.log_points), spec.radial_vector,
            self._out, self._count, self._touched)
        return out


@njit(nogil=True, cache=True, fastmath=True)
def _votes(doppler, along, speeds, period, kernel):
    """(S,) float32: how many returns each speed makes static, softly counted."""
    votes = np.zeros(speeds.size, np.float32)
    for s in range(speeds.size):
        total = np.float32(0.0)
        for i in range(doppler.size):
            residual = doppler[i] + speeds[s] * along[i]
            if period > 0.0:
                residual -= period * np.rint(residual / period)
            ratio = residual / kernel
            total += max(np.float32(0.0), np.float32(1.0) - ratio * ratio)
        votes[s] = total
    return votes


@njit(nogil=True, cache=True)
def _draw(returns, plane, linear, shift, height_scale, origin, rows, columns, intensity_offset,
          intensity_scale, max_height, doppler_scale, log_points, radial_vector, out, count,
          touched):
    inverse_cell = np.float32(1.0) / origin[2]
    used = 0
    for i in range(returns.shape[0]):
        x, y = returns[i, 0], returns[i, 1]
        height = height_scale * (returns[i, 2] - plane[0] * x - plane[1] * y - plane[2])
        row = (linear[0, 0] * x + linear[0, 1] * y + shift[0] - origin[0]) * inverse_cell
        column = (linear[1, 0] * x + linear[1, 1] * y + shift[1] - origin[1]) * inverse_cell
        if not (0 <= row < rows and 0 <= column < columns and BELOW_M < height < 2 * max_height):
            continue
        cell = int(row) * columns + int(column)
        strength = min(max((returns[i, 3] - intensity_offset) / intensity_scale,
                           np.float32(0.05)), np.float32(2.0))
        if count[cell] == 0:
            touched[used] = cell
            used += 1
            out[1, cell] = strength
        else:
            out[1, cell] = max(out[1, cell], strength)
        count[cell] += 1
        out[2, cell] += height
        residual = returns[i, 4]
        if residual == residual:  # not NaN
            scaled = min(max(residual / doppler_scale, np.float32(-2.0)), np.float32(2.0))
            out[3, cell] += abs(scaled)
            out[4, cell] = max(out[4, cell], abs(scaled))
            if returns[i, 5] == 0.0:
                out[5, cell] += scaled
                if radial_vector:
                    sx, sy = returns[i, 6], returns[i, 7]
                    out[7, cell] += scaled * (linear[0, 0] * sx + linear[0, 1] * sy)
                    out[8, cell] += scaled * (linear[1, 0] * sx + linear[1, 1] * sy)
            else:
                out[6, cell] += 1.0
        else:
            out[6, cell] += 1.0
    log_scale = np.float32(1.0 / np.log1p(log_points))
    for k in range(used):
        cell = touched[k]
        n = np.float32(count[cell])
        out[0, cell] = min(np.float32(1.5), np.log1p(n) * log_scale)
        out[2, cell] /= n * max_height
        out[3, cell] /= n
        out[5, cell] /= n
        out[6, cell] /= n
        if radial_vector:
            out[7, cell] /= n
            out[8, cell] /= n
    return used
