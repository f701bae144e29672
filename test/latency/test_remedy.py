"""The floor that the watchdog asks for: late, one step, with its reason, and released."""

import pytest

from perception_bev.errors import ConfigError
from perception_bev.latency.remedy import Remedy, RemedySettings

S = 1_000_000_000
PLANS = ("full", "no_history", "reused_cameras", "no_cameras")
SETTINGS = RemedySettings(overload_s=10.0, overload_share=0.05, release_s=4.0, most_release_s=16.0)


class Run:
    """Ten outputs a second."""

    def __init__(self) -> None:
        self.remedy, self.now = Remedy(PLANS, SETTINGS), 100 * S

    def go(self, seconds, predicted_every=0, plan="full", host=(0, "")):
        """The floors meanwhile, without repetitions."""
        floors = []
        for i in range(round(seconds * 10)):
            self.now += S // 10
            missed = bool(predicted_every) and i % predicted_every == 0
            self.remedy.observe(self.now, missed, plan)
            floor = self.remedy.floor(self.now, host)
            if not floors or floors[-1] != floor[0]:
                floors.append(floor[0])
        return floors

    @property
    def reason(self):
        return self.remedy.floor(self.now)[1]


def test_nothing_is_forbidden_without_reason():
    assert Run().go(60) == [None]


def test_the_ladder_is_left_alone_for_a_while():
    run = Run()
    assert run.go(9.9, predicted_every=2) == [None]
    assert run.go(1, predicted_every=2)[-1] == "no_history"
    assert "over 5%" in run.reason


def test_a_share_within_the_limit_is_accepted():
    assert Run().go(60, predicted_every=25) == [None]


def test_an_overload_that_goes_on_costs_one_step_each_time():
    run = Run()
    run.go(10.2, predicted_every=2)
    assert run.go(9.5, predicted_every=2, plan="no_history") == ["no_history"]
    assert run.go(2, predicted_every=2, plan="no_history")[-1] == "reused_cameras"


def test_a_fault_that_is_over_is_no_reason_however_bad_it_was():
    """A third of ten seconds was predicted, but not a part of each third of them."""
    run = Run()
    run.go(10)
    assert run.go(3, predicted_every=1) == [None]
    assert run.go(20) == [None]


def test_the_floor_goes_at_once_to_the_dearest_plan_that_was_in_time():
    run = Run()
    assert run.go(10.2, predicted_every=5, plan="reused_cameras")[-1] == "reused_cameras"


def test_where_nothing_is_in_time_it_goes_step_by_step_to_the_last():
    run = Run()
    floors = run.go(60, predicted_every=1, plan="n/a")
    assert floors == [None, *PLANS[1:]]


def test_a_floor_is_released_when_all_is_well():
    run = Run()
    run.go(10.2, predicted_every=2)
    floors = run.go(4.2, plan="no_history")
    assert floors == ["no_history", None]


def test_a_rare_prediction_does_not_hold_a_floor():
    run = Run()
    run.go(10.2, predicted_every=2)
    assert run.go(30, predicted_every=35, plan="no_history") == ["no_history", None]


def test_a_floor_that_was_released_too_early_stays_longer():
    run = Run()
    lasted = []
    for _ in range(4):
        run.go(11, predicted_every=2)
        began = run.now
        while run.go(0.1, plan="no_history") != [None]:
            pass
        lasted.append((run.now - began) / S)
    assert lasted == sorted(lasted) and lasted[1] > 1.5 * lasted[0]
    assert lasted[-1] <= SETTINGS.most_release_s + 0.2


def test_a_hot_computer_is_a_reason_at_once_and_the_cheaper_floor_counts():
    run = Run()
    assert run.go(0.1, host=(1, "hot")) == ["no_history"]
    assert run.remedy.floor(run.now, (2, "throttled")) == ("reused_cameras", "throttled")
    assert run.remedy.floor(run.now, (0, "")) == (None, "")
    assert run.remedy.floor(run.now, (9, "aflame"))[0] == "no_cameras", "there is nothing cheaper"


def test_both_reasons_are_said():
    run = Run()
    run.go(10.2, predicted_every=2)
    floor, reason = run.remedy.floor(run.now, (2, "throttled"))
    assert floor == "reused_cameras" and "throttled" in reason and "overload" in reason


def test_what_a_dead_worker_did_is_no_overload():
    run = Run()
    run.go(9, predicted_every=2)
    run.remedy.forget()
    assert run.go(9, predicted_every=2) == [None]


@pytest.mark.parametrize("wrong", [{"overload_s": 0}, {"release_s": -1}, {"overload_share": 0},
                                   {"overload_share": 1.5}, {"most_release_s": 1}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        RemedySettings(**wrong)
