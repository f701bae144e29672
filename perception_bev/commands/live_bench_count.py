"""Commands: the output contract, counted from receipts: which periods had an output, in time and of
what kind. Pure; times are integers in ns.

A period is one t_ref. From the first stamp on, every stamp that lies nearer to one period after the
last than to none begins the next; where it lies further, the periods between had no output. So the
count needs no knowledge of what was played, and does not drift with a sensor's clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perception_bev.commands.live_bench_control import Stall
from perception_bev.commands.live_bench_receipts import OUTPUT, Receipt

PERCENTILES = (50, 95, 99)
MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Contract:
    """What was promised."""

    period_ns: int = 100 * MS
    budget_ns: int = 80 * MS


@dataclass(slots=True)
class Period:
    """One output time and what came for it. Of each topic the first message counts."""

    t_ref_ns: int
    t_ref_mono_ns: int
    tracks: Receipt | None = None
    status: Receipt | None = None
    repeated: int = 0  # further messages on one of the two topics
    stalled: bool = False  # the computer kept a ready thread waiting while it was due

    def take(self, receipt: Receipt) -> None:
        if getattr(self, receipt.topic) is None:
            setattr(self, receipt.topic, receipt)
        else:
            self.repeated += 1

    @property
    def has_output(self) -> bool:
        return self.tracks is not None and self.status is not None

    @property
    def age_ns(self) -> int | None:
        """Of the pair at its receipt: the later of the two; None without an output."""
        return max(self.tracks.latency_ns, self.status.latency_ns) if self.has_output else None

    @property
    def mode(self) -> str:
        return self.status.mode if self.status is not None else "silent"


def periods(receipts: Iterable[Receipt], begin_ns: int, end_ns: int,
            contract: Contract = Contract(), stalls: Sequence[Stall] = ()) -> list[Period]:
    """All periods with begin_ns <= t_ref < end_ns, those without any receipt included.

    Args:
        begin_ns: stamp of the first output that counts: the first period is there.
        end_ns: no stamp counts from here on; what should have come before is missing.

    Without any receipt, not even one before `begin_ns`, there are none.
    """
    known = list(receipts)
    if not known:
        return []
    taken = sorted((r for r in known if r.topic in OUTPUT and begin_ns <= r.stamp_ns < end_ns),
                   key=lambda r: (r.stamp_ns, r.mono_ns))
    first = (taken or known)[0]
    found = [_begin(first, begin_ns, contract.period_ns)]
    for receipt in taken:
        gap = receipt.stamp_ns - found[-1].t_ref_ns
        steps = round(gap / contract.period_ns)
        if steps:
            found += _missing(found[-1], steps, gap)
            found.append(Period(receipt.stamp_ns, receipt.t_ref_mono_ns))
        found[-1].take(receipt)
    gap = end_ns - found[-1].t_ref_ns
    found += _missing(found[-1], round(gap / contract.period_ns), gap)
    for period in found:
        period.stalled = _stalled(period, contract, stalls)
    return found


def _begin(first: Receipt, begin_ns: int, period_ns: int) -> Period:
    """The period at `begin_ns`, whose t_ref is that of the first receipt where that is near."""
    early = first.stamp_ns - begin_ns
    if 0 <= 2 * early < period_ns:
        return Period(first.stamp_ns, first.t_ref_mono_ns)
    return Period(begin_ns, first.t_ref_mono_ns - early)


def _missing(last: Period, steps: int, gap: int) -> list[Period]:
    """The periods that nobody answered, evenly between two stamps."""
    return [Period(last.t_ref_ns + k * gap // steps, last.t_ref_mono_ns + k * gap // steps)
            for k in range(1, steps)]


def _stalled(period: Period, contract: Contract, stalls: Sequence[Stall]) -> bool:
    """Whether a stall lies in the period's own time, which ends with its deadline. These intervals
    do not overlap: a stall that is shorter than a period excuses two periods at most."""
    deadline = period.t_ref_mono_ns + contract.budget_ns
    begin = deadline - contract.period_ns
    return any(stall.start_ns < deadline and stall.end_ns > begin for stall in stalls)


@dataclass(slots=True)
class Count:
    """What is said of a run; `of` fills it."""

    periods: int = 0
    without_output: int = 0  # tracks or status lacks: what is declared as safe state, too
    older_than_budget: int = 0
    full: int = 0  # in time, and said to be full
    predicted: int = 0
    safe_state: int = 0  # without output and said so: status at ERROR, no tracks
    repeated: int = 0
    modes: Counter[str] = field(default_factory=Counter)
    latency_ms: list[float] = field(default_factory=list)  # receipt of tracks - t_ref
    overhead_ms: list[float] = field(default_factory=list)

    @staticmethod
    def of(taken: Iterable[Period], contract: Contract) -> Count:
        count = Count()
        for period in taken:
            count.add(period, contract)
        return count

    def add(self, period: Period, contract: Contract) -> None:
        age, status = period.age_ns, period.status
        late = age is not None and age > contract.budget_ns
        self.periods += 1
        self.without_output += age is None
        self.older_than_budget += late
        self.full += age is not None and not late and period.mode == "full"
        self.predicted += age is not None and period.mode == "predicted"
        self.safe_state += period.tracks is None and status is not None and status.level >= 2
        self.repeated += period.repeated
        self.modes[period.mode] += 1
        if period.tracks is not None:
            self.latency_ms.append(period.tracks.latency_ns / 1e6)
        if (overhead := overhead_ms(period)) is not None:
            self.overhead_ms.append(overhead)

    @property
    def full_share(self) -> float:
        return round(self.full / self.periods, 5) if self.periods else float("nan")

    def plain(self) -> dict[str, Any]:
        """For JSON, without the single values."""
        return {"periods": self.periods, "without_output": self.without_output,
                "older_than_budget": self.older_than_budget, "full": self.full,
                "predicted": self.predicted, "safe_state": self.safe_state,
                "modes": dict(self.modes), "latency_ms": summary(self.latency_ms)}


def overhead_ms(period: Period) -> float | None:
    """Latency less waiting, decoding, inputs, engines and post on the way; None where the output is
    no result of engines. What `status` says of the node, and the way from there to the subscriber.
    """
    if not period.has_output or period.mode not in ("full", "degraded"):
        return None
    total = period.status.number("latency.total_ms")
    overhead = period.status.number("latency.overhead_ms")
    if total is None or overhead is None:
        return None
    return period.tracks.latency_ns / 1e6 - total + overhead


def backward(receipts: Iterable[Receipt]) -> int:
    """Messages whose stamp is below that of one before on their topic."""
    newest: dict[str, int] = {}
    count = 0
    for receipt in receipts:
        count += receipt.stamp_ns < newest.get(receipt.topic, 0)
        newest[receipt.topic] = max(receipt.stamp_ns, newest.get(receipt.topic, 0))
    return count


def summary(values: Sequence[float], percentiles: Sequence[int] = PERCENTILES) -> dict[str, float]:
    """Percentiles and the maximum; NaN when there is nothing."""
    if not len(values):
        return {**{f"p{p}": float("nan") for p in percentiles}, "max": float("nan")}
    found = np.percentile(values, percentiles)
    return {**{f"p{p}": round(float(v), 2) for p, v in zip(percentiles, found, strict=True)},
            "max": round(float(np.max(values)), 2)}
