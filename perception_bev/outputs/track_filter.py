"""Outputs: what one detection says about one track: how well they fit, and the track after it."""

from __future__ import annotations

import numpy as np

from perception_bev.outputs import heading, kalman
from perception_bev.outputs.motion_models import MotionTable
from perception_bev.outputs.track_values import NS

VAGUE = 6.0  # a track costs at most so much for being vague
OTHER_CLASS = 3.0  # what it costs to be of another class of the same kind
VELOCITY_GATE = 16.0  # squared sigmas; a measured velocity further off is not believed
SIZE_GAIN, HEIGHT_GAIN, SCORE_GAIN = 0.15, 0.3, 0.3  # of a new measurement once a track is old
VOTE_KEPT = 0.9  # of the votes for a class, a detection later


class TrackFilter:
    """Rows (track_values.row_type) in, rows out; it remembers nothing."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self._motion = MotionTable(classes)

    def moved(self, rows: np.ndarray, ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance `ns` later."""
        return kalman.predict(rows["mean"], rows["cov"],
                              self._motion.agility[rows["label"]] ** 2, ns * NS)

    def worth(self, rows: np.ndarray, found: np.ndarray, gate: float) -> np.ndarray:
        """(N, M) of tracks and detections: positive within `gate` [squared sigmas] and of one kind;
        the more, the nearer and the less vague."""
        noise = self._position_noise(found)
        near, vague = kalman.distances(rows["mean"], rows["cov"], found["mean"][:, :2], noise)
        vague = np.clip(vague - np.log(np.linalg.det(noise))[None], 0.0, VAGUE)
        other = rows["label"][:, None] != found["label"][None]
        kind = self._motion.kind
        fits = (near < gate) & (kind[rows["label"]][:, None] == kind[found["label"]][None])
        best = gate + VAGUE + OTHER_CLASS + 1e-3
        return np.where(fits, best - near - vague - OTHER_CLASS * other, 0.0)

    def corrected(self, rows: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Tracks with one detection each taken in, row i of both; not yet their life's story."""
        out = rows.copy()
        out["mean"], out["cov"] = kalman.update(
            rows["mean"], rows["cov"], kalman.POSITION, found["mean"][:, :2],
            self._position_noise(found))
        self._correct_velocity(out, found["mean"][:, 2:])
        self._correct_heading(out, found["yaw"])
        for name, gain in (("size", SIZE_GAIN), ("z", HEIGHT_GAIN), ("score", SCORE_GAIN)):
            share = np.maximum(1.0 / (rows["hits"] + 1.0), gain)
            out[name] += (share * (found[name] - rows[name]).T).T
        out["votes"] = VOTE_KEPT * rows["votes"] + found["votes"]
        out["label"] = out["votes"].argmax(axis=1)
        return out

    def begun(self, found: np.ndarray) -> np.ndarray:
        """Detections as new tracks: with a covariance. An unknown velocity is 0 in the mean, and
        may be much more along the heading than across it."""
        born, label, motion = found.copy(), found["label"], self._motion
        measured = np.isfinite(found["mean"]).all(axis=1)
        born["mean"][~measured, 2:] = 0.0
        guess = kalman.oriented(found["yaw"], motion.along[label], motion.across[label])
        born["cov"][:, :2, :2] = self._position_noise(found)
        born["cov"][:, 2:, 2:] = np.where(measured[:, None, None], self._velocity_noise(found),
                                          guess)
        return born

    def _correct_velocity(self, rows: np.ndarray, velocity: np.ndarray) -> None:
        """In place, with the velocities that are known and not absurd."""
        noise = self._velocity_noise(rows)
        known = np.nonzero(np.isfinite(velocity).all(axis=1))[0]
        off = kalman.squared_distance(rows["mean"][known], rows["cov"][known], kalman.VELOCITY,
                                      velocity[known], noise[known])
        good = known[off <= VELOCITY_GATE]
        rows["mean"][good], rows["cov"][good] = kalman.update(
            rows["mean"][good], rows["cov"][good], kalman.VELOCITY, velocity[good], noise[good])

    def _correct_heading(self, rows: np.ndarray, yaw: np.ndarray) -> None:
        rows["yaw"], rows["front"] = heading.smoothed(rows["yaw"], rows["front"], yaw,
                                                      rows["hits"])
        sigma = np.sqrt(np.maximum(rows["cov"][:, 2, 2], rows["cov"][:, 3, 3]))
        rows["yaw"], rows["front"] = heading.with_motion(rows["yaw"], rows["front"],
                                                         rows["mean"][:, 2:], sigma)

    def _position_noise(self, rows: np.ndarray) -> np.ndarray:
        return _isotropic(self._motion.position[rows["label"]])

    def _velocity_noise(self, rows: np.ndarray) -> np.ndarray:
        return _isotropic(self._motion.velocity[rows["label"]])


def _isotropic(sigma: np.ndarray) -> np.ndarray:
    """(N,) deviations -> (N, 2, 2) covariances."""
    return (sigma**2)[:, None, None] * np.eye(2)
