"""Evaluation: how far true positives are from the boxes that they found (errors of nuScenes)."""

from __future__ import annotations

import numpy as np

from perception_bev.contracts import Boxes3D


def translation_error(found: Boxes3D, truth: Boxes3D) -> np.ndarray:
    """(N,) float64 [m]: distance of the centres in bird's-eye view."""
    return np.linalg.norm(_difference(found.centre, truth.centre)[:, :2], axis=1)


def scale_error(found: Boxes3D, truth: Boxes3D) -> np.ndarray:
    """(N,) float64: 1 - IoU of the two boxes laid over each other with one centre and heading."""
    ours, theirs = found.size.astype(np.float64), truth.size.astype(np.float64)
    common = np.minimum(ours, theirs).prod(axis=1)
    union = ours.prod(axis=1) + theirs.prod(axis=1) - common
    return 1.0 - common / union


def yaw_error(found: Boxes3D, truth: Boxes3D, period: float = np.pi) -> np.ndarray:
    """(N,) float64 [rad] in [0, period / 2]: angle between the headings.

    period: pi, the default: between the length axes, whichever way they face; 2 pi: the heading.
    """
    turned = _difference(found.yaw, truth.yaw)
    return np.abs((turned + period / 2) % period - period / 2)


def velocity_error(found: Boxes3D, truth: Boxes3D) -> np.ndarray:
    """(N,) float64 [m/s]: length of the difference; NaN where either velocity is unknown."""
    return np.linalg.norm(_difference(found.velocity, truth.velocity), axis=1)


def faces_right_way(found: Boxes3D, truth: Boxes3D) -> np.ndarray:
    """(N,) bool: less than 90 degrees off; IoU does not see this."""
    return yaw_error(found, truth, 2 * np.pi) < np.pi / 2


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a.astype(np.float64) - b.astype(np.float64)
