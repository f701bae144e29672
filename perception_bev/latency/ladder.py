"""Latency: the ladder, which decides how much is computed for a frame. Pure: time is an argument.

Down at once, by as much as the costs say; up one step at a time, on probation.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from perception_bev.errors import ConfigError
from perception_bev.latency.costs import MS, Costs

MAX_PATIENCE = 600  # frames in time until a cost that nobody saw lately is put to the test
IN_FLIGHT = 2  # frames that were chosen before the last one is finished


@dataclass(frozen=True, slots=True)
class Plan:
    """What is computed for a frame."""

    name: str  # as `status` says it
    history: bool = True  # False: without the memory of past frames, engine "fuse_alone"
    # reused: no backbone is run, the last features are lifted with a table for their own age
    cameras: Literal["fresh", "reused", "none"] = "fresh"
    lidar: bool = True
    radar: bool = True


PLANS: tuple[Plan, ...] = (  # from dear to cheap
    Plan("full"),
    Plan("no_history", history=False),
    Plan("reused_cameras", history=False, cameras="reused"),
    Plan("no_cameras", history=False, cameras="none"),
)


@dataclass(frozen=True, slots=True)
class LadderSettings:
    """How soon it goes down and up."""

    period_ns: int = 100 * MS
    recover_ns: int = 2000 * MS  # from the cheapest plan back to the first, when all is well
    climb_after: int = 3  # frames in time, for a step
    drop_after: int = 2  # frames that a plan could not do; one is an accident

    def __post_init__(self) -> None:
        if min(self.period_ns, self.recover_ns, self.climb_after, self.drop_after) < 1:
            raise ConfigError(f"ladder: period, recovery and counts are at least 1, got {self}")


class Ladder:
    """Chooses a plan a frame and learns from how it went. Any thread may call.

    A plan that cannot do a frame (its cost does not fit what is left, or it ended late) gets a
    strike: the frame has a cheaper one, and after `drop_after` strikes it is the level. Strikes
    are forgotten after `climb_after` frames in time. A step up is taken after N frames in time, if
    the dearer plan's cost fits; during its first N frames it is on probation: one strike, and it
    failed. That doubles the N of this step, as long as all steps together stay within
    `recover_ns`. Frames in time while no step is possible count for the next ones.

    A cost that other plans' costs made too dear is a guess (`Costs`): it is put to the test after
    a step's share of `recover_ns`, and when that fails after twice as long, up to MAX_PATIENCE.
    After so many frames a benchmark that does not fit is put to the test too: it may have been
    taken while the computer was busy, and a plan that is never run has no other cost.
    """

    def __init__(self, plans: Sequence[Plan] = PLANS,
                 settings: LadderSettings | None = None) -> None:
        self.plans, self.settings = tuple(plans), settings or LadderSettings()
        if not self.plans:
            raise ConfigError("ladder: needs at least one plan")
        self._last = len(self.plans) - 1
        frames = self.settings.recover_ns // self.settings.period_ns - IN_FLIGHT
        self._frames = max(frames, self._last)  # for all steps together
        self._tested_after = self._frames // max(self._last, 1)
        self._base = min(self.settings.climb_after, self._tested_after)
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Begin anew at the first plan."""
        with self._lock:
            self._level = 0  # what is tried first for a frame
            self._needed = [self._base] * self._last  # N of the step up to each plan
            self._streak = 0  # frames in time that no step up was paid with yet
            self._calm = 0  # frames in time since the last strike
            self._strikes = 0
            self._probation = 0  # frames until a step up has succeeded
            self._waited = 0  # frames in time since the last step
            self._patience = self._tested_after  # of those, until a guessed cost is put to the test
            self._doubting = False  # that test is on
            self._finished_ns = 0  # when the last frame was
            self._why = ""

    @property
    def level(self) -> int:
        """Index of the plan that the next frame has, if it fits and no step up is due."""
        return self._level

    @property
    def why(self) -> str:
        """Why the last frame did not have the first plan; "" when it had."""
        return self._why

    def index(self, name: str) -> int:
        """Of a plan by name; ConfigError lists the names."""
        names = [plan.name for plan in self.plans]
        if name not in names:
            raise ConfigError(f"there is no plan '{name}'; known: {', '.join(names)}")
        return names.index(name)

    def choose(self, remaining_ns: int, costs: Costs, floor: int = 0, *, now_ns: int) -> int:
        """Index of the plan for this frame.

        Args:
            remaining_ns: until it has to be decided.
            costs: by plan name; a plan that nobody measured fits.
            floor: plans before this index are forbidden.
        """
        with self._lock:
            floor = min(max(floor, 0), self._last)
            if floor > self._level:
                self._fall(floor, "the floor")
            self._step_up(floor, remaining_ns, costs, now_ns)
            plan = next((i for i in range(self._level, self._last)
                         if self._fits(i, remaining_ns, costs, now_ns)), self._last)
            if plan > self._level:
                self._strike(plan, f"{remaining_ns / 1e6:.0f} ms left")
            self._why = self._why if plan else ""
            return plan

    def finished(self, plan: int, in_time: bool, now_ns: int) -> None:
        """How a frame went that had this plan: it was decided in time for the guard, or not."""
        with self._lock:
            periods = round((now_ns - self._finished_ns) / self.settings.period_ns)
            self._finished_ns = now_ns
            if not in_time:
                self._streak = self._calm = 0
                if plan == self._level:  # else: of before the last step, which is judged apart
                    self._strike(min(plan + 1, self._last), "late")
                return
            # It counts for the periods since the one before it: where few frames come, the way up
            # takes no longer. Also if it was chosen before the last step up.
            periods = min(max(periods, 1), self._base)
            self._streak = min(self._streak + periods, self._frames)
            self._waited += periods
            if plan <= self._level:  # a cheaper one than the level's proves nothing for it
                self._proven()

    def _proven(self) -> None:
        """The level's plan did a frame in time."""
        self._calm += 1
        if self._calm >= self._base:
            self._strikes = 0
        if self._probation:
            self._probation -= 1
            if not self._probation:
                self._needed[self._level] = self._base
                self._patience = self._tested_after if self._doubting else self._patience
                self._doubting = False

    def _step_up(self, floor: int, remaining_ns: int, costs: Costs, now_ns: int) -> None:
        """If one is due, and the plan above fits or the guess that it does not is to be tried."""
        above = self._level - 1
        if above < floor or self._streak < self._needed[above]:
            return
        fits = self._fits(above, remaining_ns, costs, now_ns)
        if fits or self._test_due(above, remaining_ns, costs, now_ns):
            self._streak -= self._needed[above]
            self._waited, self._doubting, self._strikes = 0, not fits, 0
            self._level, self._probation = above, self._needed[above]

    def _test_due(self, plan: int, remaining_ns: int, costs: Costs, now_ns: int) -> bool:
        """Whether a plan that should not fit is tried: soon if only others' costs say so."""
        if self._waited < self._patience:
            return False
        known = costs.p95(self.plans[plan].name, now_ns, alone=True)
        return self._waited >= MAX_PATIENCE or (known is not None and known <= remaining_ns)

    def _strike(self, to: int, why: str) -> None:
        """The level's plan could not do a frame; `to` could."""
        self._streak = self._calm = 0
        self._strikes += 1
        if self._probation:
            self._double(self._level)
        if self._probation or self._strikes >= self.settings.drop_after:
            self._fall(to, why)
        self._why = why

    def _double(self, step: int) -> None:
        others = sum(self._needed) - self._needed[step]
        self._needed[step] = max(min(2 * self._needed[step], self._frames - others), 1)
        if self._doubting:
            self._patience = min(2 * self._patience, MAX_PATIENCE)

    def _fall(self, to: int, why: str) -> None:
        self._level, self._strikes, self._probation, self._why = to, 0, 0, why
        self._waited, self._doubting = 0, False

    def _fits(self, plan: int, remaining_ns: int, costs: Costs, now_ns: int) -> bool:
        if self._doubting and plan == self._level:
            return True
        cost = costs.p95(self.plans[plan].name, now_ns)
        return cost is None or cost <= remaining_ns
