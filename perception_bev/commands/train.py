"""Commands: `bev train`, from a data set to weights. Resumes where it was cut off."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from perception_bev import resources

HELP = "train a model; a run that was cut off goes on where it stopped"
EPILOG = """example:
  bev train --dataset astyx --root ~/data/astyx --work runs/astyx --steps 12000
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
    args.work.mkdir(parents=True, exist_ok=True)
    (args.work / "split.json").write_text(json.dumps(names, indent=1))
    (args.work / "held_out.txt").write_text("\n".join(names["held_out"]) + "\n")
    (args.work / "model.yaml").write_text(Path(config).read_text())
    items = astyx.labelled(recording, manifest, [i for i, h in enumerate(held) if not h])
    print(f"{len(items)} samples to train on, {int(held.sum())} held out")
    recipe = Recipe(args.steps, args.batch, args.rate, seed=args.seed)
    train(items, manifest, astyx.CLASSES, recipe, args.work)
    curve.draw(args.work / "history.json", args.work / "curve.png")
    print(f"weights and learning curve in {args.work}; next: bev export --work {args.work}")
    return 0
