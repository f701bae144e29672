"""Latency: the rows about the parts: sensors, stages, workers, guard, clocks."""

from __future__ import annotations

import re
from collections import Counter
from typing import Protocol

from perception_bev.latency.health_output import persistence
from perception_bev.latency.health_settings import HealthSettings, Said, SensorLimit
from perception_bev.latency.level import NA, Level, Row, figure
from perception_bev.latency.window import Growth, Window

CONTRIBUTES = ("ok", "reused")
PASSED_OVER = ("superseded", "epoch")  # no loss: a newer frame was there, or the clock jumped
RESTARTS = re.compile(r"restarts?[ =:]+(\d+)|(\d+) restarts?")


class Item(Protocol):
    """One row: what it hears and what it says."""

    def observe(self, said: Said) -> None: ...

    def row(self, now: int) -> Row: ...


class SensorItem:
    """One sensor: whether it contributes, its age at t_ref, rate, jitter and drops."""

    def __init__(self, settings: HealthSettings, name: str) -> None:
        self._settings, self._name = settings, name
        self._limit = settings.sensors.get(name, SensorLimit())
        self._known = name in settings.sensors
        self._ages, self._bad = Window(settings.window_ns), persistence(settings)
        self._received = Growth(settings.window_ns)
        self._drops = Growth(settings.window_ns)
        self._reason: str | None = None
        self._jitter: float | None = None  # [ms] as status says it

    def observe(self, said: Said) -> None:
        self._reason = said.values.get(f"sensor.{self._name}", self._reason)
        age = said.number(f"age.{self._name}_ms")
        if age is not None:
            self._ages.add(age, said.at)
        received = said.number(f"received.{self._name}")
        if received is not None:
            self._received.add(Counter(messages=int(received)), said.at)
            self._drops.add(counts_of(said.values.get(f"drops.{self._name}", "")), said.at)
        self._jitter = said.number(f"jitter.{self._name}_ms")

    def row(self, now: int) -> Row:
        self._ages.forget(now)
        name = f"sensor {self._name}"
        if self._reason is None and self._received.changed_at is None:
            return Row(name, Level.OK, f"{NA}: not heard of yet", self._values())
        wrong = self._wrong(now)
        self._bad.note(wrong is not None, now)
        level = self._bad.level(now) if wrong is not None else Level.OK
        if not self._limit.required:
            level = min(level, Level.WARN)
        lost = self._lost()
        text = wrong or self._figures()
        if lost and wrong is None:
            text, level = f"{text}; dropped: {lost}", Level.WARN
        return Row(name, level, text, self._values())

    def _wrong(self, now: int) -> str | None:
        """What is wrong now, in words."""
        quiet_ms = (now - (self._received.changed_at or now)) / 1e6
        if quiet_ms > max(3.5 * self._limit.period_ms, self._settings.silent_ms):
            return f"nothing received for {quiet_ms / 1e3:.1f} s"
        if self._reason is not None and self._reason not in CONTRIBUTES:
            return self._reason
        rate, stated = self._received.per_second(), 1e3 / self._limit.period_ms
        if self._known and rate is not None and rate < self._settings.least_rate * stated:
            return f"{rate:.1f} Hz instead of {stated:.1f} Hz"
        return None

    def _lost(self) -> str:
        """Drops in the window that are more than the limit, with their reasons."""
        lost = {k: n for k, n in self._drops.grown().items() if k not in PASSED_OVER}
        received = sum(self._received.grown().values())
        if sum(lost.values()) <= self._settings.drop_share * received:
            return ""
        return ", ".join(f"{reason} {n}" for reason, n in sorted(lost.items()))

    def _figures(self) -> str:
        spread = self._ages.spread()
        age = NA if spread is None else f"{spread.p50:.0f} ms old at t_ref"
        again = ", reused" if self._reason == "reused" else ""
        return f"{figure(self._received.per_second(), ' Hz')}, {age}{again}"

    def _values(self) -> dict[str, str]:
        spread = self._ages.spread()
        measured = self._jitter
        if measured is None and spread is not None:
            measured = spread.p95 - spread.p50
        drops = ", ".join(f"{k} {n}" for k, n in sorted(self._drops.grown().items()))
        return {"state": self._reason or NA,
                "age_p50_ms": figure(spread and spread.p50),
                "age_max_ms": figure(spread and spread.max),
                "rate_hz": figure(self._received.per_second(), digits=2),
                "expected_hz": figure(1e3 / self._limit.period_ms if self._known else None),
                "jitter_ms": figure(measured), "dropped_in_window": drops or "none"}


