"""Commands: `bev bench trace`, what it costs to know where the time goes."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perception_bev.latency import trace_log
from perception_bev.latency.trace import Trace
from perception_bev.rig import Rig, load_rig

HELP = """what the trace of a frame costs

Records the spans that a rig's frame has (transport and decoding by sensor, the cameras' backbones,
all steps, queues and copies between them), makes the figures of `status`, and hands the trace to
the log; what the log's own thread does is measured beside it. CPU time of the thread. Exit code 1
when the median frame costs more than 50 µs.

example: bev bench trace --json trace.json"""

LIMIT_US = 50.0
STEPS = ("queue:extract", "inputs", "copy", "extract_lidar", "extract_radar", "queue:fuse",
         "memory", "copy", "fuse", "memory", "queue:decide", "copy", "decide", "post", "publish")
LABELS = {"hand_over": "hand over", "write": "write (the log's thread)"}
PARTS = ("record", "figures", "hand_over", "write")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rig", type=Path, help="file of the vehicle's sensors (default: sim6)")
    parser.add_argument("--frames", type=int, default=5000, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")


def run(args: argparse.Namespace) -> int:
    from perception_bev import resources
    from perception_bev.commands.live_run import machine

    rig = load_rig(args.rig or resources.path("config/rigs/sim6.yaml"))
    report = {"machine": machine(), **measure(rig, max(args.frames, 10))}
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if report["passed"] else 1


def measure(rig: Rig, frames: int,
            clock: Callable[[], int] = time.thread_time_ns) -> dict[str, Any]:
    """Costs of each part of a frame's trace [µs]; `clock`: CPU time [ns], of what is measured."""
    names = span_names(rig)
    spent: dict[str, list[int]] = {part: [] for part in PARTS}
    with tempfile.TemporaryDirectory() as folder:
        log = trace_log.TraceLog(Path(folder) / "trace.jsonl", capacity=frames)
        with open(Path(folder) / "beside.jsonl", "ab", buffering=0) as beside:
            for number in range(frames):
                for part, cost in _one(number, names, log, beside, clock).items():
                    spent[part].append(cost)
        log.close(timeout_s=10.0)
    frame = np.sum([spent[part] for part in PARTS[:-1]], axis=0)
    return {"frames": frames, "spans": len(names), "written": log.written, "lost": dict(log.lost),
            "cost_us": {part: _shares(spent[part]) for part in PARTS},
            "frame_us": _shares(frame), "limit_us": LIMIT_US,
            "passed": float(np.median(frame)) <= LIMIT_US * 1e3}


def span_names(rig: Rig) -> list[str]:
    """What one frame of this rig records."""
    return [*(f"{step}:{name}" for name in rig.sensors for step in ("transport", "decode")),
            *(f"extract_camera:{name}" for name in rig.cameras), *STEPS]


def _one(number: int, names: Sequence[str], log: trace_log.TraceLog, beside: Any,
         clock: Callable[[], int]) -> dict[str, int]:
    """A frame, part by part; the file beside takes what the log's thread writes."""
    times = [clock()]
    trace = _record(number, names)
    times.append(clock())
    trace.milliseconds(), trace.overhead_ms()
    times.append(clock())
    log.put(trace)
    times.append(clock())
    beside.write((trace_log.line_of(trace) + "\n").encode())
    times.append(clock())
    return {part: times[i + 1] - times[i] for i, part in enumerate(PARTS)}


def _record(number: int, names: Sequence[str]) -> Trace:
    """As a runner does it: the clock is read at both ends of each span."""
    now = time.monotonic_ns
    trace = Trace(now(), now(), id=number, plan="full", mode="full", stamp_ns=number)
    for name in names:
        start = now()
        trace.add(name, start, now())
    trace.published = now()
    return trace


def _shares(values: Sequence[int]) -> dict[str, float]:
    return {f"p{share}": round(float(np.percentile(values, share)) / 1e3, 2) for share in (50, 99)}


def show(report: dict[str, Any]) -> None:
    """The figures on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"trace of a frame with {report['spans']} spans, "
                  f"{report['frames']} frames")
    for heading in ("part", "p50, µs", "p99, µs"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    rows = {**report["cost_us"], "a frame, without write": report["frame_us"]}
    for name, cost in rows.items():
        table.add_row(LABELS.get(name, name), f"{cost['p50']:.1f}", f"{cost['p99']:.1f}")
    console = Console()
    console.print(table)
    console.print(report["machine"], highlight=False)
    if not report["passed"]:
        console.print(f"failed: more than {report['limit_us']:g} µs", style="red")
