"""Simulation: what is true at one time. All objects round the vehicle, seen or not, and the
vehicle's own motion."""

from __future__ import annotations

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.geometry import SE3, wrap_angle
from perception_bev.recordings.base import OdometrySample, Truth, Visibility
from perception_bev.sim.actors import CLASSES
from perception_bev.sim.timing import stamp_ns
from perception_bev.sim.traffic import Traffic
from perception_bev.sim.world import World

REACH_M = 65.0  # objects farther away are not in the ground truth
ODOMETRY_HZ = 50
SPEED_NOISE, YAW_RATE_NOISE = 0.01, 0.001  # of the odometry's twist [m/s, rad/s]
TURN_S = 0.02  # half the time over which the turn rate is measured


def truth_at(world: World, time_s: float, seen: Visibility) -> Truth:
    """In base_link at a time [s].

    seen: (A,) int64 each, of all actors of the world.
    """
    poses = world.traffic.poses(time_s)
    xy = np.concatenate([poses.xy, world.parked_xy])
    yaw = np.concatenate([poses.yaw, world.parked_yaw])
    velocity = np.concatenate([poses.velocity, np.zeros((len(world.parked_xy), 2))])
    here, heading, _ = world.traffic.ego_at(time_s)
    cos, sin = np.cos(heading), np.sin(heading)
    base_from_world = np.array([[cos, sin], [-sin, cos]])
    local = (xy - here) @ base_from_world.T
    near = np.nonzero(np.linalg.norm(local, axis=1) < REACH_M)[0]
    actors = [world.actors[i] for i in near]
    size = np.array([actor.size for actor in actors]).reshape(-1, 3)
    boxes = Boxes3D(
        np.column_stack([local[near], size[:, 2] / 2]).astype(np.float32),
        size.astype(np.float32), wrap_angle(yaw[near] - heading).astype(np.float32),
        np.ones(len(near), np.float32), np.array([actor.label for actor in actors], np.int32),
        CLASSES, (velocity[near] @ base_from_world.T).astype(np.float32))
    return _with_visibility(boxes, np.array([actor.track for actor in actors], np.int64),
                            seen, near)


def _with_visibility(boxes: Boxes3D, track: np.ndarray, seen: Visibility,
                     near: np.ndarray) -> Truth:
    """Counted is what at least one sensor got something of."""
    of_these = Visibility(*(counts[near].astype(np.int32) for counts in (
        seen.lidar_points, seen.radar_returns, seen.pixels)))
    hidden = (of_these.lidar_points == 0) & (of_these.radar_returns == 0) & (of_these.pixels == 0)
    return Truth(boxes, np.where(hidden, 2, 0).astype(np.int32), ~hidden, track, of_these)


def world_from_base(traffic: Traffic, time_s: float) -> SE3:
    xy, yaw, _ = traffic.ego_at(time_s)
    return SE3.from_rpy(np.array([*xy, 0.0]), [0, 0, float(yaw)])


def odom_from_base(traffic: Traffic, time_s: float) -> SE3:
    """odom starts at the place of the drive's beginning."""
    return world_from_base(traffic, 0.0).inverse() @ world_from_base(traffic, time_s)


def odometry(traffic: Traffic, t_ref: float, duration_s: float,
             rng: np.random.Generator) -> tuple[OdometrySample, ...]:
    """At ODOMETRY_HZ up to t_ref [s]. The poses are exact, the twist is measured."""
    step = 1.0 / ODOMETRY_HZ
    return tuple(_motion(traffic, t_ref - step * k, rng)
                 for k in reversed(range(round(duration_s / step))))


def _motion(traffic: Traffic, time_s: float, rng: np.random.Generator) -> OdometrySample:
    _, yaw, speed = traffic.ego_at(np.array([time_s - TURN_S, time_s, time_s + TURN_S]))
    linear = np.array([speed[1] + rng.normal(0, SPEED_NOISE), 0.0, 0.0])
    rate = (yaw[2] - yaw[0]) / (2 * TURN_S)
    angular = np.array([0.0, 0.0, rate + rng.normal(0, YAW_RATE_NOISE)])
    return OdometrySample(stamp_ns(time_s), odom_from_base(traffic, time_s), linear, angular)
