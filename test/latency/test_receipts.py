"""`tracks` by receipt: periods without, too old ones, silence; with injected times."""

import pytest

from perception_bev.latency.health_settings import HealthSettings
from perception_bev.latency.level import Level
from perception_bev.latency.receipts import Receipts

MS = 1_000_000
PERIOD = 100 * MS
STAMP = 1_700_000_000_000_000_000
AT = 5_000_000_000_000


class Stream:
    """Messages by period number, received `age_ms` after their stamps."""

    def __init__(self, **settings) -> None:
        self.receipts, self.now = Receipts(HealthSettings(**settings)), AT

    def send(self, periods, age_ms=40.0, claimed=True, shift_ns=0):
        for period in periods:
            self.now = AT + period * PERIOD + round(age_ms * MS)
            self.receipts.observe(self.now, STAMP + period * PERIOD + shift_ns,
                                  age_ms if claimed else None)
        return self

    def row(self, later_ms=0.0):
        return self.receipts.row(self.now + round(later_ms * MS))

    def values(self, later_ms=0.0):
        return self.row(later_ms).values


def test_before_the_first_nothing_is_claimed():
    row = Stream().row()
    assert row.level == Level.STALE and row.message == "n/a: none yet" and not row.values


def test_a_whole_stream_is_ok_in_figures():
    stream = Stream().send(range(100))
    row = stream.row()
    assert row.level == Level.OK
    assert (row.values["rate_hz"], row.values["without"]) == ("10.00", "0")
    assert (row.values["older_than_budget"], row.values["p99_ms"]) == ("0", "40.0")


def test_every_period_without_is_counted_once():
    stream = Stream().send([*range(10), 11, *range(15, 30)])
    values = stream.values()
    assert (values["periods"], values["without"]) == ("30", "4")
    assert stream.row().level == Level.WARN


@pytest.mark.parametrize("later_ms, without", [(0, 0), (149, 0), (151, 1), (240, 1), (1000, 9)])
def test_silence_is_counted_while_it_lasts(later_ms, without):
    row = Stream().send(range(20)).row(later_ms)
    assert row.values["without"] == str(without)
    assert ("nothing for" in row.message) == bool(without)


def test_lasting_silence_is_an_error_and_its_end_is_not():
    stream = Stream(persist_s=1.0, hold_s=0.5).send(range(20))
    levels = [stream.row(later_ms).level for later_ms in range(0, 3000, 100)]
    assert levels == sorted(levels) and {Level.OK, Level.WARN, Level.ERROR} == set(levels)
    assert stream.send(range(60, 200)).row().level == Level.OK


def test_what_is_older_than_the_budget_is_named():
    stream = Stream().send(range(20)).send([20], age_ms=81.0).send(range(21, 40))
    row = stream.row()
    assert row.level == Level.WARN and "1 older than 80 ms" in row.message
    assert row.values["max_ms"] == "81.0"


def test_exactly_the_budget_is_in_time():
    assert Stream().send(range(20), age_ms=80.0).row().level == Level.OK


def test_ages_of_foreign_stamps_are_not_claimed():
    row = Stream().send(range(20), age_ms=900.0, claimed=False).row()
    assert row.level == Level.OK and "age n/a" in row.message
    assert row.values["older_than_budget"] == "n/a" and row.values["p50_ms"] == "n/a"


@pytest.mark.parametrize("shift_s", [-3600, -2, 5, 3600])
def test_a_jump_of_the_vehicles_time_is_no_loss(shift_s):
    stream = Stream().send(range(20)).send(range(20, 40), shift_ns=shift_s * 1000 * MS)
    assert stream.values()["without"] == "0" and stream.values()["periods"] == "20"


def test_a_period_served_twice_counts_once():
    stream = Stream().send([*range(10), 9, 10])
    assert stream.values()["repeated"] == "1" and stream.values()["periods"] == "11"


def test_stamps_that_wander_with_the_reference_lose_nothing():
    stream = Stream()
    for period in range(30):
        stream.send([period], shift_ns=(-1) ** period * 10 * MS)
    assert stream.values()["without"] == "0" and stream.values()["repeated"] == "0"


def test_only_the_window_is_told_of():
    stream = Stream(window_s=1.0).send([*range(5), *range(8, 40)])
    assert stream.values()["without"] == "0" and int(stream.values()["periods"]) <= 11
