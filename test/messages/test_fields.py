"""PointField lists and structured dtypes: one law, and what neither can say."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev.errors import BadMessage, ShapeMismatch
from perception_bev.messages.fields import cloud_dtype, cloud_fields, is_bigendian

SCALARS = ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8", "?"]


def field(name="x", offset=0, datatype=7, count=1):
    return SimpleNamespace(name=name, offset=offset, datatype=datatype, count=count)


@st.composite
def layouts(draw):
    """A packed or padded dtype with unique names, scalars and short vectors."""
    order = draw(st.sampled_from("<>"))
    names = draw(st.lists(st.text("abcxyz_", min_size=1, max_size=6), unique=True, max_size=6))
    formats, offsets, end = [], [], 0
    for _ in names:
        end += draw(st.integers(0, 3))
        scalar, count = np.dtype(order + draw(st.sampled_from(SCALARS))), draw(st.integers(1, 3))
        formats.append(scalar if count == 1 else (scalar, (count,)))
        offsets.append(end)
        end += scalar.itemsize * count
    return np.dtype({"names": names, "formats": formats, "offsets": offsets,
                     "itemsize": end + draw(st.integers(0, 5))})


@given(layouts())
@settings(max_examples=80, deadline=None, derandomize=True)
def test_fields_of_a_dtype_give_that_dtype_back(dtype):
    fields = [field(*parts) for parts in cloud_fields(dtype)]
    assert cloud_dtype(fields, dtype.itemsize, is_bigendian(dtype)) == dtype


def test_a_layout_is_built_once():
    assert cloud_dtype([field()], 16, False) is cloud_dtype([field()], 16, False)


def test_padding_fields_and_a_count_of_zero():
    dtype = cloud_dtype([field("x", count=0), field("", 4, datatype=0, count=12)], 16, False)
    assert dtype.names == ("x",) and dtype["x"] == np.dtype("<f4") and dtype.itemsize == 16


@pytest.mark.parametrize("fields, point_step", [
    ([field(datatype=0)], 16),
    ([field(datatype=12)], 16),
    ([field(offset=13)], 16),
    ([field(offset=-4)], 16),
    ([field(count=2**32 - 1)], 16),
    ([field(offset=2**32 - 1)], 16),
    ([field("x"), field("x", 4)], 16),
    ([field()], 0),
    ([field()], 2**31),
    ([field(f"f{i}") for i in range(1000)], 16),
])
def test_what_does_not_fit_a_point_is_a_bad_layout(fields, point_step):
    with pytest.raises(BadMessage) as caught:
        cloud_dtype(fields, point_step, False)
    assert caught.value.reason == "bad_layout"


@pytest.mark.parametrize("dtype", [
    np.dtype("f4"), np.dtype([("x", "f2")]), np.dtype([("x", "c8")]), np.dtype([("x", "S4")]),
    np.dtype([("x", "f4", (2, 2))]), np.dtype([("x", "<f4"), ("y", ">f4")])])
def test_what_a_cloud_cannot_say_is_refused(dtype):
    with pytest.raises(ShapeMismatch):
        cloud_fields(dtype)
