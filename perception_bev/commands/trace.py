"""Commands: `bev trace`, what a log of traces says: table, timeline, picture."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perception_bev.errors import ConfigError
from perception_bev.latency import trace_log
from perception_bev.latency.trace import Trace

HELP = """tables and timelines of a run's traces

Reads the JSON lines that a node writes (a line an output) and prints how long each span took.
--chrome writes a timeline for ui.perfetto.dev or chrome://tracing, --picture draws it. Times are
seconds since the first t_ref.

example: bev trace out/trace.jsonl --from 5 --seconds 0.5 --picture overlap.png"""

PICTURE_S = 1.0  # of a picture when nobody says how much
SHARES = {"p50": 50, "p95": 95, "p99": 99, "max": 100}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", type=Path, metavar="IN.jsonl", help="traces, a line each")
    parser.add_argument("--from", dest="begin", type=float, default=0.0, metavar="S",
                        help="leave out what is before this second")
    parser.add_argument("--seconds", type=float, metavar="S", help="take no more than this")
    parser.add_argument("--chrome", type=Path, metavar="OUT", help="write the timeline (JSON)")
    parser.add_argument("--picture", type=Path, metavar="OUT", help="draw the timeline; the first "
                        f"{PICTURE_S:g} s where --seconds does not say")
    parser.add_argument("--budget-ms", type=float, default=80.0,
                        help="deadline after t_ref in the picture (default: %(default)g)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the table to this file")


def run(args: argparse.Namespace) -> int:
    traces, bad = trace_log.read(args.log)
    chosen = window(traces, args.begin, args.seconds)
    if not chosen:
        raise ConfigError(f"{args.log}: no trace of that time; {_extent(traces, bad)}")
    report = {**figures(chosen), "bad_lines": bad}
    show(report, args.log.name)
    try:
        _write(args, chosen, report)
    except OSError as err:
        raise ConfigError(f"{err.filename}: {err.strerror}") from err
    return 0


def _write(args: argparse.Namespace, traces: Sequence[Trace], report: dict[str, Any]) -> None:
    """The files that were asked for."""
    if args.chrome:
        from perception_bev.latency.chrome import chrome

        args.chrome.write_text(json.dumps(chrome(traces)) + "\n")
    if args.picture:
        from perception_bev.commands.trace_picture import draw_timeline

        drawn = traces if args.seconds else window(traces, 0.0, PICTURE_S)
        draw_timeline(args.picture, drawn, args.budget_ms, _title(args.log, drawn))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


def window(traces: Sequence[Trace], begin_s: float, seconds: float | None) -> list[Trace]:
    """Those whose t_ref lies in begin_s <= t < begin_s + seconds after the first one's."""
    if not traces:
        return []
    start = traces[0].t_ref + round(begin_s * 1e9)
    end = None if seconds is None else start + round(seconds * 1e9)
    return [t for t in traces if start <= t.t_ref and (end is None or t.t_ref < end)]


def figures(traces: Sequence[Trace]) -> dict[str, Any]:
    """Frames by plan and mode, and per span p50, p95, p99 and max [ms] over the frames that had
    it: several of a kind in a frame (pictures decoded) are added up. `total` is from t_ref to the
    publication, `overhead` what of it was neither waiting nor computing."""
    lengths: dict[str, list[float]] = {}
    for trace in traces:
        values = trace.milliseconds()
        if trace.published is not None:
            values["overhead"] = trace.overhead_ms()
        for name, ms in values.items():
            lengths.setdefault(name, []).append(ms)
    return {"frames": len(traces), "published": sum(t.published is not None for t in traces),
            "plans": dict(Counter(t.plan or "n/a" for t in traces)),
            "modes": dict(Counter(t.mode or "n/a" for t in traces)),
            "spans_ms": {name: {"frames": len(values), **_shares(values)}
                         for name, values in sorted(lengths.items(), key=_place)}}


def show(report: dict[str, Any], name: str) -> None:
    """The table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{name}: {report['frames']} frames, {report['published']} published")
    table.add_column("span", no_wrap=True)
    for heading in ("frames", *(f"{share}, ms" for share in SHARES)):
        table.add_column(heading, justify="right")
    for span, row in report["spans_ms"].items():
        table.add_row(span, str(row["frames"]), *(f"{row[share]:.2f}" for share in SHARES))
    console = Console()
    console.print(table)
    for what in ("plans", "modes"):
        counts = ", ".join(f"{key} {n}" for key, n in report[what].items())
        console.print(f"{what}: {counts}", highlight=False)
    if report["bad_lines"]:
        console.print(f"{report['bad_lines']} lines are no traces and were left out", style="red")


def _shares(values: Sequence[float]) -> dict[str, float]:
    return {share: round(float(np.percentile(values, at)), 4) for share, at in SHARES.items()}


def _place(item: tuple[str, list[float]]) -> tuple[bool, int, str]:
    """Spans in the order of the flow, then the sums."""
    from perception_bev.latency.chrome import ROWS

    order = [name for names in ROWS.values() for name in names]
    name = item[0]
    return (name in ("total", "overhead"), order.index(name) if name in order else len(order), name)


def _title(log: Path, traces: Sequence[Trace]) -> str:
    plans = ", ".join(sorted({trace.plan for trace in traces if trace.plan}))
    return f"{log.name}: frames {traces[0].id} to {traces[-1].id}" + (f" ({plans})" * bool(plans))


def _extent(traces: Sequence[Trace], bad: int) -> str:
    if not traces:
        return f"it has none at all ({bad} lines are something else)"
    seconds = (traces[-1].t_ref - traces[0].t_ref) / 1e9
    return f"it has {len(traces)} over {seconds:.2f} s"
