"""Commands: a bag played in real time through the real nodes, seen by a subscriber in a process of
its own. What `bev demo` and `bev bench overhead` have in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perception_bev.commands.up import Child, Team
from perception_bev.errors import PerceptionError
from perception_bev.nodes import table
from perception_bev.nodes.table import Entry, ros_words

SETTLE_S = 1.0  # outputs of the first second are not timed: caches and clocks settle
PERIOD_NS = 100_000_000  # of the rigs that are played
PERCENTILES = (50, 95, 99)
COMPUTE = ("decode", "inputs", "extract_camera", "extract_lidar", "extract_radar", "fuse", "decide",
           "post")


@dataclass(frozen=True)
class LiveRun:
    """What came out."""

    outputs: list[dict[str, Any]]  # rows of the measure node, by t_ref
    played: dict[str, int]  # messages by topic
    started_s: float  # from the start of the perception process to its first output
    rss_mb: float  # resident memory of the perception process at the end
    repeated: dict[str, int]

    @property
    def settled(self) -> list[dict[str, Any]]:
        """Rows with a latency, after the first second."""
        rows = [row for row in self.outputs if "latency_ms" in row and "status" in row]
        return [r for r in rows if r["t_ref_ns"] > rows[0]["t_ref_ns"] + SETTLE_S * 1e9]

    def missed(self) -> int:
        """Output cycles between timed outputs that had no objects; where the recording begins
        again, two outputs may be nearer than a cycle."""
        gaps = np.diff([row["t_ref_ns"] for row in self.settled])
        return int(np.maximum(np.round(gaps / PERIOD_NS) - 1, 0).sum())

    def latency_ms(self) -> dict[str, float]:
        return summary([row["latency_ms"] for row in self.settled])

    def span_ms(self, name: str) -> dict[str, float]:
        """Of one span of `status` over the outputs that have it."""
        key = f"latency.{name}_ms"
        return summary([float(r["status"][key]) for r in self.settled if key in r["status"]])

    def overhead_ms(self) -> dict[str, float]:
        """Receipt - t_ref, less waiting, decoding, inputs, engines and post on the way."""
        return summary([_overhead(row) for row in self.settled])


def _overhead(row: dict[str, Any]) -> float:
    """The node's own part, and the way from its publication to the subscriber."""
    status = row["status"]
    on_the_way = row["latency_ms"] - float(status["latency.total_ms"])
    return on_the_way + float(status["latency.overhead_ms"])


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, p95, p99, max; NaN when there are none."""
    if not len(values):
        return {**{f"p{p}": float("nan") for p in PERCENTILES}, "max": float("nan")}
    numbers = np.percentile(values, PERCENTILES)
    return {**{f"p{p}": round(float(v), 2) for p, v in zip(PERCENTILES, numbers, strict=True)},
            "max": round(float(np.max(values)), 2)}


def run_live(bag: Path, rig: Path, model: Path, seconds: float, folder: Path,
             deployment: Path | None = None, quiet: bool = True) -> LiveRun:
    """Play `bag` over and over for `seconds` with fresh stamps; sensors are there first, so that
    the time to the first output is the node's own."""
    folder.mkdir(parents=True, exist_ok=True)
    report, played = folder / "outputs.json", folder / "played.json"
    for file in (report, played):
        file.unlink(missing_ok=True)
    environment = {**os.environ, **table.environment()}
    perception = {"rig": rig, "model": model}
    if deployment:
        perception["deployment"] = deployment
    children = [
        _child("measure_node", {"report": report}),
        _child("replay_node", {"bag": bag, "loop": True, "stamps": "fresh", "clock": False,
                               "wait_for_subscribers_s": 0.0, "report": played}),
        _child("perception_node", perception)]
    log = folder / "log.txt"
    with log.open("w") as lines:
        team = Team(children, environment, lambda line: _log(line, lines, quiet))
        rss = _Memory(children[-1])
        over = threading.Event()
        timer = threading.Timer(seconds, lambda: (over.set(), rss.read(), team.stop()))
        timer.start()
        code = team.run()
        timer.cancel()
    result = json.loads(report.read_text()) if report.exists() else {"outputs": []}
    received = [r["received_ns"] for r in result["outputs"] if "received_ns" in r]
    if not over.is_set() or not received or not played.exists():
        what = "a node ended" if not over.is_set() else "no output came"
        raise PerceptionError(f"{what} (exit code {code}); the nodes' log is {log}:\n"
                              + "\n".join(log.read_text().splitlines()[-12:]))
    first = min(received)
    return LiveRun(result["outputs"], json.loads(played.read_text())["published"],
                   first / 1e9 - rss.started_at, rss.megabytes, result["repeated"])


class _Memory:
    """Resident memory of a child, from /proc, and when its process began [s since 1970]."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self.megabytes = float("nan")
        self.started_at = float("nan")

    def read(self) -> None:
        process = self._child.process
        if process is None:
            return
        import psutil
        found = psutil.Process(process.pid)
        self.started_at = found.create_time()
        self.megabytes = found.memory_info().rss / 1e6


def _child(executable: str, parameters: dict[str, Any]) -> Child:
    values = {name: value if isinstance(value, (bool, float)) else str(value)
              for name, value in parameters.items()}
    # Any of them that ends by itself ends the run: there is nothing more to measure.
    entry = Entry(executable, executable, lambda _: values, respawn=False, ends_all=True)
    return Child(entry, [sys.executable, "-m", entry.module, *ros_words(values)])


def _log(line: str, file, quiet: bool) -> None:
    file.write(line + "\n")
    file.flush()
    if not quiet:
        print(line, flush=True)


def machine() -> str:
    """One line that says what the figures were measured on."""
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text()
                .splitlines() if line.startswith("model name")), "unknown CPU")
    system = subprocess.run(["uname", "-sr"], capture_output=True, text=True).stdout.strip()
    return f"{os.cpu_count()} cores of {cpu}, {system}, load {os.getloadavg()[0]:.1f}, " \
           + time.strftime("%Y-%m-%d")
