"""Law of the warp: a map sampled with it is the map drawn from the new pose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev import manifest
from perception_bev.geometry import SE3
from perception_bev.grid import BevGrid
from perception_bev.inputs.view import IDENTITY, View
from perception_bev.temporal.ego import Twist
from perception_bev.temporal.memory import BevMemory, Moment
from perception_bev.temporal.warp import warp_theta

torch = pytest.importorskip("torch", reason="its affine_grid and grid_sample are the convention")
pytestmark = pytest.mark.torch

GRID = BevGrid(-24.0, 40.0, -32.0, 32.0, 0.5)  # not symmetric: a swap of axes would show
LOPSIDED = BevGrid(-10.0, 30.0, -6.0, 14.0, 0.5)
metres = st.floats(-8, 8)
views = st.builds(View.augmented, turn=st.floats(-3, 3), mirror=st.booleans(),
                  scale=st.floats(0.8, 1.2), shift=st.tuples(st.floats(-3, 3), st.floats(-3, 3)))


def planar(x, y, yaw) -> SE3:
    return SE3.from_rpy(np.array([x, y, 0.0]), np.array([0.0, 0.0, yaw]))


poses = st.builds(planar, metres, metres, st.floats(-np.pi, np.pi))


def world(xy: np.ndarray) -> np.ndarray:
    """A static world, smooth and without symmetry: (..., 2) [m] in odom -> (...)."""
    x, y = xy[..., 0], xy[..., 1]
    return np.sin(0.11 * x + 0.3) + 0.7 * np.cos(0.07 * x - 0.13 * y) + 0.02 * y


def drawn(grid: BevGrid, odom_from_base: SE3, view: View = IDENTITY) -> np.ndarray:
    """The world on the grid as seen from a pose: (X, Y)."""
    linear, shift = view.base_from_grid
    base = grid.centres().astype(np.float64) @ linear.T + shift
    return world(base @ odom_from_base.rotation[:2, :2].T + odom_from_base.translation[:2])


def sampled(drawing: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(X, Y) taken at the warped places, and which of them lie well inside the map."""
    image = torch.tensor(np.stack([drawing, np.ones_like(drawing)]), dtype=torch.float32)[None]
    places = torch.nn.functional.affine_grid(torch.tensor(theta)[None], (1, 2, *drawing.shape),
                                             align_corners=False)
    out = torch.nn.functional.grid_sample(image, places, align_corners=False)[0].numpy()
    return out[0], out[1] > 0.999


@settings(deadline=None, max_examples=60)
@given(then=poses, now=poses, view=views, grid=st.sampled_from([GRID, LOPSIDED]))
def test_sampling_the_past_is_drawing_it_from_the_new_pose(then, now, view, grid):
    theta = warp_theta(grid, then.inverse() @ now, view.linear, view.shift)
    seen, inside = sampled(drawn(grid, then, view), theta)
    assert np.abs(seen - drawn(grid, now, view))[inside].max(initial=0) < 0.01


@settings(deadline=None)
@given(view=views)
def test_a_parked_vehicle_samples_every_cell_at_itself(view):
    theta = warp_theta(GRID, SE3.identity(), view.linear, view.shift)
    assert np.allclose(theta, [[1, 0, 0], [0, 1, 0]], atol=1e-5)


@given(first=poses, second=poses)
def test_two_warps_in_a_row_are_the_warp_of_the_whole_way(first, second):
    a, b, both = (np.vstack([warp_theta(GRID, pose), [0, 0, 1]])
                  for pose in (first, second, first @ second))
    assert np.allclose(a @ b, both, atol=1e-4)


def test_the_grid_s_resolution_does_not_matter():
    pose = planar(3.0, -1.0, 0.4)
    assert np.allclose(warp_theta(GRID, pose), warp_theta(GRID.coarser(4), pose))


def test_driving_straight_looks_further_ahead_in_the_past():
    theta = warp_theta(GRID, planar(6.4, 0.0, 0.0))
    assert theta @ [0, 0, 1] == pytest.approx([0.0, 0.2], abs=1e-6)  # 6.4 m of 32 m, along rows


def test_the_check_sees_a_wrong_turn():
    then, now = planar(0, 0, 0), planar(1, 2, 0.5)
    wrong = warp_theta(GRID, now.inverse() @ then)
    seen, inside = sampled(drawn(GRID, then), wrong)
    assert np.abs(seen - drawn(GRID, now))[inside].max() > 0.1


@given(yaw=st.floats(-3, 3), pitch=st.floats(-0.05, 0.05), roll=st.floats(-0.05, 0.05))
def test_a_place_on_the_ground_is_found_over_a_slope(yaw, pitch, roll):
    then_from_now = SE3.from_rpy(np.array([2.0, -1.0, 0.3]), np.array([roll, pitch, yaw]))
    on_ground = np.array([5.0, 3.0, 0.0])
    there = then_from_now.apply(on_ground)[:2]
    normalised = (np.array([on_ground[1], on_ground[0] - 8.0]) / 32.0)
    column, row = warp_theta(GRID, then_from_now) @ [*normalised, 1.0]
    assert np.allclose([row * 32 + 8, column * 32], there, atol=1e-4)


@settings(max_examples=20)
@given(speed=st.floats(0, 20), turn=st.floats(-0.8, 0.8), period_ms=st.sampled_from([50, 100, 130]))
def test_what_the_memory_recalls_of_a_static_world_is_the_world_of_now(speed, turn, period_ms):
    """Every slot, with the motion that the memory itself worked out, where the map of then was."""
    memory = BevMemory(manifest.Memory(ages_s=(0.2, 0.5, 1.0), channels=1), GRID)
    twist, small = Twist(np.array([speed, 0, 0]), np.array([0, 0, turn])), GRID.coarser(4)
    for ms in range(0, 2000, period_ms):
        now = Moment(ms * 1_000_000, planar(500.0, -300.0, 2.0) @ twist.motion(ms / 1000))
        recall, seen = memory.recall(now), drawn(small, now.odom_from_base).astype(np.float32)
        memory.store(now, {"remember": np.stack([seen, np.ones_like(seen)])[None]})
    feeds = recall.feeds
    assert (feeds["memory_age"] > 0).all()
    for remembered, theta in zip(feeds["memory"][0], feeds["memory_warp"][0], strict=True):
        found, inside = sampled(remembered[0], theta)
        assert inside.sum() > 100
        assert np.abs(found - seen)[inside].max() < 0.03
