"""The output guard, at its edges."""

from __future__ import annotations

import pytest

from perception_bev.errors import ConfigError
from perception_bev.latency.guard import MS, Guard, GuardSettings, Miss

PERIOD, BUDGET, MARGIN = 100, 80, 10  # [ms]
SETTINGS = GuardSettings(PERIOD * MS, BUDGET * MS, MARGIN * MS, 30 * MS, safe_after=3)
OFFSET = 5_000  # [ms] of the stamps against the monotonic clock


class Line:
    """A guard in whole milliseconds: stamps are monotonic times + OFFSET."""

    def __init__(self, settings: GuardSettings = SETTINGS) -> None:
        self.guard = Guard(settings)

    def closed(self, t: float, epoch: int = 0, rate: float = 1.0, stamp: float | None = None):
        stamp = t + OFFSET if stamp is None else stamp
        return self.guard.closed(round(stamp * MS), round(t * MS), epoch, rate)

    def result(self, t: float, now: float, epoch: int = 0):
        return self.guard.result(round((t + OFFSET) * MS), epoch, round(now * MS))

    def fire(self, now: float) -> list[Miss]:
        found = []
        while (miss := self.guard.fire(round(now * MS))) is not None:
            found.append(miss)
        return found

    def failed(self, t: float, now: float):
        return self.guard.failed(round((t + OFFSET) * MS), 0, round(now * MS))

    @property
    def due(self) -> float | None:
        due = self.guard.due()
        return None if due is None else due / MS


@pytest.fixture
def line() -> Line:
    return Line()


def stamps(misses) -> list[float]:
    return [m.t_ref_ns / MS - OFFSET for m in misses]


# -- one period ----------------------------------------------------------------------------------

def test_nothing_is_due_before_the_first_bundle(line):
    assert line.due is None
    assert line.fire(10**9) == []


def test_it_fires_its_margin_before_the_deadline(line):
    line.closed(0)
    assert line.due == BUDGET - MARGIN
    assert line.fire(69.999) == []
    miss, = line.fire(70)
    assert (miss.t_ref_ns, miss.t_ref_mono) == (OFFSET * MS, 0)
    assert (miss.count, miss.safe, miss.overdue, miss.due) == (1, False, False, 70 * MS)
    assert miss.mode == "predicted (1 frame)"


def test_a_result_in_time_is_published_and_nothing_is_fired_for_it(line):
    line.closed(0)
    assert line.result(0, now=50)
    assert line.due == 170, "the next period, expected"
    assert line.fire(169) == []


@pytest.mark.parametrize("now, wanted", [(70, True), (79.9, True), (80, True), (80.001, False)])
def test_a_result_counts_up_to_the_deadline_while_the_guard_has_not_fired(line, now, wanted):
    line.closed(0)
    assert bool(line.result(0, now)) is wanted


def test_a_result_after_the_prediction_went_out_is_late(line):
    line.closed(0)
    line.fire(70)
    verdict = line.result(0, 71)
    assert not verdict and verdict.before == () and verdict.reason == "served"


def test_a_result_comes_once(line):
    line.closed(0)
    assert line.result(0, 50)
    assert not line.result(0, 51)


def test_a_result_of_an_unknown_bundle_is_not_published(line):
    line.closed(0)
    assert not line.result(33, 50)
    assert not line.result(0, 50, epoch=1)
    assert line.result(0, 50)


def test_a_result_of_an_expected_period_without_a_bundle_is_not_published(line):
    line.closed(0)
    line.result(0, 50)
    assert not line.result(100, 150)
    assert line.closed(100) and line.result(100, 151)


def test_due_of_is_until_when_a_result_can_go_out(line):
    line.closed(0)
    assert line.guard.due_of(OFFSET * MS, 0) == 70 * MS
    line.fire(70)
    assert line.guard.due_of(OFFSET * MS, 0) is None


# -- no bundles ------------------------------------------------------------------------------------

def test_periods_go_on_without_bundles(line):
    line.closed(0)
    assert line.result(0, 50)
    fired = [m for now in range(0, 400) for m in line.fire(now)]
    assert stamps(fired) == [100, 200, 300]
    assert [m.due / MS for m in fired] == [170, 270, 370]
    assert [m.count for m in fired] == [1, 2, 3]
    assert fired[-1].mode == "predicted (3 frames)"


def test_a_bundle_takes_the_place_of_the_expected_one(line):
    line.closed(0)
    line.result(0, 50)
    assert line.closed(103)
    assert line.due == 173
    assert line.result(103, 160)
    assert line.due == 273


@pytest.mark.parametrize("t, counts", [(49.9, False), (50, True), (-30, False)])
def test_less_than_half_a_period_from_a_served_one_is_that_period(line, t, counts):
    line.closed(0)
    line.fire(70)
    assert line.closed(t) is counts
    assert bool(line.result(t, 72)) is counts


