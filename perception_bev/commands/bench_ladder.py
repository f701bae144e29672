"""Commands: `bev bench ladder`, what every plan of the ladder saves in time and costs in mAP."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from perception_bev import resources
from perception_bev.commands.eval_tables import progress
from perception_bev.deployment import Deployment, load_deployment
from perception_bev.errors import ConfigError
from perception_bev.eval import drives
from perception_bev.latency.ladder import PLANS, Plan
from perception_bev.latency.trace import Trace
from perception_bev.manifest import load_manifest
from perception_bev.rig import load_rig

HELP = """what each plan saves and costs

Runs simulated drives of unseen seeds through the model by every plan of the ladder. Times: from the
closed bundle, with the pictures' features there, to its boxes; and what the pictures' backbones
take beside it, each frame. Plans are timed in turns, frame by frame, so that what disturbs the
computer disturbs them alike. Accuracy: mAP and NDS by the definitions of nuScenes.

example: bev bench ladder --model models/sim6 --seeds 1-4 --seconds 6 --json ladder.json"""

LEAST_MS = 1.0  # a plan that saves less on the way and beside it is not worth a step


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="folder of a model (default: models/sim6)")
    parser.add_argument("--rig", type=Path, help="default: config/rigs/sim6.yaml")
    parser.add_argument("--deployment", type=Path, help="file of what this computer does")
    parser.add_argument("--seeds", default="1-4", metavar="LIST", help="drives, as in 1-8,12")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each drive")
    parser.add_argument("--timed", type=int, default=60, help="samples that are timed")
    parser.add_argument("--cache", type=Path, help="where generated drives are kept")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")


@dataclass(frozen=True)
class Row:
    """One plan."""

    name: str
    path_ms: tuple[float, float]  # p50, p95 from the bundle to its boxes
    camera_ms: float  # mean of the pictures' backbones, each frame
    mean_ap: float
    nds: float

    def saved_ms(self, before: Row) -> float:
        """Against another plan: on the way, and beside it."""
        return (before.path_ms[0] - self.path_ms[0]) + (before.camera_ms - self.camera_ms)


def run(args: argparse.Namespace) -> int:
    if args.timed < 5:
        raise ConfigError(f"--timed {args.timed}: at least 5 samples")
    model = args.model or resources.path("models/sim6")
    rig = load_rig(args.rig or resources.path("config/rigs/sim6.yaml"))
    deployment = load_deployment(args.deployment) if args.deployment else Deployment()
    with progress() as bar:
        def watched(made: Iterator, total: int) -> Iterator:
            return bar.track(made, total, description="drives generated") if total else made

        recording = drives.generated(args.cache or drives.default_folder(), rig,
                                     drives.parse_seeds(args.seeds), args.seconds,
                                     load_manifest(model), progress=watched)
        times = timed(model, recording, deployment, args.timed, bar)
        rows = [Row(plan.name, *times[plan.name], *_scored(model, recording, plan, deployment, bar))
                for plan in PLANS]
    _show(rows, len(recording), Console())
    if args.json:
        args.json.write_text(json.dumps(_plain(rows, len(recording)), indent=1))
    return 0


def timed(model: Path, recording: drives.DecodedDrives, deployment: Deployment, samples: int,
          bar: Any) -> dict[str, tuple[tuple[float, float], float]]:
    """Plan -> path [ms] p50 and p95, and backbones [ms] a frame."""
    from perception_bev.pipeline.offline import calibration_of, push_motion
    from perception_bev.pipeline.perception import Perception

    path: dict[str, list[float]] = {plan.name: [] for plan in PLANS}
    beside: dict[str, list[float]] = {plan.name: [] for plan in PLANS}
    runs = {plan.name: Perception(model, calibration_of(recording, 0), deployment,
                                  time.monotonic_ns) for plan in PLANS}
    try:
        for perception in runs.values():
            perception.warm_up()
        count = min(samples, len(recording))
        for index in bar.track(range(count), description="timed"):
            sample, bundle = recording[index], recording.bundle_of(index)
            for plan in PLANS:
                perception = runs[plan.name]
                push_motion(perception.ego, sample)
                start = time.perf_counter()
                if plan.cameras != "none":
                    perception.see(bundle, plan)
                middle = time.perf_counter()
                perception.process(bundle, Trace(0, 0), plan=plan)
                beside[plan.name].append(1e3 * (middle - start))
                path[plan.name].append(1e3 * (time.perf_counter() - middle))
    finally:
        for perception in runs.values():
            perception.close()
    return {name: (tuple(float(v) for v in np.percentile(path[name], (50, 95))),
                   float(np.mean(beside[name]))) for name in path}


def _scored(model: Path, recording: drives.DecodedDrives, plan: Plan, deployment: Deployment,
            bar: Any) -> tuple[float, float]:
    """mAP and NDS with this plan for all frames."""
    from perception_bev.eval.drive_report import collected, score
    from perception_bev.pipeline.offline import detect

    found = detect(model, recording, plan=plan, deployment=deployment)
    report = score(collected(bar.track(found, len(recording), description=plan.name),
                             len(recording)))
    return report.mean_ap, report.nds


def _show(rows: Sequence[Row], samples: int, console: Console) -> None:
    made = Table(title=f"{samples} samples; saved: against the plan above, path and backbones")
    for name in ("plan", "bundle to boxes p50 / p95 [ms]", "backbones [ms a frame]", "saved [ms]",
                 "mAP", "mAP lost", "NDS"):
        made.add_column(name, justify="left" if name == "plan" else "right")
    for before, row in zip([None, *rows], rows, strict=False):
        saved = "" if before is None else f"{row.saved_ms(before):.1f}"
        made.add_row(row.name, f"{row.path_ms[0]:.1f} / {row.path_ms[1]:.1f}",
                     f"{row.camera_ms:.1f}", saved, f"{row.mean_ap:.3f}",
                     f"{rows[0].mean_ap - row.mean_ap:+.3f}", f"{row.nds:.3f}")
    console.print(made)
    poor = [row.name for before, row in zip(rows, rows[1:], strict=False)
            if row.saved_ms(before) < LEAST_MS]
    if poor:
        console.print(f"saves under {LEAST_MS:g} ms: {', '.join(poor)}")


def _plain(rows: Sequence[Row], samples: int) -> dict[str, Any]:
    return {"samples": samples, "plans": [
        {"plan": row.name, "path_ms": {"p50": row.path_ms[0], "p95": row.path_ms[1]},
         "camera_ms": row.camera_ms,
         "saved_ms": None if before is None else row.saved_ms(before),
         "mAP": row.mean_ap, "NDS": row.nds, "mAP_lost": rows[0].mean_ap - row.mean_ap}
        for before, row in zip([None, *rows], rows, strict=False)]}
