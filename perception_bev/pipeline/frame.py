"""Pipeline: one bundle on its way through the stages, and the buffers that it takes along."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from perception_bev.contracts import MODALITIES, Modality, SensorBundle
from perception_bev.inputs.build import InputBuilder, Inputs
from perception_bev.latency.ladder import PLANS, Plan
from perception_bev.latency.trace import Trace
from perception_bev.temporal.memory import ALONE, Moment

History = Literal["keep", "skip", "reset"]  # what a frame does with the memory


class Workspace:
    """Rasters, tables and staged features of one frame, from extract to the end of fuse."""

    def __init__(self, builder: InputBuilder, camera: np.ndarray, installed: int) -> None:
        """
        Args:
            camera: (1, slots * pixels, C) float32, where the cameras' features are put together.
            installed: number of the calibration that it was made for.
        """
        self.builder, self.camera, self.installed = builder, camera, installed


class Workspaces:
    """As many as frames are between extract and fuse at the same time, made when wanted first.

    Any thread may call. Those of a calibration that is no longer in use are let go.
    """

    def __init__(self, make: Callable[[], Workspace]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._free: list[Workspace] = []
        self.made = 0

    def take(self) -> Workspace:
        with self._lock:
            if self._free:
                return self._free.pop()
            self.made += 1
        return self._make()

    def give_back(self, workspace: Workspace) -> None:
        with self._lock:
            self._free.append(workspace)


@dataclass(slots=True)
class Frame:
    """A bundle that is being worked on. One stage has it at a time."""

    bundle: SensorBundle
    trace: Trace
    plan: Plan = PLANS[0]
    modalities: tuple[Modality, ...] = MODALITIES
    history: History = "keep"
    score_threshold: float | None = None  # None: the manifest's
    # extract
    moment: Moment = ALONE  # where and when, for memory and tracks
    generation: int = 0  # of the odometry
    workspace: Workspace | None = None
    workspaces: Workspaces | None = None  # where it goes back to
    inputs: Inputs | None = None
    feeds: Mapping[str, np.ndarray] = field(default_factory=dict)  # what fuse takes of this frame
    plane: np.ndarray | None = None  # (3,) of the ground, as in Inputs
    occupancy: np.ndarray | None = None  # (Y, X) int8, when wanted
    # fuse
    fused: np.ndarray | None = None  # (1, C, X, Y) float32
    history_s: float | None = None  # [s] how far back the memory reached

    @property
    def t_ref_ns(self) -> int:
        return self.bundle.t_ref_ns

    @property
    def epoch(self) -> int:
        return self.bundle.epoch

    def let_go(self) -> None:
        """Give the buffers back: nobody reads the inputs any more. Twice does no harm."""
        workspace, self.workspace = self.workspace, None
        self.inputs, self.feeds = None, {}
        if workspace is not None:
            self.workspaces.give_back(workspace)
