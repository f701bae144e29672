"""Training: checkpoints that resume exactly. Safetensors and JSON, no pickles."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from perception_bev.errors import ConfigError

TENSORS, STATE = "checkpoint.safetensors", "checkpoint.json"
AUXILIARY = "picture_heat."  # what of a model is for training only


def save(folder: Path, model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer,
         state: dict) -> None:
    """Write everything that the next step depends on: one file, replaced whole, never half."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": v for k, v in moments.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()},
              folder / f"{TENSORS}.new", metadata={STATE: json.dumps(state)})
    (folder / f"{TENSORS}.new").replace(folder / TENSORS)


def load(folder: Path, model: nn.Module, average: nn.Module,
         optimiser: torch.optim.Optimizer) -> dict | None:
    """Restore in place; the state dictionary, or None where there is no checkpoint."""
    state = _state(folder)
    if state is None:
        return None
    tensors = load_file(folder / TENSORS)
    model.load_state_dict(_part(tensors, "model."))
    average.load_state_dict(_part(tensors, "average."))
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in _part(tensors, "optimiser.").items():
        index, name = key.split(".", 1)
        moments.setdefault(int(index), {})[name] = value
    whole = optimiser.state_dict()
    optimiser.load_state_dict({"state": moments, "param_groups": whole["param_groups"]})
    return state


def averaged(folder: Path) -> dict[str, torch.Tensor]:
    """The averaged weights of a run, without what is for training only; ConfigError where nothing
    was trained."""
    if not (folder / TENSORS).exists():
        raise ConfigError(f"{folder}: no {TENSORS}; a folder of `bev train` is wanted")
    weights = _part(load_file(folder / TENSORS), "average.")
    return {name: value for name, value in weights.items() if not name.startswith(AUXILIARY)}


def digest(weights: dict[str, torch.Tensor]) -> str:
    """Hexadecimal digest of weights: two runs that start alike start with the same."""
    content = hashlib.sha256()
    for name in sorted(weights):
        content.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    return content.hexdigest()


def _state(folder: Path) -> dict | None:
    """From the tensors' own file; runs that began earlier have it in a file beside them."""
    if not (folder / TENSORS).exists():
        return None
    with safe_open(folder / TENSORS, "pt") as file:
        inside = (file.metadata() or {}).get(STATE)
    if inside is None and (folder / STATE).exists():
        inside = (folder / STATE).read_text()
    return None if inside is None else json.loads(inside)


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