class StageItem:
    """A stage's heartbeat: how long ago it finished a frame."""

    def __init__(self, settings: HealthSettings, name: str) -> None:
        self._limit, self._name = settings.heartbeat_ms, name
        self._bad = persistence(settings)
        self._beat: float | None = None  # when the last frame was finished [monotonic ms]
        self._awaited = False  # `status` knows the stage, and it has not finished anything yet

    def observe(self, said: Said) -> None:
        key = f"heartbeat.{self._name}_ms"
        age = said.number(key)
        if age is not None:
            self._beat = said.at / 1e6 - age
        self._awaited = key in said.values and self._beat is None
        self._bad.note(self._awaited, said.at)

    def row(self, now: int) -> Row:
        name = f"stage {self._name}"
        if self._beat is None:
            level = self._bad.level(now) if self._awaited else Level.OK
            return Row(name, level, f"{NA}: no frame yet", {"heartbeat_ms": NA})
        age = now / 1e6 - self._beat
        self._bad.note(age > self._limit, now)
        wrong = age > self._limit
        text = f"no frame for {age:.0f} ms" if wrong else f"last frame {age:.0f} ms ago"
        return Row(name, self._bad.level(now) if wrong else Level.OK, text,
                   {"heartbeat_ms": figure(age), "limit_ms": figure(self._limit)})


class WorkerItem:
    """A worker process: its state in the supervisor's words, and its restarts."""

    def __init__(self, settings: HealthSettings, name: str) -> None:
        self._name, self._text = name, ""
        self._bad, self._restarts = persistence(settings), Growth(settings.window_ns)

    def observe(self, said: Said) -> None:
        self._text = said.values.get(f"worker.{self._name}", self._text)
        self._bad.note(not self._text.startswith("running"), said.at)
        found = RESTARTS.search(self._text)
        if found is not None:
            self._restarts.add(Counter(restarts=int(found[1] or found[2])), said.at)

    def row(self, now: int) -> Row:
        again = self._restarts.grown()["restarts"]
        running = self._text.startswith("running")
        level = self._bad.level(now) if not running else Level.WARN if again else Level.OK
        text = f"{self._text}; {again} in the last seconds" if again else self._text
        return Row(f"worker {self._name}", level, text, {"state": self._text or NA})


class GuardItem:
    """How late the output guard itself was, and the margin that it keeps for that."""

    def __init__(self, settings: HealthSettings) -> None:
        self._limit = settings.guard_delay_ms
        self._bad = persistence(settings)
        self._delay = self._margin = None

    def observe(self, said: Said) -> None:
        self._delay = said.number("guard.delay_ms")
        self._margin = said.number("guard.margin_ms")
        self._bad.note(self._delay is not None and self._delay > self._limit, said.at)

    def row(self, now: int) -> Row:
        values = {"delay_p99.9_ms": figure(self._delay), "margin_ms": figure(self._margin),
                  "limit_ms": figure(self._limit)}
        if self._delay is None:
            return Row("guard", Level.OK, f"{NA}: it never had to fire", values)
        wrong = self._delay > self._limit
        return Row("guard", self._bad.level(now) if wrong else Level.OK,
                   f"delay {self._delay:.1f} ms, margin {figure(self._margin)} ms", values)


class ClockItem:
    """Faults of clocks and ego motion by name, and what the rig file should say instead."""

    def __init__(self, settings: HealthSettings) -> None:
        self._bad = persistence(settings)
        self._faults: dict[str, str] = {}
        self._advice: dict[str, str] = {}

    def observe(self, said: Said) -> None:
        self._faults = said.below("clock.")
        if "odometry" in said.values:
            self._faults["odometry"] = said.values["odometry"]
        self._advice = said.below("advice.")
        self._bad.note(bool(self._faults), said.at)

    def row(self, now: int) -> Row:
        values = {**self._faults, **{f"advice {k}": v for k, v in self._advice.items()}}
        if self._faults:
            first, *others = self._faults.values()
            more = f" (and {len(others)} more)" if others else ""
            return Row("clock", self._bad.level(now), f"{first}{more}", values)
        if self._advice:
            return Row("clock", Level.WARN, next(iter(self._advice.values())), values)
        return Row("clock", Level.OK, "stamps are plausible", values)


def counts_of(text: str) -> Counter:
    """"late 3, superseded 2" as counts; what is not of that form is left out."""
    counts: Counter = Counter()
    for part in filter(None, text.split(", ")):
        reason, _, number = part.rpartition(" ")
        if reason and number.isdigit():
            counts[reason] += int(number)
    return counts
