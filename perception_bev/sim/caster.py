"""Simulation: rays into the world. One static scene built once, one unit scene for each shape of a
moving actor; a ray is moved into the actor's frame at the ray's own time. The nearest hit wins."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from threading import local
from typing import Any

import numpy as np

from perception_bev.errors import PerceptionError
from perception_bev.sim import kernels
from perception_bev.sim.meshes import Mesh
from perception_bev.sim.shapes import unit_mesh
from perception_bev.sim.world import World

NOTHING = -1  # the surface of the sky
SHARED_RAYS = 20_000  # so many are worth being shared among threads


@dataclass(frozen=True, slots=True)
class Rays:
    """Rows of rays in the world frame. All rays of a row start at one time and place; a single
    time and place serves all rows."""

    origins: np.ndarray  # (H, 3) or (1, 3) float32 [m]
    directions: np.ndarray  # (H, W, 3) float32, of any length
    times_s: np.ndarray  # (H,) or (1,) float64


@dataclass(frozen=True, slots=True)
class Hits:
    """What rays met; shapes are those of the rays, (H, W) or (N,)."""

    distance: np.ndarray  # (...) float32, in units of each ray's direction; inf: nothing
    surface: np.ndarray  # (...) int32, NOTHING where there is none
    normal: np.ndarray  # (..., 3) float32 in world, unit length, either side

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.distance, self.surface, self.normal

    def part(self, first: int, end: int) -> Hits:
        """A view of some hits (N,)."""
        return Hits(*(array[first:end] for array in self.arrays))

    def reshaped(self, height: int, width: int) -> Hits:
        """Views as rows."""
        return Hits(self.distance.reshape(height, width), self.surface.reshape(height, width),
                    self.normal.reshape(height, width, 3))


class Caster:
    """Casts rays into a world. Threads may share it, but only one casts at a time: Open3D keeps
    Python's lock. So a large cast takes several threads of its own."""

    def __init__(self, world: World, threads: int = 1) -> None:
        """threads: of a large cast. PerceptionError when Open3D is missing says how to get it."""
        open3d = _open3d()
        self._threads = min(threads, os.cpu_count() or 1)
        self._tensor = open3d.core.Tensor
        self._new_scene = open3d.t.geometry.RaycastingScene
        self._world, self._scratch = world, local()
        self._static = self._scene(world.static)
        moving = world.actors[:world.moving]
        self._shapes = {actor.shape: self._scene(unit_mesh(actor.shape)) for actor in moving}
        self._sizes = np.array([actor.size for actor in moving], np.float32).reshape(-1, 3)

    def static(self, rays: np.ndarray) -> Hits:
        """Hits of the unmoving world by rays (N, 6) float32: origins and directions."""
        return self._cast(self._static, self._world.static.slots, rays)

    def add_moving(self, rays: Rays, hits: Hits, which: np.ndarray,
                   windows: np.ndarray | None = None) -> None:
        """Put moving actors into hits (H, W), in place, where they are nearer.

        Args:
            which: (M,) int64, the actors that may be seen.
            windows: (M, 4) int64 first and last + 1 row, and column, that each may be seen in;
                default: all.
        """
        if len(which) == 0:
            return
        height, width = hits.distance.shape
        if windows is None:
            windows = np.tile([0, height, 0, width], (len(which), 1))
        places, sizes = self._places(which, rays.times_s), self._sizes[which]
        target, unit_rays, ends = self._aimed(rays, hits, places, sizes, windows)
        for m, span, found in self._met(which, unit_rays, ends):
            kernels.keep_nearer(*found.arrays, target[span], places[:, m], sizes[m],
                                self._world.first_surface[which[m]], *hits.arrays)

    def _met(self, which: np.ndarray, unit_rays: np.ndarray,
             ends: np.ndarray) -> Iterator[tuple[int, slice, Hits]]:
        """Hits of each actor's rays, in the actors' order; those of a shape are cast at once."""
        begins = np.concatenate([[0], ends[:-1]])
        spans = {m: slice(begins[m], ends[m]) for m in np.nonzero(begins < ends)[0]}
        of_shape: dict[str, list[int]] = {}
        for m in spans:
            of_shape.setdefault(self._world.actors[which[m]].shape, []).append(m)
        met = {}
        for shape, members in of_shape.items():
            found = self._cast(self._shapes[shape], unit_mesh(shape).slots,
                               np.concatenate([unit_rays[spans[m]] for m in members]))
            at = 0
            for m in members:
                met[m] = found.part(at, at := at + ends[m] - begins[m])
        for m, span in spans.items():
            yield m, span, met[m]

    def _places(self, which: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        """(T, M, 4) float32 x, y, cos and sin of the heading of moving actors."""
        rows = self._world.traffic.tracks(which, times_s)
        places = np.empty(rows.shape, np.float32)
        places[..., :2] = rows[..., :2]
        places[..., 2], places[..., 3] = np.cos(rows[..., 2]), np.sin(rows[..., 2])
        return places

    def _aimed(self, rays: Rays, hits: Hits, places: np.ndarray, sizes: np.ndarray,
               windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rays that meet actors' boxes before anything else: their flat numbers (N,), in the
        actors' unit frames (N, 6), and where each actor's end (M,). Of this thread's memory."""
        ends = np.empty(len(sizes), np.int64)
        while True:
            target, unit_rays = self._memory()
            count = kernels.aim(rays.origins, rays.directions, hits.distance, places, sizes,
                                windows, target, unit_rays, ends)
            if count <= len(target):
                return target, unit_rays, ends
            self._memory(2 * count)

    def _memory(self, wanted: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Buffers of this thread: fresh pages cost more than what is done in them."""
        if not hasattr(self._scratch, "target") or wanted > len(self._scratch.target):
            size = max(wanted, 1 << 16)
            self._scratch.target = np.empty((size, 2), np.int32)
            self._scratch.rays = np.empty((size, 6), np.float32)
        return self._scratch.target, self._scratch.rays

    def _scene(self, mesh: Mesh) -> Any:
        scene = self._new_scene(nthreads=1)
        scene.add_triangles(self._tensor(mesh.vertices), self._tensor(mesh.triangles))
        return scene

    def _cast(self, scene: Any, slots: np.ndarray, rays: np.ndarray) -> Hits:
        """Of rays (N, 6) float32."""
        threads = self._threads if len(rays) >= SHARED_RAYS else 1
        found = scene.cast_rays(self._tensor(rays), nthreads=threads)
        surface = np.empty(len(rays), np.int32)
        distance = found["t_hit"].numpy()  # these arrays keep Open3D's memory alive
        kernels.surfaces(distance, found["primitive_ids"].numpy(), slots, surface)
        return Hits(distance, surface, found["primitive_normals"].numpy())


def _open3d() -> Any:
    try:
        import open3d
    except ImportError as err:
        raise PerceptionError(
            "the simulator needs Open3D: make setup, or pip install open3d-cpu (and libgl1, "
            f"libgomp1, libusb-1.0-0 from the system): {err}") from err
    return open3d
