"""Sim: a scenario as data: what happens in the simulated world, and what happens to messages.

`world` is for the simulator, which has to generate a drive with it. `faults` change messages on
their way (`sim/faults.py`) and so work on any bag. Times are seconds since the drive's or bag's
beginning. Files that are shipped lie in config/scenarios/ and are known by their names.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from perception_bev import config, resources
from perception_bev.config import Range
from perception_bev.contracts import MODALITIES
from perception_bev.errors import ConfigError
from perception_bev.rig import Radar, Rig

FOLDER = "config/scenarios"
ODOMETRY = "odometry"  # stands for the rig's odometry where a fault names a sensor
FOG_VISIBILITY_M = 60.0  # where fog does not say how thick it is

Seconds = Annotated[float, Range(0, 86_400)]
Length = Annotated[float, Range(1e-3, 86_400)]  # [s]
Delay = Annotated[float, Range(0, 10_000)]  # [ms]; what is late is held in memory for so long
Share = Annotated[float, Range(0, 1)]
Side = Literal["left", "right"]


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


# -- the world -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CutIn:
    """A car passes in the next lane and changes into ours, close in front."""

    kind: Literal["cut_in"]
    at_s: Seconds  # when it begins to change the lane
    side: Side = "left"  # where it comes from
    gap_m: Annotated[float, Range(1, 100)] = 12.0  # bumper to bumper then
    lane_change_s: Annotated[float, Range(0.5, 20)] = 2.5
    speed_ratio: Annotated[float, Range(0.1, 3)] = 0.9  # of ours, once it is in our lane


@dataclass(frozen=True)
class OccludedPedestrian:
    """A pedestrian walks onto the road from behind a parked van."""

    kind: Literal["occluded_pedestrian"]
    at_s: Seconds  # when the pedestrian comes out from behind it
    side: Side = "right"
    distance_m: Annotated[float, Range(3, 100)] = 25.0  # ahead of us then
    speed_mps: Annotated[float, Range(0.3, 5)] = 1.5


Event = CutIn | OccludedPedestrian


@dataclass(frozen=True)
class World:
    """What the simulator makes different; the default is an ordinary day."""

    weather: Literal["day", "dusk", "night", "rain", "fog"] = "day"
    visibility_m: Annotated[float, Range(5, 10_000)] | None = None  # of fog; default 60 m
    radar_ghosts: Annotated[float, Range(0, 100)] = 1.0  # times the usual clutter and ghosts
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        if self.visibility_m is not None and self.weather != "fog":
            raise ConfigError(f"visibility_m belongs to weather: fog, not {self.weather}")

    @property
    def fog_m(self) -> float | None:
        """Meteorological visibility [m], or None without fog."""
        return (self.visibility_m or FOG_VISIBILITY_M) if self.weather == "fog" else None


# -- faults ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SensorFault:
    """What all faults of sensors have in common."""

    sensor: str  # name in the rig, or a pattern such as "cam_*"; "odometry" where the kind allows
    from_s: Seconds = 0.0
    to_s: Seconds | None = None  # None: to the end

    fits: ClassVar[tuple[str, ...]] = (*MODALITIES, ODOMETRY)

    def __post_init__(self) -> None:
        if self.to_s is not None and self.to_s <= self.from_s:
            raise ConfigError(f"to_s {self.to_s:g} is not after from_s {self.from_s:g}")

    def active(self, at_ns: int) -> bool:
        """At so many ns after the beginning."""
        return nanoseconds(self.from_s) <= at_ns and (
            self.to_s is None or at_ns < nanoseconds(self.to_s))


@dataclass(frozen=True, kw_only=True)
class Off(SensorFault):
    """Nothing comes: no power, no cable, no driver."""

    kind: Literal["off"]


@dataclass(frozen=True, kw_only=True)
class Flapping(SensorFault):
    """It comes and goes: a loose plug, a driver that starts again and again."""

    kind: Literal["flapping"]
    on_s: Length
    off_s: Length


@dataclass(frozen=True, kw_only=True)
class Drop(SensorFault):
    """Single messages are lost, each by chance."""

    kind: Literal["drop"]
    probability: Share


@dataclass(frozen=True, kw_only=True)
class Late(SensorFault):
    """Messages arrive late; their stamps are right. One never overtakes another of its topic."""

    kind: Literal["late"]
    delay_ms: Delay
    jitter_ms: Delay = 0.0  # more, by chance: 0 to so much


@dataclass(frozen=True, kw_only=True)
class ClockSkew(SensorFault):
    """The sensor's clock is wrong: its stamps are, its messages come as ever."""

    kind: Literal["clock_skew"]
    offset_ms: Annotated[float, Range(-1e9, 1e9)] = 0.0  # positive: its clock is ahead
    drift_ppm: Annotated[float, Range(-1e5, 1e5)] = 0.0  # from `from_s` on


@dataclass(frozen=True, kw_only=True)
class FutureStamp(SensorFault):
    """Single messages are stamped in the future."""

    kind: Literal["future_stamp"]
    ahead_s: Annotated[float, Range(1e-3, 1e6)] = 5.0
    probability: Share = 1.0


