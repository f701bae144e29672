"""Latency: the computer's heat, power and load as an input of the ladder, and as a row.

Throttling makes every frame slower; the floor makes frames cheaper before it begins, so that the
output stays in time. Load alone is no reason: what it costs is seen in the costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perception_bev.errors import ConfigError
from perception_bev.latency.level import NA, Level, Row, figure


@dataclass(frozen=True, slots=True)
class Temperature:
    """One sensor."""

    name: str  # "cpu-thermal", "gpu 0"
    celsius: float
    throttles_at: float | None = None  # [°C] as firmware or driver says; None: it does not say


@dataclass(frozen=True, slots=True)
class HostState:
    """One reading. None and empty: this computer does not say."""

    temperatures: tuple[Temperature, ...] = ()
    throttled: tuple[str, ...] = ()  # what is slowed down now, by whom
    throttle_events: int | None = None  # since boot; grows with each, however short
    power_w: Mapping[str, float] = field(default_factory=dict)  # by rail or device
    cpu_load: float | None = None  # [0..1] since the last reading
    cpu_pressure: float | None = None  # [0..1] share of 10 s in which something waited for a core
    cpu_cap: float | None = None  # [0..1] highest clock that is allowed now, of the highest
    gpu_load: float | None = None  # [0..1]
    memory_free_mb: float | None = None  # what could be had without swapping


@dataclass(frozen=True)
class HostLimits:
    """Checked at birth (ConfigError)."""

    headroom_c: float = 8.0  # so far below its throttling point a sensor is called hot
    throttles_at_c: float = 90.0  # of sensors that do not say
    power_w: float | None = None  # all rails together; None: no limit
    memory_free_mb: float = 300.0
    recover_s: float = 20.0  # a floor goes down one step after so long

    def __post_init__(self) -> None:
        if self.headroom_c < 0 or self.recover_s < 0 or self.memory_free_mb < 0:
            raise ConfigError("host: headroom_c, recover_s and memory_free_mb are not negative")


def floor_for(host: HostState, limits: HostLimits) -> tuple[int, str]:
    """The dearest plan that is allowed, and why: 0 all, 1 when hot, 2 when slowed down already."""
    if host.throttled:
        return 2, f"throttled: {', '.join(host.throttled)}"
    hottest, headroom = nearest(host, limits)
    if hottest is not None and headroom <= 0:
        return 2, f"{hottest.name} at {hottest.celsius:.0f} °C, where it is throttled"
    power = sum(host.power_w.values())
    if limits.power_w is not None and power > limits.power_w:
        return 2, f"{power:.1f} W of {limits.power_w:g} W"
    if hottest is not None and headroom <= limits.headroom_c:
        return 1, (f"{hottest.name} at {hottest.celsius:.0f} °C, {headroom:.0f} °C below "
                   "throttling")
    return 0, ""


def nearest(host: HostState, limits: HostLimits) -> tuple[Temperature | None, float]:
    """The sensor that is nearest to its throttling point, and by how much [°C]."""
    margins = [((limits.throttles_at_c if t.throttles_at is None else t.throttles_at) - t.celsius,
                i) for i, t in enumerate(host.temperatures)]
    if not margins:
        return None, float("inf")
    headroom, i = min(margins)
    return host.temperatures[i], headroom


class HostFloor:
    """floor_for over time: up at once, down one step after `recover_s` below it.

    An event that came and went between two readings counts as throttling. Monotonic ns.
    """

    def __init__(self, limits: HostLimits, steps: int = 2) -> None:
        self._limits, self._steps = limits, steps
        self._floor, self._reason = 0, ""
        self._calm_since: int | None = None
        self._events: int | None = None

    def choose(self, host: HostState, now: int) -> tuple[int, str]:
        """The floor, at most `steps`, and its reason; (0, "") is none."""
        floor, reason = self._wanted(host)
        if floor >= self._floor:
            self._floor, self._reason, self._calm_since = floor, reason, None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= self._limits.recover_s * 1e9:
            self._floor, self._calm_since = self._floor - 1, now
            self._reason = reason or (f"was: {self._reason.removeprefix('was: ')}"
                                      if self._floor else "")
        return self._floor, self._reason

    def _wanted(self, host: HostState) -> tuple[int, str]:
        floor, reason = floor_for(host, self._limits)
        before, self._events = self._events, host.throttle_events
        if floor < 2 and None not in (before, self._events) and self._events > before:
            floor, reason = 2, f"throttled {self._events - before} × since the last reading"
        return min(floor, self._steps), reason


def host_row(host: HostState, limits: HostLimits) -> Row:
    """One row: ERROR when throttled, WARN when hot, short of memory or held down."""
    floor, reason = floor_for(host, limits)
    short = host.memory_free_mb is not None and host.memory_free_mb < limits.memory_free_mb
    if short:
        reason = f"{host.memory_free_mb:.0f} MB of memory left" + (f"; {reason}" if reason else "")
    level = Level.ERROR if floor >= 2 else Level.WARN if floor or short else Level.OK
    return Row("host", level, reason or _calm(host, limits), _values(host, limits))


def _calm(host: HostState, limits: HostLimits) -> str:
    hottest, _ = nearest(host, limits)
    parts = [f"{hottest.celsius:.0f} °C" if hottest is not None else "",
             f"load {host.cpu_load:.0%}" if host.cpu_load is not None else "",
             f"{sum(host.power_w.values()):.1f} W" if host.power_w else ""]
    return ", ".join(filter(None, parts)) or f"{NA}: this computer says nothing"


def _values(host: HostState, limits: HostLimits) -> dict[str, str]:
    _, headroom = nearest(host, limits)
    values = {f"temperature.{t.name}_c": figure(t.celsius) for t in host.temperatures}
    values |= {f"power.{name}_w": figure(watts) for name, watts in host.power_w.items()}
    return values | {
        "headroom_c": figure(headroom if host.temperatures else None),
        "throttled": ", ".join(host.throttled) or "no",
        "throttle_events": NA if host.throttle_events is None else str(host.throttle_events),
        "cpu_load": figure(host.cpu_load, digits=2),
        "cpu_pressure": figure(host.cpu_pressure, digits=2),
        "cpu_clock_cap": figure(host.cpu_cap, digits=2),
        "gpu_load": figure(host.gpu_load, digits=2),
        "memory_free_mb": figure(host.memory_free_mb, digits=0)}
