"""Commands: the figures of `bev bench hosts`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perception_bev.commands.live_bench_count import Count, summary
from perception_bev.commands.live_bench_stack import LiveResult

WAYS = ("local", "exact", "half")
LOST = ("absent", "closed", "gone", "not_sent", "timeout")  # reasons of DdsEngine
Rows = Sequence[Mapping[str, Any]]


def engines(rows: Rows) -> dict[str, dict[str, Any]]:
    """Engine -> way -> figures of its calls."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(row["engine"] for row in rows):
        found[name] = {way: _calls([row for row in rows if (row["engine"], row["way"])
                                    == (name, way)]) for way in WAYS}
    return found


def _calls(rows: Rows) -> dict[str, Any]:
    """Of one engine in one way."""
    done = [row for row in rows if "ms" in row]
    figures: dict[str, Any] = {"calls": len(rows), "ms": summary([row["ms"] for row in done])}
    there = [row for row in done if "hop_ms" in row]
    if not there and len(done) == len(rows):
        return figures
    sent, received = _mean_bytes(rows)
    return figures | {
        "hop_ms": summary([row["hop_ms"] for row in there]), "lost": len(rows) - len(done),
        "why": dict(Counter(row["lost"] for row in rows if "lost" in row)),
        "same_bits": sum(row["same_bits"] for row in there),
        "tensor_bytes": there[0]["tensor_bytes"] if there else None,
        "wire_bytes": {"there": sent, "back": received}}


def _mean_bytes(rows: Rows) -> tuple[int, int]:
    sent, received = np.mean([row["wire_bytes"] for row in rows], axis=0)
    return round(float(sent)), round(float(received))


def stack(results: Mapping[str, Sequence[LiveResult]]) -> dict[str, dict[str, Any]]:
    """Way -> figures of all its rounds; `added_ms` is against `local`. Periods in which the
    computer itself stalled are counted apart."""
    found = {way: _rounds(runs) for way, runs in results.items()}
    for figures in found.values():
        figures["added_ms"] = {name: round(figures["latency_ms"][name]
                                           - found["local"]["latency_ms"][name], 2)
                               for name in ("p50", "p99")}
    return found


def _rounds(runs: Sequence[LiveResult]) -> dict[str, Any]:
    count, stalled = Count(), 0
    for run in runs:
        for period in run.periods():
            stalled += period.stalled
            if not period.stalled:
                count.add(period, run.contract)
    plain = count.plain()
    return {"rounds": len(runs), **plain, "machine_stalls": stalled,
            "lost": _lost(runs), "remote_hop_ms": _hops(runs), "stages_ms": _stages_ms(runs)}


def _statuses(runs: Sequence[LiveResult]) -> list[Any]:
    return [r for run in runs for r in run.receipts
            if r.topic == "status" and run.begin_ns <= r.stamp_ns < run.end_ns]


def _lost(runs: Sequence[LiveResult]) -> int:
    """Calls without an answer while it counted, by the perception node's own account."""
    totals = [[_lost_until(receipt.values) for receipt in _statuses([run])] for run in runs]
    return sum(max(counts) - counts[0] for counts in totals if counts)


def _lost_until(values: Mapping[str, str]) -> int:
    """Of all engines since the node began."""
    said = [part.split() for key, text in values.items() if key.startswith("remote.")
            for part in text.split(", ")]
    return sum(int(words[1]) for words in said if len(words) == 2 and words[0] in LOST)


def _hops(runs: Sequence[LiveResult]) -> dict[str, dict[str, float]]:
    """Engine -> the hop of a frame."""
    hops: dict[str, list[float]] = {}
    for receipt in _statuses(runs):
        for key in receipt.values:
            if key.startswith("remote.") and key.endswith(".hop_ms"):
                hops.setdefault(key.split(".")[1], []).append(receipt.number(key))
    return {name: summary([v for v in values if v is not None]) for name, values in hops.items()}


def _stages_ms(runs: Sequence[LiveResult]) -> dict[str, float]:
    """Median of each stage's span, the hop included where it is remote."""
    spans: dict[str, list[float]] = {}
    for receipt in _statuses(runs):
        for name in ("extract_camera", "extract_lidar", "extract_radar", "fuse", "decide"):
            if (value := receipt.number(f"latency.{name}_ms")) is not None:
                spans.setdefault(name, []).append(value)
    return {name: round(float(np.median(values)), 2) for name, values in spans.items()}


def show(report: Mapping[str, Any]) -> None:
    from rich.console import Console

    console = Console(width=120)
    if "engines" in report:
        console.print(_engine_table(report["engines"]))
    if "stack" in report:
        console.print(_stack_table(report["stack"]))
    console.print(f"{report['place']['kind']}, {report['machine']}", highlight=False)


def _engine_table(found: Mapping[str, Any]):
    from rich.table import Table

    table = Table("engine", "way", "ms p50", "p99", "hop ms p50", "p99", "lost",
                  "kB there", "back", "same bits", box=None, pad_edge=False)
    for name, ways in found.items():
        for way, row in ways.items():
            hop, wire = row.get("hop_ms", {}), row.get("wire_bytes", {})
            table.add_row(name, way, _text(row["ms"]["p50"]), _text(row["ms"]["p99"]),
                          _text(hop.get("p50")), _text(hop.get("p99")), _text(row.get("lost")),
                          _kilo(wire.get("there")), _kilo(wire.get("back")),
                          f"{row['same_bits']}/{row['calls']}" if "same_bits" in row else "")
    return table


def _stack_table(found: Mapping[str, Any]):
    from rich.table import Table

    table = Table("stack", "periods", "latency ms p50", "p99", "added p50", "p99", "full",
                  "no output", "late", "lost", "stalls", box=None, pad_edge=False)
    for way, row in found.items():
        latency, added = row["latency_ms"], row["added_ms"]
        table.add_row(way, *(_text(value) for value in (
            row["periods"], latency["p50"], latency["p99"], added["p50"], added["p99"],
            row["full"], row["without_output"], row["older_than_budget"], row["lost"],
            row["machine_stalls"])))
    return table


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}"


def _kilo(value: Any) -> str:
    return "" if value is None else f"{value / 1e3:.0f}"
