"""Pictures wait for a frame with a deadline, never for long, and not where frames never end."""

import threading

import pytest
from driving import wait_for

from perception_bev.pipeline.gate import HOLD_NS, LEAST_PERIOD_NS, Gate

MS = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 10**12

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def passing(gate: Gate) -> threading.Thread:
    """A picture at the gate."""
    thread = threading.Thread(target=gate.pass_, daemon=True)
    thread.start()
    return thread


def test_an_open_gate_holds_nobody(clock):
    gate = Gate(clock)
    gate.pass_()
    assert gate.held == 0


def test_a_picture_waits_until_the_frame_is_out(clock):
    gate = Gate(clock)
    gate.shut()
    pictures = [passing(gate) for _ in range(3)]
    wait_for(lambda: gate.held == 3, "waiting")
    assert all(p.is_alive() for p in pictures)
    gate.lift()
    for picture in pictures:
        picture.join(10)
    assert not any(p.is_alive() for p in pictures)


def test_nobody_waits_longer_than_the_hold(clock):
    gate = Gate(clock)
    gate.shut()
    clock.now += HOLD_NS
    gate.pass_()
    assert gate.held == 0


def test_a_frame_that_never_ends_holds_a_picture_no_longer(clock):
    """The wait itself is bounded: the clock goes on while it waits."""
    gate = Gate(clock)
    gate.shut()
    picture = passing(gate)
    wait_for(lambda: gate.held == 1)
    clock.now += HOLD_NS  # nobody lifts it
    picture.join(10)
    assert not picture.is_alive()


@pytest.mark.parametrize(("period_ms", "held"), [(100, 1), (80, 1), (79, 0), (50, 0)])
def test_where_frames_follow_each_other_fast_nothing_waits(clock, period_ms, held):
    gate = Gate(clock)
    gate.shut()
    gate.lift()
    clock.now += period_ms * MS
    gate.shut()
    picture = passing(gate)
    wait_for(lambda: gate.held == held and (held or not picture.is_alive()))
    gate.lift()
    picture.join(10)


def test_the_bound_is_less_than_what_is_left_of_a_period():
    assert HOLD_NS <= LEAST_PERIOD_NS / 2
