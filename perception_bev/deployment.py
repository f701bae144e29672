"""Vocabulary: what this computer does. Costs are measured, never configured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from perception_bev import config
from perception_bev.config import Range


@dataclass(frozen=True)
class Deployment:
    """config/deployments/*.yaml."""

    engine: Literal["onnxruntime"] = "onnxruntime"
    variant: str = "fp32"  # of the model
    providers: tuple[str, ...] = ("CPUExecutionProvider",)  # of ONNX Runtime, in order
    threads: Annotated[int, Range(1, 256)] = 2  # inside one engine
    decode_threads: Annotated[int, Range(1, 64)] = 1  # for pictures; clouds have one of their own
    collector: Literal["deadline", "message_filters"] = "deadline"  # the second for comparison
    check_golden: bool = True  # compare every engine with its stored outputs at start-up


def load_deployment(path: str | Path) -> Deployment:
    """Read and check a deployment file."""
    return config.load(path, Deployment)
