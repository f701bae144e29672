"""Levels: WARN at once, ERROR when it lasts, OK when it is over."""

from __future__ import annotations

import pytest

from perception_bev.latency.level import Level, Persistence, Row, figure, worst

SECOND = 1_000_000_000


def noted(persistence: Persistence, times_s) -> Persistence:
    for t in times_s:
        persistence.note(True, round(t * SECOND))
    return persistence


@pytest.fixture
def persistence() -> Persistence:
    return Persistence(3 * SECOND, round(1.5 * SECOND))


def test_it_is_ok_before_anything(persistence):
    assert persistence.level(0) == Level.OK
    persistence.note(False, SECOND)
    assert persistence.level(SECOND) == Level.OK and persistence.lasted_s(SECOND) == 0


def test_once_is_a_warning_for_as_long_as_it_is_held(persistence):
    noted(persistence, [0])
    assert persistence.level(round(1.5 * SECOND)) == Level.WARN
    assert persistence.level(round(1.5 * SECOND) + 1) == Level.OK


@pytest.mark.parametrize("times, wanted", [
    ([0, 1, 2, 2.9], Level.WARN), ([0, 1, 2, 3], Level.ERROR),
    ([0, 1.5, 3], Level.ERROR), ([0, 1.6, 3], Level.WARN)])
def test_a_run_is_an_error_once_it_has_lasted(persistence, times, wanted):
    assert noted(persistence, times).level(round(times[-1] * SECOND)) == wanted


def test_what_is_right_in_between_does_not_end_a_run(persistence):
    for i in range(40):
        persistence.note(i % 2 == 0, i * SECOND // 10)
    assert persistence.level(4 * SECOND) == Level.ERROR
    assert persistence.lasted_s(4 * SECOND) == pytest.approx(3.8)


def test_the_next_run_begins_anew(persistence):
    noted(persistence, [0, 1, 2, 3, 10])
    assert persistence.level(10 * SECOND) == Level.WARN


def test_what_is_known_to_be_wrong_is_worse_than_what_is_not_known():
    rows = [Row("", level, "") for level in Level]
    assert worst(rows) == Level.ERROR
    assert worst(r for r in rows if r.level != Level.ERROR) == Level.STALE
    assert worst([]) == Level.STALE


def test_nothing_is_never_a_zero():
    assert figure(None, " ms") == "n/a" and figure(0.0, " ms") == "0.0 ms"
