"""Commands: a bag played in real time through the real nodes, seen by a subscriber in a process of
its own. What `bev demo` and `bev bench overhead` have in common."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from perception_bev.commands.up import Child, Team
from perception_bev.errors import PerceptionError
from perception_bev.nodes import table
from perception_bev.nodes.live_figures import SETTLE_S, LiveFigures, parse
from perception_bev.nodes.table import Entry, ros_words
from perception_bev.recordings.bag_write import absolute
from perception_bev.recordings.sample_messages import TRUTH_CLOUD_TOPIC, TRUTH_TOPIC
from perception_bev.rig import load_rig

Watch = Callable[[LiveFigures], None]

LIVE_S = 0.5  # between two live figures
TAIL_S = 1.5  # after the end of the bag the last outputs are waited for
LOG = "log.txt"
DISCOVERY = ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY")  # Iron and later; before
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
    truth_clouds: list[tuple[int, str]] = field(default_factory=list)  # (stamp, digest) as received
    replay: dict[str, Any] = field(default_factory=dict)  # the player's report

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

    @property
    def dated(self) -> list[dict[str, Any]]:
        """Settled rows whose stamp is not ahead of this computer's clock: after a jump of the
        vehicle's clock nobody knows how old an output is."""
        return [row for row in self.settled if row["latency_ms"] >= 0]

    def latency_ms(self) -> dict[str, float]:
        return summary([row["latency_ms"] for row in self.dated])

    def span_ms(self, name: str) -> dict[str, float]:
        """Of one span of `status` over the outputs that have it."""
        key = f"latency.{name}_ms"
        return summary([float(r["status"][key]) for r in self.dated if key in r["status"]])

    def overhead_ms(self) -> dict[str, float]:
        """Receipt - t_ref, less waiting, decoding, inputs, engines and post on the way."""
        return summary([_overhead(row) for row in self.dated
                        if "latency.total_ms" in row["status"]])


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
    replay = {"bag": bag, "loop": True, "wait_for_subscribers_s": 0.0}
    return _Run(folder, _nodes(rig, model, deployment), replay, {}, quiet).until(seconds)


def play_once(bag: Path, rig: Path, model: Path, seconds: float, folder: Path,
              deployment: Path | None = None, quiet: bool = True, scenario: str = "",
              seed: int = 0, watch: Watch = lambda figures: None) -> LiveRun:
    """Play all of `bag`, which lasts `seconds`, once with fresh stamps, as soon as perception is
    ready; a scenario's faults befall the messages. Of the truth, `truth_clouds` is kept.

    Args:
        watch: called with the figures so far, twice a second, from another thread.
    """
    spec = load_rig(rig)
    reference = absolute(spec.sensors[spec.reference.sensor].topic)
    replay = {"bag": bag, "expect": [reference, absolute(TRUTH_CLOUD_TOPIC)],
              "exclude": [absolute(TRUTH_TOPIC)],  # the same again, slower to restamp
              "wait_for_subscribers_s": table.ENGINES_LOADED_S}
    if scenario:
        replay |= {"scenario": scenario, "rig": rig, "seed": seed}
    run = _Run(folder, _nodes(rig, model, deployment), replay, {"truth": "cloud", "live_s": LIVE_S},
               quiet, watch)
    live = run.until(table.ENGINES_LOADED_S + 2.0 * seconds)
    if not live.replay["complete"]:
        raise PerceptionError(f"the bag was not played to its end: {live.replay['error']}; the "
                              f"nodes' log is {folder / LOG}")
    return live


def _nodes(rig: Path, model: Path, deployment: Path | None) -> dict[str, Any]:
    """Parameters of the perception node."""
    return {"rig": rig, "model": model, **({"deployment": deployment} if deployment else {})}


class _Run:
    """Three nodes, their log, and what they leave behind."""

    def __init__(self, folder: Path, perception: dict[str, Any], replay: dict[str, Any],
                 measure: dict[str, Any], quiet: bool, watch: Watch = lambda figures: None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._report, self._played = folder / "outputs.json", folder / "played.json"
        for file in (self._report, self._played):
            file.unlink(missing_ok=True)
        self._log, self._quiet, self._watch = folder / LOG, quiet, watch
        self._once = not replay.get("loop", False)
        self._children = [
            _child("measure_node", {"report": self._report, **measure}),
            _child("replay_node", {**replay, "stamps": "fresh", "clock": False,
                                   "report": self._played}, ends_all=not self._once),
            _child("perception_node", perception)]
        self._over = threading.Event()

    def until(self, seconds: float) -> LiveRun:
        """For `seconds`, or until a moment after the replay has played all."""
        timer = threading.Timer(seconds, self._end)
        with self._log.open("w") as lines:
            self._team = Team(self._children, environment(),
                              lambda line: self._take(line, lines))
            self._memory = _Memory(self._children[-1])
            timer.start()
            code = self._team.run()
            timer.cancel()
        return self._result(code)

    def _take(self, line: str, file: TextIO) -> None:
        """One line of a node: figures for who watches, the rest for the log."""
        if (figures := parse(line)) is not None:
            self._watch(figures)
            return
        file.write(line + "\n")
        file.flush()
        if not self._quiet:
            print(line, flush=True)
        if self._once and line.startswith("[replay_node] -- ended"):
            threading.Timer(TAIL_S, self._end).start()

    def _end(self) -> None:
        self._over.set()
        self._memory.read()
        self._team.stop()

    def _result(self, code: int) -> LiveRun:
        result = json.loads(self._report.read_text()) if self._report.exists() else {"outputs": []}
        received = [r["received_ns"] for r in result["outputs"] if "received_ns" in r]
        if not self._over.is_set() or not received or not self._played.exists():
            what = ("no output came" if self._over.is_set() else
                    "a node ended or the run was interrupted")
            raise PerceptionError(f"{what} (exit code {code}); the nodes' log is {self._log}:\n"
                                  + "\n".join(self._log.read_text().splitlines()[-12:]))
        replay = json.loads(self._played.read_text())
        return LiveRun(result["outputs"], replay["published"],
                       min(received) / 1e9 - self._memory.started_at, self._memory.megabytes,
                       result["repeated"], [tuple(each) for each in result["truth_clouds"]], replay)


def environment() -> dict[str, str]:
    """Of the nodes. What they publish looks like a vehicle's sensors: unless the user says
    otherwise, it stays on this computer."""
    local = {} if any(name in os.environ for name in DISCOVERY) else {DISCOVERY[0]: "LOCALHOST"}
    return {**os.environ, **table.environment(), **local}


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
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(process.pid)
            self.started_at = found.create_time()
            self.megabytes = found.memory_info().rss / 1e6


def _child(executable: str, parameters: dict[str, Any], ends_all: bool = True) -> Child:
    """A node that, ending by itself, ends the run: there is nothing more to measure."""
    values = {name: value if isinstance(value, (bool, int, float, list)) else str(value)
              for name, value in parameters.items()}
    entry = Entry(executable, executable, lambda _: values, respawn=False, ends_all=ends_all)
    return Child(entry, [sys.executable, "-m", entry.module, *ros_words(values)])


def machine() -> str:
    """One line that says what the figures were measured on."""
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text()
                .splitlines() if line.startswith("model name")), "unknown CPU")
    system = subprocess.run(["uname", "-sr"], capture_output=True, text=True).stdout.strip()
    return f"{os.cpu_count()} cores of {cpu}, {system}, load {os.getloadavg()[0]:.1f}, " \
           + time.strftime("%Y-%m-%d")