def test_a_late_bundle_tells_when_the_next_is_expected(line):
    line.closed(0)
    line.result(0, 50)
    line.fire(170)  # 100, predicted
    assert not line.closed(140)
    assert line.due == 240 + 70
    assert line.closed(240)
    assert line.result(240, 300)


def test_a_bundle_a_bit_before_the_one_that_was_predicted_tells_it_too(line):
    line.closed(0)
    line.result(0, 50)
    line.fire(170)
    assert not line.closed(95)
    assert line.due == 195 + 70


def test_two_bundles_of_one_period_give_one_output(line):
    assert line.closed(0) and not line.closed(30)
    assert not line.result(30, 40)
    assert line.result(0, 50)


# -- order -----------------------------------------------------------------------------------------

def fast() -> Line:
    """20 Hz: the next bundle closes before the last one's output is out."""
    return Line(GuardSettings(50 * MS, BUDGET * MS, MARGIN * MS, 30 * MS))


def test_overlapping_periods_are_in_work_at_the_same_time():
    line = fast()
    assert line.closed(0) and line.closed(50)
    assert line.guard.pending == 3  # with the expected one
    assert line.result(0, 65) and line.result(50, 115)


def test_each_overlapping_period_is_due_for_itself():
    line = fast()
    line.closed(0)
    line.closed(50)
    assert stamps(line.fire(70)) == [0]
    assert line.due == 120
    assert line.result(50, 119)


def test_a_result_that_overtakes_gives_up_the_earlier_ones_first():
    line = fast()
    line.closed(0)
    line.closed(50)
    verdict = line.result(50, 60)
    assert verdict and stamps(verdict.before) == [0]
    assert verdict.before[0].count == 1 and not verdict.before[0].overdue
    assert not line.result(0, 61)
    assert line.guard.misses == 0


def test_a_cycle_that_the_collector_left_out_has_its_output():
    line = fast()
    line.closed(0)
    assert line.closed(100)  # none at 50
    assert line.guard.pending == 4
    assert stamps(line.fire(70)) == [0]
    assert stamps(line.fire(120)) == [50]
    assert line.result(100, 160)


def test_a_bundle_may_close_out_of_order_as_long_as_nothing_later_is_out():
    line = fast()
    line.closed(0)
    line.closed(100)
    assert line.closed(48)
    assert line.result(0, 60) and line.result(48, 120) and line.result(100, 150)


def test_bundles_far_ahead_begin_the_line_anew_and_are_counted():
    line = Line()
    line.closed(0)
    assert line.closed(10_000)
    assert line.guard.pending == 2 and line.guard.counts["skipped"] == 100
    assert line.result(10_000, 10_050)


# -- failures --------------------------------------------------------------------------------------

def test_what_failed_need_not_wait_for_its_time(line):
    line.closed(0)
    miss = line.failed(0, now=20)
    assert stamps([miss]) == [0] and miss.count == 1 and not miss.overdue
    assert line.due == 170
    assert line.failed(0, now=21) is None


def test_what_failed_waits_for_what_is_in_work_before_it():
    line = fast()
    line.closed(0)
    line.closed(50)
    assert line.failed(50, now=60) is None
    assert line.result(0, 65)
    assert stamps(line.fire(120)) == [50]


def test_nothing_fails_that_is_not_in_work(line):
    assert line.failed(0, 10) is None
    line.closed(0)
    line.result(0, 50)
    assert line.failed(100, 60) is None, "expected, but no bundle of it exists"


# -- safe state ------------------------------------------------------------------------------------

def test_after_a_run_of_misses_it_is_safe(line):
    line.closed(0)
    fired = [m for now in range(0, 600, 10) for m in line.fire(now)]
    assert [m.safe for m in fired] == [False, False, False, True, True, True]
    assert fired[3].mode == "no output: safe state, 4 periods without a result in time"
    assert line.guard.safe


def test_a_result_in_time_ends_the_safe_state(line):
    line.closed(0)
    for now in range(0, 600, 10):
        line.fire(now)
    assert line.closed(600)
    assert line.result(600, 650)
    assert not line.guard.safe
    miss, = line.fire(770)
    assert miss.count == 1 and not miss.safe


def test_after_a_late_result_predictions_are_counted_from_it(line):
    line.closed(0)
    miss, = line.fire(70)
    assert miss.reach_ns is None, "nothing was ever seen"
    line.closed(100)
    miss, = line.fire(170)
    assert miss.count == 2
    assert not line.result(0, 175), "served, but the tracks know it now"
    line.closed(200)
    miss, = line.fire(270)
    assert (miss.count, miss.reach_ns) == (2, 200 * MS)


