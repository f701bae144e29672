"""Commands: `bev eval`, the accuracy of a model on an annotated data set, whole and with sensors
taken away."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from perception_bev.contracts import Boxes3D
from perception_bev.errors import ConfigError
from perception_bev.eval.astyx_protocol import CarReport
from perception_bev.eval.matrix import (
    Subset,
    parse_sensors,
    sensor_loss_matrix,
    subset_name,
    subsets_of,
)
from perception_bev.recordings.astyx import AstyxRecording
from perception_bev.recordings.base import Sample

HELP = """score a model on a recording

Car AP (40 recall points, rotated IoU 0.5, 3D and bird's-eye view), nuScenes' centre-distance AP and
the errors of what was found, for every subset of the sensors: the sensor-loss matrix.

example: bev eval --dataset astyx --root DIR --model models/NAME --json result.json"""

MIN_WIDTH = 80  # of the tables, so that a pipe does not break their rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", choices=("astyx",), required=True)
    parser.add_argument("--root", type=Path, required=True, help="folder of the unpacked data set")
    parser.add_argument("--frames", type=Path, metavar="FILE",
                        help="names of the frames to use, one a line (default: all)")
    parser.add_argument("--model", type=Path, required=True, help="folder with a model.yaml")
    parser.add_argument("--sensors", default="camera,lidar,radar",
                        help="what the vehicle has (default: %(default)s)")
    parser.add_argument("--subsets", choices=("all", "full"), default="all",
                        help="every subset of the sensors, or only all together")
    parser.add_argument("--bootstrap", type=int, default=0, metavar="N",
                        help="90 %% intervals from N resamples of the frames (200 is enough)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")


def run(args: argparse.Namespace) -> int:
    from perception_bev.pipeline.offline import detect  # the engines come with it

    sensors = parse_sensors(args.sensors)
    subsets = subsets_of(sensors) if args.subsets == "all" else [sensors]
    recording = AstyxRecording(args.root, read_names(args.frames) if args.frames else None)
    with _progress() as progress:
        def watched(subset: Subset) -> Iterator[tuple[Sample, Boxes3D]]:
            found = detect(args.model, recording, subset, None, None)
            return progress.track(found, len(recording), description=subset_name(subset))
        reports = sensor_loss_matrix(recording, watched, subsets, args.bootstrap)
    show(reports, Console())
    if args.json:
        write_json(args.json, args, reports)
    return 0


def read_names(path: Path) -> list[str]:
    """Frame names, one a line; empty lines and what follows a # are skipped."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"--frames {path}: not readable: {err}") from err
    names = [name for line in lines if (name := line.split("#")[0].strip())]
    if not names:
        raise ConfigError(f"--frames {path}: no frame names in it (one a line)")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"--frames {path}: more than once: {', '.join(twice[:10])}")
    return names


def write_json(path: Path, args: argparse.Namespace, reports: Mapping[str, CarReport]) -> None:
    result: dict[str, Any] = {
        "dataset": args.dataset, "model": str(args.model),
        "subsets": {name: report.as_json() for name, report in reports.items()}}
    try:
        path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    except OSError as err:
        raise ConfigError(f"--json {path}: not writable: {err}") from err


# -- tables ----------------------------------------------------------------------------------------

def show(reports: Mapping[str, CarReport], console: Console) -> None:
    """Print what is found, then how well, a row for each subset of the sensors."""
    console.width = max(console.width, MIN_WIDTH)
    first = next(iter(reports.values()))
    console.print(f"{first.frames} frames; cars counted: "
                  + ", ".join(f"{name} {n}" for name, n in first.cars.items()))
    console.print(_precision_table(reports))
    console.print(_error_table(reports))
    if first.interval_90:
        console.print(_interval_table(reports))


def _precision_table(reports: Mapping[str, CarReport]) -> Table:
    table = _table("Car AP [%]", "3D IoU 0.5\n easy  mod.  hard",
                   "BEV IoU 0.5\n easy  mod.  hard", "centre distance [m]\n  0.5     1     2     4")
    for name, r in reports.items():
        table.add_row(name, _cells(r.car_ap_3d), _cells(r.car_ap_bev),
                      _cells(r.centre_distance_ap))
    return table


def _error_table(reports: Mapping[str, CarReport]) -> Table:
    table = _table("Errors of cars found within 2 m", "translation\n[m]", "scale\n1 - IoU",
                   "yaw\n[rad]", "faces the\nright way")
    for name, r in reports.items():
        lengths = (_number(r.errors[key], ".2f") for key in ("translation", "scale", "yaw"))
        table.add_row(name, *lengths, _number(r.errors["heading_right"], ".1%"))
    return table


def _interval_table(reports: Mapping[str, CarReport]) -> Table:
    table = _table("90 % intervals, moderate", "3D IoU 0.5", "BEV IoU 0.5", "centre distance 2 m")
    for name, r in reports.items():
        table.add_row(name, *(f"{_number(low, '.1f')} .. {_number(high, '.1f')}" for low, high in (
            r.interval_90["car_ap_3d"]["moderate"], r.interval_90["car_ap_bev"]["moderate"],
            r.interval_90["centre_distance_ap"]["2"])))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0),
                  pad_edge=False)
    table.add_column("sensors", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cells(figures: Mapping[str, float]) -> str:
    return " ".join(f"{_number(value, '.1f'):>5}" for value in figures.values())


def _number(value: float, form: str) -> str:
    return "n/a" if math.isnan(value) else format(value, form)


def _progress() -> Progress:
    return Progress(TextColumn("{task.description:>18}"), BarColumn(), MofNCompleteColumn(),
                    TimeRemainingColumn(), console=Console(stderr=True))
