"""Nodes: the contract of the perception node: every period one pair of `tracks` and `status` of
the same stamp, and `objects` where there are detections."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticStatus

from perception_bev.latency.guard import Guard, Miss
from perception_bev.latency.report import status_values
from perception_bev.latency.trace import Trace
from perception_bev.latency.trace_log import TraceLog
from perception_bev.nodes.publications import Publications
from perception_bev.outputs.track import Tracks
from perception_bev.pipeline.output import Condition, Output

STALE_NS = 1_000_000_000  # an output that is older was not made of fresh stamps


class Contract:
    """The outlet's sink (pipeline/outlet.py)."""

    def __init__(self, publications: Publications, condition: Callable[[], Condition],
                 live: Callable[[], bool], notes: Callable[[], Mapping[str, str]],
                 log: TraceLog | None = None) -> None:
        """
        Args:
            live: whether ROS time is the system's.
            notes: what else `status` is to say.
            log: takes all traces.
        """
        self._publications = publications
        self.guard: Guard | None = None  # whose margin and delay are said
        self._condition, self._live, self._notes, self._log = condition, live, notes, log
        self.late_results = 0
        self._late: dict[str, str] = {}  # what the last late result took, while none is in time

    def output(self, output: Output) -> None:
        self._late = {}
        start = time.monotonic_ns()
        self._publications.tracks(output.tracks)
        output.trace.published = time.monotonic_ns()
        output.trace.add("publish", start, output.trace.published)
        level = DiagnosticStatus.OK if output.mode == "full" else DiagnosticStatus.WARN
        message = output.mode if not output.reasons else (
            f"{output.mode} ({'; '.join(output.reasons)})")
        condition = self._condition()
        values = status_values(output.bundle, output.trace, condition.drops, {
            "mode": output.mode, "plan": output.plan, "predicted": "0",
            "objects": str(len(output.boxes)),
            "tracks": "n/a" if output.tracks is None else str(len(output.tracks)),
            "history_s": "n/a" if output.history_s is None else f"{output.history_s:.2f}",
            "latency.claimed": self._claim(output.trace, condition)})
        self._publications.status(output.t_ref_ns, level, message,
                                  values | self._common(condition))

    def afterwards(self, output: Output) -> None:
        self._publications.objects(output)
        self._keep(output, output.mode)

    def missed(self, miss: Miss, tracks: Tracks | None, why: str) -> None:
        self._publications.tracks(tracks)
        known = tracks is not None or miss.safe or miss.overdue
        message = miss.mode if known else "no output: no tracks are known here and now"
        says_nothing = miss.safe or miss.overdue or not known
        level = DiagnosticStatus.ERROR if says_nothing else DiagnosticStatus.WARN
        condition = self._condition()
        values = {"epoch": str(miss.epoch), "predicted": str(miss.count), "plan": "n/a",
                  "mode": "no output" if says_nothing else "predicted", "why": why or "late",
                  "tracks": "n/a" if tracks is None else str(len(tracks)),
                  "reach_ms": "n/a" if miss.reach_ns is None else f"{miss.reach_ns / 1e6:.1f}"}
        self._publications.status(miss.t_ref_ns, level,
                                  message + (f" ({why})" if why else ""),
                                  values | self._late | self._common(condition))

    def late(self, output: Output) -> None:
        self.late_results += 1
        trace, now = output.trace, time.monotonic_ns()
        self._late = {"latency.wait_ms": f"{(trace.ready - trace.t_ref) / 1e6:.3f}",
                      "latency.compute_ms": f"{(now - trace.ready) / 1e6:.3f}"}
        self._keep(output, "late")

    def _common(self, condition: Condition) -> dict[str, str]:
        delay = self.guard.delay_ns
        values = {"guard.margin_ms": f"{self.guard.margin_ns / 1e6:.2f}",
                  "guard.delay_ms": "n/a" if delay is None else f"{delay / 1e6:.2f}",
                  "late_results": str(self.late_results), "pid.io": str(os.getpid()),
                  **condition.faults, **self._notes()}
        values |= {f"advice.{i}": text for i, text in enumerate(condition.advice)}
        values |= {f"received.{name}": str(n) for name, n in condition.received.items()}
        values |= {f"failures.{i}": f"{count} x {text}"
                   for i, (text, count) in enumerate(condition.failures.items())}
        return values

    def _claim(self, trace: Trace, condition: Condition) -> str:
        """A latency is claimed for stamps of this computer's clock only: not for recorded ones."""
        fresh = 0 <= trace.published - trace.t_ref < STALE_NS
        return "yes" if fresh and self._live() and not condition.foreign_clock else "n/a"

    def _keep(self, output: Output, mode: str) -> None:
        if self._log is not None:
            output.trace.mode = mode
            self._log.put(output.trace)


def waiting_values() -> dict[str, str]:
    """Of `status` before the first bundle."""
    return {"mode": "no output", "pid.io": str(os.getpid())}
