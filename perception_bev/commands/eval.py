"""Commands: `bev eval`, the accuracy of a model on an annotated data set, whole and with sensors
taken away. What is scored and printed for each data set is in a module of its own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from perception_bev.commands import eval_astyx, eval_sim
from perception_bev.errors import ConfigError

HELP = """score a model on a recording

Accuracy for every subset of the sensors, the sensor-loss matrix, by the data set's own protocol:
astyx: car AP (40 recall points, rotated IoU 0.5), centre-distance AP, errors of what was found.
sim: nuScenes' mAP, NDS and errors; without memory; each camera lost; hidden objects; tracks.

examples: bev eval --dataset sim --seeds 1-8 --model models/sim6 --json result.json
          bev eval --dataset astyx --root DIR --model models/NAME --json result.json"""

DATASETS = {"astyx": eval_astyx, "sim": eval_sim}  # OPTIONS, add_options(), run(args) -> figures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", choices=tuple(DATASETS), required=True)
    parser.add_argument("--model", type=Path, required=True, help="folder with a model.yaml")
    parser.add_argument("--sensors", default="camera,lidar,radar",
                        help="what the vehicle has (default: %(default)s)")
    parser.add_argument("--subsets", choices=("all", "full"), default="all",
                        help="every subset of the sensors, or only all together")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    for name, dataset in DATASETS.items():
        dataset.add_options(parser.add_argument_group(f"--dataset {name}"))


def run(args: argparse.Namespace) -> int:
    _refuse_foreign_options(args)
    if args.json:
        _write(args.json, "")  # hours later is too late to find that this cannot be done
    figures = DATASETS[args.dataset].run(args)
    if args.json:
        whole = {"dataset": args.dataset, "model": str(args.model)} | figures
        _write(args.json, json.dumps(whole, indent=2, allow_nan=False) + "\n")
    return 0


def _refuse_foreign_options(args: argparse.Namespace) -> None:
    for name, dataset in DATASETS.items():
        given = [option for option in dataset.OPTIONS if getattr(args, option) is not None]
        if name != args.dataset and given:
            raise ConfigError(f"--{given[0].replace('_', '-')} belongs to --dataset {name}")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as err:
        raise ConfigError(f"--json {path}: not writable: {err}") from err
