"""Commands: pictures of live benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from perception_bev.commands.live_bench_stack import LiveResult

COLOURS = {"full": "tab:blue", "degraded": "tab:orange", "predicted": "tab:red"}
OTHER = "tab:purple"


def plot_soak(file: Path, live: LiveResult, figures: dict[str, Any]) -> Path:
    """Latency of every output over the run, by mode, with periods without output and stalls of the
    computer; below, the stack's memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    over, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    _latency(over, live)
    over.set(ylabel="receipt of tracks − t_ref [ms]", title=_title(figures))
    below.plot([m.at_s for m in live.memory], [m.total_mb for m in live.memory], color="tab:green")
    below.set(xlabel="time of the run [s]", ylabel="memory of the stack [MB]")
    below.set_ylim(bottom=0)
    for axes in (over, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)
    return file


def _latency(axes: Any, live: LiveResult) -> None:
    found = live.periods()
    at = np.array([(p.t_ref_ns - live.begin_ns) / 1e9 for p in found])
    late = np.array([p.tracks.latency_ns / 1e6 if p.tracks else np.nan for p in found])
    modes = np.array([p.mode for p in found])
    for mode in sorted(set(modes[~np.isnan(late)])):
        chosen = (modes == mode) & ~np.isnan(late)
        axes.plot(at[chosen], late[chosen], ".", ms=3, color=COLOURS.get(mode, OTHER),
                  label=f"{mode} ({chosen.sum()})")
    lacking = np.isnan(late)
    if lacking.any():
        axes.plot(at[lacking], np.zeros(lacking.sum()), "x", color="black",
                  label=f"no tracks ({lacking.sum()})")
    for number, p in enumerate(p for p in found if p.stalled):
        second = (p.t_ref_ns - live.begin_ns) / 1e9
        axes.axvspan(second - 0.02, second + 0.08, color="0.8", lw=0,
                     label=None if number else "the computer stalled")
    budget = live.contract.budget_ns / 1e6
    axes.axhline(budget, color="tab:red", lw=1, ls="--")
    axes.set_ylim(0, 1.05 * max(1.1 * budget, np.nanmax(late, initial=0.0)))
    axes.legend(loc="upper right", fontsize=8)


def _title(figures: dict[str, Any]) -> str:
    latency = figures["latency_ms"]
    return (f"{figures['periods']} periods, {figures['without_output']} without output, "
            f"{figures['older_than_budget']} late; p50 {latency['p50']} p99 {latency['p99']} max "
            f"{latency['max']} ms\n{figures['details']['machine']}")


MODE_COLOURS = {"inline": "tab:blue", "threads": "tab:orange", "processes": "tab:green"}
STYLES = ("-", "--", ":")  # by number of threads inside an engine


def plot_pipeline(file: Path, report: dict[str, Any]) -> Path:
    """Latency and throughput over the offered load by mode; what early extraction saves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.2), layout="constrained")
    latency, throughput, early = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    for (mode, threads), style in _lines(report).items():
        rows = sorted((r for r in report["runs"] if r["early_extraction"] and (
            r["mode"], r["threads"]) == (mode, threads)), key=lambda r: r["load_hz"])
        load = [r["load_hz"] for r in rows]
        for key, alpha in (("p50", 1.0), ("p99", 0.4)):
            latency.plot(load, [_nan(r["latency_ms"][key]) for r in rows], style, marker="o", ms=3,
                         alpha=alpha, color=MODE_COLOURS[mode],
                         label=f"{mode}, {threads} threads, {key}")
        throughput.plot(load, [r["throughput_hz"] for r in rows], style, marker="o", ms=3,
                        color=MODE_COLOURS[mode], label=f"{mode}, {threads} threads")
    for s in report["saturation"]:
        throughput.axhline(s["bound"]["least_hz"], color=MODE_COLOURS[s["mode"]], lw=0.8, ls="-.")
    highest = max(r["load_hz"] for r in report["runs"])
    throughput.plot([0, highest], [0, highest], color="0.7", lw=0.8, zorder=0)
    latency.set(xlabel="offered load [Hz]", ylabel="after t_ref [ms]", yscale="log")
    throughput.set(xlabel="offered load [Hz]", ylabel="outputs [Hz]",
                   title="dash-dotted: bound of the mode")
    _early(early, report["early_extraction"])
    latency.axhline(80.0, color="tab:red", lw=0.8, ls="--")
    for axes in (latency, throughput):
        axes.legend(fontsize=7)
    for axes in (latency, throughput, early):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(report["machine"], fontsize=8)
    figure.savefig(file, dpi=120)
    return file


def _lines(report: dict[str, Any]) -> dict[tuple[str, int], str]:
    """Line style of every mode and number of threads."""
    counts = sorted({r["threads"] for r in report["runs"]})
    return {(r["mode"], r["threads"]): STYLES[counts.index(r["threads"]) % len(STYLES)]
            for r in report["runs"]}


def _early(axes: Any, rows: list[dict[str, Any]]) -> None:
    for at, r in enumerate(rows):
        axes.bar(at - 0.2, _nan(r["with_ms"]["p50"]), 0.4, color="tab:blue",
                 label="when a picture comes" if at == 0 else None)
        axes.bar(at + 0.2, _nan(r["without_ms"]["p50"]), 0.4, color="0.7",
                 label="with its bundle" if at == 0 else None)
    axes.set_xticks(range(len(rows)), [f"{r['mode']}\n{r['threads']}" for r in rows], fontsize=8)
    axes.set(ylabel="p50 after t_ref [ms]", title="pictures' backbones, 10 Hz")
    if rows:
        axes.legend(fontsize=7)


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value
