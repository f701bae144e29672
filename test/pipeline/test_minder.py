"""A worker's lives by an injected clock, with a child that does what the test says."""

import os
import socket
from typing import ClassVar

import pytest

from perception_bev.errors import WorkerLost
from perception_bev.pipeline import minder as room
from perception_bev.pipeline.job import EngineJob, Job, specs_to_json
from perception_bev.pipeline.minder import Minder
from perception_bev.pipeline.shared import Place
from perception_bev.pipeline.vitals import Limits
from perception_bev.pipeline.worker import Echo

SECOND = 1_000_000_000
LIMITS = Limits(look_s=0.025, silent_s=0.3, doubt_s=0.06, start_s=30.0, second_wait_s=0.1,
                steady_s=10.0, give_up_after=3)
SPECS = [specs_to_json(Echo(4).inputs)] * 2


class FakeChild:
    """Dies when told to, by a pipe that becomes readable."""

    made: ClassVar[list["FakeChild"]] = []

    def __init__(self, name: str, job: Job, place: Place) -> None:
        self.pid, self.beat_ns, self.speechless, self.is_stopped = 1, 0, False, False
        self.ended, self._death = os.pipe()
        self.control, self._other = socket.socketpair()
        self._ends = [socket.socketpair() for _ in job.engines]
        self.lines = {n: ends[0] for n, ends in zip(job.engines, self._ends, strict=True)}
        self.words: list[dict] = []
        self.goes_on = self.killed = False
        FakeChild.made.append(self)

    def said(self):
        return self.words.pop(0) if self.words else None

    def beats(self) -> int:
        return 0

    def stopped(self) -> bool:
        return self.is_stopped

    def go_on(self) -> None:
        self.goes_on = True

    def kill(self) -> None:
        self.killed = True
        self.die()

    def die(self) -> None:
        os.write(self._death, b"x")

    def reap(self) -> str:
        return "killed by SIGKILL" if self.killed else "exit code 3"

    def close(self) -> None:
        for descriptor in (self.ended, self._death):
            os.close(descriptor)
        for end in (self.control, self._other, *(e for ends in self._ends for e in ends)):
            end.close()


class FakeNode:
    errors = ()

    def __init__(self) -> None:
        self.clients = 0

    def client(self, engine, requests):
        self.clients += 1
        return object()

    def reserve(self) -> None:
        pass


@pytest.fixture
def minder(monkeypatch):
    monkeypatch.setattr(room, "Child", FakeChild)
    FakeChild.made = []
    made = Minder("fuse", Job({"fuse": EngineJob(echo_bytes=4)}), FakeNode(), Place("", ""),
                  LIMITS, lambda: None)
    yield made
    made.close()


def child() -> FakeChild:
    return FakeChild.made[-1]


def serve(minder: Minder, now: int) -> None:
    """From nothing to a worker that serves at `now`."""
    minder.look(now)
    child().beat_ns = now
    child().words = [{"specs": {"fuse": SPECS}}, {"serving": []}]
    minder.look(now)


def states(minder: Minder) -> tuple:
    return minder.state(0).state, minder.state(0).restarts


def test_it_serves_when_it_says_so_and_not_before(minder):
    minder.look(0)
    assert states(minder) == ("starting", 0) and not minder.settled
    child().words = [{"specs": {"fuse": SPECS}}]
    minder.look(1)
    assert child().goes_on and states(minder) == ("starting", 0)
    child().words = [{"serving": ["nice -5: not permitted"]}]
    minder.look(2)
    assert states(minder) == ("running", 0) and minder.settled and minder.failed is None
    assert minder.state(2).reason == "nice -5: not permitted"


def test_its_own_words_are_the_reason_of_a_start_that_failed(minder):
    minder.look(0)
    child().words = [{"failed": "EngineMismatch", "text": "bad file"}]
    child().die()
    minder.look(1)
    assert minder.failed == ("EngineMismatch", "bad file") and minder.settled


