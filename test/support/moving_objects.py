"""Objects that move on a plane, and a vehicle that moves among them, for the tests of tracks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.geometry import SE3, wrap_angle
from perception_bev.outputs.track import Tracker, Tracks
from perception_bev.temporal.ego import exp_se3

CLASSES = ("car", "truck", "pedestrian", "bicycle", "traffic_cone")
SIZES = np.array([(4.5, 1.9, 1.6), (8.0, 2.5, 3.2), (0.6, 0.6, 1.7), (1.8, 0.6, 1.6),
                  (0.4, 0.4, 0.8)])
MS = 1_000_000
STILL = SE3.identity()

Ego = Callable[[float], SE3]  # odom_from_base at a time [s]


def driving(speed: float, yaw_rate: float = 0.0, start: SE3 = STILL) -> Ego:
    """Constant speed [m/s] along x and yaw rate [rad/s]."""
    return lambda t: start @ exp_se3(np.array([speed, 0, 0]) * t, np.array([0, 0, yaw_rate]) * t)


class Objects:
    """Constant velocity in odom. Arrays of N; yaw along the velocity, or as given."""

    def __init__(self, xy, velocity, label=0, yaw=None) -> None:
        self.xy = np.asarray(xy, float).reshape(-1, 2)
        self.velocity = np.broadcast_to(np.asarray(velocity, float), self.xy.shape)
        self.label = np.broadcast_to(np.asarray(label, np.int32), len(self.xy)).copy()
        along = np.arctan2(self.velocity[:, 1], self.velocity[:, 0])
        self.yaw = along if yaw is None else np.broadcast_to(np.asarray(yaw, float), len(self.xy))

    def __len__(self) -> int:
        return len(self.xy)

    def boxes(self, t: float, pose: SE3 = STILL, known_velocity: bool = True, score=0.7) -> Boxes3D:
        """All of them as a perfect detector sees them from `pose` at a time [s]."""
        size = SIZES[self.label]
        centre = np.column_stack([self.xy + self.velocity * t, size[:, 2] / 2])
        flat = pose.rotation[:2, :2].T
        velocity = (self.velocity @ flat.T).astype(np.float32) if known_velocity else None
        return Boxes3D(pose.inverse().apply(centre).astype(np.float32), size.astype(np.float32),
                       np.asarray(wrap_angle(self.yaw - pose.yaw), np.float32),
                       np.full(len(self), score, np.float32), self.label, CLASSES, velocity)


def noisy(boxes: Boxes3D, rng: np.random.Generator, metres: float = 0.1) -> Boxes3D:
    """Boxes whose centres are off by so many metres (one sigma)."""
    off = np.zeros_like(boxes.centre)
    off[:, :2] = rng.normal(0, metres, (len(boxes), 2))
    return Boxes3D(boxes.centre + off, boxes.size, boxes.yaw, boxes.score, boxes.label,
                   boxes.classes, boxes.velocity)


def nearest_ids(tracks: Tracks, boxes: Boxes3D, within: float = 1.0) -> np.ndarray:
    """(N,) the id of the track nearest to each box; -1 where none is within so many metres."""
    if not len(tracks):
        return np.full(len(boxes), -1)
    apart = np.linalg.norm(tracks.boxes.centre[None, :, :2] - boxes.centre[:, None, :2], axis=2)
    return np.where(apart.min(axis=1) <= within, tracks.id[apart.argmin(axis=1)], -1)


def run(tracker: Tracker, objects: Objects, times, ego: Ego = lambda t: STILL, seen=None,
        noise: np.random.Generator | None = None, **how) -> list[Tracks]:
    """Feed a tracker; `seen(k, n)` gives the mask of the objects that are seen in step k."""
    out = []
    for k, t in enumerate(times):
        pose = ego(t)
        boxes = objects.boxes(t, pose, **how)
        if seen is not None:
            boxes = boxes[seen(k, len(objects))]
        if noise is not None:
            boxes = noisy(boxes, noise)
        out.append(tracker.update(boxes, pose, round(t * 1e9)))
    return out
