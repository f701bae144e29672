"""Commands: `bev bench guard`, how late a thread beside heavy subscriptions is."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from perception_bev.errors import PerceptionError

HELP = """how late a thread is beside six raw cameras

A process publishes six raw 1600x900 rgb8 pictures and a cloud of 560 kB ten times a second; another
takes and decodes them as the perception node does, and has a thread that wants to run every 10 ms,
as the output guard does. Variants: how messages are taken, Python's switch interval, frozen
garbage, SCHED_FIFO, other processes that keep every core busy. Beside each runs a control: the
same thread in a process alone, which the computer holds up, too. Variants take turns, in another
order each round, so that a busy minute of the computer meets all of them.

example: bev bench guard --seconds 20 --rounds 3 --json guard.json"""

LIMIT_MS = 5.0  # p99.9 beyond which ingest would have to leave the guard's process
FIRST = {"fifo_priority": 10, "nice": -10}  # the watched thread, and the whole process
BASE = {"switch_interval_ms": 1.0, "freeze_gc": True}  # what deployments say by default
BURN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"
GRACE_S = 90.0  # for a start on a slow computer


@dataclass(frozen=True)
class Variant:
    """One row: a trial of nodes/guard_probe.py, and whether every core is kept busy."""

    name: str
    trial: Mapping[str, Any]
    busy: bool = False


@dataclass
class Row:
    """All rounds of one variant."""

    delays_ms: list[float] = field(default_factory=list)
    control_ms: list[float] = field(default_factory=list)
    received: int = 0
    expected: float = 0.0
    refused: Counter = field(default_factory=Counter)
    cpu_share: list[float] = field(default_factory=list)
    locked_ms: list[float] = field(default_factory=list)
    unlocked_ms: list[float] = field(default_factory=list)
    longest_collection_ms: float = 0.0
    notes: set[str] = field(default_factory=set)


def variants() -> list[Variant]:
    """The product's own is the last of each kind."""
    taking = [Variant(f"{taking}, switch interval {interval:g} ms",
                      {"taking": taking, "switch_interval_ms": interval})
              for interval in (5.0, 1.0, 0.2) for taking in ("typed", "rclpy", "unlocked")]
    return [Variant("idle, nothing is sent", {"messages": False}), *taking,
            Variant("unlocked, 1 ms, frozen garbage", BASE),
            Variant("unlocked, 1 ms, frozen, FIFO", BASE | {"fifo_priority": 10}),
            *_busy()]


def _busy() -> list[Variant]:
    """As in `processes` mode, when every stage computes."""
    trials = {"idle": {"messages": False}, "typed, 5 ms": {"taking": "typed"},
              "unlocked, 1 ms, frozen": BASE,
              "the same, FIFO": BASE | {"fifo_priority": 10},
              "the same, FIFO, nice -10": BASE | FIRST,
              "the same, but typed": BASE | FIRST | {"taking": "typed"}}
    return [Variant(f"busy cores: {name}", trial, busy=True) for name, trial in trials.items()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=20.0, help="of one variant in one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="TEXT",
                        help="only the variants that have this in their name")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")


def run(args: argparse.Namespace) -> int:
    from perception_bev.commands.live_run import machine

    chosen = [variant for variant in variants() if args.only in variant.name]
    if not chosen:
        raise PerceptionError(f"no variant has '{args.only}' in its name; there are: "
                              + "; ".join(variant.name for variant in variants()))
    rows = measure(chosen, args.rounds, args.seconds)
    report = {"machine": machine(), "period_ms": 10, "limit_ms": LIMIT_MS,
              "rows": [as_dict(variant, rows[variant.name]) for variant in chosen]}
    show(report, Console())
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def measure(chosen: Sequence[Variant], rounds: int, seconds: float) -> dict[str, Row]:
    """Rounds of all variants, each round in another order."""
    rows = {variant.name: Row() for variant in chosen}
    order, chance = list(chosen), random.Random(0)
    for number in range(rounds):
        chance.shuffle(order)
        for variant in order:
            print(f"round {number + 1} of {rounds}: {variant.name}", file=sys.stderr)
            add(rows[variant.name], _trial(variant, seconds))
    return rows


