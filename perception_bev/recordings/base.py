"""Recordings: bags, data sets and simulated drives are all indexable samples with raw frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from perception_bev.contracts import Boxes3D, check_array
from perception_bev.geometry import SE3
from perception_bev.raw import RawFrame
from perception_bev.rig import Rig


@dataclass(frozen=True)
class Visibility:
    """What the sensors got of each box in one sample; (N,) int32 each."""

    lidar_points: np.ndarray
    radar_returns: np.ndarray
    pixels: np.ndarray  # of all cameras together, at their own resolution


@dataclass(frozen=True)
class Truth:
    """Annotated boxes of one sample, in base_link at its reference time."""

    boxes: Boxes3D  # score 1; classes are the recording's own
    occlusion: np.ndarray  # (N,) int32: 0 visible, 1 partly, 2 mostly hidden
    counted: np.ndarray  # (N,) bool: inside the evaluation's range and field of view
    track: np.ndarray | None = None  # (N,) int64: the same object has the same number in a sequence
    seen: Visibility | None = None  # None: the recording does not know

    def __post_init__(self) -> None:
        n = len(self.boxes)
        check_array("Truth.occlusion", self.occlusion, (n,), np.int32)
        check_array("Truth.counted", self.counted, (n,), np.bool_)
        if self.track is not None:
            check_array("Truth.track", self.track, (n,), np.int64)
        if self.seen is not None:
            for name in ("lidar_points", "radar_returns", "pixels"):
                check_array(f"Truth.seen.{name}", getattr(self.seen, name), (n,), np.int32)


@dataclass(frozen=True)
class OdometrySample:
    """Where the vehicle was and how it moved at one time."""

    stamp_ns: int
    odom_from_base: SE3
    linear: np.ndarray  # (3,) [m/s] in base_link
    angular: np.ndarray  # (3,) [rad/s] in base_link


@dataclass(frozen=True)
class Sample:
    """What the sensors gave around one reference time."""

    name: str  # the recording's own name of it
    sequence: int  # samples of one sequence are one drive without gaps
    t_ref_ns: int
    raw: Mapping[str, tuple[RawFrame, ...]]  # by the rig's sensor names, newest last
    truth: Truth | None = None
    odom_from_base: SE3 | None = None  # at t_ref
    notes: Mapping[str, str] = field(default_factory=dict)
    odometry: tuple[OdometrySample, ...] = ()  # since the sample before, up to t_ref, oldest first


class Recording(Protocol):
    """Indexable samples, in time order within a sequence."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def rig_of(self, index: int) -> Rig:
        """The rig that recorded sample `index`."""
