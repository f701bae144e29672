"""/diagnostics: everything once a second, changes of level at once."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

import yaml
from builtin_interfaces.msg import Time

from perception_bev import resources
from perception_bev.latency.level import Level, Row
from perception_bev.nodes.diagnostics import Diagnostics
from perception_bev.nodes.watch import GROUPS

S = 1_000_000_000


class Said:
    """What a Diagnostics published, as (name, level)."""

    def __init__(self) -> None:
        self.messages = []
        node = SimpleNamespace(create_publisher=lambda *_: SimpleNamespace(
            publish=self.messages.append))
        self.diagnostics = Diagnostics(node)

    def at(self, seconds, **levels):
        before = len(self.messages)
        rows = [Row(name, level, "text", {"key": "value"}) for name, level in levels.items()]
        self.diagnostics.say(rows, round(seconds * S), Time(sec=5))
        return [[(status.name, status.level[0]) for status in message.status]
                for message in self.messages[before:]]


def test_all_once_a_second_and_changes_at_once():
    said = Said()
    assert said.at(0.0, a=Level.OK, b=Level.OK) == [[("a", 0), ("b", 0)]]
    assert said.at(0.1, a=Level.OK, b=Level.OK) == []
    assert said.at(0.2, a=Level.OK, b=Level.ERROR) == [[("b", 2)]]
    assert said.at(0.3, a=Level.OK, b=Level.ERROR) == []
    assert said.at(0.4, a=Level.OK, b=Level.ERROR, c=Level.STALE) == [[("c", 3)]]
    assert said.at(1.0, a=Level.OK, b=Level.ERROR) == [[("a", 0), ("b", 2)]]


def test_a_message_is_stamped_and_complete():
    said = Said()
    said.at(0.0, a=Level.WARN)
    message = said.messages[0]
    status, = message.status
    assert message.header.stamp.sec == 5 and status.hardware_id == "perception_bev"
    assert (status.values[0].key, status.values[0].value) == ("key", "value")


def test_the_aggregators_file_has_a_place_for_every_group():
    file = resources.path("config/diagnostics_aggregator.yaml")
    tree = yaml.safe_load(file.read_text())["analyzers"]["ros__parameters"]
    groups = [group for group in tree.values() if isinstance(group, dict)]
    assert {group["type"] for group in groups} == {"diagnostic_aggregator/GenericAnalyzer"}
    prefixes = {p for group in groups for p in group.get("find_and_remove_prefix", [])}
    assert prefixes >= {f"perception/{group}/" for group in GROUPS.values()}
    expected = {name for group in groups for name in group.get("expected", [])}
    assert {f"perception/{name}" for name in ("output", "latency", "tracks", "misses", "budget",
                                              "guard", "clock", "publisher", "degrade",
                                              "host")} == expected
