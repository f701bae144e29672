"""Commands: `bev doctor`, what this computer has, what it lacks, and the cure."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

HELP = """check this computer and say what is missing

Exit code 1 when the nodes cannot run here.

example: bev doctor"""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, "ok", "missing" (cannot run) or "note", and the cure."""

    what: str
    state: str
    text: str


PACKAGES = (  # module, needed to run, what for, cure
    ("numpy", True, "everything", "pip install numpy"),
    ("yaml", True, "configuration", "apt install python3-yaml"),
    ("cv2", True, "pictures", "pip install opencv-python-headless, or apt install python3-opencv"),
    ("numba", True, "rasters", "pip install numba"),
    ("onnxruntime", True, "the default engine", "pip install onnxruntime"),
    ("safetensors", True, "golden outputs", "pip install safetensors"),
    ("rclpy", True, "the nodes", "source /opt/ros/<distro>/setup.bash, or make setup"),
    ("vision_msgs", True, "objects", "apt install ros-$ROS_DISTRO-vision-msgs, or make setup"),
    ("tf2_msgs", True, "/tf", "apt install ros-$ROS_DISTRO-tf2-msgs, or make setup"),
    ("autoware_perception_msgs", False, "objects_autoware",
     "apt install ros-$ROS_DISTRO-autoware-perception-msgs"),
    ("radar_msgs", False, "RadarScan topics", "apt install ros-$ROS_DISTRO-radar-msgs"),
    ("iceoryx2", False, "runner 'processes'", "pip install iceoryx2 (x86_64), or runner 'threads'"),
    ("rosbags", False, "bags", "pip install rosbags"),
    ("torch", False, "training and export", "pip install torch"),
    ("tensorrt", False, "the engine 'tensorrt' of vehicles with a GPU", "JetPack has it"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the findings to this file")


def run(args: argparse.Namespace) -> int:
    findings = [_python(), *(_package(*row) for row in PACKAGES),
                *(check() for check in CHECKS)]
    table = Table("what", "state", "", box=None)
    for finding in findings:
        colour = {"ok": "green", "missing": "red", "note": "yellow"}[finding.state]
        table.add_row(finding.what, f"[{colour}]{finding.state}[/]", finding.text)
    Console(width=110).print(table)
    if args.json:
        args.json.write_text(json.dumps([asdict(f) for f in findings], indent=2) + "\n")
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def _python() -> Finding:
    fits = sys.version_info >= (3, 10)
    return Finding("Python", "ok" if fits else "missing",
                   platform.python_version() if fits else "3.10 or later is needed")


def _package(module: str, needed: bool, purpose: str, cure: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding(module, "missing" if needed else "note", f"for {purpose}: {cure}")
    try:
        found = importlib.import_module(module) if needed else None
    except Exception as err:  # a broken installation raises whatever it likes
        return Finding(module, "missing" if needed else "note", f"import fails: {err}; {cure}")
    return Finding(module, "ok", str(getattr(found, "__version__", "")))


def _fastdds() -> Finding:
    """Without a large shared-memory segment Fast DDS drops sensor data."""
    from perception_bev.nodes.table import FASTDDS_PROFILE, FASTDDS_VARIABLES

    if os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") != "rmw_fastrtps_cpp":
        return Finding("DDS profile", "note", f"RMW_IMPLEMENTATION is "
                       f"{os.environ['RMW_IMPLEMENTATION']}: give it room for images itself")
    named = next((os.environ[v] for v in FASTDDS_VARIABLES if os.environ.get(v)), None)
    if named is None:
        return Finding("DDS profile", "note", "not in force in this shell: our launch files and "
                       f"`bev up` set it; for your own drivers export {FASTDDS_VARIABLES[0]}="
                       f"<{FASTDDS_PROFILE}>, else Fast DDS drops images and clouds")
    if not Path(named).exists():
        return Finding("DDS profile", "missing", f"{named} does not exist: Fast DDS ignores it")
    return Finding("DDS profile", "ok", named)


def _shared_memory() -> Finding:
    status = os.statvfs("/dev/shm")
    free_mb = status.f_bavail * status.f_frsize / 1e6
    if free_mb < 512:
        return Finding("/dev/shm", "note", f"{free_mb:.0f} MB free; each participant takes 64 MB "
                       "(docker: --shm-size=2g)")
    return Finding("/dev/shm", "ok", f"{free_mb:.0f} MB free")


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0))
    return Finding("cores", "ok" if cores >= 2 else "note", str(cores))


CHECKS: tuple[Callable[[], Finding], ...] = (_fastdds, _shared_memory, _cores)