def test_one_that_never_serves_is_killed_when_its_time_is_over(minder):
    minder.look(0)
    minder.look(30 * SECOND)
    assert not child().killed
    minder.look(30 * SECOND + 1)
    assert child().killed and "did not serve within 30 s" in minder.state(0).reason


def test_a_stopped_one_is_killed_when_its_heartbeat_is_old_enough_to_ask(minder):
    serve(minder, SECOND)
    child().is_stopped = True
    minder.look(SECOND + 60_000_000)
    assert not child().killed
    minder.look(SECOND + 60_000_001)
    child().is_stopped = False  # it was woken a little later than its supervisor
    minder.look(SECOND + 60_000_002)
    child().is_stopped = True
    minder.look(SECOND + 60_000_003)
    assert not child().killed
    minder.look(SECOND + 60_000_004)
    assert child().killed and "is stopped" in minder.state(0).reason


def test_an_old_heartbeat_alone_condemns_nobody_until_it_lasts(minder):
    serve(minder, SECOND)
    looks = range(SECOND, 2 * SECOND, 25_000_000)
    ended = next(now for now in looks if minder.look(now) or child().killed)
    assert ended == SECOND + 300_000_000
    assert "is silent" in minder.state(0).reason


def test_a_hang_condemns_at_the_next_look(minder):
    serve(minder, SECOND)
    minder._hangs("worker 'fuse' hangs")
    minder.look(SECOND + 1)
    assert child().killed and minder.state(0).reason == "worker 'fuse' hangs"
    minder.look(SECOND + 2)  # it is dead, and the next one
    minder.look(SECOND + 3)  # is not condemned for it
    child().beat_ns = SECOND + 3
    minder.look(SECOND + 4)
    assert len(FakeChild.made) == 2 and not child().killed


def test_the_next_one_takes_over_the_same_client(minder):
    serve(minder, 0)
    child().die()
    minder.look(1)
    assert states(minder) == ("lost", 1) and minder.state(1).pid is None
    serve(minder, 2)
    assert states(minder) == ("running", 1) and minder._node.clients == 1
    assert minder.state(2).reason == "worker 'fuse' died (exit code 3)"


def test_an_engine_that_changed_meanwhile_does_not_serve(minder):
    serve(minder, 0)
    child().die()
    minder.look(1)
    minder.look(2)
    child().words = [{"specs": {"fuse": [specs_to_json(Echo(5).inputs)] * 2}}, {"serving": []}]
    minder.look(3)
    assert child().killed and "its file changed" in minder.state(3).reason
    assert not child().goes_on


def test_restarts_wait_longer_and_end(minder):
    serve(minder, 0)
    started = []
    for now in range(0, 2 * SECOND, 1_000_000):
        before = len(FakeChild.made)
        minder.look(now)
        if len(FakeChild.made) > before:
            started.append(now // 1_000_000)
        if minder.state(now).pid and not child().killed:
            child().kill()
    assert started == [2, 103, 304]  # at once, after 100 ms, after 200 ms, then no more
    assert minder.state(0).state == "lost" and "given up after 4 deaths" in minder.state(0).reason
    with pytest.raises(WorkerLost, match="given up"):
        minder.engines["fuse"].infer({"bytes": Echo(4).infer({"bytes": _zeros()})["bytes"]})


def test_no_process_to_be_had_is_a_death_too(minder, monkeypatch):
    serve(minder, 0)
    child().die()

    def none_left(*_):
        raise OSError(24, "Too many open files")

    minder.look(1)
    monkeypatch.setattr(room, "Child", none_left)
    minder.look(2)
    assert states(minder) == ("lost", 2)
    assert "could not be started: [Errno 24]" in minder.state(2).reason
    monkeypatch.setattr(room, "Child", FakeChild)
    serve(minder, SECOND)
    assert states(minder) == ("running", 2)


def _zeros():
    import numpy as np
    return np.zeros(4, np.uint8)
