"""Arguments of the launch file for stages on another computer."""

import pytest

from perception_bev.errors import ConfigError
from perception_bev.nodes import table


def words(**values) -> list[str]:
    return table.stage_plan(values).ros_arguments()


def test_a_stage_node_is_planned_from_launch_arguments():
    said = words(model="models/sim6", stages="['decide', 'fuse']", namespace="rear_box")
    assert "model:='models/sim6'" in said and "stages:=['decide', 'fuse']" in said
    assert "__node:=stages" in said and "__ns:=/rear_box" in said
    assert not any(word.startswith("deployment") for word in said)


def test_names_with_commas_are_a_list_and_nothing_is_none():
    assert "stages:=['decide']" in words(stages="decide")
    assert "stages:=['fuse', 'decide']" in words(stages="fuse, decide")
    with pytest.raises(ConfigError, match="expected"):
        words(stages="[]")


def test_a_stage_node_is_in_nobodys_table():
    assert table.STAGES not in table.TABLE


def test_the_profile_for_hosts_is_chosen_unless_one_is_set():
    chosen = table.environment({}, profile=table.HOSTS_PROFILE)
    assert chosen["FASTRTPS_DEFAULT_PROFILES_FILE"].endswith("fastdds_hosts.xml")
    mine = {"FASTRTPS_DEFAULT_PROFILES_FILE": "mine.xml"}
    assert "FASTDDS_DEFAULT_PROFILES_FILE" not in table.environment(mine, table.HOSTS_PROFILE)
