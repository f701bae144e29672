"""Latency: health. What `status` says, over a window, as rows for a diagnostics display.

Pure: times are arguments. `rows(now)` is called by a timer, so a stack that fell silent is
reported too; nothing here waits for a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from perception_bev.latency.health_output import (
    BudgetItem,
    LatencyItem,
    MissItem,
    OutputItem,
)
from perception_bev.latency.health_parts import (
    ClockItem,
    GuardItem,
    Item,
    SensorItem,
    StageItem,
    WorkerItem,
)
from perception_bev.latency.health_settings import HealthSettings, Said
from perception_bev.latency.level import NA, Level, Row

MOST_ITEMS = 128  # of a kind; a stream of made-up names must not fill the memory
STAGE = re.compile(r"heartbeat\.(.+)_ms")
Key = tuple[str, str]  # kind, name


class Health:
    """observe() every `status`, rows() on a timer. One thread, or the caller's lock."""

    def __init__(self, settings: HealthSettings | None = None) -> None:
        self.settings = settings or HealthSettings()
        self._began: int | None = None
        self._heard: int | None = None
        made = self.settings
        self._items: dict[Key, Item] = {
            ("", name): make(made) for name, make in
            (("output", OutputItem), ("latency", LatencyItem), ("misses", MissItem),
             ("budget", BudgetItem), ("guard", GuardItem), ("clock", ClockItem))}
        for name in made.sensors:
            self._add("sensor", name, SensorItem)
        for name in made.stages:
            self._add("stage", name, StageItem)

    def observe(self, at: int, message: str, values: Mapping[str, str],
                age_ms: float | None = None) -> None:
        """A `status` was received.

        Args:
            at: monotonic ns.
            age_ms: receipt - its stamp on ROS time; None when that means nothing. What `status`
                itself says about it ("latency.claimed: n/a") overrules it.
        """
        if values.get("latency.claimed", "yes") != "yes":
            age_ms = None
        said = Said(at, message, values, age_ms)
        self._heard = at
        self._meet(said)
        for item in self._items.values():
            item.observe(said)

    def rows(self, now: int) -> tuple[Row, ...]:
        """All there is to say, the output first."""
        if self._began is None:
            self._began = now
        if self._heard is None:
            return self._nothing_yet(now)
        rows = [replace(item.row(now), name=_title(key)) for key, item in self._items.items()]
        quiet_ms = (now - self._heard) / 1e6
        if quiet_ms <= self.settings.silent_ms:
            return tuple(rows)
        text = f"no status for {quiet_ms / 1e3:.1f} s"
        return (replace(rows[0], level=Level.ERROR, message=text),
                *(replace(row, level=Level.STALE, message=f"{NA}: {text}") for row in rows[1:]))

    @property
    def heard(self) -> bool:
        """Whether there ever was a `status`."""
        return self._heard is not None

    # -- inside ----------------------------------------------------------------------------------

    def _meet(self, said: Said) -> None:
        """Rows for sensors, stages and workers that nobody announced."""
        for name in said.below("sensor."):
            self._add("sensor", name, SensorItem)
        for key in said.values:
            if (found := STAGE.fullmatch(key)) is not None:
                self._add("stage", found[1], StageItem)
        for name in said.below("worker."):
            self._add("worker", name, WorkerItem)

    def _add(self, kind: str, name: str, make: Callable[[HealthSettings, str], Item]) -> None:
        if (kind, name) not in self._items and sum(k == kind for k, _ in self._items) < MOST_ITEMS:
            self._items[kind, name] = make(self.settings, name)

    def _nothing_yet(self, now: int) -> tuple[Row, ...]:
        waited = (now - self._began) / 1e9
        lost = waited > self.settings.start_s
        first = Row("output", Level.ERROR if lost else Level.STALE,
                    f"no status since the start, {waited:.0f} s ago" if lost
                    else f"{NA}: waiting for the first status")
        others = (Row(_title(key), Level.STALE, NA) for key in self._items)
        return (first, *(row for row in others if row.name != "output"))


def _title(key: Key) -> str:
    return " ".join(part for part in key if part)
