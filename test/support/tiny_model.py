"""Shared by tests: a model small enough to run in a millisecond, with weights by chance."""

import contextlib
import dataclasses
import hashlib
import shutil
import tempfile
from pathlib import Path

import tiny

import perception_bev
from perception_bev.manifest import MANIFEST, Manifest, load_manifest

GRID = {"x_min": 0, "x_max": 16, "y_min": -8, "y_max": 8, "cell": 0.5}
SOURCES = ("network/*.py", "engines/golden.py", "inputs/lift.py", "manifest.py", "grid.py")


MEMORY = {"ages_s": [0.1, 0.2, 0.4], "channels": 6}


def description(memory: bool = False) -> Manifest:
    """model.yaml before the export: two camera slots, two classes, a short memory or none."""
    return tiny.manifest(grid=GRID, **({"memory": MEMORY} if memory else {}))


def weights(manifest: Manifest, seed: int = 1):
    """A model whose every modality matters and that finds something everywhere."""
    import torch

    from perception_bev.network.model import Model

    torch.manual_seed(seed)
    model = Model(manifest)
    with torch.no_grad():
        torch.nn.init.normal_(model.fuse.lift.weight, std=0.3)
        torch.nn.init.normal_(model.decide.heat.weight, std=0.5)
        model.decide.heat.bias.zero_()
        if model.fuse.recall is not None:
            torch.nn.init.normal_(model.fuse.recall.aggregate.weight, std=0.1)
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):  # as after training, not the identity
                layer.running_mean.normal_(std=0.05)
                layer.running_var.uniform_(0.5, 1.5)
    return model.eval()


def exported(folder: Path, memory: bool = False) -> Path:
    """The model's folder; exporting takes fifteen seconds, so what is there already is kept."""
    if not (folder / MANIFEST).exists():
        from safetensors.torch import save_file

        from perception_bev.network import export, parity

        made = Path(tempfile.mkdtemp(dir=folder.parent))
        model = weights(description(memory))
        export.export(model, description(memory), made)
        save_file(model.state_dict(), made / parity.WEIGHTS)
        with contextlib.suppress(OSError):  # another run of the tests was first
            made.replace(folder)
    return folder


def version() -> str:
    """Changes with everything that the exported files depend on."""
    import onnxruntime
    import torch

    root = Path(perception_bev.__file__).parent
    files = sorted(file for pattern in SOURCES for file in root.glob(pattern))
    text = [torch.__version__, onnxruntime.__version__, repr(description(memory=True)),
            *(file.read_text() for file in (Path(__file__), *files))]
    return hashlib.sha256("\0".join(text).encode()).hexdigest()[:16]


def changed(folder: Path, target: Path, **fields) -> Path:
    """A copy of a model's folder whose model.yaml has other values."""
    from perception_bev.network.export import write_manifest

    shutil.copytree(folder, target)
    write_manifest(dataclasses.replace(load_manifest(target), **fields), target)
    return target