def add(row: Row, found: Mapping[str, Any]) -> None:
    """One round's figures to a row."""
    row.delays_ms += [ns / 1e6 for ns in found["delays_ns"]]
    row.control_ms += [ns / 1e6 for ns in found["control_ns"]]
    row.received += sum(found["received"].values())
    row.expected += 10 * found["seconds"] * len(found["received"])
    row.refused.update(found["refused"])
    for name in ("cpu_share", "locked_ms", "unlocked_ms"):
        getattr(row, name).append(found[name])
    row.longest_collection_ms = max(row.longest_collection_ms, found["longest_collection_ms"])
    row.notes |= set(found["notes"])


def _trial(variant: Variant, seconds: float) -> dict[str, Any]:
    words = json.dumps({**variant.trial, "seconds": seconds})
    with contextlib.ExitStack() as running:
        if variant.trial.get("messages", True):
            running.enter_context(_process("-m", "perception_bev.nodes.sensor_load"))
        for _ in range((os.cpu_count() or 1) if variant.busy else 0):
            running.enter_context(_process("-c", BURN))
        try:
            done = subprocess.run(
                [sys.executable, "-m", "perception_bev.nodes.guard_probe", words],
                stdout=subprocess.PIPE, text=True, timeout=seconds + GRACE_S)
        except subprocess.TimeoutExpired as err:
            raise PerceptionError(f"{variant.name}: no figures after {err.timeout:.0f} s") from err
    if done.returncode:
        raise PerceptionError(f"{variant.name}: the probe ended with code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def _process(*words: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, *words])
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()
        time.sleep(0.5)  # its topics are forgotten by others


def as_dict(variant: Variant, row: Row) -> dict[str, Any]:
    """For programs; figures that are not there are null."""
    delay, control = figures(row.delays_ms), figures(row.control_ms)
    return {"name": variant.name, **variant.trial, "busy_cores": variant.busy,
            "delay_ms": delay, "control_ms": control,
            "within_limit": delay["p99_9"] is not None and delay["p99_9"] <= LIMIT_MS,
            "received": row.received, "expected": round(row.expected),
            "refused": dict(row.refused),
            **{name: _mean(getattr(row, name))
               for name in ("cpu_share", "locked_ms", "unlocked_ms")},
            "longest_collection_ms": round(row.longest_collection_ms, 3),
            "notes": sorted(row.notes)}


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 3) if values else None


def figures(values: Sequence[float]) -> dict[str, float | int | None]:
    """p50, p99, p99_9, max [ms] and how many."""
    if not values:
        return {"p50": None, "p99": None, "p99_9": None, "max": None, "count": 0}
    at = np.percentile(values, [50, 99, 99.9, 100])
    return {**{name: round(float(value), 3) for name, value in
               zip(("p50", "p99", "p99_9", "max"), at, strict=True)}, "count": len(values)}


def show(report: Mapping[str, Any], console: Console) -> None:
    console.width = max(console.width, 126)
    table = Table(title=f"delay of a thread that wants to run every 10 ms\n{report['machine']}")
    table.add_column("variant", no_wrap=True)
    for heading in ("p50\n[ms]", "p99\n[ms]", "p99.9\n[ms]", "max\n[ms]", "control\np99.9, max",
                    "messages", "CPU of\na core", "lock held\na message",
                    "longest\nGC [ms]"):
        table.add_column(heading, justify="right")
    for row in report["rows"]:
        delay, control = row["delay_ms"], row["control_ms"]
        sent = f"{row['received']}/{row['expected']}" if row.get("messages", True) else "none"
        table.add_row(row["name"], *map(_text, list(delay.values())[:4]),
                      f"{_text(control['p99_9'])}, {_text(control['max'])}", sent,
                      *(_text(row[name]) for name in
                        ("cpu_share", "locked_ms", "longest_collection_ms")),
                      style=None if row["within_limit"] else "yellow")
    console.print(table)
    for row in report["rows"]:
        for note in row["notes"]:
            console.print(f"{row['name']}: {note}", style="red")


def _text(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"
