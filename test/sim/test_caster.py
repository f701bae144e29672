"""Rays: the short cuts (boxes first, one cast a shape) find what plain casting finds."""

import sys

import numpy as np
import pytest

from perception_bev.errors import PerceptionError
from perception_bev.sim import meshes, shapes
from perception_bev.sim.caster import NOTHING, Caster, Rays
from perception_bev.sim.meshes import Mesh

open3d = pytest.importorskip("open3d", reason="the simulator needs Open3D")


def everything(world, time_s: float):
    """(scene, surface of each triangle): all at one time in one mesh, moving actors included."""
    poses, parts = world.traffic.poses(time_s), [world.static]
    for k, actor in enumerate(world.actors[:world.moving]):
        mesh = meshes.transformed(shapes.unit_mesh(actor.shape),
                                  (*poses.xy[k], actor.size[2] / 2), poses.yaw[k], actor.size)
        parts.append(Mesh(mesh.vertices, mesh.triangles, mesh.slots + world.first_surface[k]))
    whole = meshes.join(parts)
    scene = open3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(open3d.core.Tensor(whole.vertices), open3d.core.Tensor(whole.triangles))
    return scene, whole.slots


def cast_plainly(world, rays: Rays):
    """Distance and surface (H, W) of rays that start at one time and place."""
    scene, slots = everything(world, float(rays.times_s[0]))
    shape = rays.directions.shape[:2]
    flat = np.hstack([np.broadcast_to(rays.origins[0], (shape[0] * shape[1], 3)),
                      rays.directions.reshape(-1, 3)]).astype(np.float32)
    found = scene.cast_rays(open3d.core.Tensor(flat), nthreads=1)
    distance = found["t_hit"].numpy()
    hit = np.isfinite(distance)
    surface = np.full(len(flat), NOTHING)
    surface[hit] = slots[found["primitive_ids"].numpy()[hit]]
    return distance.reshape(shape), surface.reshape(shape)


def ring(drive, time_s: float) -> Rays:
    """All round the lidar at one time, 0.5 degrees apart."""
    azimuth, elevation = np.deg2rad(np.arange(0, 360, 0.5)), np.deg2rad(np.arange(-12, 3, 0.5))
    directions = np.stack(np.broadcast_arrays(
        np.cos(elevation)[:, None] * np.cos(azimuth), np.cos(elevation)[:, None] * np.sin(azimuth),
        np.sin(elevation)[:, None]), axis=-1).astype(np.float32)
    xy, _, _ = drive.world.traffic.ego_at(time_s)
    return Rays(np.array([[*xy, 1.8]], np.float32), directions, np.array([time_s]))


def shortened(drive, rays: Rays):
    """By the caster, with all moving actors."""
    caster = Caster(drive.world)
    flat = np.hstack([np.broadcast_to(rays.origins[0], (rays.directions[..., 0].size, 3)),
                      rays.directions.reshape(-1, 3)])
    hits = caster.static(flat).reshaped(*rays.directions.shape[:2])
    caster.add_moving(rays, hits, np.arange(drive.world.moving))
    return hits


def test_nothing_is_missed_and_nothing_is_made_up(drive):
    rays = ring(drive, 0.7)
    hits = shortened(drive, rays)
    distance, surface = cast_plainly(drive.world, rays)
    owner = np.append(drive.world.surfaces.owner, -1)
    moving = (owner[surface] >= 0) & (owner[surface] < drive.world.moving)
    assert moving.sum() > 300, "the scene shows moving actors"
    same = hits.surface == surface
    assert same.mean() > 0.999 and same[moving].mean() > 0.99, "but for edges"
    near = same & np.isfinite(distance)
    assert np.abs(hits.distance[near] - distance[near]).max() < 0.02
    assert (hits.surface[~np.isfinite(distance)] == NOTHING).mean() > 0.999


def test_normals_are_unit_vectors_across_the_faces(drive):
    rays = ring(drive, 0.7)
    hits = shortened(drive, rays)
    hit = hits.surface >= 0
    assert np.allclose(np.linalg.norm(hits.normal[hit], axis=1), 1, atol=1e-4)
    owner = drive.world.surfaces.owner[np.maximum(hits.surface, 0)]
    moving = hit & (owner >= 0) & (owner < drive.world.moving)
    facing = np.abs(np.einsum("...i,...i->...", hits.normal, rays.directions))[moving]
    assert facing.mean() > 0.3


def test_a_ray_that_met_something_nearer_is_not_cast_again(drive):
    rays = ring(drive, 0.7)
    caster, hits = Caster(drive.world), shortened(drive, rays)
    before = hits.distance.copy()
    hits.distance[:] = 0.5
    caster.add_moving(rays, hits, np.arange(drive.world.moving))
    assert (hits.distance <= 0.5).all() and (before > 0.5).any()


def test_actors_move_with_the_time_of_each_row(drive):
    """Two rows of the same rays at two times see a moving actor at two places."""
    traffic, k = drive.world.traffic, fastest(drive)
    times = np.array([0.3, 0.8])
    xy = traffic.tracks(np.array([k]), times)[:, 0, :2]
    origin = np.array([*xy.mean(axis=0), 30.0], np.float32)
    targets = np.array([[*at, 1.0] for at in xy], np.float32)
    directions = np.repeat((targets - origin)[None], 2, axis=0)  # each row looks at both places
    rays = Rays(np.repeat(origin[None], 2, axis=0), directions, times)
    caster = Caster(drive.world)
    flat = np.hstack([np.repeat(rays.origins, 2, axis=0), directions.reshape(-1, 3)])
    hits = caster.static(flat).reshaped(2, 2)
    caster.add_moving(rays, hits, np.array([k]))
    owner = np.append(drive.world.surfaces.owner, -1)[hits.surface]
    assert owner[0, 0] == k and owner[1, 1] == k and owner[0, 1] != k and owner[1, 0] != k


def fastest(drive) -> int:
    """A vehicle that goes well over a length in half a second."""
    way = np.diff(drive.world.traffic.tracks(np.arange(drive.world.moving),
                                             np.array([0.3, 0.8]))[..., :2], axis=0)[0]
    size = np.array([actor.size[0] for actor in drive.world.actors[:drive.world.moving]])
    margin = np.linalg.norm(way, axis=1) - 0.6 * size
    assert margin.max() > 0.3, "the drive has something fast"
    return int(np.argmax(margin))


def test_without_open3d_the_cure_is_said(drive, monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(PerceptionError, match="pip install open3d-cpu"):
        Caster(drive.world)
