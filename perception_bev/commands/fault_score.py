"""Commands: what a stack did about a fault, from the receipts of a subscriber. Pure; times are
monotonic ns where nothing else is said."""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from perception_bev.commands.fault_cases import Case
from perception_bev.commands.live_bench_control import Stall
from perception_bev.commands.live_bench_count import Contract, Count, Period, periods
from perception_bev.commands.live_bench_receipts import Receipt

IN_A_ROW = 10  # `full` outputs that make it full again
AROUND_NS = 2_000_000_000  # before the fault and after the recovery, of which the latency is told
TEXTS = 8  # of the marking that are kept
NO_LOSS = re.compile(r"(?:superseded|epoch) \d+(?:, )?")  # counts of `drops` that grow every day
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Injection:
    """When a fault was there."""

    begins_ns: int
    ends_ns: int
    seen_until_ns: int  # what came later is not known
    done: str = ""  # in words


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """One message of /diagnostics. It need not have all items that there are."""

    mono_ns: int
    items: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # name: level, text


def judge(case: Case, injection: Injection, receipts: Sequence[Receipt],
          diagnostics: Sequence[Diagnostics], contract: Contract, stalls: Sequence[Stall] = ()
          ) -> dict[str, Any]:
    """One row of the report.

    Periods are counted from the fault's beginning to the tenth `full` in a row after its end, or
    to where nothing more is known. What does not exist is None.
    """
    dated = [date(receipt, (0, case.jump_ns)) for receipt in receipts]
    ends_ns = injection.begins_ns if case.heals else injection.ends_ns
    run = full_run(dated, ends_ns)
    until_ns = run[-1].mono_ns if run else injection.seen_until_ns
    counted = in_window(dated, injection.begins_ns, until_ns, contract, stalls)
    count = Count.of(counted, contract)
    detected = first_mark(case, injection.begins_ns, dated, diagnostics)
    ages = [period.age_ns / 1e6 for period in counted if period.has_output]
    row = {
        "fault": case.name, "periods": count.periods, "without_output": count.without_output,
        "older_than_budget": count.older_than_budget,
        "detected_ms": _since_ms(injection.begins_ns, detected),
        "back_to_full_s": round((run[0].mono_ns - ends_ns) / 1e9, 3) if run else None,
        "safe_state": count.safe_state, "predicted": count.predicted,
        "oldest_ms": round(max(ages), 2) if ages else None,
        "rate_hz": _rate(counted, contract), "detected_by": detected[1] if detected else None,
        "marking": marking(dated, injection.begins_ns, until_ns),
        "latency_before_ms": _latency(dated, injection.begins_ns - AROUND_NS, injection.begins_ns),
        "latency_after_ms": _latency(dated, until_ns, until_ns + AROUND_NS) if run else None,
        "machine_stalls": sum(period.stalled for period in counted),
        "lasted_s": round((injection.ends_ns - injection.begins_ns) / 1e9, 3),
        "what": injection.done}
    return {**row, "kept": kept(case, row)}


def kept(case: Case, row: Mapping[str, Any]) -> dict[str, bool]:
    """What was asked for, and whether it was so."""
    asked: dict[str, bool] = {}
    if case.outputs:
        asked["output"] = row["without_output"] == 0
    asked["in_time"] = row["older_than_budget"] == 0
    if case.detected_ms is not None:
        asked["detected"] = row["detected_ms"] is not None and \
            row["detected_ms"] <= case.detected_ms
    if case.back_s is not None:
        asked["back"] = row["back_to_full_s"] is not None and row["back_to_full_s"] <= case.back_s
    return asked


def date(receipt: Receipt, jumps_ns: Iterable[int]) -> Receipt:
    """With the stamp as it would be without the jump that makes it nearest to its receipt."""
    jump = min(jumps_ns, key=lambda by: abs(receipt.latency_ns + by))
    return replace(receipt, stamp_ns=receipt.stamp_ns - jump) if jump else receipt


