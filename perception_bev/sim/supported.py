"""Simulation: which rigs it can be. What a rig file asks for and cannot have is an error, said
before the first ray."""

from __future__ import annotations

from perception_bev.errors import ConfigError
from perception_bev.rig import Rig
from perception_bev.sim import clouds


def check(rig: Rig) -> None:
    """ConfigError that lists all that the simulator does not do for a rig."""
    problems = [*_reference(rig), *_world(rig), *_radars(rig)]
    if problems:
        raise ConfigError(f"rig '{rig.name}' cannot be simulated: " + "; ".join(problems))
    for name, spec in {**rig.lidars, **rig.radars}.items():
        clouds.check(name, spec)


def _reference(rig: Rig) -> list[str]:
    if len(rig.lidars) != 1 or rig.reference.sensor not in rig.lidars:
        return [f"the simulator wants one lidar, as the reference; there are {len(rig.lidars)}, "
                f"and the reference is {rig.modality(rig.reference.sensor)} "
                f"'{rig.reference.sensor}'"]
    turns = rig.reference.period_ms / rig.lidars[rig.reference.sensor].period_ms
    if round(turns) < 1 or abs(turns - round(turns)) > 1e-6:
        return [f"reference.period_ms {rig.reference.period_ms:g} is not a multiple of the "
                f"lidar's {rig.lidars[rig.reference.sensor].period_ms:g}"]
    return []


def _world(rig: Rig) -> list[str]:
    problems = [f"{name}: clock_offset_ms (a clock that is wrong is a fault: see the scenario "
                "clock_skew)" for name, sensor in rig.sensors.items() if sensor.clock_offset_ms]
    if rig.traffic != "right":
        problems.append(f"traffic: {rig.traffic} (the simulated town drives on the right)")
    return problems


def _radars(rig: Rig) -> list[str]:
    return [f"{name}: message: radar_scan (cloud and cloud_vxvy are)"
            for name, radar in rig.radars.items() if radar.message == "radar_scan"]
