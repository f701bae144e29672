"""The node table: who is started, with what, and that nothing needs ROS to know it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from perception_bev.errors import ConfigError
from perception_bev.nodes import table
from perception_bev.nodes.table import Choices

RIG = """
name: car
reference: {sensor: top}
lidars: {top: {topic: lidar/top/points, frame_id: top, extrinsics: from_tf}}
"""


@pytest.fixture(autouse=True)
def rig_here(tmp_path, monkeypatch):
    (tmp_path / "rig.yaml").write_text(RIG)
    monkeypatch.chdir(tmp_path)


def names(**chosen) -> list[str]:
    return [node.entry.name for node in table.plan(Choices(rig="rig.yaml", **chosen))]


def arguments(node: table.NodePlan) -> dict[str, object]:
    words = node.ros_arguments()
    pairs = [words[i + 1].split(":=", 1) for i, word in enumerate(words) if word == "-p"]
    return {name: yaml.safe_load(value) for name, value in pairs}


def test_only_what_was_asked_for_is_started():
    assert names() == ["perception", "watchdog"]
    assert names(watchdog=False) == ["perception"]
    assert names(viz=True) == names(rviz=True) == ["perception", "watchdog", "viz"]
    assert names(bag="drive", viz=True) == ["perception", "watchdog", "viz", "replay"]


def test_parameters_that_were_not_chosen_are_left_to_the_node():
    perception, watchdog = table.plan(Choices(rig="rig.yaml"))
    assert arguments(perception) == {"rig": "rig.yaml", "use_sim_time": False}
    assert arguments(watchdog) == {"rig": "rig.yaml", "use_sim_time": False}


def test_everything_but_the_replay_follows_its_clock():
    nodes = {node.entry.name: arguments(node)
             for node in table.plan(Choices(rig="rig.yaml", bag="b", rate=0.5, viz=True))}
    for name in ("perception", "watchdog", "viz"):
        assert nodes[name]["use_sim_time"] is True, name
    assert nodes["replay"] == {"bag": "b", "rig": "rig.yaml", "rate": 0.5, "use_sim_time": False,
                               "clock": True, "loop": False, "stamps": "original",
                               "wait_for_subscribers_s": table.ENGINES_LOADED_S,
                               "expect": ["/lidar/top/points"]}


def test_a_fresh_replay_is_like_live_sensors():
    nodes = {node.entry.name: arguments(node)
             for node in table.plan(Choices(rig="rig.yaml", bag="b", fresh=True))}
    assert nodes["perception"]["use_sim_time"] is False
    assert nodes["replay"]["stamps"] == "fresh" and nodes["replay"]["clock"] is False


def test_the_file_of_a_replays_rig_must_be_there():
    with pytest.raises(ConfigError, match="no such file"):
        table.plan(Choices(rig="gone.yaml", bag="b"))


@pytest.mark.parametrize("path", ["1e3", "true", "it's here/rig: x.yaml", "01"])
def test_text_stays_text_in_ros_arguments(path):
    node, = table.plan(Choices(rig=path, watchdog=False))
    assert arguments(node)["rig"] == path


def test_name_namespace_parameter_file_and_log_level_are_passed():
    node, _ = table.plan(Choices(rig="r", namespace="/car/", params_file="p.yaml",
                                 log_level="debug"))
    words = " ".join(node.ros_arguments())
    assert "__node:=perception" in words and "__ns:=/car " in words
    assert "--params-file p.yaml" in words and words.endswith("--log-level debug")


@pytest.mark.parametrize("chosen, needle", [
    ({"rig": ""}, "no rig"), ({"rig": "r", "rate": 0.0}, "rate"),
    ({"rig": "r", "rate": float("nan")}, "rate"), ({"rig": "r", "log_level": "loud"}, "loud")])
def test_choices_that_do_not_fit_are_refused(chosen, needle):
    with pytest.raises(ConfigError, match=needle):
        table.plan(Choices(**chosen))


def test_choices_from_launch_text():
    chosen = table.choices_from_text({"rig": "r", "viz": "True", "rate": "2", "watchdog": "false",
                                      "other": "x"})
    assert chosen == Choices(rig="r", viz=True, rate=2.0, watchdog=False)


@pytest.mark.parametrize("wrong", [{"viz": "maybe"}, {"rate": "fast"}])
def test_launch_text_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError):
        table.choices_from_text(wrong)


def test_environment_selects_the_shipped_profile_unless_one_is_set():
    added = table.environment({})
    assert Path(added["FASTRTPS_DEFAULT_PROFILES_FILE"]).is_file()
    kept = table.environment({"FASTRTPS_DEFAULT_PROFILES_FILE": "mine.xml"})
    assert not set(kept) & set(table.FASTDDS_VARIABLES)


def test_every_entry_has_a_module():
    missing = [entry.module for entry in table.TABLE
               if importlib.util.find_spec(entry.module) is None]
    assert not missing


def test_parameters_of_the_table_are_those_of_the_nodes():
    """Names are compared with the sources, since a node is not to be started for this."""
    chosen = Choices(rig="rig.yaml", model="m", deployment="d", bag="b", viz=True)
    for node in table.plan(chosen):
        source = (Path(table.__file__).parent / f"{node.entry.executable}.py").read_text()
        for name in set(node.parameters) - {"use_sim_time"}:
            assert f'"{name}"' in source, f"{node.entry.executable} has no parameter {name}"


def test_every_node_module_can_be_started():
    for entry in table.TABLE:
        source = (Path(table.__file__).parent / f"{entry.executable}.py").read_text()
        assert "def main(args" in source and '__name__ == "__main__"' in source


def test_reading_the_table_loads_no_ros():
    code = ("import sys, perception_bev.nodes.table\n"
            "print([m for m in sys.modules if m.split('.')[0] in ('rclpy', 'launch', 'numpy')])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
