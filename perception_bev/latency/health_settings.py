"""Latency: the limits of health, and one `status` as it was heard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from perception_bev.errors import ConfigError
from perception_bev.rig import Rig


@dataclass(frozen=True, slots=True)
class SensorLimit:
    """What is expected of one sensor."""

    period_ms: float = 100.0
    required: bool = True  # False: never worse than WARN


def sensor_limits(rig: Rig) -> dict[str, SensorLimit]:
    """By name, of every sensor of the rig: then each has its row before anything was heard."""
    return {name: SensorLimit(sensor.period_ms, sensor.required)
            for name, sensor in rig.sensors.items()}


@dataclass(frozen=True)
class HealthSettings:
    """Checked at birth (ConfigError)."""

    period_ms: float = 100.0  # of the output
    budget_ms: float = 80.0
    window_s: float = 10.0  # of all percentiles and shares
    persist_s: float = 3.0  # a limit that is exceeded for so long is an ERROR
    hold_s: float = 1.5  # faults that recur within that are one; more than rows() is called apart
    silent_ms: float = 500.0  # without any `status`: an ERROR at once
    start_s: float = 20.0  # until the first `status`: an ERROR when it takes longer
    heartbeat_ms: float = 300.0  # age of a stage's last frame
    guard_delay_ms: float = 5.0
    miss_share: float = 0.005  # of the periods
    drop_share: float = 0.01  # of a sensor's messages, those passed over for newer ones aside
    least_rate: float = 0.75  # of the rate that the rig states
    sensors: Mapping[str, SensorLimit] = field(default_factory=dict)
    stages: tuple[str, ...] = ("extract", "fuse", "decide")

    def __post_init__(self) -> None:
        positive = ("period_ms", "budget_ms", "window_s", "persist_s", "hold_s", "silent_ms",
                    "start_s", "heartbeat_ms")
        wrong = [name for name in positive if getattr(self, name) <= 0]
        if wrong:
            raise ConfigError(f"health: {', '.join(wrong)} must be above 0")

    @property
    def window_ns(self) -> int:
        return round(self.window_s * 1e9)


@dataclass(frozen=True, slots=True)
class Said:
    """One `status`."""

    at: int  # when it was received [monotonic ns]
    message: str
    values: Mapping[str, str]
    age_ms: float | None = None  # receipt - t_ref; None: no latency can be claimed

    @property
    def mode(self) -> str:
        """"full", "degraded", "predicted" or "no output"."""
        for mode in ("full", "degraded", "predicted"):
            if self.values.get("mode", self.message).startswith(mode):
                return mode
        return "no output"

    @property
    def missed(self) -> bool:
        return self.mode in ("predicted", "no output")

    def number(self, key: str) -> float | None:
        """None where there is none, or "n/a"."""
        try:
            value = float(self.values[key])
        except (KeyError, ValueError):
            return None
        return value if math.isfinite(value) else None

    def below(self, prefix: str) -> dict[str, str]:
        """The values whose keys begin with `prefix`, by the rest of their keys."""
        return {key.removeprefix(prefix): value for key, value in self.values.items()
                if key.startswith(prefix)}
