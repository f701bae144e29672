"""Network: do the exported engines compute what torch computes, on the same inputs?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from perception_bev.contracts import SensorBundle
from perception_bev.errors import EngineMismatch
from perception_bev.inputs.build import InputBuilder
from perception_bev.latency.trace import Trace
from perception_bev.manifest import Manifest
from perception_bev.network.model import Model
from perception_bev.pipeline.stages import Stages
from perception_bev.rig import Calibration
from perception_bev.temporal.memory import Moment

WEIGHTS = "weights.safetensors"
FAINT = 0.02  # peaks below this are published by nobody


@dataclass(frozen=True)
class Parity:
    """Largest |torch - engine| over all compared frames; heat is in [0..1], boxes in m and rad."""

    frames: int
    heat: float
    boxes: float


def load_weights(manifest: Manifest, folder: Path) -> Model:
    """The trained model of a model folder, in evaluation mode."""
    file = folder / WEIGHTS
    if not file.exists():
        raise EngineMismatch(f"{file}: missing; torch needs the weights beside the engine files")
    model = Model(manifest)
    model.load_state_dict(load_file(file))
    return model.eval()


def compare(model: Model, stages: Stages, manifest: Manifest,
            bundles: Iterable[tuple[SensorBundle, Calibration]]) -> Parity:
    """Whole chains on real bundles, in time order. Where they have poses, a model with a memory
    remembers: torch gets what the engines kept of the bundles before."""
    stages.memory.reset()
    frames, heat, boxes = 0, 0.0, 0.0
    builders: dict[str, InputBuilder] = {}
    for bundle, calibration in bundles:
        if calibration.rig.name not in builders:
            builders[calibration.rig.name] = InputBuilder(manifest, calibration)
        inputs = builders[calibration.rig.name].build(bundle)
        pictures = {name: bundle.slots[name].newest.image for name in inputs.camera_slots}
        now = Moment(bundle.t_ref_ns, bundle.odom_from_base, (bundle.epoch,))
        ours = _by_torch(model, manifest, inputs, pictures, stages.memory.recall(now).feeds)
        features = {name: stages.extract_camera(image) for name, image in pictures.items()}
        theirs = stages.run(inputs, features, Trace(0, 0), now)
        heat = max(heat, heat_difference(ours[0], theirs[0]))
        boxes = max(boxes, float(np.abs(ours[1] - theirs[1]).max()))
        frames += 1
    return Parity(frames, heat, boxes)


def heat_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference of two peak maps (classes, X, Y), where either has a peak above FAINT.

    The highest of the 3x3 cells round a place is compared: a tie in the last bit may move a peak
    to the neighbour, which says nothing; a peak that is missing, or one too many, is its height.
    """
    places = np.maximum(ours, theirs) > FAINT
    difference = np.abs(_highest_around(ours) - _highest_around(theirs))
    return float(difference[places].max(initial=0.0))


def _highest_around(heat: np.ndarray) -> np.ndarray:
    padded = np.pad(heat, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return windows.max(axis=(-2, -1))


@torch.no_grad()
def _by_torch(model: Model, manifest: Manifest, inputs, pictures,
              memory: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    camera = manifest.camera
    stacked = np.zeros((1, camera.slots, camera.height, camera.width, 3), np.uint8)
    for name, slot in inputs.camera_slots.items():
        stacked[0, slot] = pictures[name]

    def raster(array: np.ndarray | None, channels: int) -> torch.Tensor:
        empty = np.zeros((1, channels, *manifest.grid.shape), np.float32)
        return torch.from_numpy(empty if array is None else array)

    logits, boxes = model.logits(
        torch.from_numpy(stacked), torch.from_numpy(inputs.lift_index[None]),
        torch.from_numpy(inputs.lift_weight[None]), raster(inputs.lidar, manifest.lidar.channels),
        raster(inputs.radar, manifest.radar.channels), torch.from_numpy(inputs.context),
        **{name: torch.from_numpy(array.copy()) for name, array in memory.items()})
    heat = torch.sigmoid(logits)
    peak = torch.nn.functional.max_pool2d(heat, 3, stride=1, padding=1) == heat
    return (heat * peak)[0].numpy(), boxes[0].numpy()