def in_window(receipts: Sequence[Receipt], begins_ns: int, until_ns: int, contract: Contract,
              stalls: Sequence[Stall] = ()) -> list[Period]:
    """Periods after the last output before the fault, whose deadlines have passed by `until_ns`."""
    before = [r for r in receipts if r.mono_ns < begins_ns and r.topic == "status"]
    if not before:
        return []
    last = max(before, key=lambda r: r.stamp_ns)
    end_ns = until_ns + (last.ros_ns - last.mono_ns) - contract.budget_ns + 1
    if end_ns <= last.stamp_ns:
        return []
    near = [r for r in receipts if r.mono_ns <= until_ns]
    return periods(near, last.stamp_ns, end_ns, contract, stalls)[1:]


def full_run(receipts: Iterable[Receipt], from_ns: int) -> list[Receipt]:
    """The first IN_A_ROW statuses in a row that are `full`, from then on; empty: there are none."""
    run: list[Receipt] = []
    for receipt in receipts:
        if receipt.topic != "status" or receipt.mono_ns < from_ns:
            continue
        run = [*run, receipt] if receipt.mode == "full" else []
        if len(run) == IN_A_ROW:
            return run
    return []


def first_mark(case: Case, begins_ns: int, receipts: Sequence[Receipt],
               diagnostics: Sequence[Diagnostics]) -> tuple[int, str] | None:
    """(when, how): the first `status` or /diagnostics that says that something is wrong."""
    found = [mark for mark in (_in_status(case, begins_ns, receipts),
                               _in_diagnostics(case, begins_ns, diagnostics)) if mark]
    return min(found, default=None)


def _in_status(case: Case, begins_ns: int, receipts: Sequence[Receipt]) -> tuple[int, str] | None:
    statuses = [receipt for receipt in receipts if receipt.topic == "status"]
    at = bisect.bisect_left(statuses, begins_ns, key=lambda receipt: receipt.mono_ns)
    before = statuses[at - 1].values if at else {}
    for receipt in statuses[at:]:
        if receipt.mode != "full":
            return receipt.mono_ns, f"status: {receipt.text}"
        for key, value in receipt.values.items():
            if re.match(case.shows, key) and _said(value) != _said(before.get(key, "")):
                return receipt.mono_ns, f"status: {key} = {value}"
    return None


def _said(value: str) -> str:
    return NO_LOSS.sub("", value).rstrip(", ")


def _in_diagnostics(case: Case, begins_ns: int, diagnostics: Sequence[Diagnostics]
                    ) -> tuple[int, str] | None:
    """An item that is worse than it was before the fault."""
    levels: dict[str, int] = {}
    for message in diagnostics:
        for name, (level, text) in message.items.items():
            if not re.search(case.shows, name):
                continue
            if message.mono_ns >= begins_ns and level > levels.get(name, 0):
                return message.mono_ns, f"diagnostics: {name}: {text}"
            levels[name] = level
    return None


def marking(receipts: Iterable[Receipt], begins_ns: int, until_ns: int) -> dict[str, int]:
    """What `status` said meanwhile, how often; its numbers are written n."""
    said = Counter(NUMBER.sub("n", receipt.text) for receipt in receipts
                   if receipt.topic == "status" and begins_ns <= receipt.mono_ns <= until_ns)
    return dict(said.most_common(TEXTS))


def _since_ms(begins_ns: int, mark: tuple[int, str] | None) -> float | None:
    return round((mark[0] - begins_ns) / 1e6, 1) if mark else None


def _rate(counted: Sequence[Period], contract: Contract) -> float | None:
    """Pairs a second."""
    if not counted:
        return None
    seconds = len(counted) * contract.period_ns / 1e9
    return round(sum(period.has_output for period in counted) / seconds, 2)


def _latency(receipts: Iterable[Receipt], from_ns: int, to_ns: int) -> float | None:
    """Median of the `tracks` received then [ms]."""
    found = [r.latency_ns / 1e6 for r in receipts
             if r.topic == "tracks" and from_ns <= r.mono_ns < to_ns]
    return round(float(np.median(found)), 2) if found else None


def skipped(case: Case, why: str) -> dict[str, Any]:
    """The row of a fault that was not done."""
    return {"fault": case.name, "periods": 0, "without_output": None, "older_than_budget": None,
            "detected_ms": None, "back_to_full_s": None, "skipped": why}
