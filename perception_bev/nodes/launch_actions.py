"""Nodes: the node table as launch actions; the launch files only say which arguments they show."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from perception_bev import resources
from perception_bev.nodes import table
from perception_bev.nodes.endings import Endings
from perception_bev.nodes.table import Choices, NodePlan

PACKAGE = "perception_bev"
RVIZ_CONFIG = "rviz/perception.rviz"
RVIZ_TOPICS = ("/markers", "/bev/image", "/bev/occupancy", "/camera/front/overlay",
               "/lidar/top/points", "/radar/front_radar/points")  # those that its file names


def description(required: Iterable[str], hidden: Iterable[str] = ()) -> LaunchDescription:
    """Declares the arguments of `Choices` but the hidden ones, and starts the planned nodes."""
    required, hidden = set(required), set(hidden)
    shown = [choice for choice in dataclasses.fields(Choices) if choice.name not in hidden]
    arguments = [_argument(choice, choice.name in required) for choice in shown]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def stages_description() -> LaunchDescription:
    """A stage node alone, for another computer than the perception node's."""
    arguments = [DeclareLaunchArgument(name, description=text, default_value=default)
                 for name, (default, text) in table.STAGE_ARGUMENTS.items()]
    return LaunchDescription([*arguments, OpaqueFunction(function=_start_stages)])


def _start_stages(context: LaunchContext) -> list[Action]:
    plan = table.stage_plan(context.launch_configurations)
    return node_actions(plan, table.environment(profile=table.HOSTS_PROFILE), Endings(plan.entry))


def start(context: LaunchContext) -> list[Action]:
    """The actions for the arguments of this launch. ConfigError, which launch prints and returns
    exit code 1 for, when they are wrong."""
    chosen = table.choices_from_text(context.launch_configurations)
    plans, environment = table.plan(chosen), table.environment()
    actions = [action for plan in plans
               for action in node_actions(plan, environment, Endings(plan.entry))]
    return actions + (_rviz(chosen) if chosen.rviz else [])


def node_actions(plan: NodePlan, environment: dict[str, str], endings: Endings) -> list[Action]:
    """The node, and what follows its end. Not launch's own respawn: that knows no reason.

    Its name is a plain remapping: `name=` would count the next life as a second node.
    """
    node = Node(
        package=PACKAGE, executable=plan.entry.executable, namespace=plan.namespace,
        output="screen", additional_env=environment,
        parameters=[dict(plan.parameters), *filter(None, [plan.params_file])],
        ros_arguments=["-r", f"__node:={plan.entry.name}", "--log-level", plan.log_level])
    started_s = time.monotonic()

    def ended(event: Any, context: LaunchContext) -> list[Action]:
        if context.is_shutdown:
            return []
        ending = endings.judge(event.returncode, time.monotonic() - started_s)
        said = LogInfo(msg=f"{plan.entry.name} {ending.text}")
        if ending.end_all_with is not None:
            if ending.end_all_with:  # an error is how a launch gets an exit code other than 0
                raise RuntimeError(f"{plan.entry.name} {ending.text}")
            return [said, Shutdown(reason=f"{plan.entry.name} ended")]
        if ending.again_after_s is None:
            return [said]
        again = OpaqueFunction(function=lambda _: node_actions(plan, environment, endings))
        return [said, TimerAction(period=ending.again_after_s, actions=[again])]

    return [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=ended))]


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