@dataclass(frozen=True, kw_only=True)
class Blinded(SensorFault):
    """A camera against the sun (white), covered (black), or with mud on its lens (dirty)."""

    kind: Literal["blinded"]
    picture: Literal["white", "black", "dirty"] = "white"
    cover: Share = 0.6  # of the picture that mud hides, about

    fits: ClassVar[tuple[str, ...]] = ("camera",)


@dataclass(frozen=True, kw_only=True)
class Garbage(SensorFault):
    """Messages whose data ends early, as when packets are lost between sensor and driver."""

    kind: Literal["garbage"]
    keep: Annotated[float, Range(0, 0.999)] = 0.5  # of the bytes
    probability: Share = 1.0

    fits: ClassVar[tuple[str, ...]] = MODALITIES


@dataclass(frozen=True, kw_only=True)
class Nan(SensorFault):
    """Points whose fields are no numbers."""

    kind: Literal["nan"]
    fields: tuple[str, ...] = ("x", "y", "z")
    share: Share = 1.0  # of the points, by chance

    fits: ClassVar[tuple[str, ...]] = ("lidar", "radar")


@dataclass(frozen=True, kw_only=True)
class Ghosts(SensorFault):
    """Returns where nothing is: interference by other radars, many echoes in a tunnel."""

    kind: Literal["ghosts"]
    count: Annotated[int, Range(1, 100_000)] = 20  # more returns a scan
    max_range_m: Annotated[float, Range(1, 1000)] = 80.0
    fov_deg: Annotated[float, Range(1, 360)] = 120.0  # they lie around the radar's x axis

    fits: ClassVar[tuple[str, ...]] = ("radar",)


@dataclass(frozen=True, kw_only=True)
class TimeJump:
    """The vehicle's clock is set: from then on all stamps, and ROS time, are `by_s` later."""

    kind: Literal["time_jump"]
    at_s: Seconds
    by_s: Annotated[float, Range(-1e6, 1e6)]

    def active(self, at_ns: int) -> bool:
        """At so many ns after the beginning."""
        return nanoseconds(self.at_s) <= at_ns


Fault = (Off | Flapping | Drop | Late | ClockSkew | FutureStamp | Blinded | Garbage | Nan | Ghosts
         | TimeJump)


# -- scenarios -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """One file of config/scenarios/."""

    name: str
    what: str  # one sentence: what happens, and what the stack should do
    world: World = field(default_factory=World)
    faults: tuple[Fault, ...] = ()

    @property
    def needs_world(self) -> bool:
        """Whether a drive has to be generated with it: faults alone are not all of it."""
        return self.world != World()


def load_scenario(which: str | Path) -> Scenario:
    """A file, or the name of a shipped scenario; ConfigError names the shipped ones."""
    path = path_of(which)
    return config.build(Scenario, _with_off(config.load_yaml(path)), str(path))


def path_of(which: str | Path) -> Path:
    """The file of a shipped scenario's name; a path stays what it is."""
    path = Path(which)
    return path if path.suffix or path.is_file() else _shipped(str(which))


def shipped() -> dict[str, Path]:
    """The scenarios of config/scenarios/, by name."""
    return {path.stem: path for path in sorted(resources.path(FOLDER).glob("*.yaml"))}


def targets(fault: SensorFault, rig: Rig) -> tuple[str, ...]:
    """The rig's sensors (or "odometry") that a fault changes.

    A pattern means those of its matches that the kind can change. ConfigError when there are none.
    """
    kinds = {name: rig.modality(name) for name in rig.sensors}
    if rig.odometry_topic is not None:
        kinds.setdefault(ODOMETRY, ODOMETRY)
    named = [name for name in kinds if name == fault.sensor] or [
        name for name in rig.sensors if fnmatchcase(name, fault.sensor)]
    if not named:
        near = difflib.get_close_matches(fault.sensor, kinds, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise ConfigError(f"{fault.kind}: no sensor fits '{fault.sensor}'{hint}; rig '{rig.name}' "
                          f"has {', '.join(kinds)}")
    fitting = tuple(name for name in named if kinds[name] in fault.fits)
    if not fitting:
        raise ConfigError(f"{fault.kind} is for {' and '.join(fault.fits)}; '{fault.sensor}' is "
                          f"{kinds[named[0]]} in rig '{rig.name}'")
    _refuse_scans(fault, rig, fitting)
    return fitting


def _refuse_scans(fault: SensorFault, rig: Rig, names: tuple[str, ...]) -> None:
    for name in names:
        sensor = rig.sensors.get(name)
        if isinstance(fault, Garbage) and isinstance(sensor, Radar) \
                and sensor.message == "radar_scan":
            raise ConfigError(f"garbage: a RadarScan cannot end early, '{name}' sends those")


def _shipped(name: str) -> Path:
    known = shipped()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise ConfigError(f"no scenario '{name}'{hint}; shipped: {', '.join(known)}; or give a "
                          "file: NAME.yaml")
    return known[name]


def _with_off(content: Any) -> Any:
    if not isinstance(content, dict) or not isinstance(content.get("faults"), list):
        return content
    return {**content, "faults": [with_off(fault) for fault in content["faults"]]}


def with_off(fault: Any) -> Any:
    """YAML 1.1 reads a bare `off` as false; `kind: off` means what it says."""
    off = isinstance(fault, dict) and fault.get("kind") is False
    return {**fault, "kind": "off"} if off else fault
