"""Latency: what the watchdog does about it: a floor for the ladder. Pure: time is an argument.

The ladder itself answers within a frame and is back within two seconds; a floor is for what it
cannot see (a hot computer) and for what it does not cure: plans that are tried again and again and
fail, each time at the cost of a prediction. Such a floor comes late, and goes when all is well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from perception_bev.errors import ConfigError
from perception_bev.latency.window import MOST

PARTS = 3  # of the time that is judged


@dataclass(frozen=True)
class RemedySettings:
    """Checked at birth (ConfigError)."""

    overload_s: float = 30.0  # so long the ladder is left alone with an overload
    overload_share: float = 0.05  # predictions among the outputs of that time
    release_s: float = 10.0  # so long the share must be low; doubles when that was too early
    most_release_s: float = 120.0

    def __post_init__(self) -> None:
        if min(self.overload_s, self.release_s) <= 0 or self.most_release_s < self.release_s:
            raise ConfigError("remedy: overload_s and release_s must be above 0, and "
                              "most_release_s not below release_s")
        if not 0 < self.overload_share <= 1:
            raise ConfigError(f"remedy: overload_share {self.overload_share:g}: above 0, up to 1")


@dataclass(frozen=True, slots=True)
class Seen:
    """One output."""

    at: int  # [monotonic ns]
    predicted: bool
    plan: int  # index


class Remedy:
    """observe() every output that was computed or predicted, floor() on a timer."""

    def __init__(self, plans: Sequence[str], settings: RemedySettings | None = None) -> None:
        """plans: names, from dear to cheap."""
        self.settings = settings or RemedySettings()
        self._plans = tuple(plans)
        self._seen: deque[Seen] = deque(maxlen=MOST)
        self._began: int | None = None  # since when outputs are judged
        self._floor = 0  # of overload: index of the dearest plan that is allowed
        self._reason = ""
        self._released = 0  # when, last
        self._release_s = self.settings.release_s

    def observe(self, at: int, predicted: bool, plan: str) -> None:
        """An output; the plan of one that is not predicted has a known name, else it counts as
        the dearest."""
        index = self._plans.index(plan) if plan in self._plans else 0
        self._seen.append(Seen(at, predicted, index))
        self._began = at if self._began is None else self._began

    def forget(self) -> None:
        """What was seen has another cause than overload (a worker that started anew)."""
        self._seen.clear()
        self._began = None

    def floor(self, now: int, host: tuple[int, str] = (0, "")) -> tuple[str | None, str]:
        """Name of the dearest plan that is allowed (None: all are), and why.

        Args:
            host: floor index and reason of the computer's own signals.
        """
        self._judge(now)
        floors = [host, (self._floor, self._reason)]
        index = min(max(floor for floor, _ in floors), len(self._plans) - 1)
        if index == 0:
            return None, ""
        return self._plans[index], "; ".join(why for floor, why in floors if floor and why)

    def _judge(self, now: int) -> None:
        if self._floor and self._overloaded(now, self._release_s) is False:
            self._floor, self._reason, self._released = 0, "", now
            self.forget()
        if self._overloaded(now, self.settings.overload_s) and self._lasts(now):
            self._raise_floor(now)
        longest = round(max(self._release_s, self.settings.overload_s) * 1e9)
        while self._seen and now - self._seen[0].at > longest:
            self._seen.popleft()

    def _overloaded(self, now: int, seconds: float) -> bool | None:
        """Whether too much was predicted lately; None until that was seen for so long."""
        since = now - round(seconds * 1e9)
        lately = [seen.predicted for seen in self._seen if seen.at > since]
        if self._began is None or self._began > since or not lately:
            return None
        return sum(lately) / len(lately) > self.settings.overload_share

    def _lasts(self, now: int) -> bool:
        """Whether it was too much in every part of that time: faults that are over, however many
        came one after the other, are no reason for a floor now."""
        part = round(self.settings.overload_s * 1e9 / PARTS)
        for k in range(PARTS):
            seen = [s.predicted for s in self._seen if now - (k + 1) * part < s.at <= now - k * part]
            if not seen or sum(seen) / len(seen) <= self.settings.overload_share:
                return False
        return True

    def _raise_floor(self, now: int) -> None:
        """To the dearest plan that was in time, and by one step at least: what failed is not said
        of a prediction, but it is what lies above."""
        in_time = [seen.plan for seen in self._seen if not seen.predicted]
        floor = min(max(min(in_time, default=0), self._floor + 1), len(self._plans) - 1)
        if floor == self._floor:
            return
        again = self._released and now - self._released < 10 * self._release_s * 1e9
        self._release_s = (min(2 * self._release_s, self.settings.most_release_s) if again
                           else self.settings.release_s)
        self._floor = floor
        self._reason = (f"overload: over {self.settings.overload_share:.0%} of the outputs of "
                        f"{self.settings.overload_s:g} s were predictions")
        self.forget()  # what comes now is judged anew
