"""Laws of the camera lift: a cell reads the pixel at which its camera sees it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raster_cases import views
from tiny import manifest, mirrored_camera, vehicle

from perception_bev.geometry import SE3, CameraModel
from perception_bev.inputs.lift import NEAR_M, LiftCamera, LiftTables
from perception_bev.inputs.view import IDENTITY, View

MODEL, CAR = manifest(), vehicle()
SPEC = MODEL.camera
ROWS, COLUMNS = SPEC.feature_shape
TILTED = np.array([0.03, -0.05, 0.2])
FLAT = np.zeros(3)


def camera(name: str, slot: int, flipped: bool = False) -> LiftCamera:
    pinhole = CAR.camera_models[name].pinhole_resized(SPEC.width, SPEC.height)
    return LiftCamera(slot, CAR.base_from_sensor[name].inverse(), pinhole, flipped)


FRONT, LEFT = camera("front", 0), camera("left", 1)


def tables(cameras, plane=FLAT, view: View = IDENTITY) -> tuple[np.ndarray, np.ndarray]:
    return tuple(table.copy() for table in LiftTables(MODEL).build(cameras, plane, view))


def places(plane: np.ndarray, view: View) -> np.ndarray:
    """(heights * cells, 3) float64 in base_link: what each column of the tables stands for."""
    linear, shift = view.base_from_grid
    xy = MODEL.lift_grid.centres().reshape(-1, 2).astype(np.float64) @ linear.T + shift
    ground = xy @ plane[:2] + plane[2]
    return np.concatenate([np.column_stack([xy, ground + h / view.height_scale])
                           for h in SPEC.lift_heights])


def features_at(one: LiftCamera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By CameraModel.project: column and row [features] (N, 2), and whether it is seen (N,)."""
    pixel, depth = one.pinhole.project(one.camera_from_base.apply(points))
    if one.mirrored:
        pixel[:, 0] = SPEC.width - 1 - pixel[:, 0]
    at = (pixel + 0.5) / SPEC.stride - 0.5
    seen = (depth >= NEAR_M) & (at >= -0.5).all(axis=1) & (at <= [COLUMNS - .5, ROWS - .5]).all(1)
    return at, seen


