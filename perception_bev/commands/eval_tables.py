"""Commands: how `bev eval` prints figures and progress."""

from __future__ import annotations

import math

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

MIN_WIDTH = 80  # of the tables, so that a pipe does not break their rows


def wide(console: Console) -> Console:
    console.width = max(console.width, MIN_WIDTH)
    return console


def table(title: str, *columns: str, first: str = "sensors") -> Table:
    """Names at the left, numbers at the right."""
    made = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    made.add_column(first, no_wrap=True)
    for column in columns:
        made.add_column(column, justify="right", no_wrap=True)
    return made


def number(value: float | None, form: str) -> str:
    return "n/a" if value is None or math.isnan(value) else format(value, form)


def progress() -> Progress:
    return Progress(TextColumn("{task.description:>22}"), BarColumn(), MofNCompleteColumn(),
                    TimeRemainingColumn(), console=Console(stderr=True))
