"""Training: the memory. What extracts from cameras and lidar is frozen; fuse and decide learn to
use past frames, and what is worth remembering, with gradients through the remembered maps. So does
the radar's extractor, a fiftieth of the cost: beside a memory its Doppler means more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from perception_bev.manifest import Manifest
from perception_bev.network.model import Model
from perception_bev.train.clips import Clip, ClipMaker, Sequences
from perception_bev.train.loop import tensors
from perception_bev.train.samples import TrainingSample

FROZEN = ("extract_camera", "extract_lidar")


class Clips:
    """The task of the loop: clips of drives."""

    def __init__(self, drives: Sequences, manifest: Manifest,
                 classes: dict[str, str | None], weak: bool = False,
                 turn_deg: float = 180.0) -> None:
        self._arguments = (drives, manifest, classes, weak, turn_deg)
        self._starts = ClipMaker(*self._arguments).starts()

    def __len__(self) -> int:
        return len(self._starts)

    def maker(self) -> Callable[[int, np.random.Generator], Clip]:
        maker = ClipMaker(*self._arguments)
        return lambda number, rng: maker.make(self._starts[number], rng)

    def ready(self, model: Model) -> None:
        model.train()
        for name in FROZEN:
            getattr(model, name).eval().requires_grad_(False)

    def logits(self, model: Model, batch: Sequence[Clip]) -> tuple[torch.Tensor, torch.Tensor]:
        return clip_logits(model, batch)


def clip_logits(model: Model, batch: Sequence[Clip]) -> tuple[torch.Tensor, torch.Tensor]:
    """Heat before the sigmoid, and boxes, of every clip's last frame.

    All frames of all clips go through the entry of fuse at once, so that its batch statistics are
    those of any frame; empty slots are not among them.
    """
    count, slots = len(batch), len(batch[0].past)
    filled = [(i, k) for i, clip in enumerate(batch) for k in range(slots)
              if clip.past[k] is not None]
    frames: list[TrainingSample] = [clip.now for clip in batch]
    frames += [batch[i].past[k] for i, k in filled]
    pictures, index, weight, lidar, radar, context = tensors(frames)
    features = model.extract(pictures, lidar, radar, context)
    first, entry = model.fuse.entry(features[0], index, weight, *features[1:], context)
    recall = model.fuse.recall
    kept = recall.remember(entry[count:], context[count:])
    memory = kept.new_zeros((count * slots, *kept.shape[1:]))
    if filled:
        places = torch.tensor([i * slots + k for i, k in filled])
        memory = memory.index_copy(0, places, kept)
    recalled = recall(memory.reshape(count, slots, *kept.shape[1:]),
                      torch.from_numpy(np.stack([clip.warp for clip in batch])),
                      torch.from_numpy(np.stack([clip.age for clip in batch])))
    return model.decide.logits(model.fuse.pyramid(first[:count], entry[:count] + recalled))
