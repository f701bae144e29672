"""Pipeline: what comes out: an output, why there is none, and the condition of it all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_bev.contracts import Boxes3D, SensorBundle
from perception_bev.latency.trace import Trace
from perception_bev.outputs.track import Tracks


@dataclass(frozen=True, slots=True)
class Output:
    """Everything about one output time."""

    t_ref_ns: int
    epoch: int
    sequence: int
    boxes: Boxes3D  # in base_link at t_ref
    reasons: tuple[str, ...]  # why it is not full: "lidar_top: missing", "no_ego_motion"; or empty
    bundle: SensorBundle
    trace: Trace
    occupancy: np.ndarray | None = None  # (Y, X) int8, when wanted
    history_s: float | None = None  # [s] how far back the memory reached; None: not used
    tracks: Tracks | None = None  # in base_link at t_ref
    plan: str = "full"  # what the ladder had computed

    @property
    def mode(self) -> str:
        """"full", or "degraded" without a required sensor or by another plan."""
        return "degraded" if any(": " in reason for reason in self.reasons) else "full"


@dataclass(frozen=True, slots=True)
class Condition:
    """What `status` says beside an output, read at one moment."""

    received: dict[str, int]  # messages, by sensor
    drops: dict[tuple[str, str], int]  # by sensor (or "memory", "tracks") and reason
    failures: dict[str, int]  # bundles without output and internal errors, by text
    faults: dict[str, str]  # "clock.<sensor>", "clock.stamps", "odometry"
    advice: tuple[str, ...]  # what in the rig file does not fit what the sensors do
    foreign_clock: bool  # most stamps are of another clock than ROS time: no latency is known


@dataclass(frozen=True, slots=True)
class Failure:
    """A bundle that gave no output."""

    t_ref_ns: int
    text: str
    tracks: Tracks | None = None  # those of before, carried on to t_ref; None: nobody knows
    epoch: int = 0
