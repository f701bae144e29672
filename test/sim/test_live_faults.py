"""Faults ordered while a bag is played: from now on, for so long, across loops."""

import message_stream
import numpy as np
import pytest
from driving import START_NS
from message_stream import MS, ODOMETRY, TOPIC_OF, TYPES, frame, stamp_of

from perception_bev import config
from perception_bev.errors import ConfigError
from perception_bev.recordings.player import NoFilter
from perception_bev.sim.faults import Faults
from perception_bev.sim.live_faults import MARGIN_NS, LiveFaults, parse
from perception_bev.sim.scenario import Scenario

CYCLES = 20
DRIVE = message_stream.drive(CYCLES)
SPAN_NS = DRIVE[-1].stamp_ns - START_NS
FRONT, TOP = TOPIC_OF["front"], TOPIC_OF["top"]


def live(before=None) -> LiveFaults:
    return LiveFaults(message_stream.rig(), TYPES, START_NS, before or NoFilter())


def played(faults: LiveFaults, order_after: int | None = None, now_ns: int = START_NS, **words):
    """One pass; after so many messages an order comes. (messages, the order)."""
    out, order = [], None
    for number, message in enumerate(faults.apply(iter(DRIVE))):
        if order_after is not None and number == order_after:
            order = faults.order(words, now_ns)
        out.append(message)
    return out, order


def lost(out, topic: str) -> list[int]:
    """Log times of a topic's messages that are missing."""
    kept = set(out)
    return [one.stamp_ns for one in DRIVE if one.topic == topic and one not in kept]


def test_without_an_order_nothing_changes():
    faults = live()
    assert played(faults)[0] == DRIVE and not faults.counts


def test_an_order_begins_with_what_is_not_read_yet_and_ends_after_its_time():
    out, order = played(live(), 40, kind="off", sensor="front", for_s=0.5)
    gone = lost(out, FRONT)
    assert order.ends_ns - order.begins_ns == 500 * MS and len(gone) == 5
    assert order.begins_ns <= gone[0] and gone[-1] < order.ends_ns
    assert order.begins_ns >= out[40].stamp_ns + MARGIN_NS


def test_what_is_played_now_may_be_further_than_what_was_read():
    now = START_NS + 1_000 * MS
    _, order = played(live(), 3, now, kind="off", sensor="front")
    assert order.begins_ns == now + MARGIN_NS


def test_a_fault_goes_on_in_the_next_loop_and_only_there():
    faults = live()
    first, order = played(faults, len(DRIVE) - 10, kind="off", sensor="top", for_s=1.0)
    second, _ = played(faults)
    third, _ = played(faults)
    left_ns = order.ends_ns - START_NS - SPAN_NS
    assert 0 < left_ns < 1_000 * MS
    assert max(lost(second, TOP)) < START_NS + left_ns < START_NS + 1_000 * MS
    assert len(lost(first, TOP)) + len(lost(second, TOP)) in (9, 10, 11)
    assert third == DRIVE


def test_a_scenario_before_it_begins_again_with_every_loop_and_both_are_counted():
    scenario = config.build(Scenario, {"name": "t", "what": "t", "faults": [
        {"kind": "off", "sensor": "front", "from_s": 0.5, "to_s": 1.0}]}, "t")
    faults = live(Faults(scenario, message_stream.rig(), TYPES, START_NS))
    for _ in range(2):
        assert len(lost(played(faults)[0], FRONT)) == 5
    out, _ = played(faults, 10, kind="off", sensor="top", for_s=0.3)
    assert len(lost(out, FRONT)) == 5 and len(lost(out, TOP)) == 3
    assert faults.counts["off", FRONT] == 15 and faults.counts["off", TOP] == 3


def test_a_time_jump_is_taken_back_with_the_clock():
    faults = live()
    out, order = played(faults, 20, kind="time_jump", by_s=-2.0, for_s=0.6)
    before = [one for one in DRIVE if one.topic == ODOMETRY]
    after = [one for one in out if one.topic == ODOMETRY]
    steps = {round((stamp_of(b) - stamp_of(a)) / 1e9) for a, b in zip(before, after, strict=True)
             if order.begins_ns <= a.stamp_ns < order.ends_ns}
    others = {stamp_of(b) - stamp_of(a) for a, b in zip(before, after, strict=True)
              if not order.begins_ns <= a.stamp_ns < order.ends_ns}
    assert steps == {-2} and others == {0}
    assert faults.clock_shift_ns(order.begins_ns + MS) == -2 * 10**9
    assert faults.clock_shift_ns(order.ends_ns + MS) == 0


def test_two_orders_act_together():
    faults = live()
    played(faults)
    faults.order({"kind": "off", "sensor": "front", "for_s": 60.0}, START_NS)
    faults.order({"kind": "nan", "sensor": "top", "for_s": 60.0}, START_NS)
    out, _ = played(faults)
    clouds = [frame(one).points for one in out if one.topic == TOP]
    assert len([one for one in out if one.topic == FRONT]) <= 1, "what came within the margin"
    assert np.isnan(clouds[-1]["x"]).all()


@pytest.mark.parametrize("words, needle", [
    ({"kind": "of", "sensor": "front"}, "off"), ({"kind": "off", "sensor": "frond"}, "front"),
    ({"kind": "off", "sensor": "front", "from_s": 1.0}, "from_s"),
    ({"kind": "off", "sensor": "front", "for_s": 0}, "for_s"),
    ({"kind": "off", "sensor": "front", "for_s": "long"}, "for_s"),
    ({"kind": "time_jump"}, "by_s"), ({"kind": "time_jump", "by_s": "far"}, "by_s"),
    ({"sensor": "front"}, "kind")])
def test_a_wrong_order_is_refused_in_words_and_changes_nothing(words, needle):
    faults = live()
    with pytest.raises(ConfigError, match=needle):
        faults.order(words, START_NS)
    assert played(faults)[0] == DRIVE


def test_text_of_an_order():
    assert parse("{kind: off, sensor: front, for_s: 2}") == {
        "kind": False, "sensor": "front", "for_s": 2}
    for text in ("off", "", "{kind: [", "[1]"):
        with pytest.raises(ConfigError):
            parse(text)


def test_off_needs_no_quotes():
    assert live().order(parse("{kind: off, sensor: front}"), START_NS).ends_ns > START_NS
