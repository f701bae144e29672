"""Commands: the faults of `bev bench faults`: what is broken, what has to show it, and how soon all
is `full` again. docs/faults.md is the same table in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from perception_bev.rig import Rig

BACK_S = 2.0  # from a fault's end to `full`
BACK_OF_KILLED_S = 3.0
SIGSTOP_MS = 200.0
HOLD_S = 3.0
LATE_CAMERA_MS, LATE_LIDAR_MS = 150.0, 60.0
FORWARD_S, BACK_IN_TIME_S = 30.0, -2.0

Kind = Literal["slow", "hang", "kill", "stall", "disk", "loss", "message"]


@dataclass(frozen=True, slots=True)
class Case:
    """One fault and what is asked for."""

    name: str
    kind: Kind
    of: str = ""  # the process or the stage
    words: Mapping[str, Any] = field(default_factory=dict)  # of the act, or of the player's order
    for_s: float = HOLD_S
    shows: str = r"$^"  # keys of `status` whose change marks it, and names on /diagnostics
    outputs: bool = True  # False: the node itself is gone, or says that it knows nothing
    detected_ms: float | None = None  # asked for
    back_s: float | None = BACK_S  # asked for
    heals: bool = False  # it is over as soon as it was noticed: the process is replaced
    udp: bool = False  # only where messages come as datagrams

    @property
    def jump_ns(self) -> int:
        """How far stamps are from ROS time while it lasts."""
        return round(self.words.get("by_s", 0.0) * 1e9) if self.kind == "message" else 0


def cases(rig: Rig) -> tuple[Case, ...]:
    """All of them, for the sensors of a rig; in the order in which they are done."""
    return (*_processes(), *_machine(), *_messages(rig), *_last())


def _processes() -> tuple[Case, ...]:
    stages = {stage: {"shows": rf"worker(s/|\.){stage}", "heals": True, "back_s": BACK_OF_KILLED_S}
              for stage in ("extract", "fuse", "decide")}
    return (
        Case("slow_fuse", "slow", "fuse", {"ms": 60.0}, shows=r"plan$|queue\.fuse"),
        Case("slow_extract", "slow", "extract_lidar", {"ms": 60.0}, shows=r"plan$|queue\.extract"),
        *(Case(f"hang_{stage}", "hang", stage, detected_ms=SIGSTOP_MS, **asked)
          for stage, asked in stages.items()),
        *(Case(f"kill_{stage}", "kill", stage, **asked) for stage, asked in stages.items()),
        Case("hang_watchdog", "hang", "watchdog", shows=r"watchdog$"),
        Case("kill_watchdog", "kill", "watchdog", shows=r"watchdog$"),
        Case("hiccup", "hang", "perception", for_s=1.0, outputs=False, shows=r"perception/"))


def _machine() -> tuple[Case, ...]:
    return (Case("stall_core", "stall", for_s=2.0, shows=r"plan$|queue\."),
            Case("disk_full", "disk", shows=r"trace_file\.lost"),
            Case("dds_loss", "loss", "perception", {"percent": 20.0}, udp=True,
                 shows=r"(sensor|drops)[./]"))


def _messages(rig: Rig) -> tuple[Case, ...]:
    camera, radar = next(iter(rig.cameras), None), next(iter(rig.radars), None)
    lidar = rig.reference.sensor
    found = [*_of_sensor("reference", lidar, late_ms=LATE_LIDAR_MS)]
    if camera is not None:
        found += _of_sensor("camera", camera, late_ms=LATE_CAMERA_MS)
        found += [_message("cameras_off", "off", "*" if camera == "*" else _pattern(rig.cameras))]
    if radar is not None:
        found += _of_sensor("radar", radar, late_ms=LATE_CAMERA_MS)
    clouds = {"reference": lidar if lidar in rig.lidars else None, "radar": radar}
    found += [_message(f"{role}_nan", "nan", name) for role, name in clouds.items() if name]
    shows = r"epoch$|clock\.|advice\."
    found += [Case("everything_off", "message", words={"kind": "off", "sensor": "*"}, for_s=2.0,
                   outputs=False, shows=r"(sensor|drops)[./]")]
    return (*found, *(Case(name, "message", words={"kind": "time_jump", "by_s": by_s}, shows=shows)
                      for name, by_s in (("time_forward", FORWARD_S),
                                         ("time_back", BACK_IN_TIME_S))))


def _of_sensor(role: str, name: str, late_ms: float) -> list[Case]:
    return [_message(f"{role}_off", "off", name),
            _message(f"{role}_late", "late", name, delay_ms=late_ms),
            _message(f"{role}_garbage", "garbage", name),
            _message(f"{role}_future", "future_stamp", name, ahead_s=5.0)]


def _message(name: str, kind: str, sensor: str, **words: Any) -> Case:
    return Case(name, "message", words={"kind": kind, "sensor": sensor, **words},
                shows=rf"(sensors?|drops|clock)[./]{sensor.replace('*', '.*')}")


def _pattern(names: Mapping[str, Any]) -> str:
    """A pattern that means these sensors: what their names begin with."""
    first, *others = names
    length = next((n for n in range(len(first), 0, -1)
                   if all(other.startswith(first[:n]) for other in others)), 0)
    return first[:length] + "*" if others else first


def _last() -> tuple[Case, ...]:
    """After it the node is another one."""
    return (Case("kill_node", "kill", "perception", for_s=0.0, outputs=False, back_s=None,
                 shows=r"pid\.io|perception/"),)
