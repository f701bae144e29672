"""Laws of the view: boxes, places and cells go through one and the same map."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import truth

from perception_bev.inputs.view import IDENTITY, View

views = st.builds(View.augmented, turn=st.floats(-3, 3), mirror=st.booleans(),
                  scale=st.floats(0.8, 1.2), shift=st.tuples(st.floats(-5, 5), st.floats(-5, 5)))
FLAT = np.zeros(3)


@given(view=views)
def test_to_the_grid_and_back(view):
    places = np.random.default_rng(0).normal(size=(6, 2)) * 20
    linear, shift = view.base_from_grid
    on_grid = places @ view.linear.T + view.shift
    assert np.allclose(on_grid @ linear.T + shift, places)


@given(turn=st.floats(-3, 3), mirror=st.booleans(), scale=st.floats(0.8, 1.2))
def test_a_view_knows_whether_it_mirrors_and_how_it_scales(turn, mirror, scale):
    view = View.augmented(turn, mirror, scale)
    assert view.mirrored == mirror
    assert np.isclose(abs(np.linalg.det(view.linear)), scale**2)
    assert view.height_scale == scale


def test_mirror_comes_first_then_turn_then_shift():
    view = View.augmented(np.pi / 2, mirror=True, shift=(10.0, 0.0))
    assert np.allclose(view.linear @ [0, 1] + view.shift, [11, 0])  # left, mirrored right, ahead


@given(view=views)
def test_a_box_s_corners_are_where_its_points_are(view):
    boxes = truth(("car",)).boxes
    seen = view.boxes(boxes, FLAT)
    corners = boxes.corners().astype(np.float64)
    expected = np.concatenate([corners[..., :2] @ view.linear.T + view.shift,
                               corners[..., 2:] * view.height_scale], axis=-1)
    found = seen.corners()
    order = [3, 2, 1, 0, 7, 6, 5, 4] if view.mirrored else range(8)  # left and right swap
    assert np.allclose(found[:, order], expected, atol=1e-3)


@given(view=views)
def test_velocities_turn_with_the_boxes(view):
    """A box that drives straight ahead does so in every view."""
    boxes = truth(("car",)).boxes
    ahead = np.stack([np.cos(boxes.yaw), np.sin(boxes.yaw)], axis=1)
    boxes.velocity[:] = 7 * ahead
    seen = view.boxes(boxes, FLAT)
    expected = np.stack([np.cos(seen.yaw), np.sin(seen.yaw)], axis=1) * 7 * view.height_scale
    assert np.allclose(seen.velocity, expected, atol=1e-4)


def test_heights_are_counted_from_the_ground():
    boxes = truth(("car",)).boxes
    plane = np.array([0.05, -0.07, 0.4])
    ground = boxes.centre[:, :2] @ plane[:2] + plane[2]
    seen = IDENTITY.boxes(boxes, plane)
    assert np.allclose(seen.centre[:, 2], boxes.centre[:, 2] - ground, atol=1e-5)
    for name in ("size", "yaw", "score", "label"):
        assert getattr(seen, name) == pytest.approx(getattr(boxes, name), abs=1e-6)
