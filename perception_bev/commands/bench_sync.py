"""Commands: `bev bench sync`, the collector against made-up streams of sensors.

Stamps, arrivals and both clocks are injected, so every figure but the CPU cost is exact and the
same on every computer.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from perception_bev.rig import Rig
from perception_bev.sync.clock import MS, SECOND
from perception_bev.sync.collector import BundleCollector, Collector
from perception_bev.sync.scenario import (
    START_NS,
    Arrival,
    Closed,
    Stream,
    arrivals,
    drive,
    rig_of,
)

HELP = """frames in, bundles out: time and losses

Drives the collector through scenarios (staggered, missing, delayed, mixed rates, hiccup, bag loop)
with injected clocks and prints bundles per cycle, closing after t_ref, ages, masks and CPU cost.
Exit code 1 when a scenario does not keep what it promises.

example: bev bench sync --seconds 10 --json sync.json"""

WAIT_MS = 25.0
PERIOD_MS = 100.0
HOW = ("complete", "deadline", "predicted")
MIN_WIDTH = 124  # of the table, so that a pipe does not break its rows


@dataclass(frozen=True)
class Scenario:
    """Streams, what is done to their arrivals, and what the collector must make of them."""

    name: str
    streams: tuple[Stream, ...]
    distort: Callable[[list[Arrival]], list[Arrival]] = sorted
    laps: int = 1  # how often the recording is played, ROS time rewinding in between
    epochs: int = 1
    watched: str | None = None  # the sensor in question
    masked: str = "never"  # how often it is: "never", "always", "sometimes"
    age_ms: tuple[float, float] | None = None  # its ages once the collector knows it
    latest_ms: float = WAIT_MS  # closing after t_ref


@dataclass
class Result:
    """What one scenario gave."""

    name: str
    cycles: int
    bundles: int
    closed_by: dict[str, int]
    latency_ms: dict[str, float]  # closing after t_ref, injected time: p50, max
    worst_age_ms: float  # of any frame in any bundle
    masked: int  # slots without a frame
    reused: int
    drops: dict[str, int]  # by reason
    epochs: int
    cost_us: dict[str, float]  # CPU per push and per poll: median, measured
    failures: list[str] = field(default_factory=list)


def scenarios() -> list[Scenario]:
    """Nine sensors, a lidar as the reference, cameras staggered by 11 ms."""
    first = Stream("lidar", "lidar")
    last = Stream("lidar", "lidar", phase_ms=88)
    after = tuple(Stream(f"cam{i}", phase_ms=11 + 11 * i) for i in range(8))
    before = tuple(Stream(f"cam{i}", phase_ms=11 * i) for i in range(8))
    slow = Stream("cam", delay_ms=110)
    rates = (replace(first, period_ms=50.0), Stream("c12", period_ms=1000 / 12, phase_ms=8),
             Stream("c20", period_ms=50, phase_ms=7), Stream("c30", period_ms=1000 / 30),
             Stream("radar", "radar", period_ms=1000 / 13, settings={"max_age_ms": 100.0}))
    rough = tuple(replace(s, jitter_ms=15, lost=0.05) for s in (first, *after))
    return [
        Scenario("reference last, 11 ms stagger", (last, *before), watched="cam0",
                 age_ms=(88, 88), latest_ms=5),
        Scenario("reference first, 11 ms stagger", (first, *after), watched="cam0",
                 age_ms=(89, 89), latest_ms=5),
        *(Scenario(f"without {gone}", _without((first, *after), gone, 0.0), watched=gone,
                   masked="always") for gone in ("lidar", "cam0", "cam7")),
        Scenario("lidar dies after 1 s", _without((first, *after), "lidar", 1.0),
                 watched="lidar", masked="sometimes"),
        Scenario("camera with 110 ms transport", (first, slow), watched="cam", age_ms=(100, 100)),
        Scenario("lidar 20 Hz, 12, 20, 30 Hz, radar 13 Hz", rates, watched="c12",
                 age_ms=(-5, 95)),
        Scenario("jitter 15 ms, 5 % lost", rough, watched="cam0", masked="sometimes"),
        Scenario("300 ms hiccup, then a burst", (first, *after), _hiccup, watched="cam0",
                 masked="sometimes"),
        Scenario("bag of this length, played twice", (first, *after), laps=2, epochs=2,
                 watched="cam0", age_ms=(89, 89)),
    ]


def _without(streams: Sequence[Stream], name: str, until_s: float) -> tuple[Stream, ...]:
    return tuple(replace(s, until_s=until_s) if s.name == name else s for s in streams)


def _hiccup(events: list[Arrival]) -> list[Arrival]:
    """All that arrives between 1.0 and 1.3 s arrives at 1.3 s."""
    begin, end = START_NS + SECOND, START_NS + 1300 * MS
    return sorted((replace(e, at_ns=end) if begin <= e.at_ns < end else e for e in events),
                  key=lambda e: e.at_ns)


def play(scenario: Scenario, seconds: float, make: Callable[[Rig], BundleCollector],
         timer: Callable[[str, Callable], object]) -> tuple[list[Closed], BundleCollector]:
    """All bundles of a scenario and the collector; no clock is read here."""
    collector = make(rig_of(scenario.streams, "lidar", WAIT_MS, PERIOD_MS))
    events = scenario.distort(arrivals(scenario.streams, seconds))
    closed: list[Closed] = []
    for lap in range(scenario.laps):
        mono = round((5000 + lap * (seconds + 0.2)) * SECOND)
        closed += drive(collector, events, START_NS + round(seconds * SECOND), mono_ns=mono,
                        timer=timer)
    return closed, collector


def measure(scenario: Scenario, seconds: float,
            make: Callable[[Rig], BundleCollector] = Collector) -> Result:
    """Play a scenario and judge it."""
    spent: dict[str, list[int]] = {"push": [], "poll": []}

    def timer(what: str, call: Callable) -> object:
        begin = time.thread_time_ns()
        value = call()
        spent[what].append(time.thread_time_ns() - begin)
        return value

    closed, collector = play(scenario, seconds, make, timer)
    slots = [slot for c in closed for slot in c.bundle.slots.values()]
    latencies = [c.latency_ns / MS for c in closed] or [float("nan")]
    reasons: Counter[str] = Counter()
    for (_, reason), count in collector.drops.items():
        reasons[reason] += count
    result = Result(
        scenario.name, round(seconds * 1000 / PERIOD_MS) * scenario.laps, len(closed),
        dict(Counter(c.bundle.closed_by for c in closed)),
        {"p50": float(np.median(latencies)), "max": max(latencies)},
        max((s.age_ns / MS for s in slots if s.present), default=float("nan")),
        sum(not s.present for s in slots), sum(s.reason == "reused" for s in slots),
        dict(reasons), len({c.bundle.epoch for c in closed}),
        {what: float(np.median(times)) / 1000 for what, times in spent.items() if times})
    return replace(result, failures=judge(scenario, result, closed))


def judge(scenario: Scenario, result: Result, closed: list[Closed]) -> list[str]:
    """What the scenario promised and the collector did not keep."""
    failures = []
    if not result.cycles - 2 * scenario.laps <= result.bundles <= result.cycles:
        failures.append(f"{result.bundles} bundles in {result.cycles} cycles")
    if result.epochs != scenario.epochs:
        failures.append(f"{result.epochs} epochs instead of {scenario.epochs}")
    if not result.latency_ms["max"] <= scenario.latest_ms + 0.01:
        failures.append(f"closed {result.latency_ms['max']:.1f} ms after t_ref, "
                        f"not within {scenario.latest_ms:.1f}")
    gaps = [(b.bundle.t_ref_ns - a.bundle.t_ref_ns) / MS
            for a, b in pairwise(closed) if a.bundle.epoch == b.bundle.epoch]
    if any(not 50 <= gap <= 150 for gap in gaps):
        failures.append("a cycle without a bundle")
    return failures + _judge_watched(scenario, closed)


def _judge_watched(scenario: Scenario, closed: list[Closed]) -> list[str]:
    """Of the sensor in question, once the collector knows it (the third bundle of an epoch)."""
    if scenario.watched is None:
        return []
    known = [c for c in closed if sum(o.bundle.epoch == c.bundle.epoch and
                                      o.bundle.sequence < c.bundle.sequence for o in closed) >= 2]
    slots = [c.bundle.slots[scenario.watched] for c in known]
    failures, masked = [], sum(not s.present for s in slots)
    if {"never": masked > 0, "always": masked < len(slots), "sometimes": False}[scenario.masked]:
        failures.append(f"{scenario.watched} masked in {masked} of {len(slots)} bundles")
    if scenario.age_ms is not None:
        low, high = scenario.age_ms
        ages = [s.age_ns / MS for s in slots if s.present]
        if any(not low - 0.01 <= age <= high + 0.01 for age in ages):
            failures.append(f"{scenario.watched} is {min(ages):.1f} to {max(ages):.1f} ms old")
    return failures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=10.0,
                        help="length of a scenario, at least 3 (default: %(default)s)")
    parser.add_argument("--collector", choices=("deadline", "message_filters"), default="deadline",
                        help="ours, or ROS's for comparison where it is installed")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")


def run(args: argparse.Namespace) -> int:
    make = _collector(args.collector)
    results = [measure(s, max(args.seconds, 3.0), make) for s in scenarios()]
    show(results, Console(), args.collector)
    if args.json:
        args.json.write_text(json.dumps(as_dict(results, args.collector), indent=1) + "\n")
    return 1 if any(r.failures for r in results) else 0


def as_dict(results: Sequence[Result], collector: str) -> dict[str, Any]:
    """For programs; figures of a scenario without bundles are null."""
    return {"collector": collector, "wait_ms": WAIT_MS, "period_ms": PERIOD_MS,
            "passed": not any(r.failures for r in results),
            "scenarios": {r.name: _plain({k: v for k, v in vars(r).items() if k != "name"})
                          for r in results}}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _collector(name: str) -> Callable[[Rig], BundleCollector]:
    if name == "deadline":
        return Collector
    from perception_bev.nodes.message_filters_collector import MessageFiltersCollector

    return MessageFiltersCollector


def show(results: Sequence[Result], console: Console, collector: str) -> None:
    """The table, and what failed."""
    console.width = max(console.width, MIN_WIDTH)
    table = Table(title=f"collector '{collector}', injected clocks, wait "
                  f"{WAIT_MS:.0f} ms, one cycle each {PERIOD_MS:.0f} ms")
    table.add_column("scenario", no_wrap=True)
    for heading in ("bundles\nof cycles", "complete,\ndeadline,\npredicted",
                    "after t_ref\np50, max [ms]", "oldest\n[ms]", "masked\nslots", "reused",
                    "CPU µs\npush, poll", ""):
        table.add_column(heading, justify="right")
    for r in results:
        table.add_row(r.name, f"{r.bundles}/{r.cycles}",
                      ", ".join(str(r.closed_by.get(how, 0)) for how in HOW),
                      f"{r.latency_ms['p50']:.1f}, {r.latency_ms['max']:.1f}",
                      f"{r.worst_age_ms:.0f}", str(r.masked), str(r.reused),
                      f"{r.cost_us.get('push', 0):.0f}, {r.cost_us.get('poll', 0):.0f}",
                      "failed" if r.failures else "ok")
    console.print(table)
    for r in results:
        for failure in r.failures:
            console.print(f"{r.name}: {failure}", style="red")
