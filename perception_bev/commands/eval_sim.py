"""Commands: `bev eval --dataset sim`, the detection and tracking figures of nuScenes on simulated
drives: with memory and without, with every subset of the sensors and each camera lost."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from perception_bev import resources
from perception_bev.commands.eval_tables import number, progress, table, wide
from perception_bev.contracts import Boxes3D
from perception_bev.eval import drives, tracking
from perception_bev.eval.drive_report import (
    DriveReport,
    Pass,
    collected,
    evaluate_drives,
    passes_of,
    score,
)
from perception_bev.eval.nuscenes_protocol import NuscenesReport, check_classes
from perception_bev.eval.subsets import parse_sensors
from perception_bev.manifest import Manifest, load_manifest
from perception_bev.recordings.base import Sample
from perception_bev.rig import Rig, load_rig

OPTIONS = ("seeds", "seconds", "rig", "cache", "baseline", "baseline_sensors")
SEEDS, SECONDS = "1-8", 20.0
TRAINED_ON = "drives.json"  # in a model's folder: the drives that it was trained on


def add_options(group) -> None:
    group.add_argument("--seeds", metavar="LIST", help=f"drives, as in 1-8,12 (default: {SEEDS})")
    group.add_argument("--seconds", type=float,
                       help=f"length of each drive (default: {SECONDS:g})")
    group.add_argument("--rig", type=Path, help="rig file (default: config/rigs/sim6.yaml)")
    group.add_argument("--cache", type=Path, metavar="DIR", help="where generated drives are kept, "
                       "about 10 MB a second (default: ~/.cache/perception_bev/drives)")
    group.add_argument("--baseline", type=Path, metavar="FOLDER",
                       help="another model, whose mAP is printed beside")
    group.add_argument("--baseline-sensors", metavar="NAMES",
                       help="what it uses (default: lidar)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Score, print, and return the figures for JSON."""
    tracking.library()  # or say now what is missing
    sensors, seeds = parse_sensors(args.sensors), drives.parse_seeds(args.seeds or SEEDS)
    rig = load_rig(args.rig or resources.path("config/rigs/sim6.yaml"))
    manifest = load_manifest(args.model)
    check_classes(manifest.classes)
    console = wide(Console())
    trained = _trained_on(args.model, seeds)
    if trained:
        console.print(f"[bold]The model was trained on seeds {_listed(trained)}.[/bold] What is "
                      "found there says nothing about other drives.")
    passes = passes_of(sensors, tuple(rig.cameras), args.subsets == "all",
                       manifest.memory is not None)
    with progress() as bar:
        recording = _recording(args, rig, seeds, manifest, bar)
        report = evaluate_drives(
            passes, lambda each: _detect(args.model, recording, each, bar), len(recording),
            manifest.heads.score_threshold)
        if args.baseline:
            report = _with_baseline(report, args, rig, seeds, bar)
    show(report, console)
    return {"seeds": list(seeds), "seconds": args.seconds or SECONDS, "rig": rig.name,
            "seeds_trained_on": trained} | report.as_json()


def _recording(args: argparse.Namespace, rig: Rig, seeds: tuple[int, ...], manifest: Manifest,
               bar: Progress) -> drives.DecodedDrives:
    def watched(made: Iterable, total: int) -> Iterator:
        return bar.track(made, total, description="drives generated") if total else iter(made)

    return drives.generated(args.cache or drives.default_folder(), rig, seeds,
                            args.seconds or SECONDS, manifest, progress=watched)


def _detect(model: Path, recording: drives.DecodedDrives, each: Pass,
            bar: Progress) -> Iterable[tuple[Sample, Boxes3D]]:
    from perception_bev.pipeline.offline import detect  # the engines come with it

    found = detect(model, recording, each.sensors, memory=each.memory, lost=each.lost)
    return bar.track(found, len(recording), description=each.name)


