"""Simulation: rays into the world. One static scene built once, one unit scene for each shape of a
moving actor; a ray is moved into the actor's frame at the ray's own time. The nearest hit wins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from perception_bev.errors import PerceptionError
from perception_bev.sim import meshes
from perception_bev.sim.world import World

NOTHING = -1  # the surface of the sky


@dataclass
class Hits:
    """What rays met. `distance` is in units of each ray's direction vector."""

    distance: np.ndarray  # (N,) float32, inf: nothing
    surface: np.ndarray  # (N,) int32, NOTHING where there is none
    normal: np.ndarray  # (N, 3) float32 in world, unit length


class Caster:
    """Casts rays (origin, direction) given in the world frame."""

    def __init__(self, world: World, threads: int = 1) -> None:
        open3d = _open3d()
        self._tensor = open3d.core.Tensor
        self._world, self._threads = world, threads
        self._static = self._scene(world.static)
        self._slots = world.static.slots
        self._shapes = {actor.shape: self._scene(meshes.unit_mesh(actor.shape))
                        for actor in world.actors[:world.moving]}

    def static(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """Hits of the unmoving world; origins (3,) or (N, 3), directions (N, 3) float32."""
        rays = np.empty((len(directions), 6), np.float32)
        rays[:, :3], rays[:, 3:] = origins, directions
        return self._cast(self._static, self._slots, rays)

    def actor(self, k: int, xy: np.ndarray, yaw: np.ndarray, origins: np.ndarray,
              directions: np.ndarray) -> Hits:
        """Hits of moving actor k, which is at xy ((2,) or (N, 2)) with yaw at each ray's time."""
        actor, count = self._world.actors[k], len(directions)
        size = actor.size.astype(np.float32)
        place = np.empty((np.size(yaw), 4), np.float32)
        place[:, :2], place[:, 2], place[:, 3] = xy, np.cos(yaw), np.sin(yaw)
        rays = np.empty((count, 6), np.float32)
        _into_unit(np.atleast_2d(origins).astype(np.float32), directions, place, size, rays)
        mesh = meshes.unit_mesh(actor.shape)
        hits = self._cast(self._shapes[actor.shape], mesh.slots, rays)
        hits.surface[hits.surface >= 0] += self._world.first_surface[k]
        _out_of_unit(hits.normal, place, size)
        return hits

    def _scene(self, mesh: meshes.Mesh):
        scene = _open3d().t.geometry.RaycastingScene(nthreads=self._threads)
        scene.add_triangles(self._tensor(mesh.vertices), self._tensor(mesh.triangles))
        return scene

    def _cast(self, scene, slots: np.ndarray, rays: np.ndarray) -> Hits:
        found = scene.cast_rays(self._tensor(rays), nthreads=self._threads)
        primitive = found["primitive_ids"].numpy()
        distance = found["t_hit"].numpy()
        hit = np.isfinite(distance)
        surface = np.full(len(rays), NOTHING, np.int32)
        surface[hit] = slots[primitive[hit]]
        return Hits(distance, surface, found["primitive_normals"].numpy().copy())


@njit(nogil=True, cache=True)
def _into_unit(origins, directions, place, size, rays):
    """World rays -> rays in the unit frame of a box that stands at `place` (x, y, cos, sin)."""
    for i in range(directions.shape[0]):
        p = place[i if place.shape[0] > 1 else 0]
        o = origins[i if origins.shape[0] > 1 else 0]
        x, y, z = o[0] - p[0], o[1] - p[1], o[2] - size[2] / np.float32(2.0)
        rays[i, 0] = (p[2] * x + p[3] * y) / size[0]
        rays[i, 1] = (p[2] * y - p[3] * x) / size[1]
        rays[i, 2] = z / size[2]
        x, y = directions[i, 0], directions[i, 1]
        rays[i, 3] = (p[2] * x + p[3] * y) / size[0]
        rays[i, 4] = (p[2] * y - p[3] * x) / size[1]
        rays[i, 5] = directions[i, 2] / size[2]


@njit(nogil=True, cache=True)
def _out_of_unit(normal, place, size):
    """Normals of the unit mesh -> of the scaled one (inverse transpose), in world, unit length."""
    for i in range(normal.shape[0]):
        p = place[i if place.shape[0] > 1 else 0]
        x, y, z = normal[i, 0] / size[0], normal[i, 1] / size[1], normal[i, 2] / size[2]
        length = max(np.sqrt(x * x + y * y + z * z), np.float32(1e-9))
        normal[i, 0] = (p[2] * x - p[3] * y) / length
        normal[i, 1] = (p[3] * x + p[2] * y) / length
        normal[i, 2] = z / length


def _open3d():
    try:
        import open3d
    except ImportError as err:
        raise PerceptionError("the simulator needs Open3D: make setup, or pip install open3d-cpu "
                              f"(and libgl1, libgomp1, libusb-1.0-0 from the system): {err}") from err
    return open3d
