"""Commands: the control process of live benchmarks: how long did this computer keep a thread that
was ready to run waiting? It sleeps a millisecond, over and over, and does nothing else; where it
wakes up much too late, nobody else of its priority on that core could have been on time.

A process a core, at the stack's own priority: python -m perception_bev.commands.live_bench_control
--core 0 --out FILE. Only the standard library, so that it has no threads and no memory to wait for.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAP_MS = 1.0
LIMIT_MS = 20.0  # a wait that is longer is a stall


@dataclass(frozen=True, slots=True)
class Stall:
    """The control was ready to run from `start_ns` on and ran at `end_ns` [monotonic]."""

    start_ns: int
    end_ns: int
    core: int | None = None  # None: of several

    @property
    def ms(self) -> float:
        return (self.end_ns - self.start_ns) / 1e6


@dataclass(slots=True)
class Waits:
    """What one control saw."""

    naps: int = 0
    stalls: int = 0
    longest_ms: float = 0.0  # over all naps


def watch(clock: Callable[[], int], sleep: Callable[[float], None], stopped: Callable[[], bool],
          say: Callable[[int, int], None], nap_ns: int, limit_ns: int) -> Waits:
    """Nap until `stopped`; `say(start, end)` of every stall [ns of `clock`]."""
    waits, before = Waits(), clock()
    while not stopped():
        sleep(nap_ns * 1e-9)
        now = clock()
        late = now - before - nap_ns
        waits.naps += 1
        waits.longest_ms = max(waits.longest_ms, late / 1e6)
        if late > limit_ns:
            waits.stalls += 1
            say(before + nap_ns, now)
            now = clock()  # writing it down is no wait
        before = now
    return waits


def read_stalls(files: Iterable[Path]) -> tuple[list[Stall], list[dict[str, Any]]]:
    """(stalls by their start, each control's last words). A line that was torn is left out."""
    stalls, ends = [], []
    for file in files:
        for line in file.read_text().splitlines() if file.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):
                values = json.loads(line)
                if "naps" in values:
                    ends.append(values)
                else:
                    stalls.append(Stall(values["start_ns"], values["end_ns"], values["core"]))
    return sorted(stalls, key=lambda stall: stall.start_ns), ends


def steal_ms(core: int | None, stat: str) -> float | None:
    """Time that the hypervisor gave to others, from the text of /proc/stat; None: not known."""
    name = "cpu" if core is None else f"cpu{core}"
    words = next((line.split() for line in stat.splitlines() if line.split()[:1] == [name]), [])
    return float(words[8]) * 1e3 / os.sysconf("SC_CLK_TCK") if len(words) > 8 else None


def _steal_now(core: int) -> float | None:
    try:
        return steal_ms(core, Path("/proc/stat").read_text())
    except OSError:  # not Linux
        return None


def _settle(core: int, nice: int) -> None:
    """On one core, at the stack's priority; what is not permitted is said."""
    try:
        os.sched_setaffinity(0, {core})
        if nice:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
    except (OSError, AttributeError) as err:
        print(f"control of core {core}: {err}", file=sys.stderr)
    gc.disable()


def main(args: list[str] | None = None) -> int:
    """Entry point: until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--nap-ms", type=float, default=NAP_MS)
    parser.add_argument("--limit-ms", type=float, default=LIMIT_MS)
    chosen = parser.parse_args(args)
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    _settle(chosen.core, chosen.nice)
    with chosen.out.open("w", buffering=1) as file:
        stolen = _steal_now(chosen.core)
        waits = watch(time.monotonic_ns, time.sleep, lambda: bool(signals),
                      lambda start, end: _line(file, core=chosen.core, start_ns=start, end_ns=end),
                      round(chosen.nap_ms * 1e6), round(chosen.limit_ms * 1e6))
        after = _steal_now(chosen.core)
        steal = None if None in (stolen, after) else round(after - stolen, 1)
        _line(file, core=chosen.core, naps=waits.naps, stalls=waits.stalls,
              longest_ms=round(waits.longest_ms, 3), steal_ms=steal)
    return 0


def _line(file: Any, **values: Any) -> None:
    file.write(json.dumps(values) + "\n")


if __name__ == "__main__":
    sys.exit(main())
