"""Laws of the radar raster and of the Doppler residual: the static world shows none."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raster_cases import clear_of_edges, on_grid, placed, views
from tiny import manifest, scatter

from perception_bev.grid import BevGrid
from perception_bev.inputs.radar import BELOW_M, RadarRaster, ambiguous, doppler_residual, ego_speed
from perception_bev.inputs.view import View

SPEC, GRID = manifest().radar, manifest().grid
FLAT = np.zeros(3)
TILTED = np.array([0.03, -0.05, 0.2])
INTERVALS = [(-5.116, 5.197), (-10.0, 3.0), (-40.0, 40.0), (0.0, 8.0)]


def returns(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    xyz = scatter(rng, n)
    if n:
        xyz[rng.integers(0, n, n // 2)] = xyz[0] + rng.normal(size=3) * 0.05
    residual = np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n) * 3)
    return np.column_stack([xyz, rng.uniform(20, 130, n), residual,
                            rng.random(n) < 0.5]).astype(np.float32)


def naive(points: np.ndarray, plane: np.ndarray, view: View) -> np.ndarray:
    """The definition, cell by cell."""
    out = np.zeros((SPEC.channels, *GRID.shape))
    cell, height = placed(points, plane, view, GRID)
    kept = on_grid(cell, GRID) & (height > BELOW_M) & (height < 2 * SPEC.max_height)
    indices = np.floor(cell).astype(int)
    strength = np.clip((points[:, 3].astype(float) - SPEC.intensity_offset) / SPEC.intensity_scale,
                       0.05, 2.0)
    scaled = np.clip(points[:, 4].astype(float) / SPEC.doppler_scale, -2, 2)
    known, wraps = np.isfinite(scaled), points[:, 5] > 0
    for row, column in {tuple(c) for c in indices[kept]}:
        t = kept & (indices == (row, column)).all(axis=1)
        n, size = t.sum(), np.abs(scaled[t & known])
        out[:, row, column] = (
            min(1.5, np.log1p(n) / np.log1p(SPEC.log_points)), strength[t].max(),
            height[t].mean() / SPEC.max_height, size.sum() / n, size.max(initial=0.0),
            scaled[t & known & ~wraps].sum() / n, (t & (~known | wraps)).sum() / n)
    return out


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), n=st.integers(0, 300), view=views,
       plane=st.sampled_from([FLAT, TILTED]))
def test_it_is_the_naive_reduction(seed, n, view, plane):
    points = clear_of_edges(returns(n, seed), plane, view, GRID, (BELOW_M, 2 * SPEC.max_height))
    made = RadarRaster(SPEC, GRID).draw(points, plane, view)
    assert made.shape == (1, SPEC.channels, *GRID.shape)
    assert made.dtype == np.float32
    assert np.allclose(made[0], naive(points, plane, view), atol=2e-4)


def test_nothing_is_left_of_the_frame_before():
    raster = RadarRaster(SPEC, GRID)
    for seed, n in ((1, 900), (2, 5), (3, 0), (4, 400), (5, 0)):
        made = raster.draw(returns(n, seed), TILTED)
        assert (made == RadarRaster(SPEC, GRID).draw(returns(n, seed), TILTED)).all()
    assert not raster.clear().any()


def test_frames_cost_no_memory():
    raster, points = RadarRaster(SPEC, GRID), returns(900, 6)
    raster.draw(points, FLAT)
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
    assert peak - before < 16_384


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_places_that_are_no_numbers_are_left_out(column, bad):
    points = returns(20, 1)
    points[:, column] = bad
    assert not RadarRaster(SPEC, GRID).draw(points, TILTED).any()


# -- Doppler -----------------------------------------------------------------------------------


def wrapped(speed: np.ndarray, interval) -> np.ndarray:
    """What a radar with this unambiguous interval says of a radial speed."""
    if interval is None:
        return speed.astype(np.float32)
    low, high = interval
    return ((speed - low) % (high - low) + low).astype(np.float32)


def directions(n: int, seed: int = 0) -> np.ndarray:
    d = np.random.default_rng(seed).normal(size=(n, 3)) * [1, 1, 0.2]
    return (d / np.linalg.norm(d, axis=1, keepdims=True)).astype(np.float32)


@given(speed=st.floats(-15, 70), drift=st.floats(-3, 3),
       interval=st.sampled_from([None, *INTERVALS]))
def test_a_static_world_has_no_residual_at_any_speed(speed, drift, interval):
    velocity, seen_from = np.array([speed, drift, 0.0]), directions(50)
    doppler = wrapped(-(seen_from @ velocity), interval)
    assert np.abs(doppler_residual(doppler, seen_from, velocity, interval)).max() < 1e-3


@given(speed=st.floats(-15, 70), own=st.floats(-60, 60),
       interval=st.sampled_from([None, *INTERVALS]))
def test_what_moves_shows_its_own_speed_up_to_the_wrap(speed, own, interval):
    velocity, seen_from = np.array([speed, 0.0, 0.0]), directions(20)
    doppler = wrapped(own - seen_from @ velocity, interval)
    residual = doppler_residual(doppler, seen_from, velocity, interval)
    period = np.inf if interval is None else interval[1] - interval[0]
    assert (np.abs(residual) <= period / 2 + 1e-3).all()
    turns = 0 if interval is None else np.round((residual - own) / period)
    assert np.allclose(residual - own, turns * period if interval else 0, atol=2e-3)


def test_an_unknown_speed_stays_unknown():
    doppler = np.array([1.0, np.nan, 2.0], np.float32)
    residual = doppler_residual(doppler, directions(3), np.zeros(3), (-5.0, 5.0))
    assert np.isnan(residual).tolist() == [False, True, False]


@pytest.mark.parametrize("speed", [0.0, 3.0, 14.0, 33.0])
@pytest.mark.parametrize("interval", [None, (-5.116, 5.197)])
def test_the_speed_is_found_from_the_returns_alone(speed, interval):
    """Half of the returns static, the others anything."""
    rng = np.random.default_rng(2)
    ahead = directions(400) * [1, 1, 1]
    ahead[:, 0] = np.abs(ahead[:, 0])
    radial = -(ahead @ [speed, 0, 0]) + rng.normal(size=400) * 0.1
    radial[::2] += rng.uniform(-10, 10, 200)
    found = ego_speed(wrapped(radial, interval), ahead, np.array([1.0, 0, 0]), interval)
    assert found == pytest.approx(speed, abs=0.15)


def test_no_speed_is_said_where_none_stands_out():
    rng = np.random.default_rng(3)
    ahead, noise = directions(400), rng.uniform(-20, 20, 400).astype(np.float32)
    forward = np.array([1.0, 0, 0])
    assert ego_speed(noise, ahead, forward, None) is None
    assert ego_speed(noise[:10], ahead[:10], forward, None) is None
    assert ego_speed(np.full(400, np.nan, np.float32), ahead, forward, None) is None
    assert ego_speed(noise[:0], ahead[:0], forward, None) is None


def test_a_residual_is_ambiguous_where_a_road_user_may_have_its_other_reading():
    residual = np.array([0.0, 3.0, 14.9, 15.1, -15.1, -14.9, np.nan], np.float32)
    told = ambiguous(residual, (-20.0, 20.0))
    assert told.tolist() == [0, 0, 0, 1, 1, 0, 0]  # 15.1 m/s may be 24.9 m/s the other way
    assert ambiguous(residual[:6], (-5.1, 5.2)).all()  # a narrow interval never tells
    assert ambiguous(residual, None) == 0.0


@pytest.mark.parametrize("mirror", [False, True])
def test_the_radial_vector_is_the_residual_along_the_line_of_sight_in_the_grids_frame(mirror):
    spec = dataclasses.replace(manifest().radar, radial_vector=True, doppler_scale=4.0)
    view = View.augmented(turn=0.7, mirror=mirror)
    raster = RadarRaster(spec, BevGrid(-16, 16, -16, 16, 0.5))
    returns = np.array([[3.0, 4.0, 0.5, 0.0, -2.0, 0.0, 0.6, 0.8],  # comes nearer
                        [6.0, -5.0, 0.5, 0.0, 2.0, 1.0, 0.6, -0.8],  # may go or come
                        [-6.0, 5.0, 0.5, 0.0, np.nan, 0.0, 0.6, -0.8]], np.float32)
    drawn = raster.draw(returns, np.zeros(3), view)[0]
    assert drawn.shape[0] == spec.channels == 9
    moving = np.nonzero(drawn[5])
    assert len(moving[0]) == 1  # neither the ambiguous one nor the one without Doppler
    vector = drawn[7:9, moving[0][0], moving[1][0]]
    np.testing.assert_allclose(vector, view.linear @ [0.6, 0.8] * -2.0 / 4.0, atol=1e-6)
    np.testing.assert_allclose(np.hypot(*drawn[7:9]).sum(), abs(drawn[5]).sum(), atol=1e-6)
