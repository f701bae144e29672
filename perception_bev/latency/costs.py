"""Latency: what a plan costs, expected from what it cost lately and at start-up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

MS = 1_000_000

SLOTS = 20  # a p95 passes over one in twenty: a single stall is none of a plan's cost
HALF_LIFE_NS = 300 * MS
GRACE_NS = 150 * MS


@dataclass(slots=True)
class _Window:
    """The last costs of one key, newest last, with what is left of their weights at `last_ns`."""

    costs: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=SLOTS))
    last_ns: int = 0


class Costs:
    """Costs by key (a plan's name; an engine's for reports) in ns. Any thread may call.

    A window has `SLOTS` slots. Those that no recent cost of the key fills, the start-up benchmark
    fills. While a key is in use, its own last costs push the benchmark out; while it is not, they
    lose half of their weight every half-life and the benchmark comes back: a key that was dear is
    thought as cheap as at start-up after log2(SLOTS) half-lives, whatever it cost.

    `alternatives` are keys of which one is in use at a time. The benchmark of the others is moved
    by as much as that one differs from its own: on a computer that is slow as a whole a dearer
    plan is not tried in vain, and one that was slow at start-up only is not slow for ever. Of the
    two ways to carry a difference over, by its amount and in proportion, the cheaper is taken:
    a plan that is thought too cheap is found out when it is tried, one too dear never is.
    """

    def __init__(self, benchmark: Mapping[str, int], half_life_ns: int = HALF_LIFE_NS,
                 grace_ns: int = GRACE_NS, alternatives: Collection[str] = ()) -> None:
        """
        Args:
            benchmark: key -> cost at start-up [ns].
            half_life_ns: of a window that is not in use.
            grace_ns: a key is in use until so long after its last cost; longer than a period.
            alternatives: keys of which one is in use at a time; only those with a benchmark count.
        """
        self._benchmark = dict(benchmark)
        self._half_life_ns, self._grace_ns = half_life_ns, grace_ns
        self._alternatives = frozenset(alternatives) & frozenset(benchmark)
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}
        self._in_use: str | None = None  # of the alternatives

    def observe(self, key: str, cost_ns: int, now_ns: int) -> None:
        """`key` has just cost so much."""
        with self._lock:
            window = self._windows.setdefault(key, _Window())
            left = self._left(window, now_ns)
            if left < 1.0:
                window.costs = deque(((c, w * left) for c, w in window.costs), maxlen=SLOTS)
            window.costs.append((max(cost_ns, 0), 1.0))
            window.last_ns = max(now_ns, window.last_ns)
            if key in self._alternatives:
                self._in_use = key

    def p95(self, key: str, now_ns: int) -> int | None:
        """What `key` is expected to cost at most, but for one in twenty [ns]; None: nobody knows,
        there is neither a benchmark nor a cost."""
        with self._lock:
            return _quantile(self._filled(key, now_ns), 0.05)

    def reset(self) -> None:
        """Back to the benchmark."""
        with self._lock:
            self._windows.clear()
            self._in_use = None

    def _left(self, window: _Window, now_ns: int) -> float:
        """Share of its weight that a window has kept."""
        unused_ns = now_ns - window.last_ns - self._grace_ns
        return 1.0 if unused_ns <= 0 else 0.5 ** (unused_ns / self._half_life_ns)

    def _filled(self, key: str, now_ns: int) -> list[tuple[int, float]]:
        """Costs and weights of all slots; called with the lock held."""
        window = self._windows.get(key)
        left = self._left(window, now_ns) if window is not None else 0.0
        slots = [(cost, weight * left) for cost, weight in window.costs] if window else []
        if key in self._benchmark:
            slots.append((self._prior(key, now_ns), SLOTS - sum(weight for _, weight in slots)))
        return slots

    def _prior(self, key: str, now_ns: int) -> int:
        """The benchmark, moved by what the alternative in use differs from its own."""
        benchmark, used = self._benchmark[key], self._in_use
        if used is None or used == key or key not in self._alternatives:
            return benchmark
        window, theirs = self._windows[used], self._benchmark[used]
        left = self._left(window, now_ns)
        slots = [(cost, weight * left) for cost, weight in window.costs]
        slots.append((theirs, max(SLOTS / 4 - sum(weight for _, weight in slots), 0.0)))
        moved = _quantile(slots, 0.5) - theirs
        return max(benchmark + min(moved, moved * benchmark // max(theirs, 1)), 0)


def _quantile(slots: list[tuple[int, float]], above: float) -> int | None:
    """The least cost that no more than a share `above` of the weight exceeds; None without any."""
    allowed = above * sum(weight for _, weight in slots)
    for cost, weight in sorted(slots, reverse=True):
        allowed -= weight
        if allowed < 0:
            return cost
    return min(slots)[0] if slots else None
