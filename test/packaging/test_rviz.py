"""The RViz file: every display shows a topic that a node of ours or a shipped rig has."""

import re
from pathlib import Path

import pytest
import yaml

from perception_bev.rig import load_rig

ROOT = Path(__file__).parents[2]
DISPLAYS = yaml.safe_load((ROOT / "rviz/perception.rviz").read_text())[
    "Visualization Manager"]["Displays"]
TOPICS = {display["Name"]: display["Topic"] for display in DISPLAYS if "Topic" in display}


def published() -> set[str]:
    """Topics that the nodes' sources publish, and those of the shipped rigs' sensors."""
    topics = set()
    for file in (ROOT / "perception_bev/nodes").glob("*.py"):
        topics |= set(re.findall(r'create_(?:lifecycle_)?publisher\(\s*\w+,\s*"([\w/]+)"',
                                 file.read_text()))
    for file in (ROOT / "config/rigs").glob("*.yaml"):
        rig = load_rig(file)
        topics |= {sensor.topic for sensor in rig.sensors.values()}
        topics |= {f"camera/{name}/overlay" for name in rig.cameras}
    return topics


@pytest.mark.parametrize("name", TOPICS)
def test_a_display_has_a_topic(name):
    assert TOPICS[name]["Value"].removeprefix("/") in published()


def test_tracks_are_shown_and_names_differ():
    shown = {topic["Value"] for topic in TOPICS.values()}
    assert {"/markers", "/tracks/cloud"} <= shown
    names = [display["Name"] for display in DISPLAYS]
    assert len(names) == len(set(names))


def test_sensors_are_asked_for_at_best_effort_and_outputs_reliably():
    for name, topic in TOPICS.items():
        sensor = topic["Value"].endswith("/points")
        assert topic["Reliability Policy"] == ("Best Effort" if sensor else "Reliable"), name
