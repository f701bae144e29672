"""Vocabulary: rigid transforms (SE3) and camera models, frame-explicit and ROS-free.

Transforms are named `a_from_b` and read like dominoes: `a_from_c = a_from_b @ b_from_c`.
Quaternions are (x, y, z, w) as in ROS. Camera frames are optical frames (REP-103): x right,
y down, z forward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from perception_bev.errors import ConfigError, ShapeMismatch

_SMALL_ANGLE = 1e-8


def wrap_angle(angle: np.ndarray | float) -> np.ndarray | float:
    """Wrap angles [rad] into [-pi, pi)."""
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi


def skew(v: np.ndarray) -> np.ndarray:
    """(3,) -> (3, 3) with skew(v) @ w == cross(v, w)."""
    x, y, z = v
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def rotation_from_rotvec(rotvec: np.ndarray) -> np.ndarray:
    """Rodrigues' formula: axis times angle [rad], (3,) -> (3, 3)."""
    angle = float(np.linalg.norm(rotvec))
    if angle < _SMALL_ANGLE:
        return np.eye(3) + skew(rotvec)
    k = skew(np.asarray(rotvec) / angle)
    return np.eye(3) + np.sin(angle) * k + (1.0 - np.cos(angle)) * (k @ k)


def rotvec_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Inverse of `rotation_from_rotvec`, angle in [0, pi]; stable over the whole range."""
    x, y, z, w = quaternion_from_rotation(rotation)
    if w < 0.0:
        x, y, z, w = -x, -y, -z, -w
    vector = np.array([x, y, z])
    sine = float(np.linalg.norm(vector))
    if sine < _SMALL_ANGLE:
        return 2.0 * vector
    return vector * (2.0 * np.arctan2(sine, w) / sine)


def rotation_from_quaternion(xyzw: np.ndarray) -> np.ndarray:
    """(x, y, z, w), normalised here, -> (3, 3). Raises ConfigError for a zero quaternion."""
    # plain floats: on four numbers NumPy costs four times as much
    x, y, z, w = np.asarray(xyzw, dtype=np.float64).tolist()
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    if not 1e-6 <= norm < math.inf:
        raise ConfigError(f"rotation quaternion {[x, y, z, w]} has no direction "
                          "(x, y, z, w expected)")
    x, y, z, w = x / norm, y / norm, z / norm, w / norm
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])


def quaternion_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """(3, 3) -> (x, y, z, w); Shepperd's method, the largest component first."""
    # plain floats: on nine numbers NumPy costs four times as much
    (a, b, c), (d, e, f), (g, h, i) = np.asarray(rotation, dtype=np.float64).tolist()
    trace = a + e + i
    largest = max(a, e, i, trace)
    if largest == trace:
        x, y, z, w = h - f, c - g, d - b, 1.0 + trace
    elif largest == a:
        x, y, z, w = 1.0 + 2.0 * a - trace, d + b, g + c, h - f
    elif largest == e:
        x, y, z, w = d + b, 1.0 + 2.0 * e - trace, h + f, c - g
    else:
        x, y, z, w = g + c, h + f, 1.0 + 2.0 * i - trace, d - b
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    return np.array([x / norm, y / norm, z / norm, w / norm])


