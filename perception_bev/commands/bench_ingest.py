"""Commands: `bev bench ingest`, what a message costs the executor's thread."""

from __future__ import annotations

import argparse
import contextlib
import json
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

from perception_bev import resources
from perception_bev.errors import PerceptionError

HELP = """what a message costs the thread that takes it

A process publishes what the sensors of a rig would, each at its own rate, and odometry 50 times a
second; another takes it as the perception node does, and drops it. How much CPU time the thread of
the executor spends on a message, with Python's lock held (no other thread of the process runs
then) and without. Variants: rclpy's executor and ours, typed messages and bytes. They take turns,
in another order each round.

example: bev bench ingest --seconds 20 --rounds 3 --json ingest.json"""

LIMIT_MS = 0.15  # of the lock a message
VARIANTS: dict[str, Mapping[str, str]] = {
    "rclpy's executor, typed": {"executor": "rclpy", "taking": "typed"},
    "rclpy's executor, bytes, unlocked": {"executor": "rclpy", "taking": "unlocked"},
    "ours, typed": {"executor": "lean", "taking": "typed"},
    "ours, bytes, unlocked": {"executor": "lean", "taking": "unlocked"},  # the product's
}
GRACE_S = 90.0  # for a start on a slow computer
FIGURES = ("locked_ms", "unlocked_ms", "waits", "cpu_share")


@dataclass
class Row:
    """All rounds of one variant."""

    figures: dict[str, list[float]] = field(default_factory=lambda: {f: [] for f in FIGURES})
    received: int = 0
    expected: float = 0.0
    refused: Counter = field(default_factory=Counter)
    notes: set[str] = field(default_factory=set)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rig", type=Path, metavar="FILE",
                        help="whose sensors are played (default: config/rigs/sim6.yaml)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of one variant in one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="TEXT",
                        help="only the variants that have this in their name")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")


def run(args: argparse.Namespace) -> int:
    from perception_bev.commands.live_run import machine

    chosen = [name for name in VARIANTS if args.only in name]
    if not chosen:
        raise PerceptionError(f"no variant has '{args.only}' in its name; there are: "
                              + "; ".join(VARIANTS))
    rig = (args.rig or resources.path("config/rigs/sim6.yaml")).resolve()
    rows = measure(chosen, rig, args.rounds, args.seconds)
    report = {"machine": machine(), "rig": rig.name, "limit_ms": LIMIT_MS,
              "rows": [as_dict(name, rows[name]) for name in chosen]}
    show(report, Console())
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def measure(chosen: Sequence[str], rig: Path, rounds: int, seconds: float) -> dict[str, Row]:
    """Rounds of all variants, each round in another order."""
    rows = {name: Row() for name in chosen}
    order, chance = list(chosen), random.Random(0)
    for number in range(rounds):
        chance.shuffle(order)
        for name in order:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            add(rows[name], _trial(name, rig, seconds))
    return rows


def add(row: Row, found: Mapping[str, Any]) -> None:
    """One round's figures to a row."""
    for name in FIGURES if found["received"] else ():
        row.figures[name].append(found[name])
    row.received += sum(found["received"].values())
    row.expected += found["rate"] * found["seconds"]
    row.refused.update(found["refused"])
    row.notes |= set(found["notes"])


def _trial(name: str, rig: Path, seconds: float) -> dict[str, Any]:
    words = json.dumps({**VARIANTS[name], "rig": str(rig), "seconds": seconds})
    with _load(rig):
        try:
            done = subprocess.run(
                [sys.executable, "-m", "perception_bev.nodes.ingest_probe", words],
                stdout=subprocess.PIPE, text=True, timeout=seconds + GRACE_S)
        except subprocess.TimeoutExpired as err:
            raise PerceptionError(f"{name}: no figures after {err.timeout:.0f} s") from err
    if done.returncode:
        raise PerceptionError(f"{name}: the probe ended with code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def _load(rig: Path) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "perception_bev.nodes.ingest_load", str(rig)])
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()
        time.sleep(0.5)  # its topics are forgotten by others


def as_dict(name: str, row: Row) -> dict[str, Any]:
    """For programs: means over the rounds; figures that are not there are null."""
    means = {figure: round(float(np.mean(values)), 4) if values else None
             for figure, values in row.figures.items()}
    return {"name": name, **VARIANTS[name], **means, "rounds": row.figures,
            "within_limit": means["locked_ms"] is not None and means["locked_ms"] <= LIMIT_MS,
            "received": row.received, "expected": round(row.expected),
            "refused": dict(row.refused), "notes": sorted(row.notes)}


def show(report: Mapping[str, Any], console: Console) -> None:
    console.width = max(console.width, 110)
    table = Table(title=f"CPU time of the executor's thread a message, rig {report['rig']}\n"
                        f"{report['machine']}")
    table.add_column("variant", no_wrap=True)
    for heading in ("lock held\n[ms]", "without it\n[ms]", "waits\na message",
                    "whole process,\nof a core", "messages"):
        table.add_column(heading, justify="right")
    for row in report["rows"]:
        table.add_row(row["name"], _text(row["locked_ms"], 3), _text(row["unlocked_ms"], 3),
                      _text(row["waits"], 2), _text(row["cpu_share"], 3),
                      f"{row['received']}/{row['expected']}",
                      style=None if row["within_limit"] else "yellow")
    console.print(table)
    for row in report["rows"]:
        for note in row["notes"]:
            console.print(f"{row['name']}: {note}", style="red")


def _text(value: float | None, digits: int) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"
