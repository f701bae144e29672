"""Commands: `bev train`, from a data set to weights. Resumes where it was cut off."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from perception_bev import resources
from perception_bev.errors import ConfigError

HELP = "train a model; a run that was cut off goes on where it stopped"
EPILOG = """example:
  bev train --dataset astyx --root ~/data/astyx --work runs/astyx --steps 12500
  bev export --work runs/astyx --out models/astyx"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--dataset", choices=("astyx",), required=True)
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--config", type=Path, help="model description (default: the data set's)")
    parser.add_argument("--work", type=Path, required=True,
                        help="folder for checkpoints; named again, the run goes on")
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hold-out", type=float, default=0.15,
                        help="share of the samples, in groups of neighbours, not trained on")
    parser.add_argument("--threads", type=int, default=2)


def run(args: argparse.Namespace) -> int:
    import torch

    from perception_bev.manifest import load_manifest
    from perception_bev.recordings.astyx import AstyxRecording
    from perception_bev.train import astyx, curve, split
    from perception_bev.train.loop import Recipe, train

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # else a dying unit makes every step several times slower
    config = args.config or resources.path(f"config/models/{args.dataset}.yaml")
    manifest = load_manifest(config)
    recording = AstyxRecording(args.root)
    held = split.hold_out(recording.groups(), args.hold_out, args.seed)
    names = {"trained": [n for n, h in zip(recording.names, held, strict=True) if not h],
             "held_out": [n for n, h in zip(recording.names, held, strict=True) if h]}
    _record(args.work, {
        "split.json": json.dumps(names, indent=1),
        "held_out.txt": "\n".join(names["held_out"]) + "\n",
        "model.yaml": Path(config).read_text()})
    items = astyx.labelled(recording, manifest, [i for i, h in enumerate(held) if not h])
    print(f"{len(items)} samples to train on, {int(held.sum())} held out")
    recipe = Recipe(args.steps, args.batch, args.rate, seed=args.seed)
    train(items, manifest, astyx.CLASSES, recipe, args.work)
    curve.draw(args.work / "history.json", args.work / "curve.png")
    print(f"weights and learning curve in {args.work}; next: bev export --work {args.work}")
    return 0


def _record(work: Path, files: dict[str, str]) -> None:
    """What a run is made of. A run that goes on must be made of the same: else frames that were
    held out would be trained on, and the record would say they were not."""
    for name, text in files.items():
        file = work / name
        if (work / "checkpoint.safetensors").exists() and (
                not file.exists() or file.read_text() != text):
            raise ConfigError(f"{work}: its {name} is of another run (another seed, share, data or "
                              "model description); name another folder, or give the same arguments")
    work.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (work / name).write_text(text)
