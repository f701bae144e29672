"""A call over a line whose other end the test holds."""

import socket
import threading

import numpy as np
import pytest

from perception_bev.engines.base import TensorSpec
from perception_bev.errors import EngineFailed, WorkerLost
from perception_bev.pipeline.remote import COMPUTED, DONE, PATIENCE, RemoteEngine
from perception_bev.pipeline.shared import Layout

SPECS = (TensorSpec("bytes", (4,), np.dtype(np.uint8)),)
FEEDS = {"bytes": np.arange(4, dtype=np.uint8)}


class Slice:
    def __init__(self, size: int) -> None:
        self.whole = bytearray(size)

    def as_memory_view(self) -> memoryview:
        return memoryview(self.whole)


class LoneClient:
    """Request and response are the same bytes: an echo without a worker."""

    def __init__(self) -> None:
        self.slice = Slice(Layout(SPECS).size)
        self.deleted = 0
        self.answers = True

    def client(self, engine, requests):
        return self

    errors = (MemoryError,)
    reserve = loan_slice_uninit = assume_init = send = lambda self, *_: self

    def receive(self):
        return self if self.answers else None

    def payload(self) -> Slice:
        return self.slice

    def delete(self) -> None:
        self.deleted += 1


class Hangs(list):
    """Reasons that were given."""


@pytest.fixture
def hangs():
    return Hangs()


@pytest.fixture
def node():
    return LoneClient()


@pytest.fixture
def engine(hangs, node):
    made = RemoteEngine("fuse", "fuser", 0.05, hangs.append)
    made.describe(node, SPECS, SPECS)
    yield made
    made.close()


@pytest.fixture
def worker(engine):
    """The other end of the line."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    engine.connect(ours, lambda: 0)
    with ours, theirs:
        yield theirs


def test_an_answer_is_taken_out(engine, worker, node):
    worker.send(DONE)
    out = engine.infer(FEEDS)
    node.slice.whole[:] = bytes(len(node.slice.whole))
    assert out["bytes"].tolist() == [0, 1, 2, 3] and worker.recv(9) == b"?"


def test_how_long_the_engine_computed_comes_with_the_answer(engine, worker):
    assert engine.computed_ns is None
    worker.send(DONE + COMPUTED.pack(1_234_567))
    engine.infer(FEEDS)
    assert engine.computed_ns == 1_234_567
    worker.send(b"." * 40)
    with pytest.raises(EngineFailed):
        engine.infer(FEEDS)


def test_without_a_line_a_call_fails_at_once_with_the_reason(engine):
    with pytest.raises(WorkerLost, match="engine fuse: worker 'fuser' is starting"):
        engine.infer(FEEDS)
    engine.disconnect("it burnt")
    with pytest.raises(WorkerLost, match="engine fuse: it burnt"):
        engine.infer(FEEDS)


def test_a_line_that_ends_wakes_the_caller_and_the_reason_is_the_supervisors_if_it_knows_one(
        engine, worker):
    worker.close()
    with pytest.raises(WorkerLost, match="died while it computed"):
        engine.infer(FEEDS)


def test_the_supervisor_wakes_the_caller(engine, worker, hangs):
    engine._line.settimeout(30)
    threading.Timer(0.05, engine.disconnect, ["it was stopped"]).start()
    with pytest.raises(WorkerLost, match="it was stopped"):
        engine.infer(FEEDS)
    assert not hangs


def test_the_text_of_an_error_arrives_and_the_line_stays(engine, worker):
    worker.send(b"no good")
    with pytest.raises(EngineFailed, match="no good") as caught:
        engine.infer(FEEDS)
    assert not isinstance(caught.value, WorkerLost)
    worker.send(DONE)
    engine.infer(FEEDS)


def test_an_error_that_is_kept_keeps_no_request(engine, worker, node):
    worker.send(b"no good")
    with pytest.raises(EngineFailed):
        engine.infer(FEEDS)
    assert node.deleted == 1


def test_an_answer_without_a_response_is_an_error(engine, worker, node):
    node.answers = False
    worker.send(DONE)
    with pytest.raises(EngineFailed, match="answered with nothing"):
        engine.infer(FEEDS)


def test_what_shared_memory_refuses_is_an_error_of_ours(engine, worker, node):
    def refuse(*_):
        raise MemoryError("OutOfMemory")
    node.loan_slice_uninit = refuse
    with pytest.raises(EngineFailed, match="engine fuse: iceoryx2: OutOfMemory"):
        engine.infer(FEEDS)


class Waits:
    """A line on which nothing comes, counting how often it was waited."""

    def __init__(self, answer_at: int = 99) -> None:
        self.count, self._answer_at = 0, answer_at

    def settimeout(self, *_) -> None: ...

    shutdown = close = send = settimeout

    def recv(self, _) -> bytes:
        self.count += 1
        if self.count >= self._answer_at:
            return DONE
        raise TimeoutError


def test_a_living_worker_has_one_time_limit(engine, hangs):
    beats = iter(range(0, 1000, 2))  # 40 ms of heartbeats in a limit of 50 ms
    engine.connect(line := Waits(), lambda: next(beats))
    with pytest.raises(WorkerLost, match="hangs: no answer in 50 ms"):
        engine.infer(FEEDS)
    assert line.count == 1 and len(hangs) == 1


def test_one_that_gets_no_time_to_run_has_some_more(engine, hangs):
    engine.connect(line := Waits(answer_at=PATIENCE), lambda: 0)
    engine.infer(FEEDS)
    assert line.count == PATIENCE and not hangs


def test_but_not_for_ever(engine, hangs):
    engine.connect(line := Waits(), lambda: 0)
    with pytest.raises(WorkerLost, match="hangs"):
        engine.infer(FEEDS)
    assert line.count == PATIENCE and len(hangs) == 1


def test_after_a_hang_no_late_answer_is_taken_for_the_next_call(engine, worker, hangs):
    engine.connect(engine._line, iter(range(0, 1000, 2)).__next__)
    with pytest.raises(WorkerLost, match="hangs"):
        engine.infer(FEEDS)
    with pytest.raises(WorkerLost, match="hangs"):  # at once: the line is gone
        engine.infer(FEEDS)
    with pytest.raises(BrokenPipeError):
        worker.send(DONE)


def test_a_changed_file_is_refused(engine, node):
    with pytest.raises(EngineFailed, match="its file changed"):
        engine.describe(node, SPECS, ())