def rotation_from_rpy(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Fixed-axis roll, pitch, yaw [rad] (URDF and tf2 convention) -> (3, 3)."""
    cr, sr, cp, sp, cy, sy = (
        np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw))
    return np.array([
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ])


@dataclass(frozen=True, slots=True)
class SE3:
    """A rigid transform. `a_from_b.apply(points_in_b)` gives the points in a."""

    rotation: np.ndarray  # (3, 3) float64, orthonormal
    translation: np.ndarray  # (3,) float64 [m]

    def __post_init__(self) -> None:
        rotation = np.asarray(self.rotation, dtype=np.float64)
        translation = np.asarray(self.translation, dtype=np.float64)
        if rotation.shape != (3, 3) or translation.shape != (3,):
            raise ShapeMismatch(
                f"SE3: expected (3, 3) and (3,), got {rotation.shape} and {translation.shape}")
        if not (np.isfinite(rotation).all() and np.isfinite(translation).all()):
            raise ConfigError("SE3: rotation and translation must be finite")
        determinant = np.linalg.det(rotation)
        if abs(determinant - 1.0) > 1e-3:
            raise ConfigError(f"SE3: rotation has determinant {determinant:.4f}, expected 1")
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3:
            raise ConfigError(f"SE3: rotation is not orthonormal: {rotation.tolist()}")
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "translation", translation)

    @staticmethod
    def identity() -> SE3:
        return SE3(np.eye(3), np.zeros(3))

    @staticmethod
    def from_quaternion(translation: np.ndarray, xyzw: np.ndarray) -> SE3:
        rotation, translation = rotation_from_quaternion(xyzw), np.asarray(translation, np.float64)
        if translation.shape == (3,) and all(map(math.isfinite, translation.tolist())):
            return SE3.unchecked(rotation, translation)  # a rotation by its making
        return SE3(rotation, translation)  # says what is wrong

    @staticmethod
    def from_rpy(translation: np.ndarray, rpy: np.ndarray) -> SE3:
        return SE3(rotation_from_rpy(*rpy), np.asarray(translation, dtype=np.float64))

    @staticmethod
    def from_matrix(matrix: np.ndarray) -> SE3:
        """(4, 4) or (3, 4); the rotation is made orthonormal (calibration files are rounded)."""
        m = np.asarray(matrix, dtype=np.float64)
        if m.shape not in ((4, 4), (3, 4)):
            raise ShapeMismatch(f"SE3.from_matrix: expected (4, 4) or (3, 4), got {m.shape}")
        if not np.isfinite(m).all():
            raise ConfigError(f"SE3.from_matrix: not finite: {m.tolist()}")
        u, _, vt = np.linalg.svd(m[:3, :3])
        return SE3(u @ vt, m[:3, 3])

    @staticmethod
    def unchecked(rotation: np.ndarray, translation: np.ndarray) -> SE3:
        """Of float64 arrays that are a pose by their making; checking costs six times as much."""
        pose = object.__new__(SE3)
        object.__setattr__(pose, "rotation", rotation)
        object.__setattr__(pose, "translation", translation)
        return pose

    @property
    def quaternion(self) -> np.ndarray:
        """(x, y, z, w)."""
        return quaternion_from_rotation(self.rotation)

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4) float64, homogeneous."""
        m = np.eye(4)
        m[:3, :3], m[:3, 3] = self.rotation, self.translation
        return m

    @property
    def yaw(self) -> float:
        """Heading of the x axis about z [rad]."""
        return float(np.arctan2(self.rotation[1, 0], self.rotation[0, 0]))

    def inverse(self) -> SE3:
        return SE3.unchecked(self.rotation.T, -self.rotation.T @ self.translation)

    def __matmul__(self, other: SE3) -> SE3:
        return SE3.unchecked(self.rotation @ other.rotation,
                             self.rotation @ other.translation + self.translation)

    def apply(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) -> (..., 3), in the dtype of `points`."""
        dtype = points.dtype if np.issubdtype(points.dtype, np.floating) else np.float64
        return points @ self.rotation.T.astype(dtype) + self.translation.astype(dtype)

    def interpolate(self, other: SE3, fraction: float) -> SE3:
        """Constant-velocity motion from self (0) to other (1); values outside extrapolate."""
        rotvec = rotvec_from_rotation(self.rotation.T @ other.rotation)
        return SE3(self.rotation @ rotation_from_rotvec(fraction * rotvec),
                   self.translation + fraction * (other.translation - self.translation))


@dataclass(frozen=True, slots=True)
class CameraModel:
    """Intrinsics of one camera and its lens distortion (sensor_msgs/CameraInfo's models).

    model: "pinhole" (no distortion), "plumb_bob" (5: k1 k2 p1 p2 k3), "rational_polynomial"
    (8: ... k4 k5 k6) or "equidistant" (4: fisheye of Kannala and Brandt).
    """

    width: int  # [px]
    height: int  # [px]
    k: np.ndarray  # (3, 3) float64: fx 0 cx / 0 fy cy / 0 0 1 [px]
    model: str = "pinhole"
    distortion: np.ndarray | None = None  # (n,) float64; an empty array after construction

    COEFFICIENTS: ClassVar = {"pinhole": 0, "plumb_bob": 5, "rational_polynomial": 8,
                              "equidistant": 4}

    def __post_init__(self) -> None:
        k = np.asarray(self.k, dtype=np.float64)
        d = np.zeros(0) if self.distortion is None else np.asarray(self.distortion, np.float64)
        if self.model not in self.COEFFICIENTS:
            raise ConfigError(f"unknown camera model '{self.model}'; known: "
                              + ", ".join(self.COEFFICIENTS))
        if k.shape != (3, 3) or not np.isfinite(k).all() or k[0, 0] <= 0 or k[1, 1] <= 0:
            raise ConfigError("camera matrix must be (3, 3), finite, fx and fy > 0; got "
                              f"{k.tolist()}")
        if not (0 < self.width <= 65536 and 0 < self.height <= 65536):
            raise ConfigError(f"camera size {self.width}x{self.height} is not a picture's")
        if d.size != self.COEFFICIENTS[self.model] or not np.isfinite(d).all():
            raise ConfigError(f"camera model '{self.model}' takes {self.COEFFICIENTS[self.model]} "
                              f"finite coefficients, got {d.tolist()}")
        object.__setattr__(self, "k", k)
        object.__setattr__(self, "distortion", d)

    def same_as(self, other: CameraModel) -> bool:
        """Whether both project every point to the same pixel."""
        return ((self.width, self.height, self.model) == (other.width, other.height, other.model)
                and np.array_equal(self.k, other.k)
                and np.array_equal(self.distortion, other.distortion))

    def pinhole_resized(self, width: int, height: int) -> CameraModel:
        """The undistorted camera of the same view at another size; pixel centres at integers."""
        scale = np.array([width / self.width, height / self.height])
        k = self.k.copy()
        k[0, :2] *= scale[0]
        k[1, :2] *= scale[1]
        k[:2, 2] = (self.k[:2, 2] + 0.5) * scale - 0.5
        return CameraModel(width, height, k)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points in the optical frame (N, 3) [m] -> pixels (N, 2) and depth (N,) [m].

        Points at or behind the image plane have depth <= 0 and meaningless pixels.
        """
        depth = points[:, 2]
        safe = np.where(depth > 1e-6, depth, 1e-6)
        xy = self._distort(points[:, :2] / safe[:, None])
        return xy @ self.k[:2, :2].T + self.k[:2, 2], depth

    def _distort(self, xy: np.ndarray) -> np.ndarray:
        """Normalised image coordinates (N, 2), ideal -> seen through the lens."""
        if self.model == "pinhole":
            return xy
        r2 = (xy ** 2).sum(axis=1)
        if self.model == "equidistant":
            return xy * _equidistant_scale(np.sqrt(r2), self.distortion)[:, None]
        k1, k2, p1, p2, k3, k4, k5, k6 = np.pad(self.distortion, (0, 8 - self.distortion.size))
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        x, y = xy[:, 0], xy[:, 1]
        tangential = np.stack([2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                               p1 * (r2 + 2 * y * y) + 2 * p2 * x * y], axis=1)
        return xy * radial[:, None] + tangential


def _equidistant_scale(radius: np.ndarray, d: np.ndarray) -> np.ndarray:
    """theta_d / r of the Kannala-Brandt fisheye; 1 in the centre."""
    theta = np.arctan(radius)
    t2 = theta * theta
    theta_d = theta * (1 + t2 * (d[0] + t2 * (d[1] + t2 * (d[2] + t2 * d[3]))))
    return np.where(radius > 1e-9, theta_d / np.maximum(radius, 1e-9), 1.0)
