"""Pipeline: the runner, the only scheduler of the stages.

`inline` is the reference: one frame after the other in the caller's thread. `threads` has a thread
a stage and a channel before each, so that the stages of consecutive frames overlap. `processes`
is `threads` with the engines in worker processes (supervisor.py). Frames pass every stage in
their order, so memory and tracks see them in theirs in all modes.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from time import monotonic_ns
from typing import Literal, Protocol

from perception_bev.errors import PerceptionError
from perception_bev.pipeline.channel import Channel, Closed
from perception_bev.pipeline.frame import Frame
from perception_bev.pipeline.output import Failure, Output

Mode = Literal["inline", "threads", "processes"]
STAGES = ("extract", "fuse", "decide")


class Steps(Protocol):
    """What is run: `Perception`."""

    def extract(self, frame: Frame) -> None: ...

    def fuse(self, frame: Frame) -> None: ...

    def decide(self, frame: Frame) -> Output: ...

    def fail(self, frame: Frame, text: str) -> Failure: ...


Deliver = Callable[[Output | Failure], None]  # called by the last stage's thread


class Runner(Protocol):
    """submit() frames in order; what becomes of each is delivered, or counted in `overtaken`."""

    beats: dict[str, int]  # monotonic ns at which a stage last ended a frame

    @property
    def overtaken(self) -> Counter[str]:
        """Frames that a newer one pushed out before a stage."""

    def submit(self, frame: Frame) -> None: ...

    def close(self) -> None: ...


def runner_of(mode: Mode, steps: Steps, deliver: Deliver,
              prepare: Callable[[str], None] = lambda stage: None,
              fault: Callable[[Exception], None] = lambda err: None) -> Runner:
    """
    Args:
        prepare: called with the stage's name in its thread, before its first frame.
        fault: told of errors outside the stages, after which their threads go on. Inline, the
            caller of submit() gets them.
    """
    if mode == "inline":
        return InlineRunner(steps, deliver)
    return ThreadRunner(steps, deliver, prepare, fault)


class InlineRunner:
    """All stages in submit()."""

    def __init__(self, steps: Steps, deliver: Deliver) -> None:
        self._steps, self._deliver = steps, deliver
        self.beats: dict[str, int] = {}
        self.overtaken: Counter[str] = Counter()

    def submit(self, frame: Frame) -> None:
        made: Output | None = None
        for stage in STAGES:
            try:
                made = getattr(self._steps, stage)(frame)
            except Exception as err:
                self._deliver(failed(self._steps, frame, stage, err))
                return
            self.beats[stage] = monotonic_ns()
        self._deliver(made)

    def close(self) -> None:
        pass


class ThreadRunner:
    """A thread a stage."""

    def __init__(self, steps: Steps, deliver: Deliver,
                 prepare: Callable[[str], None] = lambda stage: None,
                 fault: Callable[[Exception], None] = lambda err: None) -> None:
        self._steps, self._deliver, self._prepare, self._fault = steps, deliver, prepare, fault
        self._channels: dict[str, Channel[tuple[Frame, int]]] = {s: Channel() for s in STAGES}
        self.beats: dict[str, int] = {}
        self._threads = [threading.Thread(target=self._run, args=(i,), name=f"stage-{stage}",
                                          daemon=True) for i, stage in enumerate(STAGES)]
        for thread in self._threads:
            thread.start()

    @property
    def overtaken(self) -> Counter[str]:
        return Counter({stage: channel.overtaken for stage, channel in self._channels.items()
                        if channel.overtaken})

    def submit(self, frame: Frame) -> None:
        self._hand_on(0, frame)

    def close(self) -> None:
        """Frames on the way are let go of; waits for those at work."""
        for channel in self._channels.values():
            _let_go(channel.close())
        for thread in self._threads:
            thread.join(timeout=5.0)

    def _hand_on(self, number: int, frame: Frame) -> None:
        _let_go(self._channels[STAGES[number]].put((frame, monotonic_ns())))

    def _run(self, number: int) -> None:
        self._prepare(STAGES[number])
        channel = self._channels[STAGES[number]]
        while True:
            try:
                frame, since = channel.get()
            except Closed:
                return
            frame.trace.add("queue", since, monotonic_ns())
            try:
                self._work(number, frame)
            except Exception as err:  # a stage's thread outlives any frame
                self._fault(err)

    def _work(self, number: int, frame: Frame) -> None:
        stage = STAGES[number]
        try:
            made = getattr(self._steps, stage)(frame)
        except Exception as err:
            self._deliver(failed(self._steps, frame, stage, err))
            return
        self.beats[stage] = monotonic_ns()
        if number + 1 < len(STAGES):
            self._hand_on(number + 1, frame)
        else:
            self._deliver(made)


def failed(steps: Steps, frame: Frame, stage: str, err: Exception) -> Failure:
    """A frame that a stage could not finish."""
    frame.let_go()
    known = isinstance(err, PerceptionError)
    return steps.fail(frame, str(err) if known else
                      f"internal error in {stage}: {type(err).__name__}: {err}")


def _let_go(waiting: tuple[Frame, int] | None) -> None:
    if waiting is not None:
        waiting[0].let_go()
