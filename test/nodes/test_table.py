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


def names(**chosen) -> list[str]:
    return [node.entry.name for node in table.plan(Choices(rig="rig.yaml", **chosen))]


def arguments(node: table.NodePlan) -> dict[str, object]:
    words = node.ros_arguments()
    pairs = [words[i + 1].split(":=", 1) for i, word in enumerate(words) if word == "-p"]
    return {name: yaml.safe_load(value) for name, value in pairs}


def test_only_what_was_asked_for_is_started():
    assert names() == ["perception"]
    assert names(viz=True) == ["perception", "viz"]
    assert names(bag="drive", viz=True) == ["perception", "viz", "replay"]


def test_parameters_that_were_not_chosen_are_left_to_the_node():
    node, = table.plan(Choices(rig="rig.yaml"))
    assert arguments(node) == {"rig": "rig.yaml", "use_sim_time": False}


def test_everything_but_the_replay_follows_its_clock():
    nodes = {node.entry.name: arguments(node)
             for node in table.plan(Choices(rig="r", bag="b", rate=0.5, viz=True))}
    assert nodes["perception"]["use_sim_time"] is True and nodes["viz"]["use_sim_time"] is True
    assert nodes["replay"] == {"bag": "b", "rate": 0.5, "use_sim_time": False}


@pytest.mark.parametrize("path", ["1e3", "true", "it's here/rig: x.yaml", "01"])
def test_text_stays_text_in_ros_arguments(path):
    node, = table.plan(Choices(rig=path))
    assert arguments(node)["rig"] == path


def test_name_namespace_parameter_file_and_log_level_are_passed():
    node, = table.plan(Choices(rig="r", namespace="/car/", params_file="p.yaml", log_level="debug"))
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
    chosen = table.choices_from_text({"rig": "r", "viz": "True", "rate": "2", "other": "x"})
    assert chosen == Choices(rig="r", viz=True, rate=2.0)


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


def test_reading_the_table_loads_no_ros():
    code = ("import sys, perception_bev.nodes.table\n"
            "print([m for m in sys.modules if m.split('.')[0] in ('rclpy', 'launch', 'numpy')])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
