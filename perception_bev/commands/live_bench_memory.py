"""Commands: resident memory of a running stack, over time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

SETTLED_S = 60.0  # growth counts from here on: pools and caches have filled
WINDOW_S = 10.0  # at both ends, whose medians are compared


@dataclass(frozen=True, slots=True)
class Memory:
    """All processes at one moment."""

    at_s: float  # since the benchmark began to count
    rss_mb: dict[str, float]  # by process: "perception", "perception/4711" of a child

    @property
    def total_mb(self) -> float:
        return sum(self.rss_mb.values())


def sample(processes: Iterable[tuple[str, int]], at_s: float) -> Memory:
    """Now, of (name, pid) and all that they started. Who has ended meanwhile is left out."""
    import psutil

    found: dict[str, float] = {}
    for name, pid in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            found[name] = root.memory_info().rss / 1e6
            for child in root.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[f"{name}/{child.pid}"] = child.memory_info().rss / 1e6
    return Memory(at_s, found)


def growth_mb(samples: Sequence[Memory], after_s: float = SETTLED_S,
              window_s: float = WINDOW_S) -> float:
    """Sum over the processes: median of the last seconds - median of those after the first minute.
    NaN when the run was too short for two such windows."""
    if not samples or samples[-1].at_s < after_s + 2 * window_s:
        return float("nan")
    last = samples[-1].at_s
    early = [m.total_mb for m in samples if after_s <= m.at_s < after_s + window_s]
    late = [m.total_mb for m in samples if m.at_s > last - window_s]
    return float(np.median(late) - np.median(early)) if early else float("nan")
