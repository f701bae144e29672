"""Windows: percentiles that occurred, bounded memory, counts that begin anew."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from perception_bev.latency.window import MOST, Growth, Window

SECOND = 1_000_000_000


def test_there_is_no_spread_of_nothing():
    window = Window(SECOND)
    assert window.spread() is None and window.span_ns == 0
    window.add(3.0, 0)
    window.forget(2 * SECOND)
    assert window.spread() is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_percentiles_are_those_of_numpy_by_nearest_rank(values):
    window = Window(SECOND)
    for i, value in enumerate(values):
        window.add(value, i)
    spread = window.spread()
    wanted = np.percentile(values, [50, 95, 99, 100], method="inverted_cdf")
    assert [spread.p50, spread.p95, spread.p99, spread.max] == wanted.tolist()


@given(st.lists(st.integers(0, 3 * SECOND // 10), max_size=100))
def test_only_the_last_seconds_count(steps):
    window, times = Window(SECOND), np.cumsum([0, *steps]).tolist()
    for t in times:
        window.add(t, t)
    assert list(window) == [t for t in times if times[-1] - t <= SECOND]
    assert window.span_ns <= SECOND


def test_it_is_bounded():
    window = Window(10**18)
    for i in range(MOST + 10):
        window.add(1.0, i)
    assert len(window) == MOST


def test_a_count_grows_by_key():
    growth = Growth(10 * SECOND)
    growth.add(Counter(late=3), 0)
    growth.add(Counter(late=5, stale=1), 2 * SECOND)
    assert growth.grown() == Counter(late=2, stale=1)
    assert growth.per_second() == 1.5


def test_a_rate_needs_a_second():
    growth = Growth(10 * SECOND)
    assert growth.per_second() is None and growth.grown() == Counter()
    growth.add(Counter(n=3), 0)
    growth.add(Counter(n=9), SECOND - 1)
    assert growth.per_second() is None


def test_a_count_that_fell_begins_anew():
    growth = Growth(10 * SECOND)
    growth.add(Counter(n=1000), 0)
    growth.add(Counter(n=2), SECOND)
    growth.add(Counter(n=5), 2 * SECOND)
    assert growth.grown() == Counter(n=3)


def test_it_knows_when_it_last_grew():
    growth = Growth(10 * SECOND)
    for t, n in ((0, 1), (1, 2), (2, 2), (3, 2)):
        growth.add(Counter(n=n), t * SECOND)
    assert growth.changed_at == SECOND
