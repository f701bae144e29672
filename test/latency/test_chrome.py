"""The timeline: every span has a bar of its own, none hides another, programs can read it."""

import json
from collections import defaultdict
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev.latency.chrome import ROWS, bars_of, chrome, row_of, rows_of
from perception_bev.latency.trace import IDLE, Trace, kind

MS = 1_000_000
few = settings(max_examples=40, deadline=None)
NAMES = ["decode:front", "decode:top", "transport:top", "extract_camera", "inputs", "fuse", "queue",
         "decide", "publish", "something_new"]
spans = st.tuples(st.sampled_from(NAMES), st.integers(0, 200), st.integers(0, 60)).map(
    lambda s: (s[0], s[1] * MS, (s[1] + s[2]) * MS))


@st.composite
def runs(draw) -> list[Trace]:
    """A few frames, 50 ms apart."""
    return [Trace(i * 50 * MS, (i * 50 + 10) * MS, draw(st.lists(spans, max_size=8)),
                  draw(st.none() | st.just((i * 50 + 70) * MS)), i + 40, "full", "full")
            for i in range(draw(st.integers(0, 4)))]


def frame(number: int = 0, shift: int = 0) -> Trace:
    """Decoding beside each other, then one after the other."""
    made = [("decode:front", 0, 6), ("decode:top", 3, 9), ("extract_camera", 6, 18),
            ("inputs", 20, 24), ("queue:fuse", 24, 25), ("fuse", 25, 40), ("decide", 40, 44),
            ("publish", 44, 46)]
    return Trace(shift, shift + 20 * MS, [(n, s * MS + shift, e * MS + shift) for n, s, e in made],
                 shift + 46 * MS, number, "full", "full")


@few
@given(made=runs())
def test_bars_of_a_lane_do_not_overlap(made):
    lanes = defaultdict(list)
    for bar in bars_of(made):
        lanes[bar.row, bar.lane].append(bar)
    for bars in lanes.values():
        assert all(a.end <= b.start for a, b in pairwise(bars))


@few
@given(made=runs())
def test_every_span_is_drawn_once(made):
    expected = {("wait", t.t_ref, t.ready) for t in made} | {s for t in made for s in t.spans}
    drawn = [(bar.name, bar.start, bar.end) for bar in bars_of(made)]
    assert sorted(drawn) == sorted(expected)


@few
@given(made=runs())
def test_bars_belong_to_a_frame_that_has_them(made):
    for bar in bars_of(made):
        own = made[bar.frame]
        assert (bar.name, bar.start, bar.end) in [("wait", own.t_ref, own.ready), *own.spans]


@few
@given(made=runs())
def test_no_lane_is_left_out(made):
    lanes = defaultdict(set)
    for row, lane in rows_of(bars_of(made)):
        lanes[row].add(lane)
    assert all(found == set(range(len(found))) for found in lanes.values())


def test_lanes_are_as_many_as_run_beside_each_other():
    bars = bars_of([frame()])
    assert {bar.lane for bar in bars if bar.row == "decode"} == {0, 1}
    assert {bar.lane for bar in bars if bar.row != "decode"} == {0}


def test_rows_are_in_the_order_of_the_flow_and_strangers_last():
    made = frame()
    made.spans.append(("something_new:a", 0, MS))
    assert [row for row, _ in rows_of(bars_of([made]))] == [
        "wait", "decode", "decode", "cameras", "extract", "fuse", "decide", "publish", "queue",
        "something_new"]
    assert row_of("extract_lidar") == "extract" and row_of("fuse_alone") == "fuse"


def test_every_kind_has_one_row():
    names = [name for kinds in ROWS.values() for name in kinds]
    assert len(names) == len(set(names)) and set(names) >= IDLE


def test_a_picture_that_served_twice_is_drawn_for_the_first():
    first, second = frame(1), frame(2, 100 * MS)
    second.spans.append(first.spans[2])
    (bar, own) = [b for b in bars_of([first, second]) if b.name == "extract_camera"]
    assert bar.frame == 0 and own.frame == 1


def test_a_span_that_ends_before_it_begins_is_left_out():
    made = Trace(0, 0, [("fuse", 5 * MS, 4 * MS)])
    assert [bar.name for bar in bars_of([made])] == ["wait"]


# -- Chrome's format -------------------------------------------------------------------------------

def phases(events, phase: str) -> list[dict]:
    return [event for event in events if event["ph"] == phase]


@few
@given(made=runs())
def test_it_is_json_and_begins_at_zero(made):
    found = json.loads(json.dumps(chrome(made), allow_nan=False))
    bars = phases(found["traceEvents"], "X")
    assert len(bars) == len(bars_of(made))
    assert min([bar["ts"] for bar in bars], default=0) == 0
    assert all(bar["dur"] >= 0 and bar["args"].keys() == {"frame", "plan", "mode"} for bar in bars)


@few
@given(made=runs())
def test_every_bar_is_in_a_thread_that_has_a_name(made):
    events = chrome(made)["traceEvents"]
    named = {e["tid"] for e in phases(events, "M") if e["name"] == "thread_name"}
    assert {e["tid"] for e in phases(events, "X")} == named
    assert len({e["args"]["name"] for e in phases(events, "M")
                if e["name"] == "thread_name"}) == len(named)


@few
@given(made=runs())
def test_arrows_go_from_bar_to_bar_forward_in_time(made):
    events = chrome(made)["traceEvents"]
    places = {(e["tid"], e["ts"]) for e in phases(events, "X")}
    ways = defaultdict(list)
    for event in events:
        if event["ph"] in "stf":
            assert (event["tid"], event["ts"]) in places
            ways[event["id"]].append(event)
    for way in ways.values():
        assert [e["ph"] for e in way] == ["s", *"t" * (len(way) - 2), "f"]
        assert all(a["ts"] <= b["ts"] for a, b in pairwise(way))


def test_one_frame_in_figures():
    found = chrome([frame(7, 5 * MS)])
    assert found["otherData"] == {"origin_ns": 5 * MS}
    (fuse,) = [e for e in phases(found["traceEvents"], "X") if e["name"] == "fuse"]
    assert (fuse["ts"], fuse["dur"]) == (25_000.0, 15_000.0)
    assert fuse["args"] == {"frame": 7, "plan": "full", "mode": "full"}
    marks = {e["name"]: e["ts"] for e in phases(found["traceEvents"], "i")}
    assert marks == {"t_ref 7": 0.0, "published 7": 46_000.0}


def test_frames_of_two_runs_with_the_same_id_are_two():
    found = chrome([frame(1), frame(1, 500 * MS)])["traceEvents"]
    assert {e["id"] for e in phases(found, "s")} == {0, 1}
    assert {kind(e["name"]) for e in phases(found, "X")} >= {"decode", "fuse"}
