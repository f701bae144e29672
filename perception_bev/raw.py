"""Vocabulary: raw frames, what `messages/` reads from a message and a data set reads from a file.

Sizes have been checked against the data; contents have not. `sensors/` makes them sensor frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A compressed picture (JPEG, PNG)."""

    stamp_ns: int
    frame_id: str
    data: np.ndarray | bytes  # (n,) uint8, the file's bytes


@dataclass(frozen=True, slots=True)
class RawImage:
    """An uncompressed picture."""

    stamp_ns: int
    frame_id: str
    encoding: str  # sensor_msgs/image_encodings: rgb8, bgr8, rgba8, bgra8, mono8, yuv422, bayer_...
    width: int  # [px]
    height: int  # [px]
    rows: np.ndarray  # (height, step) uint8: rows with their padding


@dataclass(frozen=True, slots=True)
class RawCloud:
    """A point cloud: lidar points or radar returns."""

    stamp_ns: int
    frame_id: str
    points: np.ndarray  # (N,) structured: the message's own field names and types


RawFrame = EncodedImage | RawImage | RawCloud
