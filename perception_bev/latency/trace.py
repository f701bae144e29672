"""Latency: the trace of one output, the only record of what happened when."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

Span = tuple[str, int, int]  # name, start, end [monotonic ns]

WAIT = "wait"  # t_ref until the last message that the bundle needed was in, or given up on
TRANSPORT = "transport"  # a message's stamp until its arrival here
DECODE = "decode"
QUEUE = "queue"  # between two stages: made, and not taken up yet
COPY = "copy"  # tensors into and out of a worker
PUBLISH = "publish"  # made, until the middleware has it

# What a frame goes through without anything being computed for it: not covered, so overhead.
IDLE = frozenset({WAIT, TRANSPORT, QUEUE, COPY, PUBLISH})


@dataclass(slots=True)
class Trace:
    """Spans of one output in monotonic ns. `t_ref` is the reference stamp on that clock.

    Decoding and the cameras' backbones run beside each other and before the bundle closes, so
    spans may overlap; what they account for is their union. A span's name may say whose it is
    after a colon ("decode:front"); figures are of what stands before it. Any thread may add.
    """

    t_ref: int  # t_ref as monotonic time
    ready: int  # nothing was waited for any more
    spans: list[Span] = field(default_factory=list)
    published: int | None = None  # handed to the middleware
    id: int = 0  # of the frame, counted up while the process lives
    plan: str = ""  # what the ladder chose
    mode: str = ""  # as `status` says it
    stamp_ns: int = 0  # t_ref as ROS time

    def add(self, name: str, start: int, end: int) -> None:
        self.spans.append((name, start, end))

    def milliseconds(self) -> dict[str, float]:
        """Length of every span by name (decode: all frames), the wait, and t_ref -> published."""
        lengths = {WAIT: self.ready - self.t_ref}
        for name, start, end in self.spans:
            name = kind(name)
            lengths[name] = lengths.get(name, 0) + end - start
        if self.published is not None:
            lengths["total"] = self.published - self.t_ref
        return {name: length / 1e6 for name, length in lengths.items()}

    def covered_ms(self) -> float:
        """Time from `ready` to the publication in which something was computed: the critical
        path. Queues, copies and the publication itself are not (`IDLE`)."""
        covered, reached = 0, self.ready
        until = self.published
        for start, end in sorted([(start, end) for name, start, end in self.spans
                                  if end > reached and kind(name) not in IDLE]):
            start, end = max(start, reached), end if until is None else min(end, until)
            if end > start:
                covered, reached = covered + end - start, end
        return covered / 1e6

    def overhead_ms(self) -> float:
        """From `ready` to the publication, less what the spans account for."""
        if self.published is None:
            raise ValueError("a trace has an overhead when its output is published")
        return (self.published - self.ready) / 1e6 - self.covered_ms()


@lru_cache(1024)  # names are few: sensors and steps
def kind(name: str) -> str:
    """What a span is, without whose it is: "decode:front" -> "decode"."""
    return name.partition(":")[0]

