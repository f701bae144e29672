"""Commands: the timeline of traces as a picture, a row a stage, a colour a frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perception_bev.latency.chrome import bars_of, rows_of
from perception_bev.latency.trace import IDLE, Trace, kind

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown")  # by frame, in turn
LABELLED = 0.03  # share of the width from which a bar has its name in it


def draw_timeline(file: Path, traces: Sequence[Trace], budget_ms: float, title: str) -> Path:
    """Bars of all spans; per frame t_ref (dotted), deadline (red) and publication (marked)."""
    from matplotlib.figure import Figure

    bars = bars_of(traces)
    rows = {place: -i for i, place in enumerate(rows_of(bars))}
    origin = min(trace.t_ref for trace in traces)
    figure = Figure(figsize=(13, 1.6 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    left, right = _limits([bar.start for bar in bars], [bar.end for bar in bars], origin)
    for bar in bars:
        y, start, length = rows[bar.row, bar.lane], (bar.start - origin) / 1e6, (
            bar.end - bar.start) / 1e6
        axes.barh(y, length, 0.8, left=start, color=COLOURS[bar.frame % len(COLOURS)],
                  alpha=0.3 if kind(bar.name) in IDLE else 0.85, edgecolor="white", linewidth=0.4)
        if length > LABELLED * (right - left):
            axes.text(start + length / 2, y, bar.name.rpartition(":")[2], fontsize=6.5,
                      ha="center", va="center", clip_on=True)
    for frame, trace in enumerate(traces):
        _marks(axes, trace, origin, budget_ms, COLOURS[frame % len(COLOURS)])
    axes.set_yticks(list(rows.values()), [
        row if lane == 0 else f"{lane + 1}" for row, lane in rows], fontsize=8)
    axes.set(xlim=(left, right), ylim=(1 - len(rows) - 0.6, 1.4), title=title,
             xlabel="time since the first t_ref [ms]: t_ref dotted, "
                    f"deadline ({budget_ms:g} ms) red, publication ▼")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
    return file


def _marks(axes, trace: Trace, origin: int, budget_ms: float, colour: str) -> None:
    t_ref = (trace.t_ref - origin) / 1e6
    axes.axvline(t_ref, color=colour, lw=0.9, ls=":")
    axes.axvline(t_ref + budget_ms, color="tab:red", lw=0.6, alpha=0.7)
    if trace.published is not None:
        axes.plot((trace.published - origin) / 1e6, 0.9, "v", color=colour, ms=5)


def _limits(starts: Sequence[int], ends: Sequence[int], origin: int) -> tuple[float, float]:
    left, right = (min(starts) - origin) / 1e6, (max(ends) - origin) / 1e6
    margin = 0.01 * (right - left) + 0.1
    return left - margin, right + margin
