"""What the end of a node means."""

from __future__ import annotations

import signal

import pytest

from perception_bev.nodes.endings import BAD_CONFIGURATION, HEALTHY_AFTER_S, Ending, Endings
from perception_bev.nodes.table import TABLE, Entry


def judge(code: int, **meaning) -> Ending:
    return Endings(Entry("n", "n", lambda chosen: {}, **meaning)).judge(code, 0.0)


def test_pauses_double_up_to_a_cap_and_begin_again_after_a_long_life():
    endings = Endings(Entry("n", "n", lambda chosen: {}))
    pauses = [endings.judge(1, 0.0).again_after_s for _ in range(7)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert endings.judge(1, HEALTHY_AFTER_S).again_after_s == 1


@pytest.mark.parametrize("code", [0, 1, -signal.SIGSEGV])
def test_a_node_that_ends_is_started_again(code):
    ending = judge(code)
    assert ending.again_after_s is not None and ending.end_all_with is None


def test_a_wrong_configuration_ends_all_only_if_the_node_is_vital():
    assert judge(BAD_CONFIGURATION).end_all_with == BAD_CONFIGURATION
    other = judge(BAD_CONFIGURATION, vital=False)
    assert other.end_all_with is None and other.again_after_s is None


@pytest.mark.parametrize("code, with_code", [(0, 0), (1, 1), (-signal.SIGKILL, 137)])
def test_the_end_of_a_replay_ends_all(code, with_code):
    assert judge(code, respawn=False, ends_all=True).end_all_with == with_code


def test_the_signal_is_named():
    assert "SIGSEGV" in judge(-signal.SIGSEGV).text


def test_pictures_never_take_perception_down():
    vital = {entry.name: entry.vital for entry in TABLE}
    assert vital["perception"] and not vital["viz"]
