"""Outputs: the heading of tracks. The axis of a box is seen well, which of its ends is the front is
not: the axis is smoothed, and the front is decided by evidence that adds up."""

from __future__ import annotations

import numpy as np

from perception_bev.geometry import wrap_angle

FRONT_VOTE = 0.7  # log-odds that one detection's heading gives
MOTION_VOTE = 1.5  # log-odds that one look at the direction of motion gives
MOVING_M_S = 1.5  # slower ones say nothing: noise, or somebody who parks backwards
SIGMAS = 3.0  # nor those whose velocity could be nothing
CLEARLY = 0.7  # cosine between motion and heading that counts as along or against it
MOST = 4.0  # log-odds; who was sure for an hour changes their mind as quickly
AXIS_GAIN = 0.35  # of a new measurement once a track is old


def smoothed(yaw: np.ndarray, front: np.ndarray, measured: np.ndarray, hits: np.ndarray
             ) -> tuple[np.ndarray, np.ndarray]:
    """Take a measured heading each: (yaw [rad], log-odds that this end is the front).

    Args:
        yaw, front: (N,) before.
        measured: (N,) [rad].
        hits: (N,) measurements so far, without this one.
    """
    turn = wrap_angle(measured - yaw)
    against = np.abs(turn) > np.pi / 2
    turn = np.where(against, wrap_angle(turn + np.pi), turn)
    yaw = yaw + np.maximum(1.0 / (hits + 1.0), AXIS_GAIN) * turn
    return _decided(yaw, front + np.where(against, -FRONT_VOTE, FRONT_VOTE))


def with_motion(yaw: np.ndarray, front: np.ndarray, velocity: np.ndarray, sigma: np.ndarray
                ) -> tuple[np.ndarray, np.ndarray]:
    """The same with what velocity (N, 2) [m/s] says, where it is large against its sigma (N,)."""
    speed = np.linalg.norm(velocity, axis=1)
    along = (velocity[:, 0] * np.cos(yaw) + velocity[:, 1] * np.sin(yaw)) / np.maximum(speed, 1e-9)
    says = (speed > np.maximum(MOVING_M_S, SIGMAS * sigma)) & (np.abs(along) > CLEARLY)
    return _decided(yaw, front + np.where(says, np.sign(along) * MOTION_VOTE, 0.0))


def _decided(yaw: np.ndarray, front: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Headings turn round where the evidence is against them."""
    flipped = front < 0
    yaw = np.where(flipped, yaw + np.pi, yaw)
    return wrap_angle(yaw), np.minimum(np.abs(front), MOST)
