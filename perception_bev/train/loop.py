"""Training: the loop. Every step depends on the seed and its own number alone, so that a run that
was cut off goes on as if it had not been."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from tqdm import tqdm

from perception_bev.contracts import MODALITIES, Modality
from perception_bev.errors import ConfigError
from perception_bev.manifest import Manifest
from perception_bev.network.model import Model
from perception_bev.outputs.heads import Targets
from perception_bev.train import checkpoint
from perception_bev.train.loss import PARTS, loss_of
from perception_bev.train.pictures import picture_heat, picture_loss
from perception_bev.train.samples import Labelled, SampleMaker, TrainingSample

AVERAGE_DECAY = 0.999
PREFETCH = 6  # batches
SAVE_EVERY = 500  # steps
GRADIENT_LIMIT = 10.0


@dataclass(frozen=True)
class Recipe:
    """How long and how hard."""

    steps: int
    batch: int = 2
    peak_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up: float = 0.1  # share of the steps
    seed: int = 0
    weak: bool = False  # the lidar is missing more often than the others
    turn_deg: float = 180.0  # of a grid all round
    pictures: bool = False  # with an auxiliary loss on the pictures
    sensors: str = "all"  # or some of camera, lidar, radar, with commas: only these, no dropout

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """In the usual order; ConfigError for an unknown name."""
        names = MODALITIES if self.sensors == "all" else tuple(self.sensors.split(","))
        unknown = sorted(set(names) - set(MODALITIES))
        if unknown:
            raise ConfigError(f"sensors '{self.sensors}': there is no {', '.join(unknown)}; known: "
                              f"all, {', '.join(MODALITIES)}")
        return tuple(m for m in MODALITIES if m in names)

    def rate(self, step: int) -> float:
        """One cycle (Smith, 2018): linear up, cosine down to a thousandth."""
        progress = step / max(self.steps, 1)
        if progress < self.warm_up:
            return self.peak_rate * (0.05 + 0.95 * progress / self.warm_up)
        fall = (progress - self.warm_up) / (1 - self.warm_up)
        return self.peak_rate * max(0.5 * (1 + np.cos(np.pi * fall)), 1e-3)


class Task(Protocol):
    """What is learned: how samples are made, and what a model says of a batch of them."""

    def __len__(self) -> int:
        """How many samples there are to start from."""

    def maker(self) -> Callable[[int, np.random.Generator], Sample]:
        """Called once in the thread that makes the samples: (number, chance) -> one."""

    def ready(self, model: Model) -> None:
        """Put the model's parts into the mode in which they are trained."""

    def logits(self, model: Model, batch: Sequence[Sample]) -> tuple[torch.Tensor, ...]:
        """Heat before the sigmoid, boxes, and maybe an auxiliary loss."""


class Sample(Protocol):
    targets: Targets


class SingleFrames:
    """Every frame for itself, the whole model."""

    def __init__(self, items: Sequence[Labelled], manifest: Manifest,
                 classes: dict[str, str | None], recipe: Recipe) -> None:
        self._items, self._pictures = items, recipe.pictures
        self._manifest, self._classes = manifest, classes
        self._arguments = (manifest, classes, recipe.modalities, recipe.weak,
                           recipe.turn_deg)

    def __len__(self) -> int:
        return len(self._items)

    def maker(self) -> Callable[[int, np.random.Generator], TrainingSample]:
        maker = SampleMaker(*self._arguments)
        return lambda number, rng: maker.make(self._items[number], rng)

    def ready(self, model: Model) -> None:
        model.train()

    def logits(self, model: Model, batch: Sequence[TrainingSample]) -> tuple[torch.Tensor, ...]:
        if not self._pictures:
            return model.logits(*tensors(batch))
        pictures, index, weight, lidar, radar, context = tensors(batch)
        features = model.extract(pictures, lidar, radar, context)
        made = model.decide.logits(model.fuse(features[0], index, weight, *features[1:], context))
        seen = [k for k, sample in enumerate(batch) if sample.context[0] > 0]
        if not seen:
            return made
        heat = np.concatenate([picture_heat(batch[k].item, self._manifest, self._classes,
                                            batch[k].mirrored) for k in seen])
        return *made, picture_loss(model.picture_logits(features[0][seen]), heat)


def train(items: Sequence[Labelled], manifest: Manifest, classes: dict[str, str | None],
          recipe: Recipe, folder: Path) -> Model:
    """Train on single frames, or go on training, in `folder`."""
    return run(SingleFrames(items, manifest, classes, recipe), manifest, recipe, folder)


