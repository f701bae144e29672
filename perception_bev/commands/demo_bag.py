"""Commands: the demo's simulated drive as a bag, made once for everything that it depends on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import perception_bev
from perception_bev.errors import ConfigError
from perception_bev.rig import load_rig
from perception_bev.sim.scenario import Scenario, World

SOURCES = ("sim/*.py", "messages/write.py", "messages/objects_cloud.py", "recordings/convert.py",
           "recordings/sample_messages.py", "recordings/bag_write.py", "geometry.py", "rig.py")
PACKAGES = ("numpy", "open3d-cpu", "opencv-python-headless", "rosbags")
METADATA = "metadata.yaml"  # written last: a bag without it was interrupted


def bag_of(folder: Path, rig_file: Path, seed: int, seconds: float, scenario: Scenario | None,
           progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """The drive's bag in `folder`, simulated unless it is there already.

    Of the scenario only the world is in it: faults befall the messages when they are played, so a
    scenario of faults alone has the drive that there is without one.
    """
    world = scenario.world if scenario is not None and scenario.needs_world else None
    rig = load_rig(rig_file)
    bag = folder / f"{rig.name}_{seed}_{seconds:g}s_{key_of(rig_file, seed, seconds, world)}"
    if not (bag / METADATA).exists():
        shutil.rmtree(bag, ignore_errors=True)
        _simulate(bag, rig, seed, seconds, world, progress)
    return bag


def key_of(rig_file: Path, seed: int, seconds: float, world: World | None) -> str:
    """Changes with everything that the bag's bytes depend on."""
    digest = hashlib.sha256(repr((seed, seconds, world)).encode())
    root = Path(perception_bev.__file__).parent
    files = sorted(file for pattern in SOURCES for file in root.glob(pattern))
    for file in (rig_file, *files):
        digest.update(b"\0" + file.name.encode() + b"\0" + file.read_bytes())
    digest.update(repr([_version(package) for package in PACKAGES]).encode())
    return digest.hexdigest()[:10]


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:  # another build of it, such as opencv-python
        return ""


def _simulate(bag: Path, rig, seed: int, seconds: float, world: World | None,
              progress: Callable[[int, int], None]) -> None:
    from perception_bev.recordings.convert import convert
    from perception_bev.sim.drive import SimRecording

    if not 1.0 <= seconds <= 600.0:
        raise ConfigError(f"--seconds {seconds:g}: a demo drives for 1 to 600 s")
    scenario = Scenario("world", "", world) if world is not None else None
    recording = SimRecording(rig, seed, seconds, scenario=scenario, threads=2)
    bag.parent.mkdir(parents=True, exist_ok=True)
    convert(recording, bag, progress=progress)
