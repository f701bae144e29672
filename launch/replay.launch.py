"""Perception on a recording; ends with it.

ros2 launch perception_bev replay.launch.py rig:=rig.yaml model:=DIR bag:=DRIVE rviz:=true
"""

from launch import LaunchDescription
from perception_bev.nodes.launch_actions import description


def generate_launch_description() -> LaunchDescription:
    return description(required=["rig", "model", "bag"])
