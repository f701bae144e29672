"""Nodes: all that the watchdog thinks, put together: what came in, what is said, what is asked for.
No rclpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from perception_bev.latency.health import Health
from perception_bev.latency.health_settings import HealthSettings, Said
from perception_bev.latency.ladder import PLANS
from perception_bev.latency.level import Level, Row
from perception_bev.latency.receipts import Receipts
from perception_bev.latency.remedy import Remedy, RemedySettings
from perception_bev.sync.clock import Now

GROUPS = {"sensor": "sensors", "stage": "stages", "worker": "workers"}
STANDING = 0.01  # rate of ROS time below which /clock is taken to be paused
LATE = "late"  # what `status` gives as the reason of a prediction, where nothing failed
FRESH_MS = 1000.0  # a stage that ended a frame so lately is at work


@dataclass(frozen=True, slots=True)
class Findings:
    """What one look gives: rows named as on /diagnostics, and the floor to ask for."""

    rows: tuple[Row, ...]
    floor: str | None
    reason: str


class PacedTime:
    """Monotonic time that runs as fast as ROS time [ns].

    All limits are of the vehicle's time: in a replay at half speed nothing is late, and while
    /clock is paused nothing is missing.
    """

    def __init__(self) -> None:
        self._last_mono: int | None = None
        self._passed = 0.0

    def at(self, now: Now) -> int:
        """Never decreases, whatever order readings come in."""
        if self._last_mono is None:
            self._last_mono, self._passed = now.mono_ns, float(now.mono_ns)
        step = max(now.mono_ns - self._last_mono, 0)
        self._last_mono += step
        self._passed += step * now.rate
        return round(self._passed)


class Watch:
    """status() and tracks() as they come, look() on a timer. One thread."""

    def __init__(self, settings: HealthSettings, remedy: RemedySettings, live: bool) -> None:
        """live: ROS time is this computer's, so ages mean something."""
        self._settings, self._live = settings, live
        self._plans = tuple(plan.name for plan in PLANS)
        self._remedy_settings = remedy
        self._time = PacedTime()
        self._claimed = True  # what the last status said about the stamps
        self._looked: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._health, self._receipts = Health(self._settings), Receipts(self._settings)
        self._remedy = Remedy(self._plans, self._remedy_settings)

    def status(self, receipt: Now, stamp_ns: int, message: str,
               values: Mapping[str, str]) -> None:
        """One `status`, received at `receipt`."""
        at = self._time.at(receipt)
        self._claimed = values.get("latency.claimed", "yes") == "yes"
        self._health.observe(at, message, values, self._age_ms(receipt, stamp_ns))
        self._weigh(Said(at, message, values))

    def tracks(self, receipt: Now, stamp_ns: int) -> None:
        """One message of `tracks`."""
        self._receipts.observe(self._time.at(receipt), stamp_ns, self._age_ms(receipt, stamp_ns))

    def look(self, now: Now, publisher: Row, host: Row,
             host_floor: tuple[int, str] = (0, "")) -> Findings | None:
        """What there is to say; None right after we ourselves were stopped: what came meanwhile
        has not been heard yet.

        Args:
            publisher: what the middleware says of whoever publishes the outputs.
            host: what this computer's own signals say, and the floor that they ask for.
        """
        at, slept = self._time.at(now), self._slept(now.mono_ns)
        if slept:
            return None
        floor, reason = self._remedy.floor(at, host_floor)
        rows = [*self._health.rows(at), self._receipts.row(at)]
        if now.rate < STANDING:
            rows = [replace(row, level=Level.STALE, message="paused: /clock stands still")
                    for row in rows]
        rows += [publisher, host, _asked(floor, reason)]
        return Findings(tuple(replace(row, name=path_of(row.name)) for row in rows), floor, reason)

    def _slept(self, mono_ns: int) -> bool:
        before, self._looked = self._looked, mono_ns
        return before is not None and mono_ns - before > self._settings.silent_ms * 1e6

    def _age_ms(self, receipt: Now, stamp_ns: int) -> float | None:
        return (receipt.ros_ns - stamp_ns) / 1e6 if self._live and self._claimed else None

    def _weigh(self, said: Said) -> None:
        """An output that a dearer or cheaper plan had a part in; not one without sensors."""
        if any(not state.startswith("running") for state in said.below("worker.").values()):
            self._remedy.forget()
            return
        beat = said.number("heartbeat.decide_ms")
        working = beat is not None and beat < FRESH_MS
        if said.mode != "no output" or working:
            if not said.missed or said.values.get("why", LATE) == LATE:  # else: no overload
                self._remedy.observe(said.at, said.missed, said.values.get("plan", ""))


def path_of(name: str) -> str:
    """"sensor lidar_top" as "perception/sensors/lidar_top"."""
    kind, _, rest = name.partition(" ")
    return f"perception/{GROUPS[kind]}/{rest}" if kind in GROUPS else f"perception/{name}"


def _asked(floor: str | None, reason: str) -> Row:
    if floor is None:
        return Row("degrade", Level.OK, "no floor", {"floor": "none"})
    return Row("degrade", Level.WARN, f"at most '{floor}': {reason}",
               {"floor": floor, "reason": reason})
