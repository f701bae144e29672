"""Commands: the real pipeline in one runner mode under one offered load, without ROS: `Perception`
and a runner, fed from memory. The dearest plan always, no guard, no ladder: what is measured is how
the stages are scheduled."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from perception_bev.commands.live_bench_feed import Clocks, Drive, Feeder, rig_at
from perception_bev.deployment import Deployment
from perception_bev.latency.trace import Trace
from perception_bev.pipeline import punctual
from perception_bev.pipeline.frame import Frame
from perception_bev.pipeline.output import Failure, Output
from perception_bev.pipeline.perception import Perception
from perception_bev.pipeline.runner import Mode, runner_of
from perception_bev.rig import Rig, resolve
from perception_bev.sync.collector import Collector

LEAD_NS = 300_000_000  # until the first lap begins
SETTLE_S = 2.0  # before anything counts
SETTLE_SWEEPS = 6  # and not less than so many
DRAIN_S = 0.5  # for what is on its way at the end
IDLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Case:
    """What is varied."""

    mode: Mode
    threads: int  # inside each engine
    load_hz: float
    early: bool = True  # pictures' backbones run when they come


@dataclass(frozen=True, slots=True)
class Done:
    """One frame that came out."""

    t_ref: int  # [monotonic ns], of the sweep that was pushed
    at: int  # [monotonic ns]
    trace: Trace


@dataclass(frozen=True)
class Slot:
    """One case for some seconds."""

    case: Case
    begin: int  # [monotonic ns], first t_ref that counts
    end: int
    swept: list[int]  # t_ref [monotonic ns] of the sweeps offered in this time
    done: list[Done]  # all, also before and after
    failures: dict[str, int]
    overtaken: dict[str, int]  # frames, by the stage that they waited for
    cpu_s: float  # of all processes between begin and end
    feeder_late_ms: float

    @property
    def seconds(self) -> float:
        return (self.end - self.begin) / 1e9

    @property
    def counted(self) -> list[Done]:
        """Those of sweeps in the time."""
        return [d for d in self.done if self.begin <= d.t_ref < self.end]

    @property
    def latency_ms(self) -> list[float]:
        return [(d.at - d.t_ref) / 1e6 for d in self.counted]

    @property
    def throughput_hz(self) -> float:
        """Frames that came out within the time, whenever they went in."""
        return sum(self.begin <= d.at < self.end for d in self.done) / self.seconds

    @property
    def cpu_per_frame_s(self) -> float:
        return self.cpu_s / max(1, sum(self.begin <= d.at < self.end for d in self.done))


@contextlib.contextmanager
def opened(model: Path, rig: Rig, deployment: Deployment) -> Iterator[Perception]:
    """A warm pipeline, with its workers where the deployment wants them."""
    with contextlib.ExitStack() as stack:
        engines = None
        if deployment.runner == "processes":
            from perception_bev.pipeline.supervisor import Supervisor  # iceoryx2 comes with it

            workers = Supervisor.of_model(Path(model), deployment)
            stack.callback(workers.close)
            engines = workers.engines
        perception = Perception(model, resolve(rig), deployment, time.monotonic_ns,
                                engines=engines)
        stack.callback(perception.close)
        perception.warm_up()
        yield perception


class Bench:
    """Runs cases; pipelines without processes of their own stay open from one to the next."""

    def __init__(self, model: Path, rig: Rig, deployment: Deployment, drive: Drive) -> None:
        self._model, self._rig, self._deployment = model, rig, deployment
        self._drive = drive
        self._open: dict[tuple[Mode, int], Perception] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, case: Case, seconds: float) -> Slot:
        with self._perception(case) as perception:
            return measure(perception, self._rig, self._drive, case, seconds)

    @contextlib.contextmanager
    def _perception(self, case: Case) -> Iterator[Perception]:
        """Idle workers cost a little of what the next case measures: they end with theirs."""
        deployment = replace(self._deployment, runner=case.mode, threads=case.threads)
        if case.mode == "processes":
            with opened(self._model, self._rig, deployment) as perception:
                yield perception
            return
        key = case.mode, case.threads
        if key not in self._open:
            self._open[key] = self._stack.enter_context(
                opened(self._model, self._rig, deployment))
            punctual.prepare_process(deployment)
        yield self._open[key]


def measure(perception: Perception, rig: Rig, drive: Drive, case: Case, seconds: float) -> Slot:
    """One case on a warm pipeline that nothing is pushed into at the moment."""
    _prepare(perception, rig_at(rig, case.load_hz), case)
    clocks, run = Clocks(), None
    fast = drive.at(case.load_hz, rig)
    start = time.monotonic_ns() + LEAD_NS
    begin = start + round(max(SETTLE_S, SETTLE_SWEEPS / case.load_hz) * 1e9)
    end = begin + round(seconds * 1e9)
    feeder = Feeder(perception, fast, clocks, start)
    try:
        run = _Run(perception, case.mode, clocks)
        _sleep_until(begin)
        cpu, overtaken = _cpu_s(), run.overtaken
        _sleep_until(end)
        cpu, overtaken = _cpu_s() - cpu, run.overtaken - overtaken
    finally:
        feeder.stop()
        time.sleep(DRAIN_S)
        if run is not None:
            run.stop()
    failures = Counter(text for t_ref, text in run.failed if begin <= t_ref < end)
    return Slot(case, begin, end, [t for t in feeder.swept if begin <= t < end], run.done,
                dict(failures), dict(overtaken), cpu, round(feeder.max_late_ms, 3))


def _prepare(perception: Perception, rig: Rig, case: Case) -> None:
    """As after a start, for sensors of other periods."""
    perception.deployment = replace(perception.deployment, early_extraction=case.early)
    perception.recalibrate(resolve(rig))
    perception.ego.reset()
    perception.collector = Collector(rig, perception.ego.at)
    perception.stages.memory.reset()


class _Run:
    """The scheduler: bundles into a runner, what comes out into a list."""

    def __init__(self, perception: Perception, mode: Mode, clocks: Clocks) -> None:
        self._perception, self._clocks = perception, clocks
        self.done: list[Done] = []
        self.failed: list[tuple[int, str]] = []  # t_ref [monotonic ns], why
        self._over = threading.Event()
        deployment = perception.deployment
        self._runner = runner_of(mode, perception, self._take,
                                 lambda stage: punctual.prepare_stage(stage, deployment))
        self._thread = threading.Thread(target=self._schedule, name="runner", daemon=True)
        self._thread.start()

    @property
    def overtaken(self) -> Counter[str]:
        """Until now; a copy."""
        return Counter(self._runner.overtaken)

    def stop(self) -> None:
        self._over.set()
        self._thread.join(timeout=10.0)
        self._runner.close()

    def _schedule(self) -> None:
        perception = self._perception
        punctual.prepare_stage("io", perception.deployment)
        while not self._over.is_set():
            due = perception.next_wakeup_ns()
            left = IDLE_S if due is None else (due - time.monotonic_ns()) / 1e9
            perception.wait(min(max(left, 0.0), IDLE_S))
            while (frame := perception.open(self._clocks.now())) is not None:
                if isinstance(frame, Frame):
                    self._runner.submit(frame)
                else:
                    self._take(frame)

    def _take(self, made: Output | Failure) -> None:
        if isinstance(made, Failure):
            self.failed.append((made.t_ref_ns - self._clocks.shift_ns, made.text))
            return
        now = time.monotonic_ns()
        made.trace.published, made.trace.mode = now, made.mode
        self.done.append(Done(made.t_ref_ns - self._clocks.shift_ns, now, made.trace))


def _sleep_until(mono_ns: int) -> None:
    time.sleep(max(0.0, (mono_ns - time.monotonic_ns()) * 1e-9))


def _cpu_s() -> float:
    """CPU time of this process and all that it started."""
    import psutil

    times = os.times()
    total = times.user + times.system
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent = child.cpu_times()
            total += spent.user + spent.system
    return total
