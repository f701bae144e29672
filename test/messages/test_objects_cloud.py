"""Objects as points: read(write(x)) == x in any layout with the fields; the rest is refused."""

import numpy as np
import pytest

from perception_bev.contracts import Boxes3D
from perception_bev.errors import BadMessage
from perception_bev.messages.objects_cloud import (
    COASTING,
    NO_ID,
    OBJECT,
    TRUTH_OBJECT,
    object_points,
    read_objects,
)

CLASSES = ("car", "pedestrian")


def boxes(n: int = 6) -> Boxes3D:
    rng = np.random.default_rng(n)
    velocity = rng.normal(size=(n, 2)).astype(np.float32)
    velocity[: n // 2] = np.nan
    return Boxes3D(rng.normal(size=(n, 3)).astype(np.float32),
                   rng.uniform(1, 5, (n, 3)).astype(np.float32),
                   rng.uniform(-3, 3, n).astype(np.float32), rng.random(n).astype(np.float32),
                   rng.integers(0, 2, n).astype(np.int32), CLASSES, velocity)


def swapped(points):
    return points.astype(points.dtype.newbyteorder(">"))


def reordered(points):
    dtype = np.dtype([(name, points.dtype[name]) for name in reversed(points.dtype.names)])
    out = np.zeros(len(points), dtype)
    for name in dtype.names:
        out[name] = points[name]
    return out


@pytest.mark.parametrize("layout", (lambda points: points, swapped, reordered))
@pytest.mark.parametrize("dtype", (OBJECT, TRUTH_OBJECT))
def test_objects_read_back_are_the_objects(dtype, layout):
    given, ids = boxes(), np.array([NO_ID, 0, 5, 9, 2**31 - 1, 3])
    points = layout(object_points(given, ids, COASTING, dtype))
    found, found_ids, mode = read_objects(points, CLASSES)
    for name in ("centre", "size", "yaw", "score", "label", "velocity"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name))
    assert found_ids.tolist() == ids.tolist() and (mode == COASTING).all()


@pytest.mark.parametrize("number", (-2, 2**31))
def test_ids_that_a_cloud_cannot_hold_are_refused(number):
    with pytest.raises(BadMessage, match="bad_id"):
        object_points(boxes(2), np.array([1, number]))


@pytest.mark.parametrize("name", OBJECT.names)
def test_a_cloud_without_one_of_the_fields_is_none_of_ours(name):
    points = object_points(boxes(2), np.array([1, 2]))
    rest = points[[n for n in OBJECT.names if n != name]]
    with pytest.raises(BadMessage, match=f"lacks {name}"):
        read_objects(rest, CLASSES)


def test_a_class_that_the_list_does_not_have_is_refused():
    points = object_points(boxes(2), np.array([1, 2]))
    points["class"] = 2
    with pytest.raises(BadMessage, match="class 2"):
        read_objects(points, CLASSES)


def test_points_without_names_are_refused():
    with pytest.raises(BadMessage, match="lacks id"):
        read_objects(np.zeros((3, 4)), CLASSES)
