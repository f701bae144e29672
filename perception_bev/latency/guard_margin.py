"""Latency: how long before the deadline the guard fires, from its own measured delay.

A margin is paid by every result: what takes longer than the deadline less the margin is predicted.
So it covers what happens all the time, the p99, and not what no margin can cover: delays beyond
its bound are stalls of the computer, which are counted and not learned, or one of them would cost
the results of the next minute.
"""

from __future__ import annotations

import math
from collections import deque

COVERED = 0.99
REPORTED = 0.999
MOST = 4096  # delays that are remembered


class Margin:
    """The p99 of the delays in a window of time, between a least and a most."""

    def __init__(self, least_ns: int, most_ns: int, window_ns: int) -> None:
        self._least, self._most, self._window = least_ns, most_ns, window_ns
        self._delays: deque[tuple[int, int]] = deque(maxlen=MOST)  # when, how much [monotonic ns]
        self.delay_ns: int | None = None  # p99.9, stalls included; None: nothing was measured
        self.ns = least_ns
        self.stalls = 0  # delays beyond the bound, ever

    def observe(self, delay_ns: int, at: int) -> None:
        """A delay at a time; with fewer than 100 in the window the p99 is the largest."""
        self._delays.append((at, max(delay_ns, 0)))
        self.stalls += delay_ns > self._most
        self._let_go(at)
        self._measure()

    def forget(self, now: int) -> None:
        """Let go what is older than the window."""
        if self._let_go(now):
            self._measure()

    def _let_go(self, now: int) -> bool:
        before = len(self._delays)
        while self._delays and now - self._delays[0][0] > self._window:
            self._delays.popleft()
        return len(self._delays) < before

    def _measure(self) -> None:
        ordered = sorted(delay for _, delay in self._delays)
        self.delay_ns = _quantile(ordered, REPORTED)
        usual = _quantile([delay for delay in ordered if delay <= self._most], COVERED)
        self.ns = max(self._least, usual or 0)


def _quantile(ordered: list[int], share: float) -> int | None:
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
