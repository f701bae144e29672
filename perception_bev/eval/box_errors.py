"""Evaluation: how far true positives are from the boxes that they found (errors of nuScenes)."""

from __future__ import annotations

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.geometry import wrap_angle


def translation_error(found: Boxes3D, truth: Boxes3D) -> np.ndarray:
    """(N,) [m]: distance of the centres in bird's-eye view."""
    return np.linalg.norm(found.centre[:, :2] - truth.centre[:, :2], axis=1)


def scale_error(found: Boxes3D, truth: Boxes3D) -> np.ndarray:
    """(N,): 1 - IoU of the two boxes laid over each other with one centre and heading."""
    common = np.minimum(found.size, truth.size).prod(axis=1)
    union = found.size.prod(axis=1) + truth.size.prod(axis=1) - common
    return 1.0 - common / union


def yaw_error(found: Boxes3D, truth: Boxes3D) -> np.ndarray:
    """(N,) [rad] in [0, pi/2]: angle between the length axes, whichever way they face."""
    turned = np.abs(wrap_angle(found.yaw - truth.yaw))
    return np.minimum(turned, np.pi - turned)


def faces_right_way(found: Boxes3D, truth: Boxes3D) -> np.ndarray:
    """(N,) bool: less than 90 degrees off; IoU does not see this."""
    return np.abs(wrap_angle(found.yaw - truth.yaw)) < np.pi / 2
