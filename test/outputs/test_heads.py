"""Laws of the heads' layout: decode(encode(boxes)) == boxes, and what is no box comes not out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import manifest

from perception_bev.contracts import Boxes3D
from perception_bev.inputs.view import IDENTITY, View
from perception_bev.outputs.heads import (
    FRONT,
    QUALITY,
    REGRESSED,
    VELOCITY,
    Targets,
    box_channels,
    boxes_at,
    decode,
    encode,
)

MODEL = manifest()
GRID = MODEL.output_grid
FLAT = np.zeros(3)
TILTED = np.array([0.03, -0.05, 0.2])
NONE = Boxes3D.empty(MODEL.classes)


def boxes(centre, size, yaw, label=None) -> Boxes3D:
    n = len(centre)
    return Boxes3D(np.array(centre, np.float32).reshape(n, 3),
                   np.array(size, np.float32).reshape(n, 3), np.array(yaw, np.float32),
                   np.ones(n, np.float32), np.array([0] * n if label is None else label, np.int32),
                   MODEL.classes)


def spread(seed: int, n: int) -> Boxes3D:
    """Boxes that do not touch: one a field of a lattice of 6 m."""
    rng = np.random.default_rng(seed)
    fields = np.stack(np.meshgrid(np.arange(-5, 24, 6), np.arange(-9, 12, 6)), -1).reshape(-1, 2)
    xy = rng.permutation(fields)[:n] + rng.uniform(-0.9, 0.9, (n, 2))
    return boxes(np.column_stack([xy, rng.uniform(-1, 2, n)]),
                 rng.uniform([0.3, 0.2, 0.4], [3.5, 2.0, 3.0], (n, 3)),
                 rng.uniform(-np.pi, np.pi, n), rng.integers(0, 2, n))


def maps(targets: Targets, model=MODEL, quality: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    """What a network that has learned everything would say: its peaks, and boxes round them."""
    heat = np.where(targets.heat == 1.0, targets.heat, 0.0).astype(np.float32)
    made = np.zeros((box_channels(model), *GRID.shape), np.float32)
    made[:REGRESSED, targets.cells[:, 0], targets.cells[:, 1]] = targets.boxes.T
    made[QUALITY] = quality
    return heat, made


def in_order(found: Boxes3D) -> Boxes3D:
    return found[np.lexsort(found.centre[:, :2].T)]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), n=st.integers(0, 16), plane=st.sampled_from([FLAT, TILTED]))
def test_decoding_what_was_encoded_gives_the_boxes(seed, n, plane):
    given_boxes = spread(seed, n)
    targets = encode(IDENTITY.boxes(given_boxes, plane), NONE, MODEL)
    found, wanted = in_order(decode(*maps(targets), plane, MODEL)), in_order(given_boxes)
    assert len(found) == len(wanted)
    for name, tolerance in (("centre", 1e-4), ("size", 1e-4)):
        assert np.allclose(getattr(found, name), getattr(wanted, name), atol=tolerance)
    turned = (found.yaw - wanted.yaw + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(turned).max(initial=0) < 1e-5
    assert (found.label == wanted.label).all()
    assert (found.score > 0.999).all()
    assert np.isnan(found.velocity).all()


@pytest.mark.parametrize("offset", [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
def test_any_of_the_cells_round_a_centre_gives_the_same_box(offset):
    """A peak beside the centre still decodes to the box: the offsets are supervised there, too."""
    one = boxes([[10.3, 2.7, 0.8]], [[3.0, 1.6, 1.5]], [0.7])
    heat, made = maps(encode(one, NONE, MODEL))
    beside = np.roll(heat, offset, axis=(1, 2))
    found = decode(beside, made, FLAT, MODEL)
    assert np.allclose(found.centre, one.centre, atol=1e-5)
    assert np.allclose(found.yaw, one.yaw, atol=1e-5)


@settings(max_examples=30)
@given(yaw=st.floats(-10, 10))
def test_the_axis_is_precise_and_the_front_bit_only_says_which_end(yaw):
    """A front that is off by up to a quarter turn chooses an end and does not turn the box."""
    one = boxes([[10.25, 2.25, 0.8]], [[3.0, 1.6, 1.5]], [yaw])
    targets = encode(one, NONE, MODEL)
    for off in (-1.4, 0.0, 1.4, np.pi):
        columns = targets.boxes.copy()
        columns[:, FRONT] = np.sin(yaw + off), np.cos(yaw + off)
        found = boxes_at(targets.cells, columns, MODEL)[:, 6]
        expected = yaw + (np.pi if off == np.pi else 0)
        assert np.allclose(np.cos(found - expected), 1, atol=1e-5)
        assert (np.abs(found) <= np.pi + 1e-6).all()


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), turn=st.floats(-3, 3), mirror=st.booleans())
def test_velocities_come_back_too_in_the_view_s_frame(seed, turn, mirror):
    fast = manifest(heads={"stride": 2, "velocity": True})
    some = spread(seed, 10)
    some.velocity[:] = np.random.default_rng(seed).uniform(-20, 20, (10, 2))
    some.velocity[3] = np.nan
    view = View.augmented(turn, mirror)
    seen = view.boxes(some, FLAT)
    seen = seen[GRID.contains(seen.centre)]
    targets = encode(seen, NONE, fast)
    heat, made = maps(targets, fast)
    known = np.isfinite(targets.velocity).all(axis=1)
    made[VELOCITY, targets.cells[known, 0], targets.cells[known, 1]] = targets.velocity[known].T
    found, wanted = in_order(decode(heat, made, FLAT, fast)), in_order(seen)
    assert len(found) == len(wanted)
    there = np.isfinite(wanted.velocity).all(axis=1)
    assert np.allclose(found.velocity[there], wanted.velocity[there], atol=1e-4)
    speeds = np.linalg.norm(some.velocity, axis=1)
    for speed in np.linalg.norm(found.velocity[there], axis=1):
        assert np.nanmin(np.abs(speeds - speed)) < 1e-3  # turned, not stretched


def test_velocity_is_decoded_where_the_model_has_one():
    fast = manifest(heads={"stride": 2, "velocity": True})
    assert box_channels(fast) == box_channels(MODEL) + 2
    heat, made = maps(encode(spread(0, 5), NONE, fast), fast)
    made[VELOCITY] = np.array([3.0, -4.0])[:, None, None]
    assert (decode(heat, made, FLAT, fast).velocity == [3.0, -4.0]).all()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_the_heat_of_a_centre_is_one_and_falls_with_distance(seed):
    some = spread(seed, 6)
    heat = encode(some, NONE, MODEL).heat
    cells = np.floor(GRID.cell_of(some.centre[:, :2])).astype(int)
    assert (heat[some.label, cells[:, 0], cells[:, 1]] == 1).all()
    assert (heat == 1).sum() == len(some)
    assert heat.min() >= 0
    far = np.linalg.norm(GRID.centres()[None] - some.centre[:, None, None, :2], axis=-1).min(0) > 6
    assert (heat[:, far] < 0.01).all()


def test_the_peak_lies_along_the_box():
    heat = encode(boxes([[10.5, 0.5, 1]], [[8.0, 1.0, 1]], [np.pi / 2]), NONE, MODEL).heat[0]
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert heat[row, column + 2] > 2 * heat[row + 2, column]


def test_boxes_off_the_grid_are_no_targets_and_those_at_its_edge_stay_inside():
    outside = boxes([[-8.01, 0, 1], [24.0, 0, 1], [0, 12.0, 1], [500, 500, 1]],
                    np.ones((4, 3)), np.zeros(4))
    targets = encode(outside, NONE, MODEL)
    assert not (targets.heat == 1).any()
    assert len(targets.cells) == 0
    corners = boxes([[-8, -12, 1], [23.99, 11.99, 1]], np.ones((2, 3)), np.zeros(2))
    targets = encode(corners, NONE, MODEL)
    assert len(targets.cells) == 2 * 4  # a quarter of the neighbours
    assert ((targets.cells >= 0) & (targets.cells < GRID.shape)).all()
    assert len(decode(*maps(targets), FLAT, MODEL)) == 2


def test_a_centre_on_the_border_of_a_grid_whose_bounds_are_no_float32_wraps_to_no_other_side():
    wide = manifest(grid={"x_min": -51.2, "x_max": 51.2, "y_min": -51.2, "y_max": 51.2,
                          "cell": 0.8})
    border = np.float32(-51.2)  # rounds to outside
    targets = encode(boxes([[border, 0, 1]], [[1, 1, 1]], [0.0]), NONE, wide)
    assert not targets.heat[:, -2:].any()


def test_round_ignored_boxes_nothing_is_learned_but_a_wanted_centre_is():
    wanted = boxes([[10.3, 2.7, 1]], [[3, 1.6, 1.5]], [0.2])
    ignored = boxes([[10.5, 2.5, 1], [0.3, -5, 1], [900, 0, 1]], np.full((3, 3), 2.0), np.zeros(3))
    targets = encode(wanted, ignored, MODEL)
    row, column = np.floor(GRID.cell_of(ignored.centre[1:2, :2]))[0].astype(int)
    assert targets.valid[row, column] == 0
    assert (targets.heat[:, targets.valid == 0] < 1).all()
    row, column = np.floor(GRID.cell_of(wanted.centre[:, :2]))[0].astype(int)
    assert targets.valid[row, column] == 1
    assert 0 < (targets.valid == 0).sum() < 60
    assert (encode(wanted, NONE, MODEL).valid == 1).all()


def test_no_boxes_give_empty_targets_and_back():
    targets = encode(NONE, NONE, MODEL)
    assert targets.heat.shape == (2, *GRID.shape)
    assert not targets.heat.any()
    assert targets.boxes.shape == (0, REGRESSED)
    assert len(decode(*maps(targets), FLAT, MODEL)) == 0


def test_targets_are_in_the_view_s_frame():
    view = View.augmented(0.3, mirror=True, scale=1.05, shift=(0.5, -0.4))
    some = spread(1, 8)[np.array([0, 1])]
    seen = view.boxes(some, FLAT)
    found = decode(*maps(encode(seen, NONE, MODEL)), FLAT, MODEL)
    assert np.allclose(in_order(found).centre, in_order(seen).centre, atol=1e-4)


def test_a_box_without_a_size_teaches_nothing_endless():
    targets = encode(boxes([[10, 0, 1]], [[0.0, 1e9, 1.5]], [0.0]), NONE, MODEL)
    assert np.isfinite(targets.boxes).all()
    assert np.isfinite(targets.heat).all()


# -- decoding what a network says ------------------------------------------------------------------


def said(heats, quality=0.0) -> tuple[np.ndarray, np.ndarray]:
    """One peak a field of the lattice, with these heats."""
    targets = encode(spread(3, len(heats)), NONE, MODEL)
    heat, made = maps(targets, quality=quality)
    heat[heat == 1] = heats
    return heat, made


def test_boxes_come_best_first_above_the_threshold_and_not_too_many():
    heats = np.linspace(0.05, 0.95, 12).astype(np.float32)
    found = decode(*said(heats, quality=30.0), FLAT, MODEL)
    assert (np.diff(found.score) <= 0).all()
    expected = np.sort(np.sqrt(heats))[::-1]
    assert np.allclose(found.score, expected[expected > 0.1], atol=1e-3)
    strict = decode(*said(heats, quality=30.0), FLAT, MODEL, score_threshold=0.7)
    assert (strict.score > 0.7).all()
    assert len(strict) == (expected > 0.7).sum()
    few = manifest(heads={"stride": 2, "max_boxes": 3})
    assert np.allclose(decode(*said(heats, quality=30.0), FLAT, few).score, found.score[:3])


@settings(max_examples=40)
@given(heat=st.floats(0.02, 1), quality=st.floats(-6, 6))
def test_the_score_is_the_geometric_mean_of_heat_and_quality(heat, quality):
    expected = np.sqrt(heat / (1 + np.exp(-quality)))
    found = decode(*said([heat], quality), FLAT, MODEL)
    if expected > 0.101:
        assert found.score == pytest.approx(expected, rel=1e-4)
    elif expected < 0.099:
        assert len(found) == 0


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_weight_of_the_quality_may_be_all_or_nothing(weight):
    model = manifest(heads={"stride": 2, "quality_weight": weight})
    found = decode(*said([0.4], 1.0), FLAT, model)
    assert found.score == pytest.approx(0.4 if weight == 0 else 1 / (1 + np.exp(-1)), rel=1e-4)


def test_heat_that_is_no_number_is_no_box():
    heat, made = said([0.9, 0.8, 0.7])
    heat[heat == np.float32(0.8)] = np.nan
    assert len(decode(heat, made, FLAT, MODEL)) == 2


@pytest.mark.parametrize("channel", [0, 2, 3, 6, 8, QUALITY])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_column_that_is_no_number_is_no_box_and_spoils_no_other(channel, bad):
    heat, made = said([0.9, 0.8, 0.7], quality=3.0)
    clean = decode(heat, made, FLAT, MODEL)
    row, column = np.argwhere(heat.max(axis=0) == np.float32(0.8))[0]
    made[channel, row, column] = bad
    found = decode(heat, made, FLAT, MODEL)
    for name in ("centre", "size", "yaw", "score"):
        assert np.isfinite(getattr(found, name)).all()
    assert np.isin(found.score, clean.score).sum() >= 2
    assert (found.size < 100).all()
