"""Commands: the figures of `bev bench soak`, as JSON and on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from perception_bev.commands.live_bench_count import Count, backward, summary
from perception_bev.commands.live_bench_memory import Memory, growth_mb
from perception_bev.commands.live_bench_receipts import Receipt
from perception_bev.commands.live_bench_stack import LiveResult, Progress
from perception_bev.eval.plain import without_nan

QUIET_S = 30.0  # between two lines of the bar where there is no terminal
RECENT = 100  # receipts that the bar's figures are of
ENGINES = ("extract_camera", "extract_lidar", "extract_radar", "fuse", "fuse_alone", "decide")
REQUIRED = {"without_output": "0", "older_than_budget": "0", "full_share": "≥ 0.995",
            "rss_growth_mb": "≤ 20", "overhead_ms": "p50 ≤ 6, p99 ≤ 15"}


def report(live: LiveResult, described: dict[str, Any]) -> dict[str, Any]:
    """The benchmark's keys, over the periods in which the computer itself did not stall (`periods`:
    over all); what was in the others is in `details`. What does not exist is null."""
    found = live.periods()
    quiet = Count.of((p for p in found if not p.stalled), live.contract)
    stalled = Count.of((p for p in found if p.stalled), live.contract)
    overhead = summary(quiet.overhead_ms, (50, 99))
    return without_nan({
        "periods": len(found), "without_output": quiet.without_output,
        "older_than_budget": quiet.older_than_budget, "full_share": quiet.full_share,
        "rss_growth_mb": round(growth_mb(live.memory), 2),
        "latency_ms": summary(quiet.latency_ms),
        "overhead_ms": {name: overhead[name] for name in ("p50", "p99")},
        "predicted": quiet.predicted, "safe_state": quiet.safe_state,
        "machine_stalls": stalled.periods,
        "details": {**described, **_details(live, quiet, stalled)}})


def _details(live: LiveResult, quiet: Count, stalled: Count) -> dict[str, Any]:
    lengths = [stall.ms for stall in live.stalls]
    return {
        "seconds": round((live.end_ns - live.begin_ns) / 1e9, 3), "modes": dict(quiet.modes),
        "spans_ms": spans_ms(live), "overhead_to_engines": overhead_to_engines(live, quiet),
        "in_machine_stalls": stalled.plain(),
        "repeated": quiet.repeated + stalled.repeated, "stamps_back": backward(live.receipts),
        "stalls_ms": {"count": len(lengths), "longest": max(lengths, default=0.0)},
        "controls": live.controls, "rss_mb": rss_mb(live.memory),
        "player": {name: live.played.get(name) for name in ("slips", "max_late_ms", "error")},
        "receipts_lost": live.lost}


def spans_ms(live: LiveResult) -> dict[str, float]:
    """p50 of each span of `status`."""
    spans: dict[str, list[float]] = {}
    for receipt in _statuses(live):
        for key in receipt.values:
            if key.startswith("latency.") and (value := receipt.number(key)) is not None:
                name = key.removeprefix("latency.").removesuffix("_ms")
                spans.setdefault(name, []).append(value)
    return {name: round(float(np.median(values)), 3) for name, values in sorted(spans.items())}


def overhead_to_engines(live: LiveResult, count: Count) -> float:
    """Median overhead / median time in engines of an output; NaN where neither is known."""
    engines = [sum(values) for receipt in _statuses(live) if (values := [
        value for name in ENGINES if (value := receipt.number(f"latency.{name}_ms")) is not None])]
    if not engines or not count.overhead_ms:
        return float("nan")
    return round(float(np.median(count.overhead_ms) / np.median(engines)), 4)


def _statuses(live: LiveResult) -> list[Receipt]:
    return [r for r in live.receipts
            if r.topic == "status" and live.begin_ns <= r.stamp_ns < live.end_ns]


def rss_mb(samples: Sequence[Memory]) -> dict[str, Any]:
    """Of the whole stack over the run, and of each process at its end."""
    totals = [memory.total_mb for memory in samples]
    if not totals:
        return {}
    return {"first": round(totals[0], 1), "last": round(totals[-1], 1),
            "max": round(max(totals), 1),
            "by_process": {name: round(mb, 1) for name, mb in samples[-1].rss_mb.items()}}


class Bar:
    """A bar over the seconds, with the newest outputs' figures."""

    def __init__(self, seconds: float) -> None:
        from tqdm import tqdm

        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=round(seconds), desc="loading engines",
                         mininterval=0.2 if terminal else QUIET_S,
                         bar_format="{desc} {percentage:3.0f}%|{bar:20}| {n:.0f}/{total:.0f} s"
                                    "{postfix}")

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, progress: Progress) -> None:
        if progress.begin_ns is None:
            return
        self._bar.set_description_str("playing", refresh=False)
        self._bar.set_postfix_str(recent(progress), refresh=False)
        self._bar.update(min(progress.seconds, self._bar.total) - self._bar.n)


def recent(progress: Progress) -> str:
    """Mode and latency of the newest outputs."""
    last = progress.receipts[-3 * RECENT:]
    latency = [r.latency_ns / 1e6 for r in last if r.topic == "tracks"]
    mode = next((r.text for r in reversed(last) if r.topic == "status"), "")
    figures = f"p50 {np.median(latency):.0f} max {max(latency):.0f} ms" if latency else "no tracks"
    return f" {figures}, {mode[:40]}"


def show(figures: dict[str, Any], console: Console | None = None) -> None:
    """The figures beside what is asked for."""
    console = console or Console(width=100)
    table = Table("", "measured", "asked for", box=None, pad_edge=False)
    for name, value in figures.items():
        if name == "details":
            continue
        text = ("  ".join(f"{key} {number(v)}" for key, v in value.items())
                if isinstance(value, dict) else number(value))
        table.add_row(name, text, REQUIRED.get(name, ""))
    console.print(table)
    details = figures["details"]
    console.print(f"\nin machine stalls: {details['in_machine_stalls']}", highlight=False)
    console.print(f"{details['seconds']:g} s, runner {details['runner']}, {details['machine']}",
                  highlight=False)


def number(value: Any) -> str:
    return "n/a" if value is None else f"{value:g}"
