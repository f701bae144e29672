"""Commands: `bev eval --dataset astyx`, cars of the Astyx HiRes2019 set."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from perception_bev.commands.eval_tables import number, progress, table, wide
from perception_bev.contracts import Boxes3D
from perception_bev.errors import ConfigError
from perception_bev.eval.astyx_protocol import CarReport
from perception_bev.eval.matrix import sensor_loss_matrix
from perception_bev.eval.subsets import Subset, parse_sensors, subset_name, subsets_of
from perception_bev.recordings.astyx import AstyxRecording
from perception_bev.recordings.base import Sample

OPTIONS = ("root", "frames", "bootstrap")


def add_options(group) -> None:
    group.add_argument("--root", type=Path, help="folder of the unpacked data set; required")
    group.add_argument("--frames", type=Path, metavar="FILE",
                       help="names of the frames to use, one a line (default: all)")
    group.add_argument("--bootstrap", type=int, metavar="N",
                       help="90 %% intervals from N resamples of the frames (200 is enough)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Score, print, and return the figures for JSON."""
    from perception_bev.pipeline.offline import detect  # the engines come with it

    if args.root is None:
        raise ConfigError("--dataset astyx needs --root, the folder of the unpacked data set")
    sensors = parse_sensors(args.sensors)
    subsets = subsets_of(sensors) if args.subsets == "all" else [sensors]
    recording = AstyxRecording(args.root, read_names(args.frames) if args.frames else None)
    with progress() as bar:
        def watched(subset: Subset) -> Iterator[tuple[Sample, Boxes3D]]:
            found = detect(args.model, recording, subset, None, None)
            return bar.track(found, len(recording), description=subset_name(subset))
        reports = sensor_loss_matrix(recording, watched, subsets, args.bootstrap or 0)
    show(reports, Console())
    return {"subsets": {name: report.as_json() for name, report in reports.items()}}


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


# -- tables ----------------------------------------------------------------------------------------

def show(reports: Mapping[str, CarReport], console: Console) -> None:
    """Print what is found, then how well, a row for each subset of the sensors."""
    wide(console)
    first = next(iter(reports.values()))
    console.print(f"{first.frames} frames; cars counted: "
                  + ", ".join(f"{name} {n}" for name, n in first.cars.items()))
    console.print(_precision_table(reports))
    console.print(_error_table(reports))
    if first.interval_90:
        console.print(_interval_table(reports))


def _precision_table(reports: Mapping[str, CarReport]) -> Table:
    made = table("Car AP [%]", "3D IoU 0.5\n easy  mod.  hard",
                 "BEV IoU 0.5\n easy  mod.  hard", "centre distance [m]\n  0.5     1     2     4")
    for name, r in reports.items():
        made.add_row(name, _cells(r.car_ap_3d), _cells(r.car_ap_bev), _cells(r.centre_distance_ap))
    return made


def _error_table(reports: Mapping[str, CarReport]) -> Table:
    made = table("Errors of cars found within 2 m", "translation\n[m]", "scale\n1 - IoU",
                 "yaw\n[rad]", "faces the\nright way")
    for name, r in reports.items():
        lengths = (number(r.errors[key], ".2f") for key in ("translation", "scale", "yaw"))
        made.add_row(name, *lengths, number(r.errors["heading_right"], ".1%"))
    return made


def _interval_table(reports: Mapping[str, CarReport]) -> Table:
    made = table("90 % intervals, moderate", "3D IoU 0.5", "BEV IoU 0.5", "centre distance 2 m")
    for name, r in reports.items():
        made.add_row(name, *(f"{number(low, '.1f')} .. {number(high, '.1f')}" for low, high in (
            r.interval_90["car_ap_3d"]["moderate"], r.interval_90["car_ap_bev"]["moderate"],
            r.interval_90["centre_distance_ap"]["2"])))
    return made


def _cells(figures: Mapping[str, float]) -> str:
    return " ".join(f"{number(value, '.1f'):>5}" for value in figures.values())
