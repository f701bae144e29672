"""Latency: the rows about what goes out: output, latency, misses, budget.

What cannot be known is "n/a" at OK here: an aggregator takes one STALE row among others for an
ERROR of the whole. Where nothing at all is known, `Health` makes every row STALE.
"""

from __future__ import annotations

from collections import Counter, deque

from perception_bev.latency.health_settings import HealthSettings, Said
from perception_bev.latency.level import NA, Level, Persistence, Row, figure
from perception_bev.latency.window import MOST, Window

RECENT_NS = 1_000_000_000


def persistence(settings: HealthSettings) -> Persistence:
    return Persistence(round(settings.persist_s * 1e9), round(settings.hold_s * 1e9))


class OutputItem:
    """What the last `status` says, and how often one comes."""

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self._modes: deque[tuple[int, str]] = deque(maxlen=MOST)
        self._missing, self._last = persistence(settings), Said(0, "", {})

    def observe(self, said: Said) -> None:
        self._last = said
        self._modes.append((said.at, said.mode))
        self._missing.note(said.missed, said.at)

    def row(self, now: int) -> Row:
        while self._modes and now - self._modes[0][0] > self._settings.window_ns:
            self._modes.popleft()
        counts = Counter(mode for _, mode in self._modes)
        values = {"rate_hz": figure(self._rate_hz(), digits=2)}
        values |= {f"{mode.replace(' ', '_')}": str(counts[mode])
                   for mode in ("full", "degraded", "predicted", "no output")}
        values |= {key: self._last.values[key] for key in ("plan", "floor", "watchdog")
                   if key in self._last.values}
        return Row("output", self._level(now), self._last.message, values)

    def _level(self, now: int) -> Level:
        if self._last.mode == "no output":
            return Level.ERROR
        return max(self._missing.level(now),
                   Level.OK if self._last.mode == "full" else Level.WARN)

    def _rate_hz(self) -> float | None:
        span = self._modes[-1][0] - self._modes[0][0] if self._modes else 0
        return None if span < 1e9 else (len(self._modes) - 1) / (span / 1e9)


class LatencyItem:
    """Receipt by this process - t_ref, of every output, predicted ones too."""

    def __init__(self, settings: HealthSettings) -> None:
        self._budget = settings.budget_ms
        self._ages, self._late = Window(settings.window_ns), persistence(settings)

    def observe(self, said: Said) -> None:
        if said.age_ms is None:
            self._ages.clear()  # of another clock than what comes now
            return
        self._ages.add(said.age_ms, said.at)
        self._late.note(said.age_ms > self._budget, said.at)

    def row(self, now: int) -> Row:
        self._ages.forget(now)
        spread = self._ages.spread()
        if spread is None:
            return Row("latency", Level.OK, f"{NA}: no stamps of this computer's clock")
        older = sum(age > self._budget for age in self._ages)
        values = {f"{name}_ms": figure(getattr(spread, name))
                  for name in ("p50", "p95", "p99", "max")}
        values |= {"budget_ms": figure(self._budget), "older_than_budget": str(older),
                   "outputs": str(len(self._ages))}
        text = f"p50 {spread.p50:.0f}, p99 {spread.p99:.0f}, max {spread.max:.0f} ms"
        if older:
            text = f"{older} of {len(self._ages)} older than {self._budget:g} ms; {text}"
        return Row("latency", max(self._late.level(now), Level.WARN if older else Level.OK),
                   text, values)


class MissItem:
    """The share of periods without a result in time."""

    def __init__(self, settings: HealthSettings) -> None:
        self._limit = settings.miss_share
        self._missed, self._lasting = Window(settings.window_ns), persistence(settings)

    def observe(self, said: Said) -> None:
        self._missed.add(said.missed, said.at)
        self._lasting.note(said.missed, said.at)

    def row(self, now: int) -> Row:
        self._missed.forget(now)
        if not len(self._missed):
            return Row("misses", Level.OK, NA)
        missed, periods = int(sum(self._missed)), len(self._missed)
        share = missed / periods
        level = max(self._lasting.level(now), Level.WARN if share > self._limit else Level.OK)
        return Row("misses", level, f"{missed} of {periods} periods, {share:.1%}",
                   {"missed": str(missed), "periods": str(periods), "share": f"{share:.4f}",
                    "limit": f"{self._limit:.4f}"})


class BudgetItem:
    """Whether what is asked can be done at all: transport + p95 compute against the budget.

    Transport is the time from t_ref until the last message that was waited for is in; compute is
    from there to the result, late ones included.
    """

    def __init__(self, settings: HealthSettings) -> None:
        self._budget = settings.budget_ms
        # Short: a hiccup of a second must not look as if it lasted.
        length = min(RECENT_NS, settings.window_ns)
        self._transport, self._compute = Window(length), Window(length)
        self._over = persistence(settings)

    def observe(self, said: Said) -> None:
        transport, compute = _parts(said)
        if transport is not None:
            self._transport.add(transport, said.at)
        if compute is not None:
            self._compute.add(compute, said.at)
        need = self._need()
        self._over.note(need is not None and sum(need) > self._budget, said.at)

    def row(self, now: int) -> Row:
        self._transport.forget(now)
        self._compute.forget(now)
        need = self._need()
        if need is None:
            return Row("budget", Level.OK, f"{NA}: nothing was computed in the last second")
        transport, compute = need
        values = {"transport_p50_ms": figure(transport), "compute_p95_ms": figure(compute),
                  "sum_ms": figure(sum(need)), "budget_ms": figure(self._budget)}
        text = f"transport {transport:.0f} + p95 compute {compute:.0f} = {sum(need):.0f} ms"
        level = self._over.level(now)
        if level == Level.OK:
            return Row("budget", level, f"{text} of {self._budget:g}", values)
        part = "transport" if transport > self._budget / 2 else "compute"
        return Row("budget", level, f"{text} exceeds the budget of {self._budget:g} ms "
                   f"for {self._over.lasted_s(now):.1f} s: {CURES[part]}", values)

    def _need(self) -> tuple[float, float] | None:
        transport, compute = self._transport.spread(), self._compute.spread()
        return None if transport is None or compute is None else (transport.p50, compute.p95)


CURES = {"transport": "the sensors' messages come too late, look at their drivers and the network",
         "compute": "use a smaller model or variant, more threads, or a larger budget"}


def _parts(said: Said) -> tuple[float | None, float | None]:
    """Transport and compute [ms] of one output."""
    transport = said.number("latency.wait_ms")
    compute, total = said.number("latency.compute_ms"), said.number("latency.total_ms")
    if compute is None and None not in (total, transport) and not said.missed:
        compute = total - transport
    return transport, compute
