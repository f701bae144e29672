"""Commands: the control that measures how long a ready thread waits, with a clock that the test
moves and with a process of its own."""

import signal
import subprocess
import sys
import time

import pytest

from perception_bev.commands import live_bench_control as control
from perception_bev.commands.live_bench_control import Stall, read_stalls, steal_ms, watch

MS = 1_000_000


class Computer:
    """A clock that moves while one sleeps, and more than that at some naps."""

    def __init__(self, late_ms: dict[int, float]) -> None:
        self.now, self.naps, self._late = 10**12, 0, late_ms

    def clock(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9) + round(self._late.get(self.naps, 0.05) * MS)
        self.naps += 1


def watched(late_ms: dict[int, float], naps: int = 200, writing_ms: float = 0.0):
    computer, stalls = Computer(late_ms), []

    def say(start, end):
        stalls.append(Stall(start, end))
        computer.now += round(writing_ms * MS)

    waits = watch(computer.clock, computer.sleep, lambda: computer.naps >= naps, say, MS, 20 * MS)
    return waits, stalls


def test_an_idle_computer_stalls_nobody():
    waits, stalls = watched({})
    assert stalls == [] and (waits.naps, waits.stalls) == (200, 0)
    assert waits.longest_ms == pytest.approx(0.05)


def test_a_stall_is_from_when_the_nap_was_over_until_it_ran():
    waits, (stall,) = watched({50: 35.0})
    assert stall.ms == pytest.approx(35.0) and waits.stalls == 1
    assert stall.start_ns == pytest.approx(10**12 + 50 * 1.05 * MS + MS, abs=2)


@pytest.mark.parametrize("late_ms, count", [(19.999, 0), (20.0, 0), (20.001, 1)])
def test_the_limit_is_strict(late_ms, count):
    assert len(watched({7: late_ms})[1]) == count


def test_writing_a_stall_down_is_none():
    waits, stalls = watched({50: 35.0}, writing_ms=60.0)
    assert len(stalls) == 1 and waits.longest_ms == pytest.approx(35.0)


def test_lines_come_back_as_stalls_by_time(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text('{"core": 0, "start_ns": 50, "end_ns": 90}\n{"core": 0, "naps": 7, "stalls": 1}\n')
    b.write_text('{"core": 1, "start_ns": 20, "end_ns": 40}\n{"core": 1, "sta')
    stalls, ends = read_stalls([a, b, tmp_path / "absent"])
    assert stalls == [Stall(20, 40, 1), Stall(50, 90, 0)]
    assert ends == [{"core": 0, "naps": 7, "stalls": 1}]


def test_stolen_time_is_read_by_core():
    stat = "cpu  1 2 3 4 5 6 7 800 9 0\ncpu0 1 2 3 4 5 6 7 300 9 0\ncpu1 1 2\n"
    ticks = 1e3 / __import__("os").sysconf("SC_CLK_TCK")
    assert steal_ms(0, stat) == 300 * ticks and steal_ms(None, stat) == 800 * ticks
    assert steal_ms(1, stat) is None and steal_ms(7, stat) is None


def test_a_process_that_is_stopped_for_a_while_says_so(tmp_path):
    """SIGSTOP stands for a computer that does not let it run."""
    out = tmp_path / "out.jsonl"
    core = min(__import__("os").sched_getaffinity(0))
    process = subprocess.Popen([sys.executable, "-m", control.__name__, "--core", str(core),
                                "--out", str(out), "--limit-ms", "150"])
    try:
        limit = time.monotonic() + 20
        while not out.exists() and time.monotonic() < limit:
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.2)
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0
    stalls, (end,) = read_stalls([out])
    assert max(stall.ms for stall in stalls) >= 350 and end["naps"] > 10
    assert end["core"] == core and end["stalls"] == len(stalls)
