"""Laws of the ladder, with injected clocks: down at once, up within two seconds, never stuck."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev.errors import ConfigError
from perception_bev.latency.costs import MS, Costs
from perception_bev.latency.ladder import MAX_PATIENCE, PLANS, Ladder, LadderSettings, Plan

NAMES = [plan.name for plan in PLANS]
BENCHMARK = dict(zip(NAMES, (60 * MS, 50 * MS, 35 * MS, 25 * MS), strict=True))
LAST = len(PLANS) - 1
PERIOD = 100 * MS
LEFT = 70 * MS  # from ready to the guard
PLENTY = 10**12
SECOND = 1000 * MS


class Drive:
    """Frames through a ladder, each with the cost that the test says; no clock is read."""

    def __init__(self, alternatives=NAMES, period: int = PERIOD, in_flight: int = 0,
                 benchmark=BENCHMARK) -> None:
        self.ladder = Ladder(settings=LadderSettings(period_ns=period))
        self.costs = Costs(benchmark, alternatives=alternatives)
        self.period, self.now = period, 0
        self.in_flight, self.running = in_flight, deque()
        self.plans: list[int] = []
        self.late = 0

    def frame(self, cost_of: Callable[[int], int], left: int = LEFT, floor: int = 0) -> int:
        plan = self.ladder.choose(left, self.costs, floor, now_ns=self.now)
        self.running.append((plan, cost_of(plan), left))
        while len(self.running) > self.in_flight:
            self._finish(*self.running.popleft())
        self.plans.append(plan)
        self.now += self.period
        return plan

    def frames(self, number: int, cost_of: Callable[[int], int], **how) -> list[int]:
        return [self.frame(cost_of, **how) for _ in range(number)]

    def _finish(self, plan: int, cost: int, left: int) -> None:
        self.late += cost > left
        self.costs.observe(NAMES[plan], cost, self.now)
        self.ladder.finished(plan, cost <= left, self.now)


def usual(plan: int) -> int:
    return BENCHMARK[NAMES[plan]]


def stalled(plan: int) -> int:
    return usual(plan) + 300 * MS


class Free:
    """A ladder alone: what nobody measured fits, so only being late or in time matters."""

    def __init__(self, **how) -> None:
        self.ladder, self.costs, self.now = Ladder(**how), Costs({}), 0

    def frame(self, in_time: bool, floor: int = 0) -> int:
        plan = self.ladder.choose(LEFT, self.costs, floor, now_ns=self.now)
        self.ladder.finished(plan, in_time, self.now)
        self.now += PERIOD
        return plan

    def frames(self, outcomes: str) -> str:
        """"+": in time, "-": late; returns the plans."""
        return "".join(str(self.frame(outcome == "+")) for outcome in outcomes)


# -- which plan fits -----------------------------------------------------------------------------

@pytest.mark.parametrize("floor", [-1, 0, 1, 2, 3, 4, 99])
@pytest.mark.parametrize("edge", [-1, 0, 1])
def test_the_first_that_fits_at_every_edge(floor, edge):
    for plan, name in enumerate(NAMES):
        left = BENCHMARK[name] + edge
        fitting = [i for i, other in enumerate(NAMES)
                   if BENCHMARK[other] <= left and i >= min(floor, LAST)]
        chosen = Ladder().choose(left, Costs(BENCHMARK), floor, now_ns=0)
        assert chosen == (fitting[0] if fitting else LAST), (plan, edge)


@pytest.mark.parametrize("left", [-PLENTY, -1, 0, 1, 25 * MS - 1])
def test_if_nothing_fits_the_cheapest(left):
    assert Ladder().choose(left, Costs(BENCHMARK), now_ns=0) == LAST


def test_plans_are_from_dear_to_cheap_and_the_first_is_everything():
    assert PLANS[0] == Plan("full") and len(set(NAMES)) == len(PLANS)
    effort = [(p.history, p.lidar and p.radar, ("none", "reused", "fresh").index(p.cameras))
              for p in PLANS]
    for dear, cheap in itertools.pairwise(effort):
        assert dear != cheap and all(d >= c for d, c in zip(dear, cheap, strict=True))


def test_the_cost_that_counts_is_the_p95():
    drive = Drive(alternatives=())
    drive.frames(20, lambda plan: 10 * MS)
    assert drive.ladder.choose(10 * MS, drive.costs, now_ns=drive.now) == 0
    assert drive.ladder.choose(10 * MS - 1, drive.costs, now_ns=drive.now) == LAST


def test_a_plan_by_name():
    assert [Ladder().index(name) for name in NAMES] == list(range(len(PLANS)))
    with pytest.raises(ConfigError, match="'fool'; known: full, no_history"):
        Ladder().index("fool")


# -- down ------------------------------------------------------------------------------------------

def test_one_late_frame_is_an_accident_two_are_not():
    assert Free().frames("-+-++" + "-") == "000111"  # both within three frames
    assert Free().frames("--+") == "001"
    assert Free().frames("-+++-+++-+++") == "0" * 12


def test_one_frame_that_is_short_of_time_has_a_cheaper_plan_for_itself():
    drive = Drive()
    drive.frames(5, usual)
    assert drive.frame(usual, left=36 * MS) == 2
    assert drive.frames(5, usual) == [0] * 5


def test_two_frames_short_of_time_are_the_level_of_the_next():
    drive = Drive()
    assert drive.frames(2, usual, left=36 * MS) == [2, 2]
    assert drive.frames(8, usual) == [2, 2, 1, 1, 1, 0, 0, 0]  # the second was in time


def test_costs_show_the_way_down_at_once():
    """Twice as slow: full 120, no_history 100, reused_cameras 70 of 70 ms."""
    drive = Drive()
    drive.frames(20, usual)
    assert drive.frames(5, lambda plan: 2 * usual(plan)) == [0, 0, 2, 2, 2]


def test_at_the_bottom_it_stays_though_late():
    free = Free()
    free.frames("-" * 20)
    assert free.frames("-" * 5) == "3" * 5


def test_what_was_chosen_before_a_step_is_judged_for_itself():
    ladder, costs = Ladder(), Costs({})
    plans = [ladder.choose(LEFT, costs, now_ns=0) for _ in range(4)]
    for plan in plans:
        ladder.finished(plan, False, 0)
    assert plans == [0] * 4 and ladder.level == 1  # four at once were late: one step


# -- up --------------------------------------------------------------------------------------------

def test_one_step_after_n_frames_in_time():
    free = Free()
    free.frames("--" * 3)
    assert free.ladder.level == LAST
    assert free.frames("+" * 10) == "3332221110"


def test_a_failed_climb_doubles_n_up_to_the_cap():
    """Three steps share 18 frames: 3 + 3 are kept for the others, so 12 is the most."""
    free = Free()
    free.frames("--")
    waits = []
    for _ in range(5):
        waited = 0
        while free.frame(True) == 1:
            waited += 1
            if free.ladder.level == 0:
                break
            if waited == 40:
                pytest.fail("it never tried")
        free.ladder.finished(0, False, free.now)  # judged instead of the one in time
        waits.append(waited)
    assert waits == [3, 6, 12, 12, 12]


def test_a_climb_has_failed_if_any_frame_of_its_probation_has():
    for good in range(4):
        free = Free()
        free.frames("--+++" + "+" * good + "-")
        assert free.ladder.level == (1 if good < 3 else 0), good


def test_a_climb_that_succeeds_makes_n_small_again():
    free = Free()
    free.frames("--+++-")  # 0 failed: N is 6
    assert free.frames("+" * 7) == "1111110"
    free.frames("++++++")  # a probation of 6, this time passed
    free.frames("--")
    assert free.frames("++++") == "1110"


def test_without_another_plan_there_is_nowhere_to_go():
    free = Free(plans=PLANS[:1])
    assert free.frames("-" * 10 + "+" * 10) == "0" * 20


def test_frames_of_a_cheaper_plan_prove_nothing():
    drive = Drive()
    drive.frames(2, usual, left=51 * MS)
    assert drive.ladder.level == 1
    assert drive.frames(6, usual, left=36 * MS)[:1] == [2]
    assert drive.ladder.level == 2


def test_where_few_frames_come_the_way_up_takes_no_longer():
    """Every third period has a frame: each counts for three."""
    free = Free()
    free.frames("--" * 3)
    plans = []
    for _ in range(4):
        free.now += 2 * PERIOD
        plans.append(free.frame(True))
    assert plans == [3, 2, 1, 0]


# -- the floor -------------------------------------------------------------------------------------

def test_a_floor_holds_from_its_first_frame_to_its_last():
    drive = Drive()
    drive.frames(10, usual)
    assert drive.frames(30, usual, floor=2) == [2] * 30
    assert drive.ladder.why == "the floor"
    assert drive.frames(5, usual)[-2:] == [0, 0]
    assert drive.ladder.why == ""


def test_a_floor_does_not_hold_up_what_is_below_it():
    drive = Drive()
    assert drive.frame(usual, floor=1, left=30 * MS) == LAST


@given(floors=st.lists(st.integers(0, LAST), min_size=1, max_size=60), seed=st.randoms())
def test_no_frame_is_dearer_than_its_floor(floors, seed):
    drive = Drive()
    for floor in floors:
        cost = seed.choice([usual, stalled])
        assert drive.frame(cost, left=seed.choice([LEFT, 30 * MS]), floor=floor) >= floor


# -- back to full ----------------------------------------------------------------------------------

def back_after(drive: Drive, limit_ns: int = 4 * SECOND) -> int:
    """Time from now until `full` and nothing else is chosen; frames cost the usual."""
    begun = full_since = drive.now
    while drive.now < begun + limit_ns:
        if drive.frame(usual) != 0:
            full_since = drive.now
    return full_since - begun


@pytest.mark.parametrize("alternatives", [(), NAMES])
@pytest.mark.parametrize("period_ms, in_flight", [
    (50, 0), (50, 2), (100, 0), (100, 1), (100, 2), (200, 0)])
def test_a_single_stall_is_back_at_full_within_two_seconds(alternatives, in_flight, period_ms):
    """300 ms in any plan, after any number of frames; frames that came meanwhile are late too."""
    for level, before, lag in itertools.product(range(len(PLANS)), (0, 1, 5, 25), (0, 1, 3)):
        drive = Drive(alternatives, period_ms * MS, in_flight)
        drive.frames(before, usual, floor=level)
        drive.frame(stalled, floor=level)
        drive.frames(lag, usual, left=-50 * MS)
        assert back_after(drive) <= 2 * SECOND, (level, before, lag)


def test_a_single_stall_takes_nothing_from_the_next_frames():
    drive = Drive()
    drive.frames(30, usual)
    drive.frame(stalled)
    assert drive.frames(30, usual) == [0] * 30


KINDS = ["usual", "stalled", "slow", "no time", "one slow plan", "full in vain"]
faults = st.lists(st.tuples(
    st.sampled_from(KINDS),
    st.integers(1, 30), st.integers(0, LAST), st.booleans()), max_size=8)


def suffer(drive: Drive, history, seed: random.Random) -> None:
    """Any mixture of faults."""
    for kind, frames, floor, held in history:
        cost = {"usual": usual, "no time": usual, "stalled": stalled,
                "slow": lambda plan: 2 * usual(plan),
                "one slow plan": lambda plan, p=floor: usual(plan) + 80 * MS * (plan == p),
                "full in vain": lambda plan: usual(plan) + 80 * MS * (plan == 0)}[kind]
        for _ in range(frames):
            left = seed.choice([0, 30 * MS, LEFT]) if kind == "no time" else LEFT
            drive.frame(cost, left=left, floor=floor if held else 0)


@settings(max_examples=100, deadline=None)
@given(history=faults, seed=st.randoms(use_true_random=False),
       alternatives=st.sampled_from([(), NAMES]), in_flight=st.integers(0, 2),
       period_ms=st.sampled_from([50, 100]))
def test_whatever_happened_full_is_back_two_seconds_after_the_last_fault(
        history, seed, alternatives, in_flight, period_ms):
    drive = Drive(alternatives, period_ms * MS, in_flight)
    suffer(drive, history, seed)
    assert back_after(drive) <= 2 * SECOND


@pytest.mark.parametrize("in_flight", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_full_is_back_two_seconds_after_each_fault_of_each_length(kind, in_flight):
    for frames, floor, held, alternatives in itertools.product(
            (1, 2, 3, 5, 8, 13, 25, 40), range(len(PLANS)), (False, True), ((), NAMES)):
        drive = Drive(alternatives, in_flight=in_flight)
        suffer(drive, [(kind, frames, floor, held)], random.Random(frames))
        assert back_after(drive, 2200 * MS) <= 2 * SECOND, (frames, floor, held, alternatives)


@pytest.mark.parametrize("plans", [2, 3, 4])
def test_the_way_back_is_as_long_with_fewer_plans(plans):
    free = Free(plans=PLANS[:plans])
    free.frames("--" * plans)
    for _ in range(40):  # climbs that fail, until every N is at its cap
        free.frame(free.ladder.level != 0)
    free.frames("--" * plans)
    assert "0" in free.frames("+" * 20)


@settings(max_examples=6, deadline=None)
@given(believed=st.lists(st.integers(1, 200), min_size=4, max_size=4),
       true=st.lists(st.integers(1, 70), min_size=4, max_size=4))
def test_no_benchmark_keeps_it_from_full_for_ever(believed, true):
    """Each step is put to the test after MAX_PATIENCE frames at the latest."""
    benchmark = {name: ms * MS for name, ms in zip(NAMES, believed, strict=True)}
    drive = Drive(benchmark=benchmark)
    drive.frames(LAST * (MAX_PATIENCE + 30) + 30, lambda plan: true[plan] * MS)
    assert drive.plans[-5:] == [0] * 5 and drive.late == 0


def test_a_slow_computer_is_not_tested_again_and_again():
    """Five minutes at 1.6 times the cost: full takes 96 of 70 ms. Tests become rare, and without
    what the other plans say there would be many more of them."""
    late = []
    for alternatives in (NAMES, ()):
        drive = Drive(alternatives)
        drive.frames(3000, lambda plan: round(1.6 * usual(plan)))
        late.append(drive.late)
    assert late[0] <= 15 and late[1] > 5 * late[0]
    assert back_after(drive) <= 2 * SECOND


def test_a_dear_plan_on_a_weak_computer_is_tested_once_in_max_patience():
    benchmark = {**BENCHMARK, "full": 90 * MS}
    drive = Drive(benchmark=benchmark)
    drive.frames(6 * MAX_PATIENCE, lambda plan: benchmark[NAMES[plan]])
    assert drive.plans.count(0) == drive.late == 5


def test_plans_do_not_alternate_where_every_second_frame_is_short():
    """The cheaper plan holds; the dearer one is tried once in the most frames that N may be."""
    drive = Drive()
    for number in range(240):
        drive.frame(usual, left=LEFT if number % 2 else 51 * MS)
    assert drive.plans[60:].count(0) <= 180 / 12 and set(drive.plans[60:]) == {0, 1}
    assert drive.late == 0


def test_reset():
    drive = Drive()
    drive.frames(30, stalled)
    drive.ladder.reset()
    drive.costs.reset()
    assert drive.ladder.level == 0 and drive.frames(5, usual) == [0] * 5


# -- what it says and refuses ----------------------------------------------------------------------

def test_why():
    drive = Drive()
    drive.frame(usual)
    assert drive.ladder.why == ""
    drive.frame(usual, left=36 * MS)
    assert drive.ladder.why == "36 ms left"
    drive.frames(20, usual)
    drive.frames(3, stalled)
    assert drive.ladder.why


@pytest.mark.parametrize("how", [{"period_ns": 0}, {"recover_ns": -1}, {"climb_after": 0},
                                 {"drop_after": 0}])
def test_settings_that_make_no_sense(how):
    with pytest.raises(ConfigError, match="at least 1"):
        LadderSettings(**how)


def test_no_plans_is_an_error():
    with pytest.raises(ConfigError, match="at least one plan"):
        Ladder(plans=())


def test_a_recovery_shorter_than_the_steps_still_climbs():
    free = Free(settings=LadderSettings(period_ns=10 * SECOND))
    free.frames("--" * 3)
    assert free.frames("++++") == "3210"
