"""Latency: the last seconds of a figure, and its percentiles. Bounded; times are arguments."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

MOST = 4096  # values that are kept, however long the window


@dataclass(frozen=True, slots=True)
class Spread:
    """Nearest-rank percentiles: each is a value that occurred."""

    p50: float
    p95: float
    p99: float
    max: float


class Window:
    """(time, value) of the last `length_ns`; times never decrease."""

    def __init__(self, length_ns: int) -> None:
        self._length = length_ns
        self._held: deque[tuple[int, float]] = deque(maxlen=MOST)

    def add(self, value: float, at: int) -> None:
        self._held.append((at, value))
        self.forget(at)

    def forget(self, now: int) -> None:
        """Let go what is older than the window."""
        while self._held and now - self._held[0][0] > self._length:
            self._held.popleft()

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[float]:
        return (value for _, value in self._held)

    @property
    def span_ns(self) -> int:
        """From the first to the last value."""
        return self._held[-1][0] - self._held[0][0] if self._held else 0

    def spread(self) -> Spread | None:
        """None while there is nothing."""
        ordered = sorted(self)
        if not ordered:
            return None
        p50, p95, p99 = (ordered[math.ceil(q * len(ordered)) - 1] for q in (0.50, 0.95, 0.99))
        return Spread(p50, p95, p99, ordered[-1])

    def clear(self) -> None:
        self._held.clear()


class Growth:
    """How much a count that only grows has grown in a window; it begins anew when it falls."""

    def __init__(self, length_ns: int) -> None:
        self._length = length_ns
        self._held: deque[tuple[int, Counter]] = deque(maxlen=MOST)
        self.changed_at: int | None = None  # when it was last seen to grow, or first seen

    def add(self, counts: Counter, at: int) -> None:
        if self._held and any(counts[key] < n for key, n in self._held[-1][1].items()):
            self._held.clear()  # another start of the node that counts
        if not self._held or counts != self._held[-1][1]:
            self.changed_at = at
        self._held.append((at, counts))
        while at - self._held[0][0] > self._length:
            self._held.popleft()

    def grown(self) -> Counter:
        """By key, over what is held; without those that did not grow."""
        return self._held[-1][1] - self._held[0][1] if self._held else Counter()

    def per_second(self) -> float | None:
        """Of all keys together; None until a second is held."""
        span = self._held[-1][0] - self._held[0][0] if self._held else 0
        return None if span < 1e9 else sum(self.grown().values()) / (span / 1e9)
