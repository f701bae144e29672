"""Vocabulary: what this computer does. Costs are measured, never configured."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from perception_bev import config
from perception_bev.config import Range
from perception_bev.errors import ConfigError

STAGES = ("extract", "fuse", "decide")
PINNED = ("io", "cameras", *STAGES)  # what may have cores of its own
MOVABLE = (*STAGES, "extract_camera", "extract_lidar", "extract_radar")  # to another host


@dataclass(frozen=True)
class GuardLimits:
    """When the guard speaks for a result that does not come."""

    margin_ms: Annotated[float, Range(1, 50)] = 10.0  # least, before the deadline
    max_margin_ms: Annotated[float, Range(1, 50)] = 15.0  # to which its own delay may raise that
    safe_after: Annotated[int, Range(1, 1000)] = 10  # misses in a row until the safe state


@dataclass(frozen=True)
class Realtime:
    """What is asked of the operating system; what it does not permit is said and left out."""

    fifo_priority: Annotated[int, Range(0, 90)] = 10  # SCHED_FIFO of the guard's thread; 0: none
    nice: Annotated[int, Range(-20, 19)] = -10  # of all threads of the node
    worker_nice: Annotated[int, Range(-20, 19)] = -5  # of workers: after the node, before others
    lock_memory: bool = False  # mlockall: pages that were touched stay in memory
    freeze_gc: bool = True  # what start-up made is never looked at again by the collector
    switch_interval_ms: Annotated[float, Range(0.05, 100)] = 1.0  # of Python's threads


@dataclass(frozen=True)
class Remote:
    """Where a stage node runs engines of ours, and how tensors go there and back."""

    namespace: str = ""  # of the stage node; empty: the perception node's own
    half: bool = False  # float32 tensors cross as float16: half the bytes, not the same bits
    timeout_ms: Annotated[float, Range(5, 60_000)] = 500.0  # until an answer counts as lost


@dataclass(frozen=True)
class Deployment:
    """config/deployments/*.yaml."""

    engine: Literal["onnxruntime"] = "onnxruntime"
    variant: str = "fp32"  # of the model
    providers: tuple[str, ...] = ("CPUExecutionProvider",)  # of ONNX Runtime, in order
    threads: Annotated[int, Range(1, 256)] = 2  # inside one engine
    stage_threads: dict[str, int] = field(default_factory=dict)  # of the engines of some stages,
    # or of single ones: {extract_camera: 1}
    decode_threads: Annotated[int, Range(1, 64)] = 1  # for pictures; clouds have one of their own
    collector: Literal["deadline", "message_filters"] = "deadline"  # the second for comparison
    check_golden: bool = True  # compare every engine with its stored outputs at start-up
    runner: Literal["inline", "threads", "processes"] = "threads"
    budget_ms: Annotated[float, Range(1, 10_000)] = 80.0  # from t_ref to the publication
    early_extraction: bool = True  # a picture's backbone runs when it comes, not with its bundle
    stage_timeout_ms: Annotated[float, Range(20, 60_000)] = 500.0  # until a worker hangs
    cores: dict[str, tuple[int, ...]] = field(default_factory=dict)  # CPU numbers, by PINNED
    remote: dict[str, Remote] = field(default_factory=dict)  # by MOVABLE: what runs on other hosts
    guard: GuardLimits = field(default_factory=GuardLimits)
    realtime: Realtime = field(default_factory=Realtime)

    def __post_init__(self) -> None:
        for name, given, known in (("stage_threads", self.stage_threads, MOVABLE),
                                   ("cores", self.cores, PINNED),
                                   ("remote", self.remote, MOVABLE)):
            unknown = sorted(set(given) - set(known))
            if unknown:
                raise ConfigError(f"{name}: {', '.join(unknown)} is none of {', '.join(known)}")
        if any(not 1 <= count <= 256 for count in self.stage_threads.values()):
            raise ConfigError(f"stage_threads: {dict(self.stage_threads)}: 1 to 256 each")
        least, most = self.guard.margin_ms, self.guard.max_margin_ms
        if not least <= most < self.budget_ms:
            raise ConfigError(f"guard: margin_ms {least:g} <= max_margin_ms {most:g} < budget_ms "
                              f"{self.budget_ms:g} must hold")

    def threads_of(self, engine: str) -> int:
        """Inside the engine of this name."""
        return self.stage_threads.get(stage_of(engine), self.threads)

    def remote_of(self, engine: str) -> Remote | None:
        """Where the engine of this name runs; None: on this computer."""
        return self.remote.get(engine) or self.remote.get(stage_of(engine))


def stage_of(engine: str) -> str:
    """The stage that an engine belongs to."""
    return "extract" if engine.startswith("extract") else engine.removesuffix("_alone")


def load_deployment(path: str | Path) -> Deployment:
    """Read and check a deployment file."""
    return config.load(path, Deployment)
