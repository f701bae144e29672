"""Simulation: everything that can be seen. The town and what stands parked in it are one static
mesh; moving actors have surfaces here and meshes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perception_bev.sim import meshes, shapes
from perception_bev.sim.actors import Actor
from perception_bev.sim.driving import Parked
from perception_bev.sim.meshes import Mesh
from perception_bev.sim.streets import Streets
from perception_bev.sim.surfaces import SurfaceList, Surfaces
from perception_bev.sim.town import Town
from perception_bev.sim.traffic import Traffic


@dataclass(frozen=True, slots=True)
class World:
    """Moving actors come first in `actors`, then parked ones."""

    static: Mesh  # slots are surfaces
    surfaces: Surfaces
    actors: tuple[Actor, ...]
    moving: int  # how many of the actors move
    parked_xy: np.ndarray  # (P, 2) [m]
    parked_yaw: np.ndarray  # (P,) [rad]
    first_surface: np.ndarray  # (moving,) int32: surface of each moving actor's slot 0
    traffic: Traffic


def build(streets: Streets, traffic: Traffic, rng: np.random.Generator) -> World:
    """The town round the ego's way, with its actors."""
    moving, parked = traffic.actors, traffic.parked
    surfaces = SurfaceList()
    parts = Town(streets, traffic.driven, surfaces, rng).parts
    parts += [_standing(place, surfaces, len(moving) + k) for k, place in enumerate(parked)]
    firsts = [surfaces.add_palette(actor, k) for k, actor in enumerate(moving)]
    return World(meshes.join(parts), surfaces.done(), (*moving, *_actors(parked)), len(moving),
                 np.array([p.xy for p in parked]).reshape(-1, 2),
                 np.array([p.yaw for p in parked]), np.array(firsts, np.int32), traffic)


def _actors(parked: Sequence[Parked]) -> list[Actor]:
    return [place.actor for place in parked]


def _standing(place: Parked, surfaces: SurfaceList, owner: int) -> Mesh:
    """A parked actor's mesh in the world, of surfaces of its own."""
    first, actor = surfaces.add_palette(place.actor, owner), place.actor
    mesh = meshes.transformed(shapes.unit_mesh(actor.shape), (*place.xy, actor.size[2] / 2),
                              place.yaw, actor.size)
    return Mesh(mesh.vertices, mesh.triangles, mesh.slots + first)
