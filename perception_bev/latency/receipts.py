"""Latency: `tracks` as a subscriber gets them: rate, periods without, and how many came too old.

What a period is worth is decided where it is received; nothing here believes what `status` says
about it. Pure: times are arguments.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from perception_bev.latency.health_output import persistence
from perception_bev.latency.health_settings import HealthSettings
from perception_bev.latency.level import NA, Level, Row, figure
from perception_bev.latency.window import MOST, Window

JUMP_NS = 1_000_000_000  # stamps that step so much further than receipts are another time line


class Receipt(NamedTuple):
    """One message."""

    at: int  # receipt [monotonic ns]
    stamp_ns: int
    lost: int  # periods between it and the one before


class Receipts:
    """observe() every message, row() on a timer: a silence grows by itself."""

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self._period = round(settings.period_ms * 1e6)
        self._held: deque[Receipt] = deque(maxlen=MOST)
        self._newest: Receipt | None = None  # also when the window has forgotten it
        self._ages = Window(settings.window_ns)
        self._missing, self._late = persistence(settings), persistence(settings)
        self.repeated = 0  # messages of a period that was served already

    def observe(self, at: int, stamp_ns: int, age_ms: float | None) -> None:
        """A message was received.

        Args:
            at: monotonic ns.
            age_ms: receipt - stamp; None where nobody knows, as for recorded stamps.
        """
        step = self._step(at, stamp_ns)
        if step is not None and step < self._period / 2:
            self.repeated += 1
            return
        lost = 0 if step is None else max(round(step / self._period) - 1, 0)
        self._newest = Receipt(at, stamp_ns, lost)
        self._held.append(self._newest)
        self._missing.note(lost > 0, at)
        if age_ms is None:
            self._ages.clear()
        else:
            self._ages.add(age_ms, at)
            self._late.note(age_ms > self._settings.budget_ms, at)

    def row(self, now: int) -> Row:
        if self._newest is None:
            return Row("tracks", Level.STALE, f"{NA}: none yet")
        silent = max(round((now - self._newest.at) / self._period) - 1, 0)
        self._missing.note(silent > 0, now)
        self._forget(now)
        self._ages.forget(now)
        lost = sum(receipt.lost for receipt in self._held) + silent
        periods = len(self._held) + lost
        older = sum(age > self._settings.budget_ms for age in self._ages)
        level = max(self._missing.level(now), self._late.level(now),
                    Level.WARN if self._worth_a_warning(lost, periods, older) else Level.OK)
        return Row("tracks", level, self._text(lost, periods, older, silent, now),
                   self._values(lost, periods, older))

    def _step(self, at: int, stamp_ns: int) -> int | None:
        """From the newest stamp to this one [ns]; None at the beginning of a time line."""
        if self._newest is None:
            return None
        step = stamp_ns - self._newest.stamp_ns
        if step < -self._period / 2 or step - (at - self._newest.at) > JUMP_NS:
            self._held.clear()  # an epoch ended: what lies between was never promised
            return None
        return step

    def _forget(self, now: int) -> None:
        while self._held and now - self._held[0].at > self._settings.window_ns:
            self._held.popleft()

    def _worth_a_warning(self, lost: int, periods: int, older: int) -> bool:
        return older > 0 or lost > self._settings.miss_share * periods

    def _text(self, lost: int, periods: int, older: int, silent: int, now: int) -> str:
        if silent:
            quiet_s = (now - self._newest.at) / 1e9
            return f"nothing for {quiet_s:.1f} s; {lost} of {periods} periods without"
        old = (f"{older} older than {self._settings.budget_ms:g} ms" if len(self._ages)
               else f"age {NA}")
        return f"{figure(self._rate_hz(), ' Hz')}; {lost} of {periods} periods without; {old}"

    def _values(self, lost: int, periods: int, older: int) -> dict[str, str]:
        spread = self._ages.spread()
        values = {"rate_hz": figure(self._rate_hz(), digits=2), "periods": str(periods),
                  "without": str(lost), "share": figure(lost / periods if periods else None, "", 4),
                  "older_than_budget": str(older) if spread else NA,
                  "repeated": str(self.repeated)}
        return values | {f"{name}_ms": figure(spread and getattr(spread, name))
                         for name in ("p50", "p95", "p99", "max")}

    def _rate_hz(self) -> float | None:
        """None until a second is held."""
        span = self._held[-1].at - self._held[0].at if self._held else 0
        return None if span < 1e9 else (len(self._held) - 1) / (span / 1e9)
