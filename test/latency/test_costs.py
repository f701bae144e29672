"""Laws of the expected cost: one stall is none of it, what is not used is as at start-up again."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_bev.latency.costs import GRACE_NS, HALF_LIFE_NS, MS, SLOTS, Costs

PERIOD = 100 * MS
PLANS = {"full": 60 * MS, "half": 30 * MS}
FORGOTTEN_NS = GRACE_NS + round(4.33 * HALF_LIFE_NS)  # 4.33 > log2(SLOTS)
costs_ns = st.integers(0, 1000 * MS)
gaps_ns = st.integers(0, 500 * MS)


def fed(costs: Costs, key: str, values, period: int = PERIOD, start: int = 0) -> int:
    """Costs of consecutive frames; returns when the last one was."""
    for number, value in enumerate(values):
        costs.observe(key, value, start + number * period)
    return start + max(len(values) - 1, 0) * period


def test_at_first_the_benchmark():
    assert Costs(PLANS).p95("full", 0) == 60 * MS


def test_what_nobody_measured_is_not_known_until_it_is():
    costs = Costs({})
    assert costs.p95("full", 0) is None
    costs.observe("full", 7 * MS, 0)
    assert costs.p95("full", 0) == 7 * MS


@pytest.mark.parametrize("alternatives", [(), PLANS])
def test_a_single_stall_is_passed_over(alternatives):
    for before in range(SLOTS + 3):
        costs = Costs(PLANS, alternatives=alternatives)
        now = fed(costs, "full", [60 * MS] * before)
        for after, cost in enumerate([300 * MS] + [60 * MS] * (SLOTS + 2)):
            now += PERIOD
            costs.observe("full", cost, now)
            assert costs.p95("full", now) == 60 * MS, (before, after)


def test_two_stalls_count_as_long_as_both_are_among_the_last():
    for between in range(SLOTS + 3):
        costs = Costs(PLANS)
        values = [300 * MS] + [60 * MS] * between + [300 * MS]
        expected = 300 if between <= SLOTS - 2 else 60
        assert costs.p95("full", fed(costs, "full", values)) == expected * MS, between


def test_own_costs_push_the_benchmark_out():
    """Of SLOTS - 1 own ones a single slot is the benchmark's, and that one is passed over."""
    for own in range(SLOTS + 3):
        costs = Costs(PLANS)
        now = fed(costs, "full", [10 * MS] * own)
        assert costs.p95("full", now) == (10 if own >= SLOTS - 1 else 60) * MS, own


@given(values=st.lists(st.tuples(costs_ns, gaps_ns), max_size=60),
       alternatives=st.sampled_from([(), ("full", "half")]))
def test_whatever_was_is_forgotten_while_unused(values, alternatives):
    costs, now = Costs(PLANS, alternatives=alternatives), 0
    for value, gap in values:
        now += gap
        costs.observe("full", value, now)
    for later in (FORGOTTEN_NS, FORGOTTEN_NS + 1, 10 * FORGOTTEN_NS):
        assert {key: costs.p95(key, now + later) for key in PLANS} == PLANS


def test_the_window_is_forgotten_before_two_seconds():
    assert FORGOTTEN_NS < 1500 * MS


@pytest.mark.parametrize("dear, until_ms", [(2, 300), (4, 600), (8, 900), (16, 1200)])
def test_half_of_the_weight_goes_every_half_life(dear, until_ms):
    """One slot may be passed over, so 2^n dear ones matter for n half-lives."""
    costs = Costs(PLANS)
    now = fed(costs, "full", [300 * MS] * dear) + GRACE_NS
    assert costs.p95("full", now + (until_ms - 1) * MS) == 300 * MS
    assert costs.p95("full", now + until_ms * MS) == 60 * MS


def test_within_the_grace_nothing_fades():
    costs = Costs(PLANS)
    now = fed(costs, "full", [300 * MS] * 2)
    assert costs.p95("full", now + GRACE_NS) == 300 * MS
    assert costs.p95("full", now + GRACE_NS + HALF_LIFE_NS - MS) == 300 * MS


@given(values=st.lists(st.integers(60 * MS, 900 * MS), min_size=1, max_size=40),
       moments=st.lists(gaps_ns, min_size=1, max_size=8))
def test_an_unused_dear_plan_only_gets_cheaper(values, moments):
    costs = Costs(PLANS)
    now, last = fed(costs, "full", values), 1 << 62
    for gap in moments:
        now += gap
        assert costs.p95("full", now) <= last
        last = costs.p95("full", now)


