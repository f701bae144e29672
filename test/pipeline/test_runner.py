"""One scheduler, three modes, one behaviour."""

import threading
from collections import Counter
from dataclasses import dataclass, field

import pytest
from driving import START_NS, Drive, same_boxes, wait_for

from perception_bev.errors import EngineFailed
from perception_bev.latency.trace import QUEUE, Trace
from perception_bev.pipeline.output import Failure, Output
from perception_bev.pipeline.runner import STAGES, runner_of
from perception_bev.pipeline.supervisor import Supervisor

LOCAL = ("inline", "threads")


@dataclass(eq=False)
class Work:
    """A frame that only counts."""

    number: int
    trace: Trace = field(default_factory=lambda: Trace(0, 0))
    released: int = 0

    def let_go(self) -> None:
        self.released += 1


class Steps:
    """Notes who did what; some stages wait for a gate, some fail."""

    def __init__(self, failing: dict[tuple[str, int], Exception] | None = None) -> None:
        self.failing = failing or {}
        self.done: list[tuple[str, int]] = []
        self.threads: dict[str, set[str]] = {stage: set() for stage in STAGES}
        self.gates: dict[str, threading.Event] = {}
        self.entered: Counter[str] = Counter()

    def _step(self, stage: str, work: Work) -> None:
        self.entered[stage] += 1
        if stage in self.gates:
            assert self.gates[stage].wait(30)
            if stage == "fuse" and work.number:  # the frame before has been taken up by then
                wait_for(lambda: self.entered["decide"])
        self.threads[stage].add(threading.current_thread().name)
        if (stage, work.number) in self.failing:
            raise self.failing[stage, work.number]
        self.done.append((stage, work.number))

    def extract(self, work):
        self._step("extract", work)

    def fuse(self, work):
        self._step("fuse", work)

    def decide(self, work):
        self._step("decide", work)
        return work.number

    def fail(self, work, text):
        return f"{work.number}: {text}"


@pytest.mark.parametrize("mode", LOCAL)
def test_every_frame_passes_all_stages_in_order(mode):
    steps, made = Steps(), []
    runner = runner_of(mode, steps, made.append)
    for number in range(5):
        runner.submit(Work(number))
        wait_for(lambda n=number: len(made) == n + 1)
    runner.close()
    assert made == list(range(5)) and not runner.overtaken
    assert [done for done in steps.done if done[1] == 3] == [(stage, 3) for stage in STAGES]
    assert set(runner.beats) == set(STAGES)
    assert len(set.union(*steps.threads.values())) == (1 if mode == "inline" else 3)


@pytest.mark.parametrize("mode", LOCAL)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("error", "text"), [
    (EngineFailed("engine fuse: gone"), "1: engine fuse: gone"),
    (ZeroDivisionError("oh"), "1: internal error in {stage}: ZeroDivisionError: oh")])
def test_a_frame_that_fails_is_said_and_the_next_ones_come(mode, stage, error, text):
    steps, made = Steps({(stage, 1): error}), []
    runner = runner_of(mode, steps, made.append)
    works = [Work(number) for number in range(3)]
    for number, work in enumerate(works):
        runner.submit(work)
        wait_for(lambda n=number: len(made) == n + 1)
    runner.close()
    assert made == [0, text.format(stage=stage), 2]
    assert works[1].released == 1


@pytest.mark.parametrize("where", ["fail", "deliver"])
def test_an_error_after_a_stage_is_told_and_its_thread_goes_on(where):
    steps, made, told = Steps({("extract", 0): EngineFailed("gone")}), [], []

    def deliver(what):
        if where == "deliver" and not told:
            raise KeyError("nobody listens")
        made.append(what)

    if where == "fail":
        steps.fail = None  # cannot be called
    runner = runner_of("threads", steps, deliver, fault=told.append)
    runner.submit(Work(0))
    wait_for(lambda: told, "the error")
    runner.submit(Work(1))
    wait_for(lambda: made == [1], "the next frame")
    runner.close()
    assert isinstance(told[0], TypeError if where == "fail" else KeyError)


def test_stages_of_consecutive_frames_overlap_and_the_newest_wins():
    steps, made = Steps(), []
    steps.gates = {"fuse": threading.Event(), "decide": threading.Event()}
    runner = runner_of("threads", steps, made.append)
    works = [Work(number) for number in range(5)]
    runner.submit(works[0])
    wait_for(lambda: steps.entered["fuse"] == 1, "the first in fuse")
    for number in range(1, 5):
        runner.submit(works[number])
        wait_for(lambda n=number: ("extract", n) in steps.done, "extract beside it")
    wait_for(lambda: runner.overtaken["fuse"] == 3, "three overtaken")
    steps.gates["fuse"].set()
    wait_for(lambda: steps.entered["fuse"] == 2 and steps.entered["decide"] == 1)
    steps.gates["decide"].set()
    wait_for(lambda: made == [0, 4], "the first and the newest")
    runner.close()
    assert [work.released for work in works] == [0, 1, 1, 1, 0]
    assert [number for stage, number in steps.done if stage == "fuse"] == [0, 4]
    assert {name for name, _, _ in works[4].trace.spans} == {QUEUE}


def test_close_lets_go_of_what_waits():
    steps, made = Steps(), []
    steps.gates["extract"] = threading.Event()
    runner = runner_of("threads", steps, made.append)
    works = [Work(0), Work(1)]
    runner.submit(works[0])
    wait_for(lambda: steps.entered["extract"] == 1)
    runner.submit(works[1])
    closing = threading.Thread(target=runner.close)
    closing.start()
    wait_for(lambda: works[1].released == 1, "the one that waited")
    steps.gates["extract"].set()
    closing.join(10)
    assert not closing.is_alive() and made == []
    late = Work(2)
    runner.submit(late)
    assert late.released == 1, "nobody works any more"


class Delivered(list):
    """What came out, one after the other."""

    def next(self, count: int) -> Output | Failure:
        wait_for(lambda: len(self) >= count, "an output")
        return self[count - 1]


def outputs_of(model, mode: str, cycles: int) -> list[Output]:
    """A drive through a runner, one frame at a time."""
    found = Delivered()
    with Drive(model) as drive:
        supervisor = None
        if mode == "processes":
            supervisor = Supervisor.of_model(model, drive.deployment)
            drive.perception.stages.engines = dict(supervisor.engines)
        runner = runner_of(mode, drive.perception, found.append)
        drive.perception.tick = lambda now: _submitted(drive.perception, runner, now, found)
        for number in range(cycles):
            drive.cycle(number)
        runner.close()
        if supervisor is not None:
            supervisor.close()
    return list(found)


def _submitted(perception, runner, now, found):
    """In place of tick(): what was opened goes through the runner."""
    frame = perception.open(now)
    if frame is None:
        return None
    count = len(found)
    runner.submit(frame)
    return found.next(count + 1)


@pytest.mark.parametrize("mode", [*LOCAL, "processes"])
def test_all_modes_give_the_same_bit_by_bit(remembering_model, mode):
    """With memory and tracks, when nothing is overtaken."""
    with Drive(remembering_model) as drive:
        wanted = [output for number in range(6) for output in drive.cycle(number)]
    found = outputs_of(remembering_model, mode, 6)
    assert [o.t_ref_ns for o in found] == [START_NS + k * 100_000_000 for k in range(6)]
    for one, other in zip(found, wanted, strict=True):
        assert len(other.boxes) > 0 and same_boxes(one.boxes, other.boxes)
        assert one.history_s == other.history_s
        assert same_boxes(one.tracks.boxes, other.tracks.boxes)
        assert (one.tracks.id == other.tracks.id).all()

