"""Shared by tests: rigs, drives and traffic of the simulator, and geometry to judge them by."""

import hashlib
from dataclasses import replace

import numpy as np

from perception_bev import resources
from perception_bev.geometry import SE3
from perception_bev.recordings.base import Sample
from perception_bev.rig import Rig, load_rig
from perception_bev.sim.driving import EGO_SIZE
from perception_bev.sim.streets import Streets
from perception_bev.sim.traffic import Traffic

SEED, SECONDS = 1000, 1.0
EGO_CENTRE_M = 1.4  # of the ego's body, ahead of base_link


def rig(**changes) -> Rig:
    """The simulated vehicle, with changed fields."""
    return replace(load_rig(resources.path("config/rigs/sim6.yaml")), **changes)


def small_rig(width: int = 97, height: int = 55) -> Rig:
    """Its front camera with a small picture of odd size, its lidar and its front radar."""
    whole = rig()
    camera = whole.cameras["cam_front"]
    lens = replace(camera.intrinsics, width=width, height=height,
                   k=(0.7 * width, 0.7 * width, (width - 1) / 2, (height - 1) / 2))
    return replace(whole, name="small", cameras={"cam_front": replace(camera, intrinsics=lens)},
                   radars={"radar_front": whole.radars["radar_front"]})


def traffic(seed: int, seconds: float, events=()) -> Traffic:
    rng = np.random.default_rng(seed)
    return Traffic(Streets.drawn(rng), rng, seconds, events)


def digest(sample: Sample) -> str:
    """Of all bytes that a sample's sensors and truth are made of."""
    found = hashlib.sha256()
    for name, frames in sample.raw.items():
        for frame in frames:
            found.update(f"{name} {frame.stamp_ns} {frame.frame_id}".encode())
            found.update(np.ascontiguousarray(
                frame.data if hasattr(frame, "data") else frame.points).tobytes())
    boxes, seen = sample.truth.boxes, sample.truth.seen
    for array in (boxes.centre, boxes.size, boxes.yaw, boxes.velocity, boxes.label,
                  sample.truth.track, seen.lidar_points, seen.radar_returns, seen.pixels,
                  *(part for o in sample.odometry for part in (
                      o.odom_from_base.matrix, o.linear, o.angular))):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def in_box(points: np.ndarray, xy: np.ndarray, yaw: np.ndarray, size: np.ndarray) -> np.ndarray:
    """World points (N, 3) in the frame of a box on the ground, in units of its half size; xy and
    yaw at each point's time, (N, 2) and (N,), or one for all."""
    off = points[:, :2] - xy
    cos, sin = np.cos(yaw), np.sin(yaw)
    local = np.column_stack([cos * off[:, 0] + sin * off[:, 1], cos * off[:, 1] - sin * off[:, 0],
                             points[:, 2] - size[2] / 2])
    return local / (np.asarray(size) / 2)


def footprint(xy: np.ndarray, yaw: float, size: np.ndarray) -> np.ndarray:
    """(4, 2) corners of a box as seen from above."""
    unit = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * np.asarray(size)[:2] / 2
    cos, sin = np.cos(yaw), np.sin(yaw)
    return xy + unit @ np.array([[cos, sin], [-sin, cos]])


def overlap_m(a: np.ndarray, b: np.ndarray) -> float:
    """How deep two convex footprints reach into each other: the least over all sides' normals of
    what they share (separating axis theorem); 0 when they are apart."""
    depth = np.inf
    for one in (a, b):
        for side in np.roll(one, -1, axis=0) - one:
            normal = np.array([-side[1], side[0]]) / np.linalg.norm(side)
            p, q = a @ normal, b @ normal
            depth = min(depth, p.max() - q.min(), q.max() - p.min())
    return max(float(depth), 0.0)


def footprints(traffic: Traffic, time_s: float) -> list[np.ndarray]:
    """Of the ego and of all moving actors."""
    (x, y), yaw, _ = traffic.ego_at(time_s)
    ego = np.array([x, y]) + EGO_CENTRE_M * np.array([np.cos(yaw), np.sin(yaw)])
    poses = traffic.poses(time_s)
    return [footprint(ego, float(yaw), EGO_SIZE)] + [
        footprint(poses.xy[k], float(poses.yaw[k]), actor.size)
        for k, actor in enumerate(traffic.actors)]


def world_from_base(traffic: Traffic, time_s: float) -> SE3:
    (x, y), yaw, _ = traffic.ego_at(time_s)
    return SE3.from_rpy(np.array([x, y, 0.0]), np.array([0.0, 0.0, float(yaw)]))
