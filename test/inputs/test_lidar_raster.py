"""Laws of the lidar raster: equal to a naive reference, and nothing left from the frame before."""

import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raster_cases import clear_of_edges, on_grid, placed, views
from tiny import manifest, scatter

from perception_bev.inputs.lidar import BELOW_M, LidarRaster
from perception_bev.inputs.view import IDENTITY, View

SPEC, GRID = manifest().lidar, manifest().grid
FLAT = np.zeros(3)
TILTED = np.array([0.03, -0.05, 0.2])
OCCUPANCY = slice(0, len(SPEC.height_bins) - 1)
TOP, BOTTOM, INTENSITY, DENSITY = range(len(SPEC.height_bins) - 1, SPEC.channels)


def cloud(n: int, seed: int) -> np.ndarray:
    """Half of the points scattered, half of them crowded into few cells."""
    rng = np.random.default_rng(seed)
    xyz = scatter(rng, n)
    crowd = rng.integers(0, n, n // 2)
    xyz[crowd] = xyz[crowd[:1]] + rng.normal(size=(len(crowd), 3)) * 0.6
    return np.column_stack([xyz, rng.random(n)]).astype(np.float32)


def naive(points: np.ndarray, plane: np.ndarray, view: View) -> np.ndarray:
    """The definition, cell by cell."""
    out = np.zeros((SPEC.channels, *GRID.shape))
    cell, height = placed(points, plane, view, GRID)
    kept = on_grid(cell, GRID) & (height > BELOW_M) & (height < SPEC.max_height)
    indices = np.floor(cell).astype(int)
    for row, column in {tuple(c) for c in indices[kept]}:
        there = kept & (indices == (row, column)).all(axis=1)
        h, here = height[there], out[:, row, column]
        here[OCCUPANCY] = np.histogram(h, SPEC.height_bins)[0] > 0
        here[TOP], here[BOTTOM] = h.max() / SPEC.max_height, h.min() / SPEC.max_height
        here[INTENSITY] = points[there, 3].mean()
        here[DENSITY] = min(1.5, np.log1p(len(h)) / np.log1p(SPEC.log_points))
    return out


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), n=st.integers(0, 400), view=views,
       plane=st.sampled_from([FLAT, TILTED]))
def test_it_is_the_naive_reduction(seed, n, view, plane):
    points = clear_of_edges(cloud(n, seed) if n else np.zeros((0, 4), np.float32), plane, view,
                            GRID, (*SPEC.height_bins, BELOW_M, SPEC.max_height))
    made = LidarRaster(SPEC, GRID).draw(points, plane, view)
    assert made.shape == (1, SPEC.channels, *GRID.shape)
    assert made.dtype == np.float32
    assert np.allclose(made[0], naive(points, plane, view), atol=2e-4)


def test_the_order_of_points_does_not_matter():
    points = cloud(500, 3)
    first = LidarRaster(SPEC, GRID).draw(points, TILTED)
    second = LidarRaster(SPEC, GRID).draw(points[::-1].copy(), TILTED)
    assert np.allclose(first, second, atol=1e-5)
    for channel in (*range(TOP), TOP, BOTTOM, DENSITY):
        assert (first[0, channel] == second[0, channel]).all()


def test_a_point_twice_changes_only_the_density():
    points = cloud(300, 4)
    once = LidarRaster(SPEC, GRID).draw(points, FLAT)[0]
    twice = LidarRaster(SPEC, GRID).draw(np.concatenate([points, points]), FLAT)[0]
    assert np.allclose(once[:DENSITY], twice[:DENSITY], atol=1e-5)
    assert (twice[DENSITY] >= once[DENSITY]).all()
    assert (twice[DENSITY][once[DENSITY] > 0] > once[DENSITY][once[DENSITY] > 0]).any()


@pytest.mark.parametrize(("x", "y", "inside"), [
    (-8.0, -12.0, True), (23.99, 11.99, True), (24.0, 0.0, False), (0.0, 12.0, False),
    (-8.01, 0.0, False), (0.0, -12.01, False)])
def test_lower_bounds_belong_to_the_grid_upper_bounds_do_not(x, y, inside):
    made = LidarRaster(SPEC, GRID).draw(np.array([[x, y, 0.5, 1]], np.float32), FLAT)
    assert bool(made.any()) == inside


@pytest.mark.parametrize(("height", "bins"), [
    (-1.01, None), (-0.5, []), (-0.3, [0]), (0.19, [0]), (0.2, [1]), (1.99, [4]), (2.0, []),
    (4.99, []), (5.0, None)])
def test_heights_fall_into_their_bins(height, bins):
    made = LidarRaster(SPEC, GRID).draw(np.array([[5, 5, height, 1]], np.float32), FLAT)[0]
    if bins is None:
        assert not made.any()
    else:
        assert np.flatnonzero(made[OCCUPANCY].any(axis=(1, 2))).tolist() == bins
        assert made[DENSITY].any()


def test_only_height_over_the_ground_counts():
    points = cloud(400, 5)
    lifted = points.copy()
    lifted[:, 2] += points[:, :2] @ TILTED[:2].astype(np.float32) + np.float32(TILTED[2])
    flat = clear_of_edges(points, FLAT, IDENTITY, GRID,
                          (*SPEC.height_bins, BELOW_M, SPEC.max_height))
    kept = (points[:, None] == flat[None]).all(axis=2).any(axis=1)
    assert np.allclose(LidarRaster(SPEC, GRID).draw(lifted[kept], TILTED),
                       LidarRaster(SPEC, GRID).draw(flat, FLAT), atol=1e-4)


def test_nothing_is_left_of_the_frame_before():
    raster = LidarRaster(SPEC, GRID)
    for seed, n in ((1, 900), (2, 5), (3, 0), (4, 400), (5, 0)):
        points = cloud(n, seed) if n else np.zeros((0, 4), np.float32)
        assert (raster.draw(points, TILTED) == LidarRaster(SPEC, GRID).draw(points, TILTED)).all()
    assert not raster.clear().any()


def test_the_buffer_is_reused_and_frames_cost_no_memory():
    raster, points = LidarRaster(SPEC, GRID), cloud(900, 6)
    first = raster.draw(points, FLAT)
    assert np.shares_memory(first, raster.draw(points, FLAT))
    tracemalloc.start()
    try:
        raster.draw(points, FLAT)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(30):
            raster.draw(points, FLAT)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now - before < 4096
    assert peak - before < 16_384  # nothing of the raster's or the cloud's size


def test_two_rasters_draw_at_once_in_two_threads():
    clouds = [cloud(2000, seed) for seed in (7, 8)]
    expected = [LidarRaster(SPEC, GRID).draw(points, FLAT).copy() for points in clouds]
    wrong: list[int] = []

    def work(i: int) -> None:
        raster = LidarRaster(SPEC, GRID)
        for _ in range(100):
            if not (raster.draw(clouds[i], FLAT) == expected[i]).all():
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("bad", [
    [np.nan, 0, 0, 0], [0, np.nan, 0, 0], [1, 1, np.nan, 0], [np.inf, 0, 0, 0],
    [1, -np.inf, 0, 0], [1, 1, np.inf, 0], [3e38, -3e38, 3e38, 0]])
def test_places_that_are_no_numbers_are_left_out(bad):
    made = LidarRaster(SPEC, GRID).draw(np.tile(np.array(bad, np.float32), (9, 1)), TILTED)
    assert not made.any()
