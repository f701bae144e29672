"""Sensors: what every decoder asks of a raw frame before it looks at the contents."""

from __future__ import annotations

import numpy as np

from perception_bev.errors import BadMessage
from perception_bev.raw import RawFrame


def check_header(raw: RawFrame, frame_id: str, stamp_source: str) -> None:
    """BadMessage "wrong_frame" unless the frame is the expected one ("*": any), "zero_stamp" for
    a stamp of 0 that is to be believed."""
    if frame_id not in ("*", raw.frame_id):
        raise BadMessage("wrong_frame", f"frame_id '{raw.frame_id}', the rig expects '{frame_id}'")
    if raw.stamp_ns == 0 and stamp_source == "header":
        raise BadMessage("zero_stamp", "stamp is 0; if the driver gives none, set "
                                       "stamp_source: arrival in the rig")


def check_count(points: np.ndarray, limit: int) -> None:
    """BadMessage "too_many_points" above the rig's limit."""
    if len(points) > limit:
        raise BadMessage("too_many_points", f"{len(points)} points; max_points is {limit}")


def column(points: np.ndarray, field: str) -> np.ndarray:
    """(N,) view of a structured array's field; BadMessage "missing_field" lists the fields."""
    names = points.dtype.names or ()
    if field not in names:
        raise BadMessage("missing_field",
                         f"no field '{field}'; the cloud has {', '.join(names) or 'none'}")
    values = points[field]
    if values.ndim != 1:
        raise BadMessage("bad_layout", f"field '{field}' has {values.shape[1:]} values a point")
    return values