def read(index: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which place the taps blend to (N, 2) column, row, and of which slot (N,)."""
    slot, inside = np.divmod(index, ROWS * COLUMNS)
    row, column = np.divmod(inside, COLUMNS)
    assert (slot == slot[0])[:, weight.any(axis=0)].all()
    return np.stack([(weight * column).sum(0), (weight * row).sum(0)], axis=1), slot[0]


@settings(max_examples=25)
@given(view=views, plane=st.sampled_from([FLAT, TILTED]), flipped=st.booleans())
def test_a_cell_reads_where_the_camera_model_projects_it(view, plane, flipped):
    front = camera("front", 0, flipped)
    index, weight = tables([front], plane, view)
    at, seen = features_at(front, places(plane, view))
    assert (weight.any(axis=0) == seen).all()
    found, slot = read(index, weight)
    clamped = np.clip(at, 0, [COLUMNS - 1, ROWS - 1])
    assert np.allclose(found[seen], clamped[seen], atol=1e-4)
    assert (slot[seen] == 0).all()
    assert seen.any()
    assert not seen.all()


@settings(max_examples=15)
@given(view=views, slots=st.permutations([0, 1]))
def test_weights_of_a_seen_cell_sum_to_one_and_indices_are_rows_of_the_features(view, slots):
    cameras = [camera("front", slots[0]), camera("left", slots[1])]
    index, weight = tables(cameras, TILTED, view)
    assert index.dtype == np.int32
    assert weight.dtype == np.float32
    cells = MODEL.lift_grid.shape[0] * MODEL.lift_grid.shape[1]
    assert index.shape == weight.shape == (4, len(SPEC.lift_heights) * cells)
    total = weight.sum(axis=0)
    assert (np.isclose(total, 1, atol=1e-5) | (total == 0)).all()
    assert (weight >= -1e-6).all()
    assert index.min() >= 0
    assert index.max() < SPEC.slots * ROWS * COLUMNS


def test_a_missing_camera_has_no_weight():
    _, none = tables([])
    assert not none.any()
    both, front, left = (tables(c)[1].any(axis=0) for c in ([FRONT, LEFT], [FRONT], [LEFT]))
    assert (both == (front | left)).all()
    assert (left & ~front).any()
    index, weight = tables([LEFT])
    _, slot = read(index, weight)
    assert (slot[left] == 1).all()


def test_of_two_cameras_that_see_a_cell_the_more_central_view_is_read_in_any_order():
    points = places(FLAT, IDENTITY)
    at, seen = zip(*(features_at(c, points) for c in (FRONT, LEFT)), strict=True)
    margin = [np.minimum(a[:, 0] + 0.5, COLUMNS - 0.5 - a[:, 0]) for a in at]
    overlap = seen[0] & seen[1] & (np.abs(margin[0] - margin[1]) > 1e-3)
    assert overlap.sum() > 5
    for cameras in ([FRONT, LEFT], [LEFT, FRONT]):
        _, slot = read(*tables(cameras))
        assert (slot[overlap] == (margin[1] > margin[0])[overlap]).all()


def test_a_mirrored_world_with_mirrored_pictures_reads_mirrored_cells():
    """A view that mirrors, with flipped pictures, is a car built the other way round."""
    index, weight = tables([camera("front", 0, flipped=True)], TILTED,
                           View.augmented(mirror=True))
    lens = FRONT.pinhole
    k = lens.k.copy()
    k[0, 2] = lens.width - 1 - k[0, 2]
    twin = LiftCamera(0, mirrored_camera(CAR.base_from_sensor["front"]).inverse(),
                      CameraModel(lens.width, lens.height, k))
    expected_index, expected_weight = tables([twin], TILTED * [1, -1, 1])
    assert (index == expected_index).mean() > 0.999  # ties of rounding at pixel borders
    assert np.allclose(weight, expected_weight, atol=2e-3)


def test_flipping_pictures_and_tables_reads_the_same_colours():
    picture = np.random.default_rng(0).random((ROWS, COLUMNS))
    values = []
    for one, shown in ((camera("front", 0), picture), (camera("front", 0, True), picture[:, ::-1])):
        index, weight = tables([one], TILTED)
        values.append((shown.ravel()[index % (ROWS * COLUMNS)] * weight).sum(axis=0))
    assert np.allclose(values[0], values[1], atol=1e-4)


def test_a_resized_picture_is_read_at_the_same_places():
    """The pinhole that the model gets is the camera's own, at another scale."""
    whole = CAR.camera_models["front"]
    points = places(FLAT, IDENTITY)
    in_camera = FRONT.camera_from_base.apply(points)
    ahead = in_camera[:, 2] > 1
    full, _ = whole.project(in_camera[ahead])
    at, _ = features_at(FRONT, points[ahead])
    scale = np.array([SPEC.width / whole.width, SPEC.height / whole.height]) / SPEC.stride
    assert np.allclose((full + 0.5) * scale - 0.5, at, atol=1e-6)


def test_nothing_is_left_of_the_frame_before():
    lift = LiftTables(MODEL)
    for cameras in ([FRONT, LEFT], [LEFT], [], [FRONT]):
        index, weight = lift.build(cameras, TILTED)
        expected_index, expected_weight = tables(cameras, TILTED)
        assert (index == expected_index).all()
        assert (weight == expected_weight).all()


@pytest.mark.parametrize("height", [-3.0, 0.0])
def test_a_camera_that_sees_no_cell_gives_none(height):
    up = SE3(np.eye(3), np.array([0.0, 0.0, 20.0 + height]))  # looks straight up
    assert not tables([LiftCamera(0, up.inverse(), FRONT.pinhole)])[1].any()
