"""Commands: slots of `bev bench pipeline` as figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from perception_bev.commands.live_bench_bound import bounds, serial_ms, share, stages_ms
from perception_bev.commands.live_bench_count import summary
from perception_bev.commands.live_bench_modes import Case, Slot
from perception_bev.rig import Rig

EARLY_HZ = 10.0  # at which early extraction is looked at
CALM_HZ = 5.0  # costs of a frame are taken where nothing gets in the way of anything


def by_case(slots: Iterable[Slot]) -> dict[Case, list[Slot]]:
    """Repetitions together, in the order of their first."""
    found: dict[Case, list[Slot]] = {}
    for slot in slots:
        found.setdefault(slot.case, []).append(slot)
    return found


def row(case: Case, slots: Sequence[Slot]) -> dict[str, Any]:
    """One case over its repetitions: latencies together, throughput the median."""
    offered = sum(len(slot.swept) for slot in slots)
    answered = sum(len(slot.counted) for slot in slots)
    latency = [ms for slot in slots for ms in slot.latency_ms]
    return {
        "mode": case.mode, "threads": case.threads, "load_hz": round(case.load_hz, 2),
        "early_extraction": case.early, "offered": offered, "answered": answered,
        "throughput_hz": round(float(np.median([slot.throughput_hz for slot in slots])), 2),
        "latency_ms": summary(latency), "repeats": len(slots),
        "p50_by_repeat_ms": [summary(slot.latency_ms)["p50"] for slot in slots],
        "overhead_ms": summary([done.trace.overhead_ms() for slot in slots
                                for done in slot.counted], (50, 99)),
        "cpu_cores": round(float(np.median([s.cpu_s / s.seconds for s in slots])), 2),
        "overtaken": _added(slot.overtaken for slot in slots),
        "failures": _added(slot.failures for slot in slots),
        "feeder_late_ms": max(slot.feeder_late_ms for slot in slots)}


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for key, number in count.items():
            total[key] = total.get(key, 0) + number
    return total


def early_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """ms after t_ref with and without early extraction, by mode."""
    found = []
    at = {(r["mode"], r["threads"], r["early_extraction"]): r["latency_ms"] for r in rows
          if r["load_hz"] == EARLY_HZ}
    for (mode, threads, early), latency in at.items():
        without = at.get((mode, threads, False))
        if early and without is not None:
            found.append({"mode": mode, "threads": threads, "with_ms": latency,
                          "without_ms": without,
                          "saved_p50_ms": round(without["p50"] - latency["p50"], 2)})
    return found


def calm(slots: Iterable[Slot], mode: str, threads: int) -> list[Slot]:
    """Where a frame's costs are taken: the load that is nearest to CALM_HZ."""
    own = [slot for slot in slots if slot.case.early and (slot.case.mode, slot.case.threads) == (
        mode, threads)]
    if not own:
        return []
    load = min((slot.case.load_hz for slot in own), key=lambda hz: abs(hz - CALM_HZ))
    return [slot for slot in own if slot.case.load_hz == load]


def bound_of(slots: Sequence[Slot], rig: Rig, decode_threads: int, cores: int) -> dict[str, Any]:
    """The bound of one mode, from calm slots of it."""
    traces = [done.trace for slot in slots for done in slot.counted]
    stages = stages_ms(traces, rig.cameras, slots[0].case.mode == "inline", decode_threads)
    cpu_s = float(np.median([slot.cpu_per_frame_s for slot in slots]))
    serial = serial_ms(traces)
    return {"stages_ms": {name: round(ms, 2) for name, ms in stages.items()},
            "cpu_per_frame_ms": round(cpu_s * 1e3, 1), "serial_ms": round(serial, 2),
            "cores": cores, **bounds(stages, serial, cpu_s, cores)}


def saturation(slots: Sequence[Slot], rig: Rig, decode_threads: int,
               cores: int) -> list[dict[str, Any]]:
    """By mode: the most that came out a second, at which load, and its share of the bound."""
    found = []
    for mode, threads in dict.fromkeys((s.case.mode, s.case.threads) for s in slots):
        reference = calm(slots, mode, threads)
        if not any(slot.counted for slot in reference):
            continue
        bound = bound_of(reference, rig, decode_threads, cores)
        rows = [row(case, group) for case, group in by_case(slots).items()
                if (case.mode, case.threads, case.early) == (mode, threads, True)]
        best = max(rows, key=lambda r: r["throughput_hz"])
        found.append({"mode": mode, "threads": threads, "throughput_hz": best["throughput_hz"],
                      "at_load_hz": best["load_hz"], "bound": bound,
                      "share": share(best["throughput_hz"], bound["least_hz"])})
    return found


def show(report: dict[str, Any], console: Console | None = None) -> None:
    console = console or Console(width=110)
    table = Table(box=None, pad_edge=False)
    for heading in ("load [Hz]", "mode", "threads", "early", "out [Hz]", "lost",
                    "p50", "p95", "p99", "max [ms]", "cores"):
        table.add_column(heading, justify="left" if heading == "mode" else "right")
    for r in sorted(report["runs"], key=lambda r: (r["load_hz"], not r["early_extraction"])):
        latency = [_text(r["latency_ms"][p]) for p in ("p50", "p95", "p99", "max")]
        table.add_row(f"{r['load_hz']:g}", r["mode"], str(r["threads"]),
                      "yes" if r["early_extraction"] else "no", _text(r["throughput_hz"]),
                      str(r["offered"] - r["answered"]), *latency, _text(r["cpu_cores"]))
    console.print(table)
    for e in report["early_extraction"]:
        console.print(f"early extraction, {e['mode']}: p50 {_text(e['with_ms']['p50'])} ms after "
                      f"t_ref, without {_text(e['without_ms']['p50'])} ms", highlight=False)
    for s in report["saturation"]:
        console.print(f"saturation, {s['mode']}: {s['throughput_hz']:g} Hz of "
                      f"{_text(s['bound']['least_hz'])} Hz, share {_text(s['share'])} (longest "
                      f"stage: {s['bound']['longest']})", highlight=False)
    console.print(f"{report['repeats']} repetitions of {report['seconds']:g} s each, interleaved; "
                  f"{report['machine']}", highlight=False)


def _text(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"
