"""Scenarios as data: strict files, the shipped ones, and which sensors they mean."""

import re
from pathlib import Path

import message_stream
import pytest

from perception_bev import config, resources
from perception_bev.errors import ConfigError
from perception_bev.recordings.bag_types import TypeBook
from perception_bev.rig import load_rig
from perception_bev.sim import scenario as module
from perception_bev.sim.faults import Faults
from perception_bev.sim.scenario import Scenario, load_scenario, path_of, shipped, targets

NAMES = {"sensor_off", "sensor_late", "sensor_flapping", "sensor_garbage", "camera_blinded",
         "fog", "radar_ghosts", "clock_skew", "time_jump", "cut_in", "occluded_pedestrian"}
GOOD = {"name": "a", "what": "b"}


def made(**sections) -> Scenario:
    return config.build(Scenario, GOOD | sections, "a.yaml")


def one(**fault):
    return made(faults=[fault]).faults[0]


# -- the shipped ones ------------------------------------------------------------------------------


def test_the_shipped_ones_are_these():
    assert set(shipped()) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_shipped_one_fits_the_simulated_rig(name):
    scenario = load_scenario(name)
    rig = load_rig(resources.path("config/rigs/sim6.yaml"))
    Faults(scenario, rig, TypeBook(), 0)
    assert scenario.name == name and scenario.what.endswith(".")
    assert scenario.faults or scenario.needs_world, "something happens"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_shipped_one_teaches(name):
    lines = shipped()[name].read_text().splitlines()
    assert lines[0].startswith("# ") and sum(line.strip().startswith("#") for line in lines) >= 3
    assert max(map(len, lines)) <= 105


def test_every_kind_of_fault_and_event_is_in_the_documentation():
    page = Path(resources.path("docs/scenarios.md")).read_text()
    kinds = [kind.__name__ for kind in module.Fault.__args__ + module.Event.__args__]
    words = {re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower() for kind in kinds}
    assert not {word for word in words | NAMES if f"`{word}`" not in page}


# -- strictness ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sections", "parts"), [
    ({"fault": []}, ["unknown key 'fault'", "did you mean 'faults'"]),
    ({"faults": [{"kind": "of", "sensor": "a"}]}, ["faults[0]", "did you mean 'off'"]),
    ({"faults": [{"sensor": "a"}]}, ["faults[0]", "a kind (off, flapping"]),
    ({"faults": [{"kind": ["off"], "sensor": "a"}]}, ["unknown kind ['off']"]),
    ({"faults": [{"kind": "off"}]}, ["faults[0]", "missing sensor"]),
    ({"faults": [{"kind": "off", "sensor": "a", "delay_ms": 1}]},
     ["unknown key 'delay_ms'", "known: sensor, from_s, to_s"]),
    ({"faults": [{"kind": "off", "sensor": "a", "from_s": 2, "to_s": 2}]},
     ["faults[0]", "to_s 2 is not after from_s 2"]),
    ({"faults": [{"kind": "drop", "sensor": "a", "probability": 2}]}, ["outside 0 .. 1"]),
    ({"faults": [{"kind": "garbage", "sensor": "a", "keep": 1}]}, ["outside 0 .. 0.999"]),
    ({"faults": [{"kind": "flapping", "sensor": "a", "on_s": 0, "off_s": 1}]}, ["on_s", "outside"]),
    ({"faults": [{"kind": "late", "sensor": "a", "delay_ms": 1e6}]}, ["delay_ms", "outside"]),
    ({"faults": [{"kind": "blinded", "sensor": "a", "picture": "grey"}]}, ["white, black, dirty"]),
    ({"faults": [{"kind": "time_jump", "at_s": 1, "by_s": 2, "sensor": "a"}]}, ["'sensor'"]),
    ({"world": {"weather": "snow"}}, ["world.weather", "day, dusk, night, rain, fog"]),
    ({"world": {"weather": "rain", "visibility_m": 50}}, ["visibility_m belongs to weather: fog"]),
    ({"world": {"events": [{"kind": "cut_on", "at_s": 1}]}},
     ["events[0]", "did you mean 'cut_in'"]),
    ({"world": {"events": [{"kind": "cut_in"}]}}, ["missing at_s"]),
])
def test_what_does_not_fit_is_said_with_its_place(sections, parts):
    with pytest.raises(ConfigError) as caught:
        made(**sections)
    assert not [part for part in parts if part not in str(caught.value)], str(caught.value)


