"""Laws and hand-computed cases of rotated IoU."""

import math

import cv2
import numpy as np
import pytest

from perception_bev.contracts import Boxes3D
from perception_bev.errors import ShapeMismatch
from perception_bev.outputs.iou import bev_iou, bev_rows, box_rows, iou_3d, paired_iou_3d

SQUARE = (0.0, 0.0, 1.0, 1.0, 0.0)


def one(a, b) -> float:
    return float(bev_iou(np.array([a], np.float32), np.array([b], np.float32))[0, 0])


def random_rows(n: int, seed: int, extent: float = 6.0) -> np.ndarray:
    """(n, 5) car- to truck-sized rectangles, close enough to overlap often."""
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(-extent, extent, (n, 2)), rng.uniform(0.5, 8.0, n),
                            rng.uniform(0.4, 3.0, n), rng.uniform(-7.0, 7.0, n)]).astype(np.float32)


def random_boxes(n: int, seed: int) -> Boxes3D:
    rng = np.random.default_rng(seed + 1000)
    rows = random_rows(n, seed)
    return Boxes3D(centre=np.column_stack([rows[:, :2], rng.uniform(0, 2, n)]).astype(np.float32),
                   size=np.column_stack([rows[:, 2:4], rng.uniform(1, 3, n)]).astype(np.float32),
                   yaw=rows[:, 4], score=np.ones(n, np.float32), label=np.zeros(n, np.int32),
                   classes=("car",))


@pytest.mark.parametrize("b, overlap, union", [
    (SQUARE, 1, 1),
    ((0, 0, 1, 1, math.pi / 4), 2 * (math.sqrt(2) - 1), 2 - 2 * (math.sqrt(2) - 1)),  # octagon
    ((0.5, 0, 1, 1, 0), 0.5, 1.5),
    ((0.5, 0.5, 1, 1, 0), 0.25, 1.75),
    ((0, 0, 0.5, 0.5, 0.3), 0.25, 1),  # contained, turned
    ((0, 0, 4, 0.5, math.pi / 2), 0.5, 2.5),  # a cross
    ((0, 0, 4, 3, 1.0), 1, 12),  # containing
    ((1 + 1e-3, 0, 1, 1, 0), 0, 2),  # beside
    ((0.9, 0.9, 1, 1, math.pi / 4), 0, 2),  # circles touch, squares do not
    ((0.5, 0, math.sqrt(2), math.sqrt(2), math.pi / 4), 0.75, 2.25),  # corner in the middle
])
def test_hand_computed(b, overlap, union):
    assert one(SQUARE, b) == pytest.approx(overlap / union, abs=1e-6)
    assert one(b, SQUARE) == pytest.approx(overlap / union, abs=1e-6)


def test_with_itself_is_exactly_one():
    rows = random_rows(200, seed=0, extent=80.0)
    assert (bev_iou(rows, rows).diagonal() == 1.0).all()


def test_symmetric_and_in_range():
    a, b = random_rows(60, seed=1), random_rows(70, seed=2)
    iou = bev_iou(a, b)
    assert iou.shape == (60, 70) and iou.dtype == np.float32
    assert ((iou >= 0) & (iou <= 1)).all() and (iou > 0.2).sum() > 20
    np.testing.assert_allclose(iou, bev_iou(b, a).T, atol=1e-6)


@pytest.mark.parametrize("turn, shift", [(0.7, (3, -2)), (-2.9, (70, 30)), (math.pi, (0, 0))])
def test_invariant_under_rigid_motion(turn, shift):
    a, b = random_rows(40, seed=3), random_rows(40, seed=4)

    def moved(rows):
        cos, sin = math.cos(turn), math.sin(turn)
        xy = rows[:, :2].astype(np.float64) @ np.array([[cos, sin], [-sin, cos]]) + shift
        return np.column_stack([xy, rows[:, 2:4], rows[:, 4] + np.float64(turn)])

    np.testing.assert_allclose(bev_iou(moved(a), moved(b)), bev_iou(a, b), atol=1e-6)


def test_same_box_turned_by_half_or_with_swapped_sides():
    rows = random_rows(50, seed=5)
    half, swapped = rows.copy(), rows[:, [0, 1, 3, 2, 4]]
    half[:, 4] += np.pi
    swapped[:, 4] += np.pi / 2
    for same in (half, swapped):
        np.testing.assert_allclose(bev_iou(rows, same).diagonal(), 1.0, atol=1e-5)


