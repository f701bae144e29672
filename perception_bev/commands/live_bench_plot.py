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
