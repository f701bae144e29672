"""Types: ours are the released ones, and a bag's own definition is what counts."""

import re

import pytest
from bag_scenes import STRING, text_bytes

from perception_bev import resources
from perception_bev.errors import ConfigError, RecordingError
from perception_bev.recordings.bag_types import EXTRA_DEFINITIONS, TypeBook, definition, full_name


def fields(text: str) -> list[tuple[str, str]]:
    lines = (re.sub("#.*", "", line).strip() for line in text.splitlines())
    return [tuple(line.split()) for line in lines if line and "=" not in line]


@pytest.mark.parametrize("name", EXTRA_DEFINITIONS)
def test_definitions_agree_with_the_interface_packages(name):
    package, _, kind = name.split("/")
    try:
        path = resources.path(f"scripts/interfaces/{package}/msg/{kind}.msg")
    except ConfigError:
        pytest.skip("scripts/interfaces is not here: an installed package has none")
    assert fields(EXTRA_DEFINITIONS[name]) == fields(path.read_text())


def test_a_definition_brings_all_that_it_needs():
    text, digest = definition("vision_msgs/msg/Detection3DArray")
    for needed in ("std_msgs/Header", "builtin_interfaces/Time", "vision_msgs/Detection3D",
                   "geometry_msgs/PoseWithCovariance"):
        assert f"MSG: {needed}\n" in text
    assert re.fullmatch("RIHS01_[0-9a-f]{64}", digest)


def test_the_hash_is_that_of_ros():
    """Of std_msgs/msg/String, as rosbag2 writes it on Jazzy."""
    assert definition(STRING)[1] == (
        "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18")


def test_the_bag_s_definition_wins():
    book = TypeBook()
    book.add(STRING, "ros2msg", "string text")
    assert book.deserialize(text_bytes("hello"), STRING).text == "hello"
    assert TypeBook().deserialize(text_bytes("hello"), STRING).data == "hello"


def test_idl_is_understood():
    book = TypeBook()
    book.add("my_msgs/msg/Text", "ros2idl", "=" * 80 + "\nIDL: my_msgs/msg/Text\n"
             "module my_msgs { module msg { struct Text { string content; }; }; };")
    assert book.deserialize(text_bytes("x"), "my_msgs/msg/Text").content == "x"


def test_a_definition_that_is_none_is_an_error_only_when_it_is_used():
    book = TypeBook()
    book.add("my_msgs/msg/Text", "ros2msg", "(((")
    with pytest.raises(RecordingError, match="my_msgs/msg/Text is not readable"):
        book.deserialize(text_bytes("x"), "my_msgs/msg/Text")


def test_short_names_of_old_bags():
    assert full_name("std_msgs/String") == STRING == full_name(STRING)
    assert TypeBook().deserialize(text_bytes("x"), "std_msgs/String").data == "x"
