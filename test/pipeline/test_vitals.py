"""Silence, back-off: judged by the time that is given, never by the machine's."""

from hypothesis import given
from hypothesis import strategies as st

from perception_bev.pipeline.vitals import BackOff, Heart, Limits

MS = 1_000_000
LIMITS = Limits(look_s=0.025, silent_s=0.3, first_wait_s=0.0, second_wait_s=0.1,
                longest_wait_s=5.0, steady_s=10.0, give_up_after=20)


def first_silent(looks, limits: Limits = LIMITS) -> int | None:
    """Time [ms] of the first verdict, of (time, newest heartbeat) in ms."""
    heart = Heart(limits)
    for now, beat in looks:
        if heart.look(beat * MS, now * MS):
            return now
    return None


def test_a_beating_heart_is_never_silent():
    assert first_silent((now, now - now % 20) for now in range(1000, 5000, 25)) is None


def test_silence_is_told_after_its_time_and_not_before():
    looks = [(now, min(now, 2000)) for now in range(1000, 5000, 25)]
    assert first_silent(looks) == 2300


def test_more_looks_do_not_make_it_sooner():
    looks = [(now, min(now, 2000)) for now in range(1000, 5000)]
    assert first_silent(looks) == 2300


def test_a_machine_that_stands_still_for_everybody_proves_nothing():
    looks = [(1000, 1000), (1025, 1020), (9000, 1020), (9025, 9020)]
    assert first_silent(looks) is None


@given(st.lists(st.integers(60, 2000), min_size=5, max_size=60))
def test_looks_that_are_all_late_never_condemn(gaps):
    now, looks = 1000, []
    for gap in gaps:
        now += gap
        looks.append((now, 1000))
    assert first_silent(looks) is None


def test_one_beat_and_the_count_begins_anew():
    looks = [(now, 1000 if now < 1290 else 1290) for now in range(1000, 1600, 10)]
    assert first_silent(looks) == 1590


def waits(deaths: int, limits: Limits = LIMITS) -> list[float]:
    """[s] the pause after each of some deaths in a row."""
    back_off = BackOff(limits)
    return [back_off.died(0) / 1e9 for _ in range(deaths)]


def test_the_first_restart_is_at_once_the_next_ones_wait_longer_and_longer():
    assert waits(9) == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


@given(st.integers(1, 200))
def test_the_pause_is_bounded_and_never_shrinks(deaths):
    pauses = waits(deaths)
    assert pauses == sorted(pauses) and pauses[-1] <= LIMITS.longest_wait_s


def test_steady_service_forgets_earlier_deaths():
    back_off = BackOff(LIMITS)
    for _ in range(5):
        back_off.died(0)
    back_off.serving(1_000 * MS)
    assert back_off.died(11_000 * MS) == 11_000 * MS
    assert back_off.restarts == 6


def test_short_service_does_not():
    back_off = BackOff(LIMITS)
    for _ in range(3):
        back_off.died(0)
    back_off.serving(1_000 * MS)
    assert back_off.died(10_999 * MS) == 10_999 * MS + 400 * MS


def test_deaths_without_service_between_them_end_it():
    back_off = BackOff(LIMITS)
    assert [back_off.died(0) and back_off.given_up for _ in range(22)].index(True) == 20


def test_service_that_ended_before_a_start_that_failed_does_not_count_for_it():
    back_off = BackOff(LIMITS)
    back_off.serving(0)
    back_off.died(20_000 * MS)  # forgets
    assert back_off.died(40_000 * MS) == 40_000 * MS + 100 * MS
