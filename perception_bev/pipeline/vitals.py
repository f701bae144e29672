"""Pipeline: what a worker's condition is judged by. Pure: time is an argument, monotonic ns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BEAT_S = 0.02  # between two heartbeats of a worker
State = Literal["starting", "running", "lost"]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a worker is given up, and how soon another one is tried."""

    call_s: float = 0.5  # one call, of a worker that has time to run
    start_s: float = 30.0  # until it serves
    look_s: float = 0.025  # between two looks at the workers
    silent_s: float = 0.3  # without a heartbeat, while the looks themselves were on time
    doubt_s: float = 0.06  # age of a heartbeat at which the kernel is asked whether it is stopped
    stopped_looks: int = 2  # that find it so: after Ctrl-Z all are woken, one after the other
    first_wait_s: float = 0.0  # before the first restart; doubled by every further one
    second_wait_s: float = 0.1
    longest_wait_s: float = 5.0
    steady_s: float = 10.0  # of service until earlier deaths are forgotten
    give_up_after: int = 20  # restarts without that


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker as `status` speaks of it."""

    state: State
    pid: int | None
    restarts: int
    last_beat_age_ms: float | None  # None: no heartbeat yet
    reason: str = ""  # of the last death, or of what was not permitted
    engines: tuple[str, ...] = ()


class Heart:
    """Tells a silent worker from a machine that has no time for anybody.

    A look that comes late itself proves nothing, so that only looks on time count.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._last_beat = self._last_look = self._silent_ns = 0

    def look(self, beat_ns: int, now_ns: int) -> bool:
        """Whether it is silent for too long. beat_ns: time of the newest heartbeat."""
        since_ns = now_ns - self._last_look
        if beat_ns != self._last_beat:
            self._silent_ns = 0
        elif since_ns <= 2e9 * self._limits.look_s:
            self._silent_ns += since_ns
        self._last_beat, self._last_look = beat_ns, now_ns
        return self._silent_ns >= self._limits.silent_s * 1e9


class BackOff:
    """When the next one may be started."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.restarts = 0  # in all
        self._in_a_row = 0
        self._serving_since: int | None = None

    @property
    def given_up(self) -> bool:
        return self._in_a_row > self._limits.give_up_after

    def serving(self, now_ns: int) -> None:
        self._serving_since = now_ns

    def died(self, now_ns: int) -> int:
        """The time at which to start another one."""
        since = self._serving_since
        if since is not None and now_ns - since >= self._limits.steady_s * 1e9:
            self._in_a_row = 0
        self._serving_since = None
        self._in_a_row += 1
        self.restarts += 1
        return now_ns + round(self.wait_s * 1e9)

    @property
    def wait_s(self) -> float:
        """After as many deaths in a row as there were."""
        if self._in_a_row <= 1:
            return self._limits.first_wait_s
        doubled = self._limits.second_wait_s * 2 ** min(self._in_a_row - 2, 30)
        return min(doubled, self._limits.longest_wait_s)
