"""Shared by tests: a Perception that is driven by hand, with injected clocks."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from small_car import MS, calibration, frames

from perception_bev.contracts import Boxes3D
from perception_bev.deployment import Deployment
from perception_bev.pipeline.output import Output
from perception_bev.pipeline.perception import Perception
from perception_bev.raw import RawFrame
from perception_bev.sync.clock import Now

START_NS = 1_700_000_000_000_000_000  # ROS time at which drives begin
MONO_NS = 5_000_000_000_000  # monotonic time then
QUICK = Deployment(threads=1, check_golden=False)
PATIENCE_S = 60.0  # until a thread is taken to hang; never a measure of speed
DELAYS_MS = {"front": 0.0, "nose": 1.0, "top": 2.0}  # from stamp to arrival, in this order


def wait_for(condition: Callable[[], object], what: str = "it", timeout_s: float = PATIENCE_S):
    """Poll until the condition holds and return its value; AssertionError when it never does."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.002)
    return value


@dataclass
class Drive:
    """Cycles of 100 ms; sensors are stamped at t_ref and arrive just after it."""

    model: Path
    deployment: Deployment = QUICK
    sensors: Mapping[str, dict] = field(default_factory=dict)  # changed keys of the rig
    passed_ns: int = 0

    def __post_init__(self) -> None:
        self.perception = Perception(self.model, calibration(**self.sensors), self.deployment,
                                     lambda: MONO_NS + self.passed_ns)

    def __enter__(self) -> "Drive":
        return self

    def __exit__(self, *_) -> None:
        self.perception.close()

    def now(self) -> Now:
        return Now(MONO_NS + self.passed_ns, START_NS + self.passed_ns)

    def push(self, sensor: str, raw: RawFrame) -> None:
        """Hand a frame in and wait until it was decoded."""
        self.perception.push(sensor, raw, self.now())
        self.settle()

    def settle(self) -> None:
        wait_for(lambda: not self.perception._intake.busy, "decoding")

    def cycle(self, number: int, raws: Mapping[str, RawFrame] | None = None,
              seed: int | None = None) -> list[Output]:
        """Everything that comes of one cycle, up to 90 ms after its t_ref."""
        t_ref = number * 100 * MS
        if raws is None:
            raws = frames(START_NS + t_ref, number if seed is None else seed)
        found: list[Output] = []
        for name, delay_ms in DELAYS_MS.items():
            if name in raws:
                found += self.until(t_ref + round(delay_ms * MS))
                self.push(name, raws[name])
        return found + list(self.until(t_ref + 90 * MS))

    def until(self, passed_ns: int) -> Iterator[Output]:
        """Tick whenever the collector asks for it, as the node's runner does."""
        while True:
            while (output := self.perception.tick(self.now())) is not None:
                yield output
            wake = self.perception.next_wakeup_ns()
            if wake is None or wake - MONO_NS > passed_ns:
                break
            self.passed_ns = max(self.passed_ns, wake - MONO_NS)
        self.passed_ns = max(self.passed_ns, passed_ns)


class CountingEngine:
    """An engine that counts its calls and may be told to fail."""

    def __init__(self, engine) -> None:
        self.inputs, self.outputs, self.close = engine.inputs, engine.outputs, engine.close
        self.calls, self.error = 0, None
        self._engine = engine

    def infer(self, feeds):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self._engine.infer(feeds)


def counted(perception: Perception) -> dict[str, CountingEngine]:
    """Put a counter round every engine."""
    engines = perception.stages.engines
    engines.update({name: CountingEngine(engine) for name, engine in engines.items()})
    return engines


def calls(engines: Mapping[str, CountingEngine]) -> dict[str, int]:
    return {name: engine.calls for name, engine in engines.items()}


def same_boxes(a: Boxes3D, b: Boxes3D) -> bool:
    """Bit by bit; unknown velocities are alike."""
    return len(a) == len(b) and all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name == "velocity")
        for name in ("centre", "size", "yaw", "score", "label", "velocity"))


def threads_named(*prefixes: str) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(prefixes)]
