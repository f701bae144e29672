"""Nodes: the process of `bev bench ingest`: the perception node's subscriptions before nothing that
computes, and what the executor's thread spends on them. Figures as JSON on stdout."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode

from perception_bev.errors import ConfigError
from perception_bev.nodes import ingest_load, serialized, spin
from perception_bev.nodes.clock import ClockReader
from perception_bev.nodes.degrade import DegradeReceiver
from perception_bev.nodes.lean_executor import LeanExecutor
from perception_bev.nodes.subscriptions import Subscriptions
from perception_bev.rig import load_rig
from perception_bev.tf import TransformTree

PATIENCE_S, SETTLE_S = 30.0, 1.0
TAKING = {"unlocked": "unlocked", "rclpy": "rclpy", "typed": None}
EXECUTORS: dict[str, Callable[[], Executor]] = {"lean": LeanExecutor,
                                                "rclpy": SingleThreadedExecutor}


@dataclass(frozen=True)
class Trial:
    """What is tried."""

    rig: str  # its file
    executor: str = "lean"  # or rclpy: its SingleThreadedExecutor
    taking: str = "unlocked"  # or rclpy, typed
    seconds: float = 20.0

    def __post_init__(self) -> None:
        for name, known in (("executor", EXECUTORS), ("taking", TAKING)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}: '{getattr(self, name)}'; known: {', '.join(known)}")


@dataclass
class Measured:
    """What came of it. CPU times are the executor's thread's, a message."""

    received: dict[str, int] = field(default_factory=dict)  # by sensor, and "odometry"
    refused: dict[str, int] = field(default_factory=dict)  # by reason
    rate: float = 0.0  # messages a second that are sent
    seconds: float = 0.0
    locked_ms: float = 0.0  # Python's lock held
    unlocked_ms: float = 0.0  # in calls that let go of it: waiting, taking, freeing
    waits: float = 0.0
    cpu_share: float = 0.0  # of one core, the whole process: the middleware's threads too
    notes: list[str] = field(default_factory=list)


class Counting:
    """Stands where `Perception` stands, and drops everything."""

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def push(self, sensor: str, raw: Any, now: Any) -> None:
        self.received[sensor] += 1

    def push_odometry(self, *reading: Any) -> None:
        self.received["odometry"] += 1

    def refuse(self, sensor: str, reason: str, now: Any) -> None:
        self.refused[reason] += 1


class Unlocked:
    """Stands before the calls that let go of the lock, and adds up the CPU time in them. What it
    takes itself is counted as locked."""

    def __init__(self) -> None:
        self.seconds, self.waits = 0.0, 0
        wait, rcl = rclpy_implementation.WaitSet.wait, serialized._rcl()

        def counted(wait_set: Any, timeout_ns: int) -> None:
            self.waits += 1
            timed(wait_set, timeout_ns)

        timed = self._timed(wait)
        rclpy_implementation.WaitSet.wait = counted
        if not isinstance(rcl, str):
            rcl._take, rcl._free = self._timed(rcl._take), self._timed(rcl._free)

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*words: Any) -> Any:
            began = time.thread_time()
            found = call(*words)
            self.seconds += time.thread_time() - began
            return found
        return timed


def measure(trial: Trial, counting: Counting, unlocked: Unlocked,
            rates: dict[str, float]) -> Measured:
    """In a thread beside the executor's, which is the main one."""
    end = time.monotonic() + PATIENCE_S
    while not set(rates) <= set(counting.received):
        if time.monotonic() > end:
            return Measured(notes=[f"not all was heard: {dict(counting.received)}"])
        time.sleep(0.05)
    time.sleep(SETTLE_S)
    executor = time.pthread_getcpuclockid(threading.main_thread().ident)
    before, began, cpu = counting.received.copy(), time.monotonic(), time.process_time()
    spent, unlocked_s, waits = time.clock_gettime(executor), unlocked.seconds, unlocked.waits
    time.sleep(trial.seconds)
    spent, waits = time.clock_gettime(executor) - spent, unlocked.waits - waits
    unlocked_s, seconds = unlocked.seconds - unlocked_s, time.monotonic() - began
    received = {name: count - before[name] for name, count in counting.received.items()}
    count = sum(received.values()) or 1
    return Measured(received, dict(counting.refused), sum(rates.values()), seconds,
                    (spent - unlocked_s) / count * 1e3, unlocked_s / count * 1e3, waits / count,
                    (time.process_time() - cpu) / seconds)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point: a Trial as JSON is the only word."""
    words = sys.argv[1:] if args is None else args
    trial, found = Trial(**json.loads(words[0])), []
    stopping, rig = spin.init(ingest_load.ARGUMENTS), load_rig(trial.rig)
    node, counting = LifecycleNode("ingest_probe"), Counting()
    inputs = Subscriptions(node, rig, ClockReader(node), TransformTree(), {},
                           TAKING[trial.taking])
    DegradeReceiver(node, lambda *floor: None, lambda: None)
    inputs.perception = counting
    unlocked, rates = Unlocked(), ingest_load.rates(rig)

    def run() -> None:
        try:
            found.append(measure(trial, counting, unlocked, rates))
        finally:
            stopping.set()

    threading.Thread(target=run, name="measure", daemon=True).start()
    spin.spin(node, stopping, EXECUTORS[trial.executor]())
    if found:
        print(json.dumps(asdict(found[0])))
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
