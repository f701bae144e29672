"""Temporal: past bird's-eye views, bounded, with the pose and time of each."""

from __future__ import annotations

from perception_bev.temporal.warp import warp_theta

__all__ = ["warp_theta"]
