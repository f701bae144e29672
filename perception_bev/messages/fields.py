"""Messages: PointCloud2's list of fields and NumPy's structured dtype, both directions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from perception_bev.errors import BadMessage, ShapeMismatch

# sensor_msgs/PointField. 9 to 11 are PCL's, in the message definition since late 2025; drivers
# built on PCL send them on every distribution.
DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8",
             9: "i8", 10: "u8", 11: "?"}
_NUMBERS = {kind: number for number, kind in DATATYPES.items()}

MAX_FIELDS = 256
MAX_POINT_STEP = 65_536  # [bytes]

Field = tuple[str, int, int, int]  # name, offset [bytes], datatype, count


class PlainFields(tuple):
    """Fields that are (name, offset, datatype, count) already."""

    __slots__ = ()


def cloud_dtype(fields: Sequence[Any], point_step: int, is_bigendian: bool) -> np.dtype:
    """The structured dtype of one point. Unnamed fields are padding; a count of 0 means 1.

    Raises BadMessage("bad_layout") for unknown datatypes, names that come twice, and fields that
    reach beyond `point_step`.
    """
    if not 0 <= point_step <= MAX_POINT_STEP or len(fields) > MAX_FIELDS:
        raise BadMessage("bad_layout", f"point_step {point_step} bytes with {len(fields)} fields; "
                                       f"at most {MAX_POINT_STEP} and {MAX_FIELDS}")
    key = fields if isinstance(fields, PlainFields) else tuple(
        (str(f.name), int(f.offset), int(f.datatype), int(f.count)) for f in fields)
    return _cloud_dtype(key, point_step, bool(is_bigendian))


@lru_cache(maxsize=64)  # a driver's layout never changes, and building a dtype takes longer
def _cloud_dtype(fields: tuple[Field, ...], point_step: int, is_bigendian: bool) -> np.dtype:
    named = [field for field in fields if field[0]]
    names = [name for name, *_ in named]
    if len(set(names)) < len(names):
        raise BadMessage("bad_layout", f"field names come twice: {', '.join(names)}")
    formats = [_format(field, point_step, is_bigendian) for field in named]
    return np.dtype({"names": names, "formats": formats, "offsets": [f[1] for f in named],
                     "itemsize": point_step})


def _format(field: Field, point_step: int, is_bigendian: bool) -> Any:
    name, offset, datatype, count = field
    if datatype not in DATATYPES:
        raise BadMessage("bad_layout", f"field '{name}' has datatype {datatype}; known: 1 to 11")
    scalar = np.dtype((">" if is_bigendian else "<") + DATATYPES[datatype])
    count = max(count, 1)
    if offset < 0 or offset + count * scalar.itemsize > point_step:
        raise BadMessage("bad_layout", f"field '{name}' ({count} x {scalar} at byte {offset}) "
                                       f"does not fit into point_step {point_step}")
    return scalar if count == 1 else (scalar, (count,))


def cloud_fields(dtype: np.dtype) -> list[Field]:
    """(name, offset, datatype, count) of a structured dtype, in its order.

    Raises ShapeMismatch for what PointCloud2 cannot say: nested, two-dimensional or mixed-endian.
    """
    if dtype.names is None:
        raise ShapeMismatch(f"a point cloud's dtype has named fields, got {dtype}")
    is_bigendian(dtype)
    return [_field(name, *dtype.fields[name][:2]) for name in dtype.names]


def _field(name: str, dtype: np.dtype, offset: int) -> Field:
    kind = dtype.base.str[1:].replace("b1", "?")
    if kind not in _NUMBERS or len(dtype.shape) > 1:
        raise ShapeMismatch(f"field '{name}': PointCloud2 has no {dtype}")
    return name, offset, _NUMBERS[kind], dtype.shape[0] if dtype.shape else 1


def is_bigendian(dtype: np.dtype) -> bool:
    """PointCloud2's flag for a structured dtype; ShapeMismatch when its fields disagree."""
    orders = {dtype.fields[name][0].base.str[0] for name in dtype.names} - {"|"}
    if len(orders) > 1:
        raise ShapeMismatch(f"the fields of one cloud share their byte order, got {dtype}")
    return orders == {">"}
