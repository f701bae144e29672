"""Pipeline: the product while it drives: a scheduler that opens frames, the stages, the outlet.

Three kinds of threads: the scheduler asks the collector for bundles and the ladder for a plan, the
runner's stages work, the outlet publishes and never waits for either.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from perception_bev.deployment import Deployment
from perception_bev.latency.costs import Costs
from perception_bev.latency.guard import Guard, GuardSettings
from perception_bev.latency.ladder import PLANS, Ladder, LadderSettings
from perception_bev.pipeline import punctual
from perception_bev.pipeline.frame import Frame
from perception_bev.pipeline.outlet import Outlet, Sink
from perception_bev.pipeline.output import Failure, Output
from perception_bev.pipeline.perception import Perception
from perception_bev.pipeline.runner import runner_of
from perception_bev.sync.clock import MS, Now

IDLE_S = 0.5  # the scheduler looks around at least so often


class Live:
    """start() after the warm-up, stop() before `perception.close()`."""

    def __init__(self, perception: Perception, deployment: Deployment, period_ms: float,
                 now: Callable[[], Now], live: bool, sink: Sink,
                 costs: dict[str, int] | None = None,
                 fault: Callable[[Exception], None] = lambda err: None) -> None:
        """
        Args:
            period_ms: of the output.
            now: reads both clocks.
            live: ROS time is the system's; False: /clock, which may be slow or stand.
            costs: plan -> what it took at start-up [ns], from the bundle to its boxes.
            fault: told of errors of ours in any of the threads, which go on.
        """
        self.perception, self._now, self._fault = perception, now, fault
        self.ladder = Ladder(settings=LadderSettings(period_ns=round(period_ms * MS)))
        self.floor = 0  # index of the dearest plan that is allowed
        self.costs = Costs(costs or {}, alternatives=[plan.name for plan in PLANS])
        self.guard = Guard(GuardSettings(
            period_ns=round(period_ms * MS), budget_ns=round(deployment.budget_ms * MS),
            margin_ns=round(deployment.guard.margin_ms * MS),
            max_margin_ns=round(deployment.guard.max_margin_ms * MS),
            safe_after=deployment.guard.safe_after))
        self._budget_ns = self.guard.settings.budget_ns
        clock = perception.collector.clock
        self.outlet = Outlet(self.guard, sink, time.monotonic_ns, perception.predict,
                             None if live else lambda: clock.stamp_time(now()), fault)
        self._deployment = deployment
        self._epoch = 0
        self._opened: dict[tuple[int, int], tuple[int, int]] = {}  # epoch, t_ref: plan, when
        self._opened_lock = threading.Lock()
        self._stopping = threading.Event()
        self.runner = runner_of(deployment.runner, perception, self._delivered, self._prepare,
                                fault)
        self._threads = [threading.Thread(target=run, name=name, daemon=True)
                         for run, name in ((self._publish, "outlet"), (self._schedule, "runner"))]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads; nothing is published any more."""
        self._stopping.set()
        self.outlet.stop()
        for thread in self._threads:
            thread.join(timeout=5.0)
        self.runner.close()
        self.perception.gate.lift()

    def overtaken(self) -> Counter[str]:
        """Frames that a newer one pushed out, by the stage before which they waited."""
        return self.runner.overtaken

    # -- threads -------------------------------------------------------------------------------

    def _publish(self) -> None:
        punctual.prepare_guard(self._deployment)
        self.outlet.run()

    def _schedule(self) -> None:
        self._prepare("io")
        while not self._stopping.is_set():
            try:
                self.perception.wait(self._patience_s())
                while (opened := self.perception.open(now := self._now())) is not None:
                    self._begin(opened, now)
            except Exception as err:  # a fault of ours: say so, go on with the next bundle
                if self._stopping.is_set():
                    return
                self._fault(err)
                self._stopping.wait(0.1)

    def _begin(self, opened: Frame | Failure, now: Now) -> None:
        clock = self.perception.collector.clock
        t_ref = now.mono_ns - round(clock.lag_ns(now, opened.t_ref_ns) / (now.rate or 1.0))
        self.outlet.closed(opened.t_ref_ns, t_ref, opened.epoch, now.rate)
        if isinstance(opened, Failure):
            self.outlet.deliver(opened)
            return
        if opened.epoch != self._epoch:  # what was late before may have nothing to do with now
            self._epoch = opened.epoch
            self.ladder.reset()
        mono = time.monotonic_ns()
        left = self.outlet.due_of(opened.t_ref_ns, opened.epoch)
        level = self.ladder.choose(self._budget_ns if left is None else left - mono,
                                   self.costs, self.floor, now_ns=mono)
        level = self._prepared(level)
        opened.plan = PLANS[level]
        with self._opened_lock:
            self._opened[opened.epoch, opened.t_ref_ns] = level, mono
            while len(self._opened) > 16:  # those that were overtaken
                self._opened.pop(next(iter(self._opened)))
        self.perception.gate.shut()
        self.runner.submit(opened)

    def _prepared(self, level: int) -> int:
        """The plan that this frame can have, and from now on pictures are extracted for the
        ladder's level: a frame that for once has a cheaper plan spares no picture of the next, and
        where pictures were spared until now, it is the next frame that has its own."""
        before = self.perception.plan
        self.perception.plan = PLANS[max(self.ladder.level, self.floor)]
        spared = before.cameras != "fresh" and PLANS[level].cameras == "fresh"
        return PLANS.index(before) if spared else level

    def _delivered(self, made: Output | Failure) -> None:
        """By the last stage's thread."""
        self.perception.gate.lift()
        now = time.monotonic_ns()
        with self._opened_lock:
            level, since = self._opened.pop((made.epoch, made.t_ref_ns), (None, now))
        if level is not None and isinstance(made, Output):
            due = self.outlet.due_of(made.t_ref_ns, made.epoch)
            self.costs.observe(PLANS[level].name, now - since, now)
            self.ladder.finished(level, due is not None and now <= due, now)
        self.outlet.deliver(made)

    def _prepare(self, stage: str) -> None:
        punctual.prepare_stage(stage, self._deployment)

    def _patience_s(self) -> float:
        due = self.perception.next_wakeup_ns()
        if due is None:
            return IDLE_S
        return min(max((due - time.monotonic_ns()) / 1e9, 0.0), IDLE_S)
