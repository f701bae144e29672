"""Engines: what every vendor's engine gives, and how one is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from perception_bev.deployment import Deployment
from perception_bev.errors import EngineUnavailable, ShapeMismatch


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of an engine; shapes are static."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


class Engine(Protocol):
    """A compiled network. One caller at a time."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays by name, exactly the inputs -> arrays by name.

        Raises ShapeMismatch for other feeds, EngineFailed for what the vendor raises.
        """

    def close(self) -> None:
        """Give back memory and threads."""


def open_engine(file: Path, deployment: Deployment) -> Engine:
    """The engine that the deployment names, on one ONNX file."""
    if deployment.engine == "onnxruntime":
        from perception_bev.engines.onnxruntime import OnnxRuntimeEngine
        return OnnxRuntimeEngine(file, deployment.providers, deployment.threads)
    raise EngineUnavailable(f"engine '{deployment.engine}' is not built in; known: onnxruntime")


def check_feeds(feeds: Mapping[str, np.ndarray], specs: tuple[TensorSpec, ...]) -> None:
    """Raise ShapeMismatch unless the feeds are exactly what the engine takes."""
    unknown = sorted(set(feeds) - {spec.name for spec in specs})
    if unknown:
        raise ShapeMismatch(f"engine has no input {', '.join(unknown)}; it takes: "
                            + ", ".join(spec.name for spec in specs))
    for spec in specs:
        array = feeds.get(spec.name)
        if array is None:
            raise ShapeMismatch(f"engine input '{spec.name}' is missing; given: {sorted(feeds)}")
        if array.shape != spec.shape or array.dtype != spec.dtype:
            raise ShapeMismatch(f"engine input '{spec.name}': expected {spec.shape} {spec.dtype}, "
                                f"got {array.shape} {array.dtype}")


def check_wiring(engines: Mapping[str, Engine]) -> None:
    """What one stage gives must be what the next takes; proved before the first frame."""
    fuse = {spec.name: spec for spec in engines["fuse"].inputs}
    for modality in ("lidar", "radar"):
        given = engines[f"extract_{modality}"].outputs[0]
        if given.shape != fuse[modality].shape:
            raise ShapeMismatch(f"extract_{modality} gives {given.shape}, fuse takes "
                                f"{fuse[modality].shape} as '{modality}'")
    _, pixels, channels = engines["extract_camera"].outputs[0].shape
    _, rows, wanted = fuse["camera"].shape
    if channels != wanted or rows % pixels:
        raise ShapeMismatch(f"extract_camera gives {pixels} x {channels} a picture, fuse takes "
                            f"{fuse['camera'].shape} as 'camera'")
    made = {spec.name: spec for spec in engines["fuse"].outputs}
    fused, taken = made["fused"], engines["decide"].inputs[0]
    if fused.shape != taken.shape:
        raise ShapeMismatch(f"fuse gives {fused.shape}, decide takes {taken.shape}")
    _check_memory(fuse, made)


def _check_memory(taken: Mapping[str, TensorSpec], made: Mapping[str, TensorSpec]) -> None:
    """What fuse gives to be remembered must be what it takes back, K maps of it."""
    if ("memory" in taken) != ("remember" in made):
        raise ShapeMismatch("fuse takes 'memory' and gives 'remember', or neither: export again")
    if "memory" not in taken:
        return
    batch, slots, *one = taken["memory"].shape
    if made["remember"].shape != (batch, *one):
        raise ShapeMismatch(f"fuse gives {made['remember'].shape} to be remembered, takes "
                            f"{taken['memory'].shape} as 'memory'")
    for name, shape in (("memory_warp", (batch, slots, 2, 3)), ("memory_age", (batch, slots))):
        if name not in taken or taken[name].shape != shape:
            raise ShapeMismatch(f"fuse takes {slots} remembered maps; '{name}' has to be {shape}")
