"""Commands: `bev train`, from a data set to weights. Resumes where it was cut off."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perception_bev import resources
from perception_bev.errors import ConfigError
from perception_bev.manifest import Manifest, load_manifest

HELP = "train a model; a run that was cut off goes on where it stopped"
RATES = {"single": 2e-3, "temporal": 1e-3}  # peak learning rate of each phase
SEQUENCES = ("sim", "nuscenes")  # data sets whose samples know their drive
EPILOG = """examples:
  bev train --dataset astyx --root ~/data/astyx --work runs/astyx --steps 12500
  bev train --dataset sim --root ~/data/drives --work runs/sim6      missing drives are generated
  bev train --dataset sim --root ~/data/drives --phase temporal --from runs/sim6 --work runs/sim6-t
  bev train --dataset nuscenes --root ~/data/nuscenes --scenes train.txt --work runs/nuscenes
  bev export --work runs/astyx --out models/astyx"""


@dataclass(frozen=True)
class Material:
    """What a run is trained on."""

    items: Sequence  # of train.samples.Labelled
    classes: dict[str, str | None]  # the data set's class -> the model's
    record: dict[str, str] = field(default_factory=dict)  # files of the run that say what it was
    said: str = ""  # one line for the reader


@dataclass(frozen=True)
class DataSet:
    """How `--dataset NAME` becomes a model description and samples."""

    config: str  # of the model, a shipped file
    material: Callable[[argparse.Namespace, Manifest], Material]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--dataset", choices=tuple(DATASETS), required=True)
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--config", type=Path, help="model description (default: the data set's)")
    parser.add_argument("--work", type=Path, required=True,
                        help="folder for checkpoints; named again, the run goes on")
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rate", type=float,
                        help="peak learning rate (default: 2e-3, in the temporal phase 1e-3)")
    parser.add_argument("--phase", choices=tuple(RATES), default="single",
                        help="single frames and the whole model, or what remembers alone")
    parser.add_argument("--from", type=Path, dest="start", metavar="WORK",
                        help="run of the phase before, from whose weights the temporal one starts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turn", type=float, default=180.0, metavar="DEG",
                        help="how far scenes are turned, either way, where the grid is all round")
    parser.add_argument("--pictures", action="store_true",
                        help="teach the cameras with a heat map of every picture as well (single "
                             "frames only)")
    parser.add_argument("--weak", action="store_true",
                        help="take the lidar away more often than the other sensors")
    parser.add_argument("--sensors", default="all", metavar="NAMES",
                        help="train with these modalities only, always all of them, for instance "
                             "lidar (default: all, dropped by chance)")
    recorded = parser.add_argument_group("recorded sets")
    recorded.add_argument("--hold-out", type=float, default=0.15,
                          help="share of the samples, in groups of neighbours, not trained on")
    scenes = parser.add_argument_group("nuScenes")
    scenes.add_argument("--scenes", type=Path, metavar="FILE",
                        help="names of the scenes to train on, one a line (default: all)")
    scenes.add_argument("--cache", type=Path, metavar="DIR",
                        help="folder for the decoded scenes (default: WORK/scenes)")
    drives = parser.add_argument_group("simulated drives")
    drives.add_argument("--rig", type=Path, help="rig file (default: config/rigs/sim6.yaml)")
    drives.add_argument("--drives", type=int, default=120, help="how many")
    drives.add_argument("--seconds", type=float, default=3.0, help="length of each")
    drives.add_argument("--first-seed", type=int, default=1000,
                        help="seed of the first drive; the others follow")
    drives.add_argument("--processes", type=int, default=2, help="that generate drives")


def run(args: argparse.Namespace) -> int:
    import torch

    from perception_bev.train import checkpoint, curve, loop

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # else a dying unit makes every step several times slower
    recipe = loop.Recipe(args.steps, args.batch, args.rate or RATES[args.phase], seed=args.seed,
                         sensors=args.sensors, weak=args.weak, turn_deg=args.turn,
                         pictures=args.pictures)
    _ = recipe.modalities  # a wrong name is said before anything is made
    start, begun = None, {}
    if args.phase == "temporal":
        start = checkpoint.averaged(_before(args))
        begun = {"from.txt": checkpoint.digest(start) + "\n"}
    dataset = DATASETS[args.dataset]
    config = args.config or resources.path(dataset.config)
    manifest = load_manifest(config)
    material = dataset.material(args, manifest)
    _record(args.work, material.record | begun | {"model.yaml": Path(config).read_text()})
    print(material.said)
    loop.run(_task(args, material, manifest, recipe), manifest, recipe, args.work, start)
    curve.draw(args.work / "history.json", args.work / "curve.png")
    print(f"weights and learning curve in {args.work}; next: bev export --work {args.work}")
    return 0


def _task(args: argparse.Namespace, material: Material, manifest: Manifest, recipe):
    """What the loop is to learn."""
    if args.phase == "single":
        from perception_bev.train.loop import SingleFrames

        return SingleFrames(material.items, manifest, material.classes, recipe)
    from perception_bev.train.temporal import Clips

    return Clips(material.items, manifest, material.classes, recipe.weak, recipe.turn_deg)


def _before(args: argparse.Namespace) -> Path:
    """The run that the temporal phase starts from."""
    if args.start is None:
        raise ConfigError("--phase temporal starts from a trained model: give --from WORK, the "
                          "folder of its run on single frames")
    if args.dataset not in SEQUENCES:
        raise ConfigError(f"--phase temporal needs drives with ego motion; '{args.dataset}' has "
                          f"single frames (known with drives: {', '.join(SEQUENCES)})")
    if args.sensors != "all":
        raise ConfigError("--phase temporal is trained with all sensors, dropped by chance")
    return args.start


def _astyx(args: argparse.Namespace, manifest: Manifest) -> Material:
    from perception_bev.recordings.astyx import AstyxRecording
    from perception_bev.train import astyx, split

    recording = AstyxRecording(args.root)
    held = split.hold_out(recording.groups(), args.hold_out, args.seed)
    names = {"trained": [n for n, h in zip(recording.names, held, strict=True) if not h],
             "held_out": [n for n, h in zip(recording.names, held, strict=True) if h]}
    items = astyx.labelled(recording, manifest, [i for i, h in enumerate(held) if not h])
    return Material(items, astyx.CLASSES,
                    {"split.json": json.dumps(names, indent=1),
                     "held_out.txt": "\n".join(names["held_out"]) + "\n"},
                    f"{len(items)} samples to train on, {int(held.sum())} held out")


def _sim(args: argparse.Namespace, manifest: Manifest) -> Material:
    from tqdm import tqdm

    from perception_bev.rig import load_rig
    from perception_bev.train import drives

    wanted = drives.DriveSet(load_rig(args.rig or resources.path("config/rigs/sim6.yaml")),
                             args.drives, args.seconds, args.first_seed)
    drives.make(args.root, wanted, manifest, args.processes,
                lambda made, total: tqdm(made, total=total, unit="drive", disable=total == 0))
    items = drives.Drives(args.root, wanted, manifest)
    record = {"rig": wanted.rig.name, "first_seed": args.first_seed, "drives": args.drives,
              "seconds": args.seconds}
    return Material(items, drives.classes(manifest), {"drives.json": json.dumps(record)},
                    f"{len(items)} samples of {args.drives} simulated drives")


def _nuscenes(args: argparse.Namespace, manifest: Manifest) -> Material:
    from tqdm import tqdm

    from perception_bev.train import nuscenes

    names = None if args.scenes is None else nuscenes.scene_names(args.scenes)
    spacing = "period" if args.phase == "temporal" else "key_frame"
    source = nuscenes.recording(args.root, names, spacing)
    folder = args.cache or args.work / "scenes"
    nuscenes.make(folder, source, manifest,
                  lambda made, total: tqdm(made, total=total, unit="scene", disable=total == 0))
    items = nuscenes.Scenes(folder, source, manifest)
    return Material(items, nuscenes.classes(manifest),
                    {"scenes.txt": "\n".join(source.scenes) + "\n"},
                    f"{len(items)} samples of {len(source.scenes)} scenes")


DATASETS = {"astyx": DataSet("config/models/astyx.yaml", _astyx),
            "sim": DataSet("config/models/sim6.yaml", _sim),
            "nuscenes": DataSet("config/models/nuscenes.yaml", _nuscenes)}


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
