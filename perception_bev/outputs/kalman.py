"""Outputs: a Kalman filter for many tracks at once: position and velocity in a plane, constant
velocity driven by white noise of acceleration (Bar-Shalom, Li and Kirubarajan, Estimation with
Applications to Tracking and Navigation, 2001, 6.2.2).

State x, y [m], vx, vy [m/s]: mean (N, 4) float64, covariance (N, 4, 4) float64.
"""

from __future__ import annotations

import numpy as np

POSITION, VELOCITY = slice(0, 2), slice(2, 4)


def predict(mean: np.ndarray, cov: np.ndarray, noise: np.ndarray, seconds: float
            ) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance `seconds` later; earlier for negative ones, then no surer than now.

    Args:
        noise: (N,) variance of velocity that a second adds [m^2/s^3].
    """
    step = np.eye(4)
    step[0, 2] = step[1, 3] = seconds
    span = abs(seconds)
    unit = np.zeros((4, 4))
    unit[[0, 1], [0, 1]] = span**3 / 3
    unit[[2, 3], [2, 3]] = span
    unit[[0, 1, 2, 3], [2, 3, 0, 1]] = np.sign(seconds) * span**2 / 2
    return mean @ step.T, step @ cov @ step.T + noise[:, None, None] * unit


def update(mean: np.ndarray, cov: np.ndarray, part: slice, measured: np.ndarray,
           noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take a measurement of POSITION or VELOCITY.

    Args:
        measured: (N, 2), row i of track i.
        noise: (N, 2, 2) its covariance.
    """
    gain = cov[:, :, part] @ inverse2(cov[:, part, part] + noise)
    mean = mean + (gain @ (measured - mean[:, part])[:, :, None])[..., 0]
    cov = cov - gain @ cov[:, part, :]
    return mean, 0.5 * (cov + cov.transpose(0, 2, 1))


def distances(mean: np.ndarray, cov: np.ndarray, measured: np.ndarray, noise: np.ndarray
              ) -> tuple[np.ndarray, np.ndarray]:
    """Every track with every measured position: squared Mahalanobis distance (N, M), and the log
    determinant of its covariance (N, M), by which a vague track is not the nearest to everything.

    Args:
        measured: (M, 2); noise: (M, 2, 2) its covariance.
    """
    spread = cov[:, None, POSITION, POSITION] + noise[None]
    apart = measured[None] - mean[:, None, POSITION]
    dx, dy = apart[..., 0], apart[..., 1]
    a, b, d = spread[..., 0, 0], spread[..., 0, 1], spread[..., 1, 1]
    area = a * d - b * b
    return (d * dx * dx - 2 * b * dx * dy + a * dy * dy) / area, np.log(area)


def squared_distance(mean: np.ndarray, cov: np.ndarray, part: slice, measured: np.ndarray,
                     noise: np.ndarray) -> np.ndarray:
    """(N,) squared Mahalanobis distance of track i to measurement i, as in `update`."""
    apart = measured - mean[:, part]
    inverse = inverse2(cov[:, part, part] + noise)
    return np.einsum("ni,nij,nj->n", apart, inverse, apart)


def inverse2(m: np.ndarray) -> np.ndarray:
    """Inverse of symmetric matrices (N, 2, 2)."""
    out = np.empty_like(m)
    out[:, 0, 0], out[:, 1, 1] = m[:, 1, 1], m[:, 0, 0]
    out[:, 0, 1] = out[:, 1, 0] = -m[:, 0, 1]
    return out / (m[:, 0, 0] * m[:, 1, 1] - m[:, 0, 1] ** 2)[:, None, None]


def oriented(yaw: np.ndarray, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """(N,) directions [rad] and deviations along and across them -> (N, 2, 2) covariances."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    scaled = turn * np.stack([along, across], -1)[:, None, :] ** 2
    return scaled @ turn.transpose(0, 2, 1)
