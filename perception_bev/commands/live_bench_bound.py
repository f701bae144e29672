"""Commands: how many frames a second the stages could do at best, by what each of them costs.

Three limits that no schedule gets around: a stage takes one frame at a time (longest stage), a core
does one thing at a time (cores), and what runs in the interpreter of one process runs after each
other (serial).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from perception_bev.latency.trace import Trace, kind

STAGES: Mapping[str, tuple[str, ...]] = {  # which spans a stage's thread is busy with
    "extract": ("inputs", "extract_lidar", "extract_radar"),
    "fuse": ("memory", "fuse", "fuse_alone"),
    "decide": ("decide", "post"),
}
SERIAL = ("inputs", "memory", "post")  # NumPy and Python around the engines, in one process


def stages_ms(traces: Sequence[Trace], cameras: Iterable[str], inline: bool,
              decode_threads: int = 1) -> dict[str, float]:
    """Median time a frame of each thread that may run beside the others; NaN without traces.

    Args:
        cameras: names of the rig's cameras: their pictures are decoded in a pool of their own.
        inline: extract, fuse and decide are one thread.
    """
    pictures = {f"decode:{name}" for name in cameras}
    found = {"decode": _median(traces, lambda name: name in pictures) / decode_threads,
             "cameras": _median(traces, lambda name: kind(name) == "extract_camera")}
    ours = {stage: _median(traces, lambda name, names=names: kind(name) in names)
            for stage, names in STAGES.items()}
    return found | ({"extract, fuse, decide": sum(ours.values())} if inline else ours)


def serial_ms(traces: Sequence[Trace]) -> float:
    return _median(traces, lambda name: kind(name) in SERIAL)


def _median(traces: Sequence[Trace], wanted) -> float:
    sums = [sum(end - start for name, start, end in trace.spans if wanted(name)) / 1e6
            for trace in traces]
    return float(np.median(sums)) if sums else float("nan")


def bounds(stages: Mapping[str, float], serial: float, cpu_per_frame_s: float,
           cores: int) -> dict[str, Any]:
    """Frames per second by each limit, and the least; `longest` names the stage."""
    longest = max(stages, key=lambda name: stages[name])
    found = {"longest_stage_hz": _rate(stages[longest] / 1e3), "cores_hz": _rate(
        cpu_per_frame_s / cores), "serial_hz": _rate(serial / 1e3)}
    return {"longest": longest, **{name: round(hz, 2) for name, hz in found.items()},
            "least_hz": round(min(found.values()), 2)}


def _rate(seconds: float) -> float:
    return 1.0 / seconds if seconds > 0 else float("inf")


def share(throughput_hz: float, bound_hz: float) -> float:
    """Of the bound that was reached."""
    return round(throughput_hz / bound_hz, 4) if bound_hz > 0 else float("nan")
