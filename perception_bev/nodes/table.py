"""Nodes: the node table, the one list of what runs, with which parameters and environment.

Both `launch/*.launch.py` and `bev up` start from it, so that they cannot drift. No rclpy here: it
is read before any node starts, and on machines without ROS.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from perception_bev import resources
from perception_bev.errors import ConfigError

FASTDDS_PROFILE = "config/fastdds.xml"
HOSTS_PROFILE = "config/fastdds_hosts.xml"  # where stages run on other computers
ENGINES_LOADED_S = 300.0  # how long a replay waits for them on a slow or busy computer
FASTDDS_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def _choice(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Choices:
    """What one can choose when starting: the arguments of the launch files and of `bev up`."""

    rig: str = _choice("", "file of the vehicle's sensors (`bev rig init` writes one)")
    model: str = _choice("", "folder of the model, or its model.yaml")
    deployment: str = _choice("", "file of what this computer does; empty: the node's default")
    bag: str = _choice("", "recording to replay; empty: the topics of live sensors")
    rate: float = _choice(1.0, "speed of the replay; 1 is the recording's own")
    loop: bool = _choice(False, "begin the replay again at its end")
    fresh: bool = _choice(False, "replay with stamps moved to now, as from live sensors")
    watchdog: bool = _choice(True, "watch the outputs, publish /diagnostics and degrade")
    viz: bool = _choice(False, "publish markers, BEV image and camera overlays")
    rviz: bool = _choice(False, "open RViz where it is installed (launch files only)")
    use_sim_time: bool = _choice(False, "take the time from /clock")
    namespace: str = _choice("", "namespace of all nodes and relative topics")
    params_file: str = _choice("", "ROS parameter file that is applied last, over all others")
    log_level: str = _choice("info", "debug, info, warn, error or fatal")


@dataclass(frozen=True)
class Entry:
    """One row of the table."""

    executable: str  # the console script that setup.py installs
    name: str  # of the node
    parameters: Callable[[Choices], dict[str, Any]]  # ROS parameters; empty ones are left out
    wanted: Callable[[Choices], bool] = lambda choices: True
    respawn: bool = True  # started again when it dies
    ends_all: bool = False  # when it ends by itself, everything ends
    vital: bool = True  # False: the others go on when it cannot be configured

    @property
    def module(self) -> str:
        """What `python -m` starts where no console script is installed."""
        return f"perception_bev.nodes.{self.executable}"


def _perception(chosen: Choices) -> dict[str, Any]:
    return {"rig": chosen.rig, "model": chosen.model, "deployment": chosen.deployment,
            "use_sim_time": follows_clock(chosen)}


def _watchdog(chosen: Choices) -> dict[str, Any]:
    return {"rig": chosen.rig, "deployment": chosen.deployment,
            "use_sim_time": follows_clock(chosen)}


def _viz(chosen: Choices) -> dict[str, Any]:
    return {"rig": chosen.rig, "model": chosen.model, "use_sim_time": follows_clock(chosen)}


def _replay(chosen: Choices) -> dict[str, Any]:
    """Playing waits for whoever takes the reference sensor, so that nothing is missed."""
    return {"bag": chosen.bag, "rig": chosen.rig, "rate": chosen.rate, "loop": chosen.loop,
            "stamps": "fresh" if chosen.fresh else "original", "clock": not chosen.fresh,
            "expect": [_reference_topic(chosen.rig)],
            "wait_for_subscribers_s": ENGINES_LOADED_S, "use_sim_time": False}


def follows_clock(chosen: Choices) -> bool:
    """A replay publishes /clock, and all follow it, unless its stamps are moved to now."""
    return chosen.use_sim_time or (bool(chosen.bag) and not chosen.fresh)


def _reference_topic(rig_file: str) -> str:
    from perception_bev.rig import load_rig  # NumPy comes with it

    rig = load_rig(rig_file)
    return "/" + rig.sensors[rig.reference.sensor].topic.lstrip("/")


TABLE = (
    Entry("perception_node", "perception", _perception),
    Entry("watchdog_node", "watchdog", _watchdog, wanted=lambda chosen: chosen.watchdog,
          vital=False),
    Entry("viz_node", "viz", _viz, wanted=lambda chosen: chosen.viz or chosen.rviz, vital=False),
    Entry("replay_node", "replay", _replay, wanted=lambda chosen: bool(chosen.bag),
          respawn=False, ends_all=True),
)


@dataclass(frozen=True)
class NodePlan:
    """One node to start."""

    entry: Entry
    namespace: str
    parameters: Mapping[str, Any]
    params_file: str
    log_level: str

    def ros_arguments(self) -> list[str]:
        """The `--ros-args` that say all of this to the node."""
        words = ["--ros-args", "-r", f"__node:={self.entry.name}"]
        if self.namespace:
            words += ["-r", f"__ns:=/{self.namespace.strip('/')}"]
        words += ros_words(self.parameters)[1:]
        if self.params_file:
            words += ["--params-file", self.params_file]
        return [*words, "--log-level", self.log_level]


def ros_words(parameters: Mapping[str, Any]) -> list[str]:
    """`--ros-args -p name:=value ...` as rcl reads it."""
    words = ["--ros-args"]
    for name, value in parameters.items():
        words += ["-p", f"{name}:={_yaml(value)}"]
    return words


def plan(choices: Choices) -> list[NodePlan]:
    """The nodes to start, in order. ConfigError when the choices do not fit each other."""
    _check(choices)
    return [NodePlan(entry, choices.namespace, _parameters(entry, choices), choices.params_file,
                     choices.log_level)
            for entry in TABLE if entry.wanted(choices)]


STAGE_ARGUMENTS = {  # of the launch file for stages on another computer: default, text
    "model": ("", "folder of the model, the same files as the perception node's"),
    "stages": ("['decide']", "what runs here"),
    "deployment": ("", "file of what this computer does; empty: the node's default"),
    "namespace": ("", "of the topics, as the perception node's deployment says"),
    "params_file": ("", "ROS parameter file that is applied last, over all others"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}
STAGES = Entry("stage_node", "stages", lambda chosen: {})  # not of the table: another computer's


def stage_plan(values: Mapping[str, str]) -> NodePlan:
    """A stage node from launch arguments. ConfigError for a list of stages that is none."""
    chosen = {name: values.get(name, default) for name, (default, _) in STAGE_ARGUMENTS.items()}
    parameters = {name: chosen[name] for name in ("model", "deployment") if chosen[name]}
    return NodePlan(STAGES, chosen["namespace"],
                    {**parameters, "stages": _names(chosen["stages"])}, chosen["params_file"],
                    chosen["log_level"])


def _names(text: str) -> list[str]:
    """A list as a launch argument: ['a', 'b'], or a,b."""
    names = [name.strip(" '\"") for name in text.strip(" []").split(",")]
    if not all(names):
        raise ConfigError(f"stages: {text}: expected ['decide'], or names with commas")
    return names


def environment(present: Mapping[str, str] | None = None,
                profile: str = FASTDDS_PROFILE) -> dict[str, str]:
    """Variables to add to the nodes' environment; what is set already is left as it is.

    The Fast DDS profile is named by both variables: Jazzy reads the first, Kilted and later the
    second.
    """
    present = os.environ if present is None else present
    added = {"PYTHONUNBUFFERED": "1"}
    if not any(present.get(name) for name in FASTDDS_VARIABLES):
        added.update(dict.fromkeys(FASTDDS_VARIABLES, str(resources.path(profile))))
    return {name: value for name, value in added.items() if name not in present}


def choices_from_text(values: Mapping[str, str]) -> Choices:
    """Choices from launch arguments, which are all text. ConfigError for what is none."""
    known = {f.name: f for f in dataclasses.fields(Choices)}
    return Choices(**{name: _from_text(name, known[name].default, text)
                      for name, text in values.items() if name in known})


def _from_text(name: str, default: Any, text: str) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false", "1", "0"):
            raise ConfigError(f"{name}: '{text}' is neither true nor false")
        return text.lower() in ("true", "1")
    if isinstance(default, float):
        try:
            return float(text)
        except ValueError as err:
            raise ConfigError(f"{name}: '{text}' is not a number") from err
    return text


def _check(choices: Choices) -> None:
    if not choices.rig:
        raise ConfigError("no rig: give the file of the vehicle's sensors "
                          "(`bev rig init` writes one from a bag or from live topics)")
    if not choices.rate > 0:
        raise ConfigError(f"rate: {choices.rate} is not above 0")
    if choices.log_level.lower() not in ("debug", "info", "warn", "error", "fatal"):
        raise ConfigError(f"log_level: '{choices.log_level}' is none of debug, info, warn, error, "
                          "fatal")


def _parameters(entry: Entry, choices: Choices) -> dict[str, Any]:
    return {name: value for name, value in entry.parameters(choices).items() if value != ""}


def _yaml(value: Any) -> str:
    """A parameter value as rcl reads it: text in quotes, so that a path `1e3` stays text."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(float(value)) if isinstance(value, float) else str(value)
    return "'" + str(value).replace("'", "''") + "'"
