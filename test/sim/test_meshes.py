"""Meshes and shapes: closed solids that look outward, and fill their boxes."""

from collections import Counter

import numpy as np
import pytest

from perception_bev.sim import meshes, shapes
from perception_bev.sim.actors import CLASSES, KINDS
from perception_bev.sim.meshes import Mesh

SOLIDS = {
    "box": meshes.box((1, 2, 3), (2, 1, 0.5), 4),
    "tapered": meshes.box((0, 0, 0), (2, 1, 0.5), 0, top=0.5),
    **{f"cylinder {axis}": meshes.cylinder((0, 1, 0), 0.5, 2.0, axis, 1) for axis in range(3)},
    "cone": meshes.cylinder((0, 0, 0), 0.5, 2.0, 2, 1, tip=0.2),
    "ball": meshes.ball((0, 0, 1), (1, 2, 3), 2)}


def volume(mesh: Mesh) -> float:
    """Signed: positive when the faces' corners go round counter-clockwise seen from outside."""
    a, b, c = (mesh.vertices[mesh.triangles[:, i]].astype(float) for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("name", SOLIDS)
def test_solids_are_closed(name):
    triangles = SOLIDS[name].triangles
    edges = Counter((int(t[i]), int(t[(i + 1) % 3])) for t in triangles for i in range(3))
    assert set(edges.values()) == {1}, "every edge once in each direction"
    assert all((b, a) in edges for a, b in edges)


@pytest.mark.parametrize("name, wanted", [
    ("box", 1.0), ("tapered", 0.75), ("cylinder 0", np.pi / 2), ("cylinder 2", np.pi / 2),
    ("ball", 8 * np.pi)])
def test_solids_look_outward_and_are_as_large_as_said(name, wanted):
    assert wanted * 0.75 < volume(SOLIDS[name]) < wanted * 1.001


def test_a_cylinder_lies_along_its_axis():
    for axis in range(3):
        size = np.ptp(meshes.cylinder((0, 0, 0), 0.5, 3.0, axis, 0).vertices, axis=0)
        assert size[axis] == pytest.approx(3.0) and (np.delete(size, axis) < 1.01).all()


def test_joined_meshes_keep_their_triangles():
    one, two = SOLIDS["box"], SOLIDS["ball"]
    both = meshes.join([one, two])
    assert volume(both) == pytest.approx(volume(one) + volume(two), rel=1e-5)
    assert list(both.slots) == [*one.slots, *two.slots]
    assert both.triangles.dtype == np.uint32 and both.vertices.dtype == np.float32


def test_transformed_scales_turns_and_moves():
    moved = meshes.transformed(SOLIDS["box"], (10, 0, 0), np.pi / 2, (2, 1, 1))
    wanted = SOLIDS["box"].vertices * [2, 1, 1]
    assert np.allclose(moved.vertices[:, 0], 10 - wanted[:, 1], atol=1e-5)
    assert np.allclose(moved.vertices[:, 1], wanted[:, 0], atol=1e-5)


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_every_shape_fills_the_unit_cube(shape):
    mesh = shapes.unit_mesh(shape)
    assert np.allclose(mesh.vertices.min(axis=0), -0.5) and np.allclose(
        mesh.vertices.max(axis=0), 0.5)
    assert len(mesh.triangles) == len(mesh.slots)
    assert mesh.slots.max() < len(shapes.SLOT_COLOURS) and shapes.PAINT in mesh.slots


def test_every_class_has_a_shape_of_its_own():
    assert set(KINDS) == set(CLASSES)
    drawn = [shape for kind in KINDS.values() for shape in kind.shapes]
    assert sorted(drawn) == sorted(shapes.SHAPES)


def test_vehicles_have_their_lights_at_the_right_ends():
    for shape in ("sedan", "suv", "truck", "bus"):
        mesh = shapes.unit_mesh(shape)
        x = mesh.vertices[mesh.triangles].mean(axis=1)[:, 0]
        assert x[mesh.slots == shapes.FRONT_LIGHT].min() > 0.4
        assert x[mesh.slots == shapes.REAR_LIGHT].max() < -0.4
