"""Latency: traces as a timeline: rows of bars, and those as Chrome's trace event format.

The format opens in ui.perfetto.dev and chrome://tracing ("Trace Event Format", Google).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from perception_bev.latency.trace import COPY, DECODE, PUBLISH, QUEUE, TRANSPORT, WAIT, Trace, kind

ROWS: dict[str, tuple[str, ...]] = {  # in the order of the flow: row -> kinds of its spans
    "wait": (WAIT,),
    "transport": (TRANSPORT,),
    "decode": (DECODE,),
    "cameras": ("extract_camera",),
    "extract": ("inputs", "lift", "extract_lidar", "extract_radar"),
    "fuse": ("memory", "fuse", "fuse_alone"),
    "decide": ("decide", "post", "track"),
    "publish": (PUBLISH,),
    "queue": (QUEUE,),
    "copy": (COPY,),
}
_ROW_OF = {name: row for row, names in ROWS.items() for name in names}
NO_STEPS = frozenset({WAIT, TRANSPORT, QUEUE, COPY})  # of a frame: no arrow goes there
PROCESS = 1  # one: what runs in which process is the runner's affair, not the frame's


@dataclass(frozen=True, slots=True)
class Bar:
    """A span in its row; bars of one row and lane do not overlap."""

    row: str
    lane: int
    frame: int  # index of its trace: ids begin anew when a node does
    name: str
    start: int  # [monotonic ns]
    end: int


def bars_of(traces: Iterable[Trace]) -> list[Bar]:
    """All spans as bars, by start. A span that served two frames (a picture that was used again)
    is drawn once, for the first."""
    spans: dict[tuple[str, int, int], int] = {}
    for frame, trace in enumerate(traces):
        for name, start, end in ((WAIT, trace.t_ref, trace.ready), *trace.spans):
            if end >= start:
                spans.setdefault((name, start, end), frame)
    free: dict[str, list[int]] = {}  # row -> end of the last bar by lane
    bars = []
    for (name, start, end), frame in sorted(spans.items(), key=lambda item: item[0][1:]):
        row = row_of(name)
        bars.append(Bar(row, _lane(free.setdefault(row, []), start, end), frame, name, start, end))
    return bars


def row_of(name: str) -> str:
    """Where a span is drawn; a kind that no row knows has one of its own."""
    return _ROW_OF.get(kind(name), kind(name))


def rows_of(bars: Iterable[Bar]) -> list[tuple[str, int]]:
    """(row, lane) of everything drawn, from the first step to the last."""
    order = list(ROWS)
    return sorted({(bar.row, bar.lane) for bar in bars}, key=lambda place: (
        order.index(place[0]) if place[0] in order else len(order), *place))


def chrome(traces: Sequence[Trace]) -> dict[str, Any]:
    """The JSON object: a thread a row, arrows along each frame, marks at t_ref and publication.
    Times are in µs since the earliest; `otherData.origin_ns` is that on the monotonic clock."""
    bars = bars_of(traces)
    origin = min([bar.start for bar in bars], default=0)
    threads = {place: number for number, place in enumerate(rows_of(bars), 1)}
    about = [{"frame": trace.id, "plan": trace.plan, "mode": trace.mode} for trace in traces]
    events = [*_names(threads), *_marks(traces, threads, origin)]
    steps: dict[int, list[Bar]] = {}
    for bar in bars:
        thread = threads[bar.row, bar.lane]
        events.append({"ph": "X", "pid": PROCESS, "tid": thread, "name": bar.name,
                       "cat": bar.row, "ts": _us(bar.start, origin),
                       "dur": (bar.end - bar.start) / 1e3, "args": about[bar.frame]})
        if kind(bar.name) not in NO_STEPS:
            steps.setdefault(bar.frame, []).append(bar)
    for frame, way in steps.items():
        events += _arrows(frame, way, threads, origin)
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"origin_ns": origin}}


def _lane(ends: list[int], start: int, end: int) -> int:
    """The first lane that is free at `start`, taken until `end`."""
    for lane, taken in enumerate(ends):
        if taken <= start:
            ends[lane] = end
            return lane
    ends.append(end)
    return len(ends) - 1


def _names(threads: dict[tuple[str, int], int]) -> list[dict[str, Any]]:
    events = [_meta("process_name", 0, name="perception")]
    for (row, lane), thread in threads.items():
        label = row if lane == 0 else f"{row} {lane + 1}"
        events += [_meta("thread_name", thread, name=label),
                   _meta("thread_sort_index", thread, sort_index=thread)]
    return events


def _meta(what: str, thread: int, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "pid": PROCESS, "tid": thread, "name": what, "args": args}


def _marks(traces: Iterable[Trace], threads: dict[tuple[str, int], int],
           origin: int) -> list[dict[str, Any]]:
    """Instants at t_ref and at the publication of each frame."""
    places = {"t_ref": threads.get(("wait", 0), 1),
              "published": threads.get(("publish", 0), threads.get(("decide", 0), 1))}
    return [{"ph": "i", "s": "t", "pid": PROCESS, "tid": places[name], "name": f"{name} {trace.id}",
             "ts": _us(at, origin)}
            for trace in traces for name, at in (("t_ref", trace.t_ref),
                                                 ("published", trace.published)) if at is not None]


def _arrows(frame: int, way: list[Bar], threads: dict[tuple[str, int], int],
            origin: int) -> list[dict[str, Any]]:
    """A flow through the frame's steps, from bar to bar."""
    if len(way) < 2:
        return []
    phases = ["s", *["t"] * (len(way) - 2), "f"]
    return [{"ph": phase, "bp": "e", "id": frame, "pid": PROCESS, "cat": "frame", "name": "frame",
             "tid": threads[bar.row, bar.lane], "ts": _us(bar.start, origin)}
            for phase, bar in zip(phases, way, strict=True)]


def _us(at: int, origin: int) -> float:
    return (at - origin) / 1e3