@given(values=st.lists(costs_ns, min_size=SLOTS, max_size=3 * SLOTS))
def test_in_use_it_is_the_second_dearest_of_the_last(values):
    costs = Costs(PLANS)
    now = fed(costs, "full", values)
    assert costs.p95("full", now) == sorted(values[-SLOTS:])[-2]


@given(events=st.lists(st.tuples(st.sampled_from(["full", "half", "odd"]), costs_ns, gaps_ns),
                       max_size=40))
def test_it_lies_among_what_was_seen_and_the_benchmark(events):
    costs, now, seen = Costs(PLANS), 0, {key: [value] for key, value in PLANS.items()}
    for key, value, gap in events:
        now += gap
        costs.observe(key, value, now)
        seen.setdefault(key, []).append(value)
    for key, values in seen.items():
        assert min(values) <= costs.p95(key, now) <= max(values)


def test_a_use_now_and_then_does_not_keep_old_costs():
    costs = Costs(PLANS)
    now = fed(costs, "full", [300 * MS] * 4)
    costs.observe("full", 60 * MS, now + FORGOTTEN_NS)
    assert costs.p95("full", now + FORGOTTEN_NS) == 60 * MS


def test_a_clock_that_is_read_in_another_thread_may_be_behind():
    costs = Costs(PLANS)
    now = fed(costs, "full", [300 * MS] * 2, start=50 * PERIOD)
    costs.observe("full", 60 * MS, 0)
    assert costs.p95("full", 0) == 300 * MS == costs.p95("full", now)


def test_reset():
    costs = Costs(PLANS, alternatives=PLANS)
    now = fed(costs, "full", [300 * MS] * 5)
    costs.reset()
    assert {key: costs.p95(key, now) for key in PLANS} == PLANS


# -- what one plan says of another ---------------------------------------------------------------

def related() -> Costs:
    return Costs(PLANS, alternatives=PLANS)


@pytest.mark.parametrize("half, full", [
    (30, 60), (40, 70), (60, 90),  # slower: by the amount, it is less than in proportion
    (15, 30), (0, 0),  # faster: in proportion, it is less than by the amount
])
def test_a_difference_is_carried_over_the_cheaper_way(half, full):
    costs = related()
    now = fed(costs, "half", [half * MS] * 3)
    assert costs.p95("full", now) == full * MS
    assert costs.p95("full", now, alone=True) == 60 * MS


def test_from_a_dear_plan_to_a_cheap_one():
    costs = related()
    now = fed(costs, "full", [90 * MS] * 3)
    assert costs.p95("half", now) == 45 * MS


@pytest.mark.parametrize("values, full", [
    ([50], 60), ([50, 50], 80), ([300, 30, 30], 60), ([30, 300, 30], 60), ([300, 300, 30], 330)])
def test_one_cost_is_not_yet_a_rule(values, full):
    costs = related()
    now = fed(costs, "half", [value * MS for value in values])
    assert costs.p95("full", now) == full * MS


def test_a_plan_that_was_tried_and_is_cheaper_than_guessed_is_believed():
    costs = related()
    now = fed(costs, "half", [60 * MS] * 10)
    costs.observe("full", 60 * MS, now + PERIOD)
    assert costs.p95("full", now + PERIOD) == 60 * MS


def test_engines_for_reports_say_nothing_of_plans():
    costs = Costs({**PLANS, "fuse": 5 * MS}, alternatives=PLANS)
    now = fed(costs, "fuse", [50 * MS] * 5)
    assert costs.p95("full", now) == 60 * MS and costs.p95("fuse", now) == 50 * MS
    now = fed(costs, "half", [50 * MS] * 5, start=now)
    assert costs.p95("fuse", now, alone=True) == 50 * MS


def test_benchmarks_of_nothing_divide_by_nothing():
    costs = Costs({"a": 0, "b": 10 * MS}, alternatives=("a", "b", "unknown"))
    now = fed(costs, "a", [5 * MS] * 3)
    assert costs.p95("b", now) == 15 * MS
    assert costs.p95("unknown", now) is None


def test_negative_costs_are_none():
    costs = related()
    now = fed(costs, "half", [-5 * MS] * SLOTS)
    assert costs.p95("half", now) == 0 == costs.p95("full", now)


def test_any_thread_may_call():
    costs, failures = related(), []

    def work(key: str) -> None:
        try:
            for number in range(400):
                costs.observe(key, number, number)
                costs.p95(key, number)
        except Exception as err:
            failures.append(err)

    threads = [threading.Thread(target=work, args=(key,)) for key in ("full", "half", "full")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
