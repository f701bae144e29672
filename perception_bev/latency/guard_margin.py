"""Latency: how long before the deadline the guard fires, from its own measured delay."""

from __future__ import annotations

import math
from collections import deque

QUANTILE = 0.999
MOST = 4096  # delays that are remembered


class Margin:
    """The p99.9 of the delays in a window of time, between a least and a most."""

    def __init__(self, least_ns: int, most_ns: int, window_ns: int) -> None:
        self._least, self._most, self._window = least_ns, most_ns, window_ns
        self._delays: deque[tuple[int, int]] = deque(maxlen=MOST)  # when, how much [monotonic ns]
        self.delay_ns: int | None = None  # p99.9; None: nothing was measured in the window

    @property
    def ns(self) -> int:
        return min(max(self._least, self.delay_ns or 0), self._most)

    def observe(self, delay_ns: int, at: int) -> None:
        """A delay at a time; with fewer than 1000 in the window the p99.9 is the largest."""
        self._delays.append((at, max(delay_ns, 0)))
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
        self.delay_ns = ordered[math.ceil(QUANTILE * len(ordered)) - 1] if ordered else None