def _with_baseline(report: DriveReport, args: argparse.Namespace, rig: Rig,
                   seeds: tuple[int, ...], bar: Progress) -> DriveReport:
    recording = _recording(args, rig, seeds, load_manifest(args.baseline), bar)
    alone = Pass("baseline", parse_sensors(args.baseline_sensors or "lidar"))
    results = collected(_detect(args.baseline, recording, alone, bar), len(recording))
    return replace(report, baseline=score(results))


def _trained_on(model: Path, seeds: tuple[int, ...]) -> list[int]:
    """Those of the seeds that the model's folder says it was trained on."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        made_of = json.loads((model / TRAINED_ON).read_text())
        first, count = int(made_of["first_seed"]), int(made_of["drives"])
        return [seed for seed in seeds if first <= seed < first + count]
    return []


def _listed(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds[:10])) + (" ..." if len(seeds) > 10 else "")


# -- tables ----------------------------------------------------------------------------------------

def show(report: DriveReport, console: Console) -> None:
    """Print every pass, the classes, and what memory and tracking are worth."""
    whole = report.whole
    console.print(f"{whole.samples} samples; mAAE is 1 (no attributes), so NDS is at most 0.9")
    if whole.classes_without_truth:
        console.print("no ground truth, and so AP 0 and errors of 1: "
                      + ", ".join(whole.classes_without_truth) + "; mAP of the others "
                      + number(whole.mean_ap_of_present, ".3f"))
    console.print(_pass_table(report))
    console.print(_class_table(whole))
    if report.hidden:
        console.print(_hidden_table(report))
    if report.tracking:
        console.print(_tracking_table(report.tracking))


def _pass_table(report: DriveReport) -> Table:
    made = table("nuScenes", "mAP", "share", "NDS", "mATE\n[m]", "mASE\n1-IoU", "mAOE\n[rad]",
                 "mAVE\n[m/s]")
    rows = dict(report.subsets)
    rows |= {"without memory": report.without_memory} if report.without_memory else {}
    rows |= {f"without {name}": lost for name, lost in report.cameras_lost.items()}
    rows |= {"baseline": report.baseline} if report.baseline else {}
    for name, each in rows.items():
        share = each.mean_ap / report.whole.mean_ap if report.whole.mean_ap else None
        made.add_row(name, number(each.mean_ap, ".3f"), number(share, ".1%"),
                     number(each.nds, ".3f"), *_errors(each.mean_errors, "m"))
    return made


def _class_table(whole: NuscenesReport) -> Table:
    made = table("All sensors, by class", "truths", "AP", "at 2 m", "ATE\n[m]", "ASE\n1-IoU",
                 "AOE\n[rad]", "AVE\n[m/s]", first="class")
    for name, each in whole.per_class.items():
        made.add_row(name, str(each.ground_truths), number(each.ap, ".3f"),
                     number(each.ap_at["2"], ".3f"), *_errors(each.errors))
    return made


def _hidden_table(report: DriveReport) -> Table:
    made = table(f"{report.hidden['objects']} objects hidden now, seen within the last second",
                 "recall", "found", "score from", "boxes\na sample", first="")
    for point, said in (("at_published_score", "published"), ("at_equal_boxes", "equal boxes")):
        for name, each in report.hidden[point].items():
            made.add_row(f"{name.replace('_', ' ')}, {said}", number(each["recall"], ".1%"),
                         str(each["found"]), number(each["score"], ".3f"),
                         number(each["boxes_per_sample"], ".1f"))
    return made


def _tracking_table(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    made = table("Tracks, 2 m", "HOTA", "DetA", "AssA", "MOTA", "IDF1", "id\nswitches", "objects",
                 "tracks", first="class")
    for name, each in figures.items():
        made.add_row(name, *(number(each[key], ".3f")
                             for key in ("HOTA", "DetA", "AssA", "MOTA", "IDF1")),
                     *(str(each[key]) for key in ("id_switches", "objects", "tracks")))
    return made


def _errors(errors: Mapping[str, float], prefix: str = "") -> list[str]:
    return [number(errors[prefix + name], ".3f") for name in ("ATE", "ASE", "AOE", "AVE")]
