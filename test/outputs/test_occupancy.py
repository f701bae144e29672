"""Laws of the occupancy grid: hits win, rays clear what lies before them, nothing lies behind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev.errors import ShapeMismatch
from perception_bev.grid import BevGrid
from perception_bev.outputs.occupancy import FREE, HIT, UNSEEN, OccupancyMap

GRID = BevGrid(-10.0, 30.0, -12.0, 12.0, 0.5)
ORIGIN = np.array([0.05, 0.02])
FLAT = np.zeros(3)


def cloud(xyz) -> np.ndarray:
    """(N, 3) -> (N, 4) float32."""
    return np.pad(np.asarray(xyz, np.float32).reshape(-1, 3), ((0, 0), (0, 1)))


def picture(data: np.ndarray, grid: BevGrid = GRID) -> np.ndarray:
    """OccupancyGrid.data -> (x, y), the layout of all other maps."""
    columns_x, rows_y = grid.shape
    return data.reshape(rows_y, columns_x).T


def cells(xy) -> tuple[np.ndarray, np.ndarray]:
    cell = np.floor(GRID.cell_of(np.asarray(xy, np.float64))).astype(int)
    return cell[:, 0], cell[:, 1]


def wall(x: float, y_low: float, y_high: float, z: float = 1.0) -> np.ndarray:
    y = np.arange(y_low, y_high, 0.01)
    return cloud(np.column_stack([np.full_like(y, x), y, np.full_like(y, z)]))


def scatter(n: int, seed: int) -> np.ndarray:
    """Points on the road and on things, on the grid and off it."""
    rng = np.random.default_rng(seed)
    return cloud(rng.uniform([-20, -20, -0.2], [45, 20, 3.5], (n, 3)))


def test_without_points_nothing_is_seen():
    grid = OccupancyMap(GRID)
    assert (grid.update(cloud([]), ORIGIN, FLAT) == UNSEEN).all()
    assert (grid.unseen() == UNSEEN).all()
    assert grid.unseen().dtype == np.int8
    assert grid.unseen().shape == (grid.width * grid.height,) == (80 * 48,)


def test_data_is_row_major_with_x_fastest():
    """nav_msgs/OccupancyGrid: cell (x, y) is data[y * width + x], counted from the lower corner."""
    data = OccupancyMap(GRID).update(cloud([[20.1, -11.9, 1.0]]), ORIGIN, FLAT)
    assert np.flatnonzero(data == HIT).tolist() == [0 * 80 + 60]
    data = OccupancyMap(GRID).update(cloud([[-9.9, -10.9, 1.0]]), ORIGIN, FLAT)
    assert np.flatnonzero(data == HIT).tolist() == [2 * 80 + 0]


def test_a_wall_is_hit_its_front_is_free_its_shadow_unseen():
    seen = picture(OccupancyMap(GRID).update(wall(10.2, -5, 5), ORIGIN, FLAT))
    centres = GRID.centres()
    x, y = centres[..., 0], centres[..., 1]
    assert (seen[(abs(x - 10.25) < 0.1) & (abs(y) < 4.7)] == HIT).all()
    assert (seen[(x > 0.5) & (x < 9.8) & (abs(y) < 0.4 * x)] == FREE).all()
    assert (seen[x > 10.6] == UNSEEN).all()
    assert (seen[x < -0.5] == UNSEEN).all()


@pytest.mark.parametrize(("height", "expected"), [
    (-2.0, UNSEEN), (0.0, FREE), (0.29, FREE), (0.31, HIT), (2.4, HIT), (2.6, UNSEEN)])
def test_the_height_over_the_ground_decides(height, expected):
    plane = np.array([0.05, -0.07, 0.4])
    x, y = 12.2, 3.1
    point = cloud([[x, y, height + plane @ [x, y, 1.0]]])
    seen = picture(OccupancyMap(GRID).update(point, ORIGIN, plane))
    assert seen[cells([[x, y]])] == expected
    before = seen[cells([[6.1, 1.56]])]
    assert before == (UNSEEN if expected == UNSEEN else FREE)


def test_a_hit_wins_over_a_ray_through_its_cell_in_any_order():
    points = cloud([[10.2, 0.1, 1.0], [25.0, 0.2, 0.0]])
    for order in ([0, 1], [1, 0]):
        seen = picture(OccupancyMap(GRID).update(points[order], ORIGIN, FLAT))
        assert seen[cells([[10.2, 0.1]])] == HIT
        assert seen[cells([[20.0, 0.15]])] == FREE


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 300))
def test_cells_that_a_point_in_the_band_hits_are_100_and_no_others(seed, n):
    points = scatter(n, seed)
    seen = picture(OccupancyMap(GRID).update(points, ORIGIN, FLAT))
    hits = points[(points[:, 2] >= 0.3) & (points[:, 2] <= 2.5) & GRID.contains(points[:, :2])]
    expected = np.zeros(GRID.shape, bool)
    expected[cells(hits[:, :2])] = True
    assert ((seen == HIT) == expected).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 6),
       origin=st.tuples(st.floats(-30, 45), st.floats(-25, 25)))
def test_free_is_what_the_rays_cross(seed, n, origin):
    """Against a dense sampling of every ray, the lidar on the grid or off it."""
    points, origin = scatter(n, seed), np.array(origin)
    points[:, 2] = 0.0
    seen = picture(OccupancyMap(GRID).update(points, origin, FLAT))
    fraction = np.linspace(0, 1, 4000)[:, None, None]
    along = (origin + fraction * (points[:, :2].astype(np.float64) - origin)).reshape(-1, 2)
    inside = (along > (-10 + 1e-6, -12 + 1e-6)).all(1) & (along < (30 - 1e-6, 12 - 1e-6)).all(1)
    crossed = np.zeros(GRID.shape, bool)
    crossed[cells(along[inside])] = True
    free = seen == FREE
    # A bin's shorter rays are not walked: their cells may be missed by a cell's width, no more.
    missed = crossed & ~free
    assert missed.sum() <= 0 if n == 1 else not (missed & ~grown(free)).any()
    assert not (free & ~grown(crossed)).any()


def grown(mask: np.ndarray) -> np.ndarray:
    """A mask and its eight neighbours."""
    padded = np.pad(mask, 1)
    rows, columns = mask.shape
    return np.any([padded[i:i + rows, j:j + columns] for i in range(3) for j in range(3)], axis=0)


def test_a_full_sweep_leaves_no_hole_in_the_free_space():
    """Road all round, denser than the bins: every cell in reach is seen."""
    turn, distance = np.meshgrid(np.linspace(-np.pi, np.pi, 3000), [5.0, 12.0, 40.0])
    points = cloud(np.stack([distance * np.cos(turn), distance * np.sin(turn), 0 * turn], -1))
    assert (OccupancyMap(GRID).update(points, ORIGIN, FLAT) == FREE).all()


def test_each_of_several_lidars_casts_from_its_own_place():
    points = cloud([[20.2, 8.1, 1.0], [20.2, -8.1, 1.0]])
    origins = np.array([[0.2, 8.1], [0.2, -8.1]])
    both = picture(OccupancyMap(GRID).update(points, origins, FLAT, np.array([0, 1])))
    assert (both[21:60, 40] == FREE).all()
    assert (both[21:60, 7] == FREE).all()
    assert (both[21:60, 12:36] == UNSEEN).all()
    swapped = picture(OccupancyMap(GRID).update(points, origins, FLAT, np.array([1, 0])))
    assert (swapped[40, 20:28] == FREE).any()


def test_what_is_not_a_number_is_skipped():
    bad = cloud([[np.nan, 0, 1], [5, np.inf, 1], [5, 1, np.nan], [3e38, 3e38, 1], [0.05, 0.02, 1]])
    bad[4, :2] = ORIGIN  # no direction
    assert (OccupancyMap(GRID).update(bad[:4], ORIGIN, FLAT) == UNSEEN).all()
    assert np.isin(OccupancyMap(GRID).update(bad, ORIGIN, FLAT), (UNSEEN, HIT)).all()


def test_two_updates_share_nothing():
    grid = OccupancyMap(GRID)
    first = grid.update(wall(10.2, -5, 5), ORIGIN, FLAT)
    kept = first.copy()
    grid.update(scatter(500, 1), ORIGIN, FLAT)
    assert (first == kept).all()
    assert (grid.update(wall(10.2, -5, 5), ORIGIN, FLAT) == kept).all()


@pytest.mark.parametrize(("points", "origins", "source"), [
    (np.zeros((3, 2), np.float32), ORIGIN, None),
    (np.zeros((3, 4), np.float64), ORIGIN, None),
    (np.zeros((3, 4), np.float32), np.array([np.nan, 0.0]), None),
    (np.zeros((3, 4), np.float32), np.zeros((0, 2)), None),
    (np.zeros((3, 4), np.float32), ORIGIN, np.array([0, 1, 0])),
    (np.zeros((3, 4), np.float32), ORIGIN, np.array([0, -1, 0])),
    (np.zeros((3, 4), np.float32), ORIGIN, np.array([0, 0])),
])
def test_wrong_arguments_are_refused(points, origins, source):
    with pytest.raises(ShapeMismatch, match=r"OccupancyMap\.update"):
        OccupancyMap(GRID).update(points, origins, FLAT, source)
