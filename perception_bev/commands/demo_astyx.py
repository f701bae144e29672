"""Commands: `bev demo --data`, the main job on real recorded sensors of the Astyx data set: bag in,
3D objects out, pictures. What it prints and measures is also what `bev bench overhead` does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from perception_bev import resources
from perception_bev.recordings.base import Sample
from perception_bev.rig import Calibration

RIG = "astyx_a"
PICTURES = 6


def run(data: Path, model: Path, seconds: float, out: Path, verbose: bool) -> int:
    """Convert, play, measure, draw."""
    from perception_bev.commands.live_run import machine, run_live

    recording, bag = held_out_bag(data, model, out)
    print(f"{len(recording)} frames in {bag}; playing for {seconds:g} s at 10 Hz")
    live = run_live(bag, resources.path(f"config/rigs/{RIG}.yaml"), model, seconds, out / "run",
                    quiet=not verbose)
    report = {"machine": machine(), **figures(live)}
    show(report)
    (out / "demo.json").write_text(json.dumps(report, indent=2) + "\n")
    for file in draw(recording, live.outputs, out):
        print(f"picture: {file}")
    return 0


def held_out_bag(data: Path, model: Path, out: Path):
    """The recording of the frames that the model has not seen, and its bag, made once."""
    from perception_bev.recordings.astyx import AstyxRecording
    from perception_bev.recordings.convert import convert

    names = json.loads((model / "split.json").read_text())["held_out"]
    whole = AstyxRecording(data, names)
    mine = [i for i in range(len(whole)) if whole.rig_of(i).name == RIG]
    recording = AstyxRecording(data, [whole.names[i] for i in mine])
    key = hashlib.sha256(" ".join(recording.names).encode()).hexdigest()[:8]
    bag = out / f"{RIG}_{key}"
    if not (bag / "metadata.yaml").exists():
        from tqdm import tqdm
        bag.parent.mkdir(parents=True, exist_ok=True)
        with tqdm(total=len(recording), desc="converting", unit="frame") as bar:
            convert(recording, bag, spacing="period", progress=lambda n, _: bar.update(n - bar.n))
    return recording, bag


# -- figures -----------------------------------------------------------------------------------


def figures(live) -> dict[str, Any]:
    from perception_bev.commands.live_run import COMPUTE

    last = [row["status"] for row in live.outputs if row.get("status")][-1]
    received = {key.removeprefix("received."): int(value) for key, value in last.items()
                if key.startswith("received.")}
    modes = [row["mode"].split(" ")[0] for row in live.settled]
    return {
        "outputs": len(live.settled), "rate_hz": _rate(live.settled),
        "cycles_without_objects": live.missed(), "repeated": live.repeated,
        "modes": {mode: modes.count(mode) for mode in sorted(set(modes))},
        "played": live.played, "received": received,
        "drops": {k.removeprefix("drops."): v for k, v in last.items() if k.startswith("drops.")},
        "without_latency": len(live.settled) - len(live.dated),
        "latency_ms": live.latency_ms(), "waiting_ms": live.span_ms("wait"),
        "compute_ms": {name: live.span_ms(name) for name in COMPUTE},
        "overhead_ms": live.overhead_ms(),
        "first_output_s": round(live.started_s, 2), "rss_mb": round(live.rss_mb, 1),
    }


def _rate(rows: list[dict[str, Any]]) -> float:
    stamps = [row["t_ref_ns"] for row in rows]
    return round((len(stamps) - 1) / ((stamps[-1] - stamps[0]) / 1e9), 2) if len(rows) > 1 else 0.0


def show(report: dict[str, Any]) -> None:
    console = Console(width=100)
    console.print(f"\n{report['outputs']} outputs at {report['rate_hz']} Hz after a second, "
                  f"{report['cycles_without_objects']} cycles without: "
                  + ", ".join(f"{n} {mode}" for mode, n in report["modes"].items()))
    counts = Table("topic of sensor", "received", "drops", box=None, title_justify="left")
    for name, count in report["received"].items():
        counts.add_row(name, str(count), report["drops"].get(name, "none"))
    console.print(counts)
    console.print("played: " + ", ".join(f"{t} {n}" for t, n in sorted(report["played"].items())))
    spans = Table("ms", "p50", "p95", "p99", "max", box=None)
    rows = {"latency at a subscriber": report["latency_ms"],
            "  waiting for sensors": report["waiting_ms"],
            **{f"  {name}": values for name, values in report["compute_ms"].items()},
            "  overhead": report["overhead_ms"]}
    for name, values in rows.items():
        spans.add_row(name, *(f"{values[p]:.1f}" for p in ("p50", "p95", "p99", "max")))
    console.print(spans)
    console.print(f"start to first output {report['first_output_s']} s, resident memory "
                  f"{report['rss_mb']} MB; {report['machine']}")


# -- pictures ----------------------------------------------------------------------------------


def draw(recording, outputs: list[dict[str, Any]], out: Path) -> list[Path]:
    """Camera overlay over bird's-eye view, with ground truth, of frames spread over the run."""
    matched: dict[int, dict[str, Any]] = {}
    for row in outputs:
        if row.get("truth") and row.get("boxes"):
            index = _sample_of(recording, row["truth"])
            if index is not None:
                matched.setdefault(index, row)
    chosen = sorted(matched)[::max(1, len(matched) // PICTURES)][:PICTURES]
    return [_picture(recording[i], recording.calibration_of(i), matched[i]["boxes"],
                     out / f"demo_{recording.names[i]}.png") for i in chosen]


def _sample_of(recording, truth: list[list]) -> int | None:
    """Which sample a played ground truth belongs to: the one with the same boxes."""
    centres = np.array([row[:3] for row in truth], np.float32)
    for index in range(len(recording)):
        own = recording.truth_of(index).boxes.centre
        if own.shape == centres.shape and np.allclose(own, centres, atol=1e-3):
            return index
    return None


def _picture(sample: Sample, calibration: Calibration, rows: list[list], file: Path) -> Path:
    import cv2

    from perception_bev.commands.show import sample_picture

    picture = sample_picture(sample, calibration, boxes_of(rows))
    cv2.imwrite(str(file), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return file


def boxes_of(rows: list[list]):
    """Rows of the measure node (x y z l w h yaw score class) -> Boxes3D."""
    from perception_bev.contracts import Boxes3D

    classes = tuple(sorted({row[8] for row in rows}))
    values = np.array([row[:8] for row in rows], np.float32).reshape(-1, 8)
    label = np.array([classes.index(row[8]) for row in rows], np.int32)
    return Boxes3D(values[:, :3].copy(), values[:, 3:6].copy(), values[:, 6].copy(),
                   values[:, 7].copy(), label, classes)
