"""Perception and its watchdog on the vehicle's topics.

ros2 launch perception_bev perception.launch.py rig:=rig.yaml model:=DIR viz:=true
"""

from launch import LaunchDescription
from perception_bev.nodes.launch_actions import description


def generate_launch_description() -> LaunchDescription:
    return description(required=["rig", "model"], hidden=["bag", "rate", "loop", "fresh"])