def test_results_that_are_always_late_are_no_reason_for_the_safe_state(line):
    """Tracks of a tenth of a second ago are worth more than none."""
    for number in range(30):
        line.closed(100 * number)
        miss, = line.fire(100 * number + 70)
        assert not miss.safe and miss.count == 1
        assert not line.result(100 * number, 100 * number + 75)


def test_a_late_result_of_long_ago_does_not_end_the_safe_state(line):
    line.closed(0)
    for number in range(15):
        line.fire(100 * number + 70)
    assert line.guard.safe
    assert not line.result(0, 1_480)
    assert line.guard.safe


# -- the guard itself is held up -------------------------------------------------------------------

def test_a_guard_that_comes_after_the_deadline_says_so(line):
    line.closed(0)
    miss, = line.fire(81)
    assert miss.overdue and miss.mode == "no output: the guard was held up (1 periods lost)"


def test_at_the_deadline_it_is_in_time(line):
    line.closed(0)
    miss, = line.fire(80)
    assert not miss.overdue


def test_after_a_stall_there_is_no_burst(line):
    line.closed(0)
    line.closed(100)
    missed = line.fire(1_125)  # deadlines of 0 .. 1000 have passed, 1100 is not due
    assert stamps(missed) == [1_000]
    assert missed[0].overdue and missed[0].skipped == 10 and missed[0].count == 11
    assert line.guard.counts["skipped"] == 10
    assert line.due == 1_170


def test_a_result_after_a_stall_comes_with_one_word_about_what_was_lost():
    line = fast()
    for t in (0, 50, 100, 150):
        line.closed(t)
    verdict = line.result(150, 205)  # the deadlines of 0, 50 and 100 have passed
    assert verdict and stamps(verdict.before) == [100]
    miss, = verdict.before
    assert miss.overdue and (miss.skipped, miss.count) == (2, 3)
    assert line.guard.counts["skipped"] == 2


def test_a_stall_of_an_hour_costs_nothing(line):
    line.closed(0)
    assert len(line.fire(3_600_000 + 85)) == 1
    assert line.guard.counts["skipped"] == 36_000
    assert line.due == 3_600_100 + 70


def test_its_delay_raises_the_margin(line):
    line.closed(0)
    line.guard.published(70 * MS, 84 * MS)
    assert line.guard.margin_ns == 14 * MS and line.due == 66


def test_a_stall_that_no_margin_covers_is_told_and_not_provided_for(line):
    line.closed(0)
    line.guard.published(70 * MS, 84 * MS)
    line.guard.published(170 * MS, 370 * MS)
    assert line.guard.margin_ns == 14 * MS and line.guard.delay_ns == 200 * MS


def test_one_delay_in_a_hundred_does_not_move_the_margin(line):
    line.closed(0)
    for number in range(199):
        line.guard.published(number * MS, number * MS + 3 * MS)
    line.guard.published(199 * MS, 228 * MS)
    assert line.guard.margin_ns == MARGIN * MS and line.guard.delay_ns == 29 * MS


def test_a_delay_is_forgotten(line):
    line.closed(0)
    line.guard.published(70 * MS, 90 * MS)
    line.closed(61_000)
    assert line.guard.margin_ns == MARGIN * MS and line.guard.delay_ns is None


# -- epochs, jumps, /clock -------------------------------------------------------------------------

def test_a_new_epoch_may_go_back(line):
    line.closed(0)
    line.result(0, 50)
    assert line.closed(100, epoch=1, stamp=7)
    assert line.guard.result(7 * MS, 1, 150 * MS)
    miss, = line.fire(270)
    assert (miss.t_ref_ns, miss.epoch) == (107 * MS, 1)


def test_results_and_bundles_of_an_epoch_that_is_over_go_nowhere(line):
    line.closed(0, epoch=1)
    assert not line.closed(100, epoch=0)
    assert not line.result(100, 120, epoch=0)


def test_periods_of_the_old_epoch_come_before_those_of_the_new():
    line = fast()
    line.closed(0)
    line.closed(50, epoch=1, stamp=7)
    verdict = line.guard.result(7 * MS, 1, 60 * MS)
    assert verdict and [m.epoch for m in verdict.before] == [0]


def test_after_a_reset_it_waits(line):
    line.closed(0)
    line.guard.reset("deactivated")
    assert line.due is None and line.guard.reason == "deactivated"
    assert not line.result(0, 50)


def test_a_step_of_ros_time_leaves_no_hole(line):
    line.closed(0)
    line.result(0, 50)
    line.guard.reset("ROS time went back 3 s", epoch=1, step_ns=-3_000 * MS)
    miss, = line.fire(170)
    assert (miss.t_ref_ns / MS, miss.t_ref_mono / MS, miss.epoch) == (OFFSET - 2_900, 100, 1)
    assert miss.reach_ns is None, "nothing was seen in this epoch"


