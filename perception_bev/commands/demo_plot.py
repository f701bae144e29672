"""Commands: the demo's latency plot: every output's latency over the run, and how they spread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

DEADLINE_MS = 80.0


def plot_latency(file: Path, rows: Sequence[dict[str, Any]], settle_s: float, title: str) -> Path:
    """rows: of the measure node, with latency; those of the first `settle_s` are drawn pale."""
    from matplotlib.figure import Figure

    start = rows[0]["t_ref_ns"] if rows else 0
    seconds = np.array([(row["t_ref_ns"] - start) / 1e9 for row in rows])
    latency = np.array([row["latency_ms"] for row in rows])
    counts = seconds > settle_s
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    over, spread = figure.subplots(1, 2, width_ratios=(3, 1))
    over.plot(seconds, latency, ".-", lw=0.7, ms=4, color="tab:blue", alpha=0.35)
    over.plot(seconds[counts], latency[counts], ".", ms=5, color="tab:blue")
    over.axhline(DEADLINE_MS, color="tab:red", lw=1, ls="--")
    over.text(0, DEADLINE_MS, f" {DEADLINE_MS:g} ms", color="tab:red", va="bottom", fontsize=8)
    over.set(xlabel="time of the run [s]", ylabel="receipt by a subscriber − t_ref [ms]",
             ylim=(0, max([1.1 * DEADLINE_MS, *(1.05 * latency)])), title=title)
    spread.hist(latency[counts], bins=30, color="tab:blue")
    spread.axvline(DEADLINE_MS, color="tab:red", lw=1, ls="--")
    spread.set(xlabel="latency [ms]", ylabel=f"outputs after {settle_s:g} s")
    for axes in (over, spread):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)
    return file