def test_a_bare_off_means_off(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nwhat: x\nfaults:\n  - {kind: off, sensor: top}\n")
    assert [fault.kind for fault in load_scenario(path).faults] == ["off"]


def test_a_file_of_any_name_or_a_shipped_name(tmp_path, monkeypatch):
    plain = tmp_path / "mine"
    plain.write_text("name: mine\nwhat: x\n")
    assert load_scenario(plain).name == "mine" and not load_scenario(plain).needs_world
    assert path_of("fog") == shipped()["fog"]
    with pytest.raises(ConfigError, match=r"did you mean 'fog'.*shipped: camera_blinded"):
        load_scenario("fogg")
    with pytest.raises(ConfigError, match="no such file"):
        load_scenario("fogg.yaml")


@pytest.mark.parametrize("text", ("- a", "faults: 3", "faults: [off]", "name: x\nname: y"))
def test_files_of_another_kind_are_refused(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_scenario(path)


def test_fog_has_a_visibility_and_other_weather_none():
    assert made(world={"weather": "fog"}).world.fog_m == module.FOG_VISIBILITY_M
    assert made(world={"weather": "fog", "visibility_m": 30}).world.fog_m == 30
    assert made(world={"weather": "night"}).world.fog_m is None


def test_only_a_changed_world_has_to_be_simulated():
    assert not made(faults=[{"kind": "off", "sensor": "x"}]).needs_world
    assert made(world={"weather": "dusk"}).needs_world and not made(world={}).needs_world


# -- sensors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "names"), [
    ({"kind": "off", "sensor": "top"}, {"top"}),
    ({"kind": "off", "sensor": "*"}, {"front", "top", "nose"}),
    ({"kind": "off", "sensor": "[ft]*"}, {"front", "top"}),
    ({"kind": "late", "sensor": "odometry", "delay_ms": 1}, {"odometry"}),
    ({"kind": "blinded", "sensor": "*"}, {"front"}),
    ({"kind": "nan", "sensor": "*"}, {"top", "nose"}),
    ({"kind": "ghosts", "sensor": "n*"}, {"nose"}),
])
def test_a_pattern_means_those_that_the_kind_can_change(fault, names):
    assert set(targets(one(**fault), message_stream.rig())) == names


@pytest.mark.parametrize(("fault", "text"), [
    ({"kind": "off", "sensor": "tip"}, "no sensor fits 'tip' (did you mean 'top'?); rig 'small' "
                                       "has front, top, nose, odometry"),
    ({"kind": "off", "sensor": "cam_*"}, "no sensor fits 'cam_*'"),
    ({"kind": "blinded", "sensor": "top"}, "blinded is for camera; 'top' is lidar"),
    ({"kind": "nan", "sensor": "front"}, "nan is for lidar and radar; 'front' is camera"),
    ({"kind": "garbage", "sensor": "odometry"}, "'odometry' is odometry"),
])
def test_a_sensor_that_does_not_fit_is_said(fault, text):
    with pytest.raises(ConfigError, match=re.escape(text)):
        targets(one(**fault), message_stream.rig())


def test_a_radar_scan_cannot_end_early():
    rig = message_stream.rig(nose={"message": "radar_scan"})
    with pytest.raises(ConfigError, match="'nose' sends those"):
        targets(one(kind="garbage", sensor="nose"), rig)


def test_a_rig_without_odometry_has_none_to_fail():
    rig = load_rig(resources.path("config/rigs/astyx_a.yaml"))
    assert rig.odometry_topic is None
    with pytest.raises(ConfigError, match="no sensor fits 'odometry'"):
        targets(one(kind="off", sensor="odometry"), rig)
