"""Inputs: everything is brought to base_link at t_ref. Lidar per point, radar per scan, cameras
through their lift table; without ego motion the world is taken as standing still."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numba import njit

from perception_bev.contracts import LidarSweep
from perception_bev.errors import ShapeMismatch
from perception_bev.geometry import SE3

KNOTS = 9  # poses over a sweep, linear in between: 12 ms apart at 10 Hz


class EgoSource(Protocol):
    """Where the vehicle was; `temporal.ego.EgoMotion` is one."""

    def at(self, stamp_ns: int) -> SE3 | None:
        """odom_from_base, None when unknown."""

    def twist_at(self, stamp_ns: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Linear [m/s] and angular [rad/s] velocity in base_link, None when unknown."""


class NoEgo:
    """No ego motion is known: nothing is compensated."""

    def at(self, stamp_ns: int) -> SE3 | None:
        return None

    def twist_at(self, stamp_ns: int) -> tuple[np.ndarray, np.ndarray] | None:
        return None


def now_from_then(ego: EgoSource, now_ns: int, then_ns: int) -> SE3:
    """base_link(now) from base_link(then); identity when the motion is not known."""
    odom_from_now, odom_from_then = ego.at(now_ns), ego.at(then_ns)
    if odom_from_now is None or odom_from_then is None:
        return SE3.identity()
    return odom_from_now.inverse() @ odom_from_then


def sweep_in_base(sweep: LidarSweep, base_from_lidar: SE3, ego: EgoSource, t_ref_ns: int,
                  out: np.ndarray) -> np.ndarray:
    """The points of `deskew`, without its origin."""
    return deskew(sweep, base_from_lidar, ego, t_ref_ns, out)[0]


def deskew(sweep: LidarSweep, base_from_lidar: SE3, ego: EgoSource, t_ref_ns: int,
           out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of a sweep in base_link at t_ref, each moved from its own time, and (3,) float32 where
    the lidar was in the middle of the sweep.

    Where the motion is known for a part of the sweep only, the whole is moved from its stamp:
    the world must not be torn where the odometry begins or ends.

    Args:
        out: (M, 4) float32 buffer, M >= N; its first N rows are written and returned.

    Raises:
        ShapeMismatch: the buffer is too small.
    """
    if len(out) < len(sweep.points):
        raise ShapeMismatch(f"deskew: {len(sweep.points)} points do not fit into a buffer of "
                            f"{len(out)}")
    out = out[:len(sweep.points)]
    first, span, stamps, offsets = 0.0, 0.0, [sweep.stamp_ns], sweep.time_offset
    if offsets is None or len(offsets) == 0:
        offsets = np.zeros(len(sweep.points), np.float32)
    else:
        first = float(offsets.min())
        span = max(float(offsets.max()) - first, 1e-6)
        knots = [sweep.stamp_ns + int(1e9 * (first + span * k / (KNOTS - 1)))
                 for k in range(KNOTS)]
        if all(ego.at(stamp) is not None for stamp in (t_ref_ns, *knots)):
            stamps = knots
    poses = np.stack([(now_from_then(ego, t_ref_ns, t) @ base_from_lidar).matrix[:3]
                      for t in stamps]).astype(np.float32)
    _transform(sweep.points, offsets, np.float32(first), np.float32(span), poses, out)
    return out, poses[len(poses) // 2, :, 3]


@njit(nogil=True, cache=True, fastmath=True)
def _transform(points, offsets, first, span, poses, out):
    """out[i] = pose at offsets[i] applied to points[i]; the intensity is copied."""
    last = poses.shape[0] - 1
    for i in range(points.shape[0]):
        k, fraction = 0, np.float32(0.0)
        if last > 0:
            position = (offsets[i] - first) / span * last
            k = min(max(int(position), 0), last - 1)
            fraction = min(max(position - k, np.float32(0.0)), np.float32(1.0))
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        for axis in range(3):
            p = poses[k]
            value = p[axis, 0] * x + p[axis, 1] * y + p[axis, 2] * z + p[axis, 3]
            if last > 0:
                q = poses[k + 1]
                other = q[axis, 0] * x + q[axis, 1] * y + q[axis, 2] * z + q[axis, 3]
                value += fraction * (other - value)
            out[i, axis] = value
        out[i, 3] = points[i, 3]