def run(task: Task, manifest: Manifest, recipe: Recipe, folder: Path,
        start: dict[str, torch.Tensor] | None = None) -> Model:
    """Train, or go on training, in `folder`; returns the model with averaged weights.

    start: weights to begin with, default: random ones.
    """
    torch.manual_seed(recipe.seed)
    model = Model(manifest, recipe.pictures)
    if start is not None:
        model.load_state_dict(start)
    task.ready(model)
    model = model.to(memory_format=torch.channels_last)
    average = deepcopy(model).requires_grad_(False)
    optimiser = torch.optim.AdamW(_groups(model, recipe), lr=recipe.peak_rate, betas=(0.9, 0.99))
    state = checkpoint.load(folder, model, average, optimiser) or {"step": 0, "history": []}
    if state["step"] and Recipe(**state["recipe"]) != recipe:
        raise ConfigError(f"{folder} was begun with another recipe: {state['recipe']}; name "
                          "another folder, or give the same arguments")
    batches = _prefetched(task, recipe, state["step"])
    bar = tqdm(total=recipe.steps, initial=state["step"], unit="step", smoothing=0.05)
    for step in range(state["step"], recipe.steps):
        began = time.monotonic()
        parts = _step(task, model, average, optimiser, next(batches), manifest, recipe.rate(step),
                      step)
        state["history"].append([step, *parts, round(time.monotonic() - began, 3)])
        bar.update()
        if step % 20 == 0:
            recent = np.mean([row[1:-1] for row in state["history"][-100:]], axis=0)
            bar.set_postfix_str(" ".join(f"{part} {value:.3f}" for part, value
                                         in zip(PARTS, recent, strict=False)))
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
            state |= {"step": step + 1, "recipe": asdict(recipe)}
            checkpoint.save(folder, model, average, optimiser, state)
    bar.close()
    (folder / "history.json").write_text(json.dumps(state["history"]))
    return average.eval()


def _groups(model: Model, recipe: Recipe) -> list[dict]:
    """Weight decay for kernels, not for biases and normalisation; what is frozen is left out."""
    learned = [p for p in model.parameters() if p.requires_grad]
    kernels = [p for p in learned if p.ndim > 1]
    others = [p for p in learned if p.ndim <= 1]
    return [{"params": kernels, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0}]


def _step(task: Task, model: Model, average: Model, optimiser: torch.optim.Optimizer,
          batch: Sequence[Sample], manifest: Manifest, rate: float, step: int) -> list[float]:
    for group in optimiser.param_groups:
        group["lr"] = rate
    task.ready(model)
    logits, boxes, *auxiliary = task.logits(model, batch)
    loss = loss_of(logits, boxes, [sample.targets for sample in batch], manifest)
    optimiser.zero_grad(set_to_none=True)
    sum(auxiliary, loss.total).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_LIMIT)
    optimiser.step()
    _follow(average, model, min(AVERAGE_DECAY, (1 + step) / (10 + step)))
    return [getattr(loss, part).item() for part in PARTS]


@torch.no_grad()
def _follow(average: Model, model: Model, decay: float) -> None:
    """Exponential moving average of the weights and of the batch statistics."""
    for mean, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)


def tensors(batch: Sequence[TrainingSample]) -> tuple[torch.Tensor, ...]:
    """The arguments of Model.logits."""
    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(sample, name) for sample in batch]))

    channels_last = {"memory_format": torch.channels_last}
    return (stacked("pictures"), stacked("lift_index"), stacked("lift_weight"),
            stacked("lidar").to(**channels_last), stacked("radar").to(**channels_last),
            stacked("context"))


def _order(count: int, recipe: Recipe, step: int) -> list[int]:
    """Indices of a step's samples: a fresh permutation an epoch."""
    chosen = []
    for position in range(step * recipe.batch, (step + 1) * recipe.batch):
        epoch, place = divmod(position, count)
        permutation = np.random.default_rng([recipe.seed, 1, epoch]).permutation(count)
        chosen.append(int(permutation[place]))
    return chosen


def _prefetched(task: Task, recipe: Recipe, first_step: int) -> Iterator[list[Sample]]:
    """Batches from a thread of their own; an error there is raised here."""
    made: queue.Queue = queue.Queue(PREFETCH)

    def work() -> None:
        try:
            make = task.maker()
            for step in range(first_step, recipe.steps):
                rng = np.random.default_rng([recipe.seed, 2, step])
                made.put([make(i, rng) for i in _order(len(task), recipe, step)])
        except Exception as err:  # handed over whole: the loop must not wait for ever
            made.put(err)

    threading.Thread(target=work, daemon=True, name="samples").start()
    while True:
        batch = made.get()
        if isinstance(batch, Exception):
            raise batch
        yield batch
