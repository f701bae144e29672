"""Pipeline: the outlet. Results and the guard's predictions leave here, one a period, from one
thread, so that their stamps are in order and nothing else can hold them up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from perception_bev.latency.guard import Guard, Miss
from perception_bev.outputs.track import Tracks
from perception_bev.pipeline.output import Failure, Output

IDLE_S = 0.5  # the outlet looks around at least so often
REPLAYED_S = 0.02  # under /clock, which may stop at any moment


class Sink(Protocol):
    """Where outputs go. Called by the outlet's thread alone."""

    def output(self, output: Output) -> None:
        """A result in time: what has a deadline. Sets `output.trace.published`."""

    def afterwards(self, output: Output) -> None:
        """What else there is to say of it."""

    def missed(self, miss: Miss, tracks: Tracks | None, why: str) -> None:
        """A period without one: tracks carried on to its stamp, None where nobody knows."""

    def late(self, output: Output) -> None:
        """A result that came after its period was answered; only to be noted."""


class Outlet:
    """closed() when a bundle closes, deliver() what becomes of it; run() in a thread of its own."""

    def __init__(self, guard: Guard, sink: Sink, clock: Callable[[], int],
                 predict: Callable[[int, int], Tracks | None],
                 stamp_now: Callable[[], int] | None = None,
                 fault: Callable[[Exception], None] = lambda err: None) -> None:
        """
        Args:
            clock: monotonic ns.
            predict: (t_ref [ns], epoch) -> tracks there, from any thread.
            fault: told of errors of ours, after which it goes on.
            stamp_now: what the clock of the stamps shows [ns], where that is /clock; None: live.
        """
        self.guard, self._sink, self._clock, self._predict = guard, sink, clock, predict
        self._stamp_now, self._fault = stamp_now, fault
        self._patience_s = IDLE_S if stamp_now is None else REPLAYED_S
        self._changed = threading.Condition()
        self._done: deque[tuple[Output | Failure, int]] = deque()  # and when it came
        self._stopping = False
        self._why = ""  # the last failure since the last output

    def closed(self, t_ref_ns: int, t_ref_mono: int, epoch: int, rate: float) -> None:
        """A bundle of this reference time exists."""
        with self._changed:
            self.guard.closed(t_ref_ns, t_ref_mono, epoch, rate)
            self._changed.notify()

    def due_of(self, t_ref_ns: int, epoch: int) -> int | None:
        """As the guard's, from any thread."""
        with self._changed:
            return self.guard.due_of(t_ref_ns, epoch)

    def deliver(self, made: Output | Failure) -> None:
        with self._changed:
            self._done.append((made, self._clock()))
            self._changed.notify()

    def run(self) -> None:
        """Until stop()."""
        while not self._stopping:
            try:
                self._do(*self._next())
            except Exception as err:  # whatever it was, the next period has an output
                if not self._stopping:
                    self._fault(err)

    def _do(self, made: Output | Failure | None, since: int | None) -> None:
        if isinstance(made, Output):
            self._give(made, since)
        elif isinstance(made, Failure):
            self._give_up(made)
        elif since is not None:
            self._fire()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def _next(self) -> tuple[Output | Failure | None, int | None]:
        """Wait for the next result, and since when it is there; or for the time at which the guard
        wants to speak; both None: it is over."""
        with self._changed:
            while not self._stopping:
                if self._done:
                    return self._done.popleft()
                now = self._aligned()
                due = self.guard.due()
                if due is not None and due <= now:
                    return None, due
                wait_s = self._patience_s if due is None else (due - now) / 1e9
                self._changed.wait(min(wait_s, self._patience_s))
        return None, None

    def _aligned(self) -> int:
        now = self._clock()
        if self._stamp_now is not None:
            self.guard.align(now, self._stamp_now())
        return now

    def _give(self, output: Output, since: int) -> None:
        """What it takes from a result that is there to its publication, a prediction would take
        too: it is what the guard's margin is made of."""
        with self._changed:
            verdict = self.guard.result(output.t_ref_ns, output.epoch, self._clock())
        self._speak(verdict.before)
        if verdict:
            self._why = ""
            try:
                self._sink.output(output)
                with self._changed:
                    self.guard.published(since, self._clock())
            finally:
                self._sink.afterwards(output)
        else:
            self._sink.late(output)

    def _give_up(self, failure: Failure) -> None:
        self._why = failure.text
        with self._changed:
            miss = self.guard.failed(failure.t_ref_ns, failure.epoch, self._clock())
        self._speak(() if miss is None else (miss,))

    def _fire(self) -> None:
        while True:
            with self._changed:
                miss = self.guard.fire(self._aligned())
            if miss is None:
                return
            self._speak((miss,))
            with self._changed:
                self.guard.published(miss.due, self._clock())

    def _speak(self, misses: Iterable[Miss]) -> None:
        for miss in misses:
            tracks = None if miss.safe or miss.overdue else self._predict(miss.t_ref_ns, miss.epoch)
            self._sink.missed(miss, tracks, self._why)
