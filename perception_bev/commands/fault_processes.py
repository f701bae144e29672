"""Commands: which processes a running stack has, for `bev fault`. `status` names them; where none
comes, their command lines do, of this ROS domain only.

A process is only ever touched when its command line says that it is one of this package's.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from perception_bev.errors import ConfigError

PACKAGE = "perception_bev"
NODE = re.compile(rf"{PACKAGE}\.nodes\.(\w+?)(?:_node)?")  # what `python -m` starts
SCRIPT = re.compile(r"(\w+)_node")  # what setup.py installs
WORKER = f"{PACKAGE}.pipeline.worker"
PERCEPTION = "perception"
NAMES = {"io": PERCEPTION}  # as `status` says it -> the node's name
KEY = "pid."  # of `status`
DOMAIN = "ROS_DOMAIN_ID"


def found(status: Mapping[str, str] | None = None) -> dict[str, int]:
    """{name: process id}: nodes by their names, workers by the names that `status` gives them.

    Args:
        status: values of a `status`; None: there was none.
    """
    named = {name: pid for name, pid in from_status(status or {}).items() if is_ours(pid)}
    return {**from_command_lines(_here()), **named}


def from_status(values: Mapping[str, str]) -> dict[str, int]:
    """What the keys `pid.<name>` say; "io" is the perception node."""
    pids = {key.removeprefix(KEY): text for key, text in values.items() if key.startswith(KEY)}
    return {NAMES.get(name, name): int(text) for name, text in pids.items() if text.isdigit()}


def from_command_lines(processes: Iterable[tuple[int, Sequence[str]]]) -> dict[str, int]:
    """Of several of the same name the one with the highest id is taken."""
    return {name: pid for pid, words in sorted(processes) if (name := name_of(words)) is not None}


def name_of(words: Sequence[str]) -> str | None:
    """What a process of ours is called, by its command line; None: it is none."""
    if "-m" in words[:-1]:
        module = words[words.index("-m") + 1]
        node = NODE.fullmatch(module)
        return "worker" if module == WORKER else node and node[1]
    for path in map(Path, words[:2]):
        node = SCRIPT.fullmatch(path.name)
        if node and (path.parent.name == PACKAGE or path.parent == Path(sys.executable).parent):
            return node[1]
    return None


def is_ours(pid: int) -> bool:
    """Whether a process that runs now is one of this package's."""
    try:
        return name_of(psutil.Process(pid).cmdline()) is not None
    except psutil.Error:
        return False


def pid_of(name: str, processes: Mapping[str, int]) -> int:
    """ConfigError lists the processes that there are."""
    if name in processes:
        return processes[name]
    fused = f"; a stage is a part of '{PERCEPTION}' unless the deployment says runner: processes" \
            if PERCEPTION in processes else ""
    raise ConfigError(f"no process '{name}' runs here; running: "
                      + (", ".join(sorted(processes)) or "none of this package") + fused)


def _here() -> list[tuple[int, list[str]]]:
    """Processes of ours in this ROS domain, with their command lines."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        if name_of(words) is not None and _same_domain(process):
            found.append((process.info["pid"], words))
    return found


def _same_domain(process: psutil.Process) -> bool:
    try:
        return process.environ().get(DOMAIN, "0") == os.environ.get(DOMAIN, "0")
    except psutil.Error:  # gone, or another user's
        return False
