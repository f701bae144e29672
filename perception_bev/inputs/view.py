"""Inputs: how the network's grid lies in the world. Live it is base_link itself; in training it is
turned, mirrored, scaled and shifted, and everything that enters the network goes through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_bev.contracts import Boxes3D


@dataclass(frozen=True, slots=True)
class View:
    """grid_from_base in the plane, and a scale for heights above the ground."""

    linear: np.ndarray  # (2, 2) float64: rotation x mirror x scale
    shift: np.ndarray  # (2,) float64 [m]
    height_scale: float = 1.0

    @staticmethod
    def augmented(turn: float = 0.0, mirror: bool = False, scale: float = 1.0,
                  shift: tuple[float, float] = (0.0, 0.0)) -> View:
        """Mirror y, then scale, then turn [rad], then shift [m]."""
        cos, sin = np.cos(turn), np.sin(turn)
        linear = scale * np.array([[cos, -sin], [sin, cos]])
        if mirror:
            linear = linear @ np.diag([1.0, -1.0])
        return View(linear, np.asarray(shift, np.float64), scale)

    @property
    def mirrored(self) -> bool:
        return bool(np.linalg.det(self.linear) < 0)

    @property
    def base_from_grid(self) -> tuple[np.ndarray, np.ndarray]:
        """(2, 2), (2,): base = linear @ grid + shift."""
        inverse = np.linalg.inv(self.linear)
        return inverse, -inverse @ self.shift

    def boxes(self, boxes: Boxes3D, plane: np.ndarray) -> Boxes3D:
        """Boxes in base_link -> in the grid, centre z counted from the ground plane (3,)."""
        height = boxes.centre[:, 2] - boxes.centre[:, :2] @ plane[:2] - plane[2]
        centre = boxes.centre[:, :2] @ self.linear.T + self.shift
        forward = np.stack([np.cos(boxes.yaw), np.sin(boxes.yaw)], axis=1) @ self.linear.T
        return Boxes3D(
            np.column_stack([centre, height * self.height_scale]).astype(np.float32),
            (boxes.size * self.height_scale).astype(np.float32),
            np.arctan2(forward[:, 1], forward[:, 0]).astype(np.float32),
            boxes.score, boxes.label, boxes.classes,
            (boxes.velocity @ self.linear.T).astype(np.float32))


IDENTITY = View(np.eye(2), np.zeros(2))