def test_a_step_refuses_what_is_in_work(line):
    line.closed(0)
    line.guard.reset("jump", epoch=1, step_ns=9_000 * MS)
    assert not line.result(0, 50)
    miss, = line.fire(70)
    assert miss.t_ref_ns == (OFFSET + 9_000) * MS


def test_after_a_step_the_first_bundle_tells_when_the_next_is_expected(line):
    line.closed(0)
    line.guard.reset("jump", epoch=1, step_ns=9_000 * MS)
    assert line.closed(20, epoch=1, stamp=OFFSET + 9_020)
    assert line.due == 90
    line.fire(90)
    assert line.due == 190


def test_a_small_step_of_ros_time_neither_makes_nor_loses_a_period(line):
    line.closed(0)
    line.result(0, 50)
    assert line.closed(100, stamp=OFFSET + 160)  # 60 ms forward: less than any new epoch
    assert line.guard.pending == 2
    assert line.closed(200, stamp=OFFSET + 170)  # and back, by 90


def test_a_stamp_that_is_not_later_is_never_published(line):
    line.closed(0)
    line.result(0, 50)
    assert not line.closed(100, stamp=OFFSET)
    miss, = line.fire(170)
    assert miss.t_ref_ns > OFFSET * MS


def test_at_half_the_rate_everything_takes_twice_as_long(line):
    line.closed(0, rate=0.5)
    assert line.due == 2 * BUDGET - MARGIN
    assert line.result(0, 160)
    assert line.due == 200 + 2 * BUDGET - MARGIN
    miss, = line.fire(350)
    assert stamps([miss]) == [100] and miss.t_ref_mono == 200 * MS


def test_at_a_high_rate_it_never_fires_before_the_stamp(line):
    line.closed(0, rate=20.0)  # 80 ms of stamps are 4 ms
    assert line.due == 2


def test_a_paused_clock_holds_the_periods_up(line):
    line.closed(0)
    line.result(0, 50)
    for now in range(100, 2_000, 10):  # /clock stands at 100
        line.guard.align(now * MS, (OFFSET + 100) * MS)
        assert line.fire(now) == []
    for now in range(2_000, 2_060, 10):  # and runs again
        line.guard.align(now * MS, (OFFSET + 100 + now - 2_000) * MS)
        assert line.fire(now) == []
    line.guard.align(2_080 * MS, (OFFSET + 180) * MS)
    assert stamps(line.fire(2_105)) == [100]


def test_a_paused_clock_holds_what_is_in_work_up(line):
    line.closed(0)
    line.guard.align(2_000 * MS, (OFFSET + 40) * MS)
    assert line.result(0, 2_001)


@pytest.mark.parametrize("step", [-10_000, -300, 100_000])
def test_a_clock_that_jumps_takes_the_periods_with_it(line, step):
    """A bag that loops, a seek: nothing is said of the times between, and nothing is held up."""
    line.closed(0)
    line.result(0, 50)
    line.guard.align(60 * MS, (OFFSET + 60) * MS)
    line.guard.align(80 * MS, (OFFSET + 80 + step) * MS)
    assert line.fire(1_000) == []
    assert line.closed(1_000, epoch=1, stamp=OFFSET + 1_000 + step)
    assert line.guard.result((OFFSET + 1_000 + step) * MS, 1, 1_040 * MS)


def test_a_bundle_of_before_the_jump_is_not_served_twice(line):
    line.closed(0)
    line.result(0, 50)
    line.guard.align(60 * MS, (OFFSET + 60) * MS)
    line.guard.align(80 * MS, (OFFSET - 920) * MS)
    assert not line.closed(0) and line.due is None


def test_ticks_of_the_clock_are_not_a_pause(line):
    line.closed(0)
    line.guard.align(70 * MS, (OFFSET + 45) * MS)
    assert line.due == 70


def test_a_rate_of_zero_leaves_what_was_known(line):
    line.closed(0, rate=0.5)
    line.result(0, 50)
    line.closed(200, rate=0.0, stamp=OFFSET + 100)
    assert line.due == 200 + 150


def test_aligning_before_the_first_bundle_does_nothing(line):
    line.guard.align(0, 10**18)
    assert line.due is None


# -- settings --------------------------------------------------------------------------------------

@pytest.mark.parametrize("wrong", [
    {"period_ns": 0}, {"margin_ns": -1}, {"margin_ns": 40 * MS}, {"max_margin_ns": 80 * MS},
    {"safe_after": -1}, {"window_ns": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match="guard"):
        GuardSettings(**wrong)
