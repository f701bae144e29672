"""Stages of a model on another computer than the perception node's (docs/hosts.md).

ros2 launch perception_bev stages.launch.py model:=DIR stages:="['decide']" namespace:=rear_box
"""

from launch import LaunchDescription
from perception_bev.nodes.launch_actions import stages_description


def generate_launch_description() -> LaunchDescription:
    return stages_description()
