"""Nodes: what a run looks like while it goes on, as one line of text from the measure node to a
terminal. No rclpy: the terminal's side reads it too."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MARK = "live figures: "  # begins such a line
SETTLE_S = 1.0  # outputs of the first second are not timed: caches and clocks settle
RECENT = 20  # outputs over which the rate is taken


@dataclass(frozen=True)
class LiveFigures:
    """The run up to now; NaN where there is nothing yet."""

    outputs: int = 0
    seconds: float = 0.0  # from the first output's t_ref to the newest one's
    rate_hz: float = float("nan")  # over the last RECENT outputs
    p50_ms: float = float("nan")  # latency after the first second
    p99_ms: float = float("nan")
    max_ms: float = float("nan")
    objects: int = 0  # of the newest output
    tracks: int | None = None  # None: there are none on this topic
    mode: str = ""
    missing: tuple[str, ...] = ()  # sensors without a frame in the newest output
    drops: dict[str, str] = field(default_factory=dict)  # by sensor: reasons and counts

    def line(self) -> str:
        return MARK + json.dumps(dataclasses.asdict(self))


def parse(line: str) -> LiveFigures | None:
    """The figures of a line, None when it is another one."""
    _, mark, text = line.partition(MARK)
    if not mark:
        return None
    values = json.loads(text)
    return LiveFigures(**{**values, "missing": tuple(values["missing"])})


class LiveCounter:
    """Takes what comes in and gives the figures at any time."""

    def __init__(self) -> None:
        self._stamps: deque[int] = deque(maxlen=RECENT)
        self._latency: list[float] = []
        self._first_ns: int | None = None
        self._now = LiveFigures()

    def objects(self, t_ref_ns: int, count: int, latency_ms: float) -> None:
        self._first_ns = t_ref_ns if self._first_ns is None else self._first_ns
        self._stamps.append(t_ref_ns)
        seconds = (t_ref_ns - self._first_ns) / 1e9
        if seconds > SETTLE_S and latency_ms >= 0:  # stamps ahead of this clock have no age
            self._latency.append(latency_ms)
        self._now = dataclasses.replace(self._now, outputs=self._now.outputs + 1, seconds=seconds,
                                        objects=count)

    def tracks(self, count: int) -> None:
        self._now = dataclasses.replace(self._now, tracks=count)

    def status(self, mode: str, values: dict[str, str]) -> None:
        """`values` of `status`: what is missing now, and all that was dropped so far."""
        missing = tuple(key.removeprefix("sensor.") for key, reason in values.items()
                        if key.startswith("sensor.") and reason not in ("ok", "reused"))
        drops = {key.removeprefix("drops."): text for key, text in values.items()
                 if key.startswith("drops.")}
        self._now = dataclasses.replace(self._now, mode=mode, missing=missing, drops=drops)

    def figures(self) -> LiveFigures:
        if not self._latency:
            return dataclasses.replace(self._now, rate_hz=self._rate())
        p50, p99 = (float(v) for v in np.percentile(self._latency, (50, 99)))
        return dataclasses.replace(self._now, rate_hz=self._rate(), p50_ms=p50, p99_ms=p99,
                                   max_ms=max(self._latency))

    def _rate(self) -> float:
        span = self._stamps[-1] - self._stamps[0] if len(self._stamps) > 1 else 0
        return (len(self._stamps) - 1) / (span / 1e9) if span > 0 else float("nan")


def digest(data: Any) -> str:
    """Of a message's bytes: tells which of a bag's messages it was, whatever its stamp is now."""
    return hashlib.sha1(bytes(data), usedforsecurity=False).hexdigest()[:16]
