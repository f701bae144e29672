"""Latency: what a plan costs, expected from what it cost lately and at start-up."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

MS = 1_000_000

SLOTS = 20  # a p95 passes over one in twenty: a single stall is none of a plan's cost
HALF_LIFE_NS = 300 * MS
GRACE_NS = 150 * MS
ROUNDING = 1e-9  # of weights
RECENT = 3  # costs of which the median says how fast the computer is now


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

    `alternatives` are keys that cost much alike: plans of one pipeline on one computer. Their
    benchmarks are moved by what the last costs of any of them differed from their own (the median
    of three): a computer that is slow as a whole does not try one after the other in vain, and one
    that was slow at start-up only is not thought slow for ever. Of the two ways to carry a
    difference over, by its amount and in proportion, the cheaper is taken: a plan that is thought
    too cheap is found out when it is tried, one that is thought too dear never is.
    """

    def __init__(self, benchmark: Mapping[str, int], half_life_ns: int = HALF_LIFE_NS,
                 grace_ns: int = GRACE_NS, alternatives: Collection[str] = ()) -> None:
        """
        Args:
            benchmark: key -> cost at start-up [ns].
            half_life_ns: of a window that is not in use.
            grace_ns: a key is in use until so long after its last cost; longer than a period.
            alternatives: keys that cost much alike; those without a benchmark are ignored.
        """
        self._benchmark = dict(benchmark)
        self._half_life_ns, self._grace_ns = half_life_ns, grace_ns
        self._alternatives = frozenset(alternatives) & frozenset(benchmark)
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}
        # of the alternatives: key, cost [ns], when [ns]
        self._recent: deque[tuple[str, int, int]] = deque(maxlen=RECENT)

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
                self._recent.append((key, max(cost_ns, 0), now_ns))

    def p95(self, key: str, now_ns: int, alone: bool = False) -> int | None:
        """What `key` is expected to cost at most, but for one in twenty [ns]; None: nobody knows,
        there is neither a benchmark nor a cost. `alone`: whatever its alternatives cost."""
        with self._lock:
            return _p95(self._filled(key, now_ns, alone))

    def reset(self) -> None:
        """Back to the benchmark."""
        with self._lock:
            self._windows.clear()
            self._recent.clear()

    def _left(self, window: _Window, now_ns: int) -> float:
        """Share of its weight that a window has kept."""
        unused_ns = now_ns - window.last_ns - self._grace_ns
        return 1.0 if unused_ns <= 0 else 0.5 ** (unused_ns / self._half_life_ns)

    def _filled(self, key: str, now_ns: int, alone: bool) -> list[tuple[int, float]]:
        """Costs and weights of all slots; called with the lock held."""
        window = self._windows.get(key, _Window())
        left = self._left(window, now_ns)
        slots = [(cost, weight * left) for cost, weight in window.costs]
        free = SLOTS - sum(weight for _, weight in slots)
        if key in self._benchmark and free > ROUNDING:
            moved = key in self._alternatives and not alone
            slots.append((self._moved(key, now_ns) if moved else self._benchmark[key], free))
        return slots

    def _moved(self, key: str, now_ns: int) -> int:
        """The benchmark, moved by what the alternatives cost lately. What `key` itself did is the
        better witness, unless it is the dearer one: one cost is not yet a rule."""
        since_ns = now_ns - self._grace_ns - round(math.log2(SLOTS) * self._half_life_ns)
        recent = [(theirs, cost) for theirs, cost, at in self._recent if at > since_ns]
        views = [recent, [(theirs, cost) for theirs, cost in recent if theirs == key]]
        return min(self._typical(key, view) for view in views if view or view is recent)

    def _typical(self, key: str, recent: list[tuple[str, int]]) -> int:
        """The median of what `key` would cost by each; what is not there says the benchmark."""
        says = [self._carried(key, theirs, cost) for theirs, cost in recent]
        return sorted(says + [self._benchmark[key]] * (RECENT - len(says)))[RECENT // 2]

    def _carried(self, key: str, theirs: str, cost: int) -> int:
        """What `key` would cost where its alternative costs so much."""
        benchmark, other = self._benchmark[key], self._benchmark[theirs]
        more = cost - other
        return max(benchmark + min(more, more * benchmark // max(other, 1)), 0)


def _p95(slots: list[tuple[int, float]]) -> int | None:
    """The least cost that no more than a twentieth of the weight exceeds; None without any."""
    allowed = 0.05 * sum(weight for _, weight in slots)
    for cost, weight in sorted(slots, reverse=True):
        allowed -= weight
        if allowed < -ROUNDING:
            return cost
    return min(slots)[0] if slots else None
