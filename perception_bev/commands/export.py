"""Commands: `bev export`, from trained weights to engine files that prove themselves."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

from perception_bev.errors import ConfigError

HELP = """write a trained network as engine files

ONNX files, golden outputs and model.yaml, with plain operators and static shapes.

example: bev export --work runs/astyx --out models/astyx"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, required=True,
                        help="folder of `bev train`, or of a model with its weights")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--cameras", type=int,
                        help="camera slots of the files (default: as in model.yaml)")
    parser.add_argument("--metrics", type=Path, metavar="JSON",
                        help="result of `bev eval --json`, to be kept in model.yaml")
    parser.add_argument("--notes", default="", help="a sentence to be kept in model.yaml")


def run(args: argparse.Namespace) -> int:
    from safetensors.torch import save_file

    from perception_bev.manifest import load_manifest
    from perception_bev.network import export, parity

    manifest = dataclasses.replace(load_manifest(args.work), variants={})
    if args.cameras is not None:
        if not 1 <= args.cameras <= 64:
            raise ConfigError(f"--cameras {args.cameras}: expected 1 to 64")
        manifest = dataclasses.replace(
            manifest, camera=dataclasses.replace(manifest.camera, slots=args.cameras))
    manifest = _with_provenance(manifest, args)
    args.out.mkdir(parents=True, exist_ok=True)
    model = _trained(manifest, args.work)
    save_file(model.state_dict(), args.out / parity.WEIGHTS)
    complete = export.export(model, manifest, args.out)
    for name in ("curve.png", "split.json", "held_out.txt", "drives.json"):
        if (args.work / name).exists() and args.work != args.out:
            shutil.copy(args.work / name, args.out / name)
    sizes = {name: (args.out / engine.file).stat().st_size
             for name, engine in complete.variants["fp32"].engines.items()}
    print("\n".join(f"{name:16} {size / 1e6:6.2f} MB" for name, size in sizes.items()))
    print(f"{args.out}: next, `bev verify --model {args.out}`")
    return 0


def _trained(manifest, work: Path):
    """Averaged weights of a training run, or the weights of a model folder."""
    from perception_bev.network import parity
    from perception_bev.network.model import Model
    from perception_bev.train import checkpoint

    if not (work / checkpoint.TENSORS).exists():
        return parity.load_weights(manifest, work)
    model = Model(manifest)
    model.load_state_dict(checkpoint.averaged(work))
    return model.eval()


def _with_provenance(manifest, args: argparse.Namespace):
    provenance = manifest.provenance
    if args.notes:
        provenance = dataclasses.replace(provenance, notes=args.notes)
    if args.metrics:
        provenance = dataclasses.replace(provenance, metrics=_metrics_of(args.metrics))
    return dataclasses.replace(manifest, provenance=provenance)


def _metrics_of(file: Path) -> dict[str, float]:
    """What is worth keeping of a report of `bev eval --json`, in percent and m/s."""
    try:
        report = json.loads(file.read_text())
        figures = _nuscenes_figures(report) if "NDS" in report else _astyx_figures(report)
        return {name: round(value, 2 if "mAVE" in name else 1)
                for name, value in figures.items() if value is not None}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ConfigError(f"--metrics {file}: not what `bev eval --json` writes: "
                          f"{type(err).__name__}: {err}") from err


def _astyx_figures(report: dict) -> dict[str, float | None]:
    """Moderate car AP of every subset that has one."""
    return {f"{name} {table} moderate": figures[table]["moderate"]
            for name, figures in report["subsets"].items()
            for table in ("car_ap_3d", "car_ap_bev")}


def _nuscenes_figures(report: dict) -> dict[str, float | None]:
    """mAP and NDS [%] and mAVE [m/s] of the whole model, without memory, and mAP of subsets."""
    def headline(figures: dict, suffix: str = "") -> dict[str, float]:
        return {f"mAP{suffix}": 100 * figures["mAP"], f"NDS{suffix}": 100 * figures["NDS"],
                f"mAVE{suffix}": figures["mAVE"]}

    alone = report.get("without_memory")
    return (headline(report) | (headline(alone, " without memory") if alone else {})
            | {f"{name} mAP": 100 * figures["mAP"]
               for name, figures in report.get("subsets", {}).items()})
