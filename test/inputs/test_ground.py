"""Laws of the ground fit: it finds the road under what stands on it, and says level without."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev.inputs.ground import fit_ground

slopes = st.floats(-0.06, 0.06)


def road(plane, seed: int = 0, n: int = 6000, noise: float = 0.02) -> np.ndarray:
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-45, 45, (n, 2))
    z = xy @ plane[:2] + plane[2] + rng.normal(size=n) * noise
    return np.column_stack([xy, z, np.zeros(n)]).astype(np.float32)


def with_things(points: np.ndarray, plane, seed: int = 1) -> np.ndarray:
    """Blocks of cars and walls that hide a third of the road."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-44, 40, (180, 2))
    xy = (corners[:, None] + rng.uniform(0, 4, (180, 80, 2))).reshape(-1, 2)
    z = xy @ plane[:2] + plane[2] + rng.uniform(0.2, 1.4, len(xy))
    hidden = (np.abs(points[:, None, :2] - corners - 2) < 2).all(axis=2).any(axis=1)
    things = np.column_stack([xy, z, np.zeros(len(xy))]).astype(np.float32)
    return np.concatenate([points[~hidden], things])


def error_m(found: np.ndarray, plane) -> float:
    """Largest difference of height within 30 m."""
    corners = np.array([[x, y, 1.0] for x in (-30, 30) for y in (-30, 30)])
    return float(np.abs(corners @ (found - plane)).max())


@settings(max_examples=15)
@given(a=slopes, b=slopes, c=st.floats(-0.3, 0.3))
def test_a_bare_road_is_found(a, b, c):
    plane = np.array([a, b, c])
    # lowest points of cells lie about two sigma under the road, and slopes pull them further
    assert error_m(fit_ground(road(plane)), plane) < 0.15


@pytest.mark.parametrize("plane", [(0.0, 0.0, 0.0), (0.02, -0.03, 0.1), (-0.03, 0.0, -0.2)])
def test_what_stands_on_the_road_does_not_lift_it(plane):
    points = with_things(road(np.array(plane)), np.array(plane))
    assert error_m(fit_ground(points), np.array(plane)) < 0.04  # least squares: 0.06 to 0.09


def test_the_order_of_points_does_not_matter():
    points = with_things(road(np.array([0.02, 0.01, 0.1])), np.array([0.02, 0.01, 0.1]))
    shuffled = points[np.random.default_rng(3).permutation(len(points))]
    assert np.allclose(fit_ground(points), fit_ground(shuffled), atol=1e-9)


@pytest.mark.parametrize("points", [
    np.zeros((0, 4), np.float32),
    np.full((100, 4), np.nan, np.float32),
    np.full((100, 4), 500.0, np.float32),  # out of reach
    np.tile(np.array([5, 5, 9, 0], np.float32), (100, 1)),  # a roof
    np.tile(np.array([5, 5, -9, 0], np.float32), (100, 1)),  # a reflection
])
def test_without_ground_points_it_is_level(points):
    assert fit_ground(points).tolist() == [0.0, 0.0, 0.0]


def test_few_points_hardly_move_it_from_level():
    slope, _, height = fit_ground(np.array([[10, 0, 0.1, 0], [12, 3, 0.1, 0]], np.float32))
    assert abs(slope) < 0.02
    assert 0 <= height <= 0.1


def test_no_two_results_share_memory():
    first = fit_ground(np.zeros((0, 4), np.float32))
    first += 1.0
    assert fit_ground(np.zeros((0, 4), np.float32)).tolist() == [0.0, 0.0, 0.0]
