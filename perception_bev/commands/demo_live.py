"""Commands: a live run on the terminal: a table that changes, or plain lines where nobody looks."""

from __future__ import annotations

import math

from rich.console import Console
from rich.live import Live
from rich.table import Table

from perception_bev.nodes.live_figures import LiveFigures

LINE_EVERY_S = 2.0


class Display:
    """Shows figures as they come; a context manager. Calls may come from another thread."""

    def __init__(self, total_s: float, console: Console | None = None) -> None:
        self._total_s, self._console = total_s, console or Console()
        self._live = (Live(Table(), console=self._console, auto_refresh=False)
                      if self._console.is_terminal else None)
        self._said_s = -math.inf

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, figures: LiveFigures) -> None:
        if self._live:
            self._live.update(self.table(figures), refresh=True)
        elif figures.outputs and figures.seconds >= self._said_s + LINE_EVERY_S:
            self._said_s = figures.seconds
            self._console.print(line(figures), highlight=False, soft_wrap=True)

    def table(self, figures: LiveFigures) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_row("played", f"{figures.seconds:5.1f} of {self._total_s:.1f} s")
        table.add_row("outputs", f"{figures.outputs} at {number(figures.rate_hz)} Hz")
        table.add_row("latency", f"p50 {number(figures.p50_ms)}  p99 {number(figures.p99_ms)}  "
                                 f"max {number(figures.max_ms)} ms")
        table.add_row("objects, tracks", f"{figures.objects}, {_tracks(figures)}")
        table.add_row("mode", figures.mode)
        table.add_row("missing now", ", ".join(figures.missing) or "none")
        table.add_row("drops", "; ".join(f"{sensor}: {text}" for sensor, text
                                         in sorted(figures.drops.items())) or "none")
        return table


def line(figures: LiveFigures) -> str:
    drops = sum(int(count) for text in figures.drops.values()
                for count in [part.rsplit(" ", 1)[-1] for part in text.split(", ")])
    return (f"{figures.seconds:5.1f} s: {number(figures.rate_hz)} Hz, latency p50 "
            f"{number(figures.p50_ms)} p99 {number(figures.p99_ms)} ms, {figures.objects} objects, "
            f"{_tracks(figures)} tracks, {drops} drops, {figures.mode}")


def number(value: float | None) -> str:
    """One decimal, or a dash where there is nothing."""
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"


def _tracks(figures: LiveFigures) -> str:
    return "no" if figures.tracks is None else str(figures.tracks)
