"""Nodes: the node table as launch actions; the launch files only say which arguments they show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from perception_bev import resources
from perception_bev.errors import PerceptionError
from perception_bev.nodes import table
from perception_bev.nodes.table import Choices, NodePlan

PACKAGE = "perception_bev"
RVIZ_CONFIG = "rviz/perception.rviz"
RVIZ_TOPICS = ("/markers", "/bev/image", "/bev/occupancy", "/camera/front/overlay",
               "/lidar/top/points", "/radar/front_radar/points")  # those that its file names
RESPAWN_DELAY_S = 2.0
BAD_CONFIGURATION = 2  # exit code of a node that will not do better when started again


def description(required: Iterable[str], hidden: Iterable[str] = ()) -> LaunchDescription:
    """Declares the arguments of `Choices` but the hidden ones, and starts the planned nodes."""
    required, hidden = set(required), set(hidden)
    shown = [choice for choice in dataclasses.fields(Choices) if choice.name not in hidden]
    arguments = [_argument(choice, choice.name in required) for choice in shown]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Action]:
    """The actions for the arguments of this launch; a wrong one is said in a line."""
    try:
        chosen = table.choices_from_text(context.launch_configurations)
        plans, environment = table.plan(chosen), table.environment()
    except PerceptionError as err:
        return [LogInfo(msg=f"{PACKAGE}: error: {err}"), Shutdown(reason=str(err))]
    actions = [action for plan in plans for action in node_actions(plan, environment)]
    return actions + (_rviz(chosen) if chosen.rviz else [])


def node_actions(plan: NodePlan, environment: dict[str, str]) -> list[Action]:
    """The node, and what its end means."""
    entry = plan.entry
    node = Node(
        package=PACKAGE, executable=entry.executable, name=entry.name, namespace=plan.namespace,
        parameters=[dict(plan.parameters), *filter(None, [plan.params_file])],
        ros_arguments=["--log-level", plan.log_level], additional_env=environment,
        output="screen", respawn=entry.respawn, respawn_delay=RESPAWN_DELAY_S)
    return [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=_on_exit(plan)))]


def _on_exit(plan: NodePlan) -> Callable[[Any, LaunchContext], list[Action]]:
    def ended(event: Any, context: LaunchContext) -> list[Action]:
        if plan.entry.ends_all or event.returncode == BAD_CONFIGURATION:
            return [Shutdown(reason=f"{plan.entry.name} ended with exit code {event.returncode}")]
        return []
    return ended


def _rviz(chosen: Choices) -> list[Action]:
    """RViz with our configuration, or a line that says that it is not installed."""
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        return [LogInfo(msg="rviz2 is not installed; all else runs (apt install ros-jazzy-rviz2)")]
    space = chosen.namespace.strip("/")
    simulated = table.follows_clock(chosen)
    return [Node(package="rviz2", executable="rviz2", name="rviz", output="log",
                 arguments=["-d", str(resources.path(RVIZ_CONFIG))],
                 parameters=[{"use_sim_time": simulated}],
                 remappings=[(topic, f"/{space}{topic}") for topic in RVIZ_TOPICS if space])]


def _argument(choice: dataclasses.Field, required: bool) -> DeclareLaunchArgument:
    default = choice.default
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return DeclareLaunchArgument(choice.name, description=choice.metadata["help"],
                                 default_value=None if required else text)