def test_nearly_parallel_sides():
    """Rounding decides on which side corners lie: the area may not jump."""
    rows = np.repeat(random_rows(1, seed=6), 2000, axis=0).astype(np.float64)
    rng = np.random.default_rng(6)
    near = rows + rng.normal(0, 1, rows.shape) * 10.0 ** rng.uniform(-17, -7, (2000, 1))
    np.testing.assert_allclose(bev_iou(rows[:1], near), 1.0, atol=1e-5)


def test_agrees_with_opencv():
    a, b = random_rows(50, seed=7), random_rows(50, seed=8)

    def overlap(p, q) -> float:
        def rect(r):
            return (float(r[0]), float(r[1])), (float(r[2]), float(r[3])), math.degrees(r[4])
        corners = cv2.rotatedRectangleIntersection(rect(p), rect(q))[1]
        return 0.0 if corners is None else cv2.contourArea(cv2.convexHull(corners))

    area = np.array([[overlap(p, q) for q in b] for p in a])
    size_a, size_b = a[:, 2] * a[:, 3], b[:, 2] * b[:, 3]
    expected = area / (size_a[:, None] + size_b[None] - area)
    np.testing.assert_allclose(bev_iou(a, b), expected, atol=1e-3)


def test_3d_by_hand():
    low, high = random_boxes(1, seed=9), random_boxes(1, seed=9)
    high = Boxes3D(high.centre + np.array([0, 0, 1], np.float32) * high.size[0, 2] / 4, high.size,
                   high.yaw, high.score, high.label, high.classes)
    assert iou_3d(low, low)[0, 0] == 1.0
    assert iou_3d(low, high)[0, 0] == pytest.approx(0.75 / 1.25, abs=1e-5)


def test_3d_of_equal_heights_is_bev():
    a, b = random_boxes(30, seed=10), random_boxes(30, seed=11)
    level = [Boxes3D(x.centre * np.array([1, 1, 0], np.float32),
                     np.column_stack([x.size[:, :2], np.full(30, 1.5)]).astype(np.float32),
                     x.yaw, x.score, x.label, x.classes) for x in (a, b)]
    np.testing.assert_allclose(iou_3d(*level), bev_iou(bev_rows(a), bev_rows(b)), atol=1e-6)


def test_paired_is_the_diagonal():
    a, b = random_boxes(80, seed=12), random_boxes(80, seed=13)
    paired = paired_iou_3d(box_rows(a), box_rows(b))
    np.testing.assert_array_equal(paired, iou_3d(a, b).diagonal())
    assert paired.dtype == np.float32 and (paired > 0).any()


def test_apart_in_height_is_zero():
    a, b = np.array([[0, 0, 0, 4, 2, 1, 0]]), np.array([[0, 0, 1, 4, 2, 1, 0]])
    assert paired_iou_3d(a, b)[0] == 0.0


@pytest.mark.parametrize("column", range(5))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("yaw", [0.0, 0.3])
def test_not_finite_overlaps_nothing(column, value, yaw):
    bad = np.array([[0.1, 0.2, 1.0, 1.0, yaw]])
    bad[0, column] = value
    assert bev_iou(bad, np.array([SQUARE])) == 0 and bev_iou(np.array([SQUARE]), bad) == 0
    assert bev_iou(bad, bad) == 0


@pytest.mark.parametrize("side", [0.0, -1.0])
def test_box_without_extent_overlaps_nothing(side):
    flat = (0, 0, 1, side, 0)
    assert one(SQUARE, flat) == 0 and one(flat, SQUARE) == 0 and one(flat, flat) == 0
    low, cube = [[0, 0, 0, 1, 1, side, 0]], [[0, 0, 0, 1, 1, 1, 0]]
    assert paired_iou_3d(low, cube) == 0 and paired_iou_3d(low, low) == 0


def test_no_boxes():
    none, some = np.zeros((0, 5), np.float32), random_rows(3, seed=14)
    assert bev_iou(none, some).shape == (0, 3) and bev_iou(some, none).shape == (3, 0)
    assert iou_3d(Boxes3D.empty(("car",)), random_boxes(2, seed=1)).shape == (0, 2)
    assert paired_iou_3d(np.zeros((0, 7)), np.zeros((0, 7))).shape == (0,)


def test_wrong_shapes_are_refused():
    with pytest.raises(ShapeMismatch, match=r"expected \(N, 5\)"):
        bev_iou(np.zeros((2, 7)), np.zeros((2, 5)))
    with pytest.raises(ShapeMismatch, match="3 boxes against 2"):
        paired_iou_3d(np.zeros((3, 7)), np.zeros((2, 7)))
