"""Latency: how bad something is, how long it has been so, and the row that says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

NA = "n/a"


class Level(IntEnum):
    """With the numbers of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3  # nothing is known: not yet, or no longer


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a diagnostics display."""

    name: str  # "latency", "sensor lidar_top"; the node puts its own name before it
    level: Level
    message: str  # a few words with the figure that matters
    values: Mapping[str, str] = field(default_factory=dict)


def worst(rows: Iterable[Row]) -> Level:
    """ERROR before STALE before WARN: what is known to be wrong comes first."""
    order = (Level.OK, Level.WARN, Level.STALE, Level.ERROR)
    return max((row.level for row in rows), key=order.index, default=Level.STALE)


def figure(value: float | None, unit: str = "", digits: int = 1) -> str:
    """A number as text; "n/a" for None, never a false 0."""
    return NA if value is None else f"{value:.{digits}f}{unit}"


class Persistence:
    """WARN while something is wrong, ERROR once that has lasted.

    What is wrong again and again is one run, as long as less than `hold_ns` lies between: a limit
    that every second output exceeds is no less of a fault. All times are monotonic ns.
    """

    def __init__(self, persist_ns: int, hold_ns: int) -> None:
        self._persist, self._hold = persist_ns, hold_ns
        self._since: int | None = None
        self._last = 0

    def note(self, wrong: bool, at: int) -> None:
        if not wrong:
            return
        if self._since is None or at - self._last > self._hold:
            self._since = at
        self._last = max(at, self._last)

    def level(self, now: int) -> Level:
        if self._since is None or now - self._last > self._hold:
            return Level.OK
        return Level.ERROR if self._last - self._since >= self._persist else Level.WARN

    def lasted_s(self, now: int) -> float:
        """How long the present run has lasted [s]; 0 when there is none."""
        return 0.0 if self.level(now) == Level.OK else (self._last - self._since) / 1e9
