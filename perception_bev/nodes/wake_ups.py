"""Nodes: how late a thread that wants to run every few milliseconds is. No rclpy, so that the same
thread runs in a process by itself, as a control of what the computer alone does to it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence

PERIOD_NS = 10_000_000


def delays_ns(count: int, clock: Callable[[], int] = time.monotonic_ns,
              wait: Callable[[float], object] | None = None,
              period_ns: int = PERIOD_NS) -> list[int]:
    """How late each of `count` due times, one every `period_ns`, was noticed.

    The due times stand still: a thread that is held up for five periods is late five times. It
    waits as the output guard does, on a condition with a time limit [s].
    """
    if wait is None:
        wait = _condition_wait
    begin, late = clock(), []
    for number in range(1, count + 1):
        due = begin + number * period_ns
        while (left := due - clock()) > 0:
            wait(left / 1e9)
        late.append(clock() - due)
    return late


def _condition_wait(seconds: float) -> None:
    condition = threading.Condition()
    with condition:
        condition.wait(seconds)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point: seconds as the only word; delays as JSON on stdout."""
    words = sys.argv[1:] if args is None else args
    print(json.dumps(delays_ns(round(float(words[0]) * 1e9 / PERIOD_NS))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
