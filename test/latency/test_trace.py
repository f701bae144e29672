"""Laws of the trace: nothing is counted twice, nothing takes longer than the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_bev.latency.trace import IDLE, Trace, kind

MS = 1_000_000
moments = st.integers(-50 * MS, 150 * MS)
spans = st.lists(st.tuples(st.sampled_from(["decode", "fuse", "inputs"]), moments, moments)
                 .map(lambda s: (s[0], min(s[1:]), max(s[1:]))), max_size=8)


def trace(ready: int, published: int, made) -> Trace:
    done = Trace(0, ready)
    for span in made:
        done.add(*span)
    done.published = published
    return done


@given(ready=st.integers(0, 80 * MS), length=st.integers(0, 70 * MS), made=spans)
def test_what_is_covered_lies_between_ready_and_published(ready, length, made):
    done = trace(ready, ready + length, made)
    assert 0 <= done.covered_ms() <= length / 1e6 + 1e-9
    assert done.overhead_ms() >= -1e-9
    assert done.overhead_ms() + done.covered_ms() == pytest.approx(length / 1e6)


@given(ready=st.integers(0, 80 * MS), length=st.integers(0, 70 * MS), made=spans,
       seed=st.randoms())
def test_order_and_repetition_do_not_matter(ready, length, made, seed):
    shuffled = made + made
    seed.shuffle(shuffled)
    assert trace(ready, ready + length, shuffled).covered_ms() == pytest.approx(
        trace(ready, ready + length, made).covered_ms())


@given(ready=st.integers(0, 80 * MS), length=st.integers(0, 70 * MS), made=spans, more=spans)
def test_more_spans_never_cover_less(ready, length, made, more):
    fewer = trace(ready, ready + length, made).covered_ms()
    assert trace(ready, ready + length, made + more).covered_ms() >= fewer - 1e-9


@given(ready=st.integers(0, 80), made=st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 99)).map(sorted), max_size=6))
def test_covered_is_the_union_of_the_spans(ready, made):
    """Against the plainest definition: count the milliseconds in which some span ran."""
    done = trace(ready * MS, 90 * MS, [("s", a * MS, b * MS) for a, b in made])
    union = {t for a, b in made for t in range(a, b)} & set(range(ready, 90))
    assert done.covered_ms() == pytest.approx(len(union))


def test_milliseconds_by_name():
    done = trace(20 * MS, 60 * MS, [("decode", 5 * MS, 10 * MS), ("decode", 8 * MS, 12 * MS),
                                    ("fuse", 30 * MS, 50 * MS)])
    assert done.milliseconds() == {"wait": 20.0, "decode": 9.0, "fuse": 20.0, "total": 60.0}
    assert done.covered_ms() == 20.0 and done.overhead_ms() == 20.0


def test_an_output_that_was_not_published_has_no_total_and_no_overhead():
    open_trace = Trace(0, 10 * MS)
    assert "total" not in open_trace.milliseconds()
    with pytest.raises(ValueError, match="published"):
        open_trace.overhead_ms()


def test_what_is_not_computed_is_overhead():
    """Waiting, transport, queues, copies and the publication cover nothing."""
    done = trace(20 * MS, 60 * MS, [("fuse", 20 * MS, 30 * MS), *(
        (name, 30 * MS, 60 * MS) for name in ("wait", "transport", "queue:fuse", "copy",
                                              "publish"))])
    assert done.covered_ms() == 10.0 and done.overhead_ms() == 30.0


def test_a_queue_in_front_of_a_computation_hides_nothing_of_it():
    done = trace(20 * MS, 60 * MS, [("queue", 20 * MS, 60 * MS), ("fuse", 25 * MS, 40 * MS)])
    assert done.covered_ms() == 15.0


def test_whose_a_span_is_does_not_matter_for_the_figures():
    done = trace(20 * MS, 60 * MS, [("decode:front", 5 * MS, 10 * MS),
                                    ("decode:top", 8 * MS, 12 * MS), ("decode", 0, MS)])
    assert done.milliseconds()["decode"] == 10.0
    assert kind("decode:front") == kind("decode") == kind("decode:a:b") == "decode"
    assert done.milliseconds().keys() == {"wait", "decode", "total"}


@given(ready=st.integers(0, 80 * MS), length=st.integers(0, 70 * MS), made=spans)
def test_every_idle_span_leaves_the_overhead_as_it_is(ready, length, made):
    plain = trace(ready, ready + length, made)
    more = trace(ready, ready + length, made + [(name, ready, ready + length) for name in IDLE])
    assert more.overhead_ms() == plain.overhead_ms()
