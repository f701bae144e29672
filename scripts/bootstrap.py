#!/usr/bin/env python3
"""Set-up: makes .venv from nothing but Python, pip's index and, where root allows it, apt.

    python3 scripts/bootstrap.py runtime    what `make demo` needs
    python3 scripts/bootstrap.py test       the same, and training, tests and lint

Every step leaves a stamp with a hash of its inputs, so a second run skips what is done. A sourced
ROS 2 installation is used instead of the ROS wheels. Standard library only: this runs first.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bootstrap_tools import (
    CONSTRAINTS,
    PYTHON,
    ROOT,
    STATE,
    VENV,
    SetupError,
    Stamp,
    apt_install,
    can_import,
    can_load,
    pip_install,
    run,
    say,
    working,
)

REQUIREMENTS = ROOT / "requirements"
INTERFACES = ROOT / "scripts" / "interfaces"
OLDEST, NEWEST = (3, 11), (3, 13)  # the CPython versions that constraints.txt has wheels for
RUNTIME_INTERFACES = ("tf2_msgs", "vision_msgs")
TEST_INTERFACES = ("autoware_perception_msgs", "radar_msgs")
OPEN3D_LIBRARIES = {  # shared library: Debian package
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libgomp.so.1": "libgomp1",
    "libidn2.so.0": "libidn2-0",
    "libudev.so.1": "libudev1",
    "libusb-1.0.so.0": "libusb-1.0-0",
}


@dataclass(frozen=True)
class Machine:
    """What decides how the environment is made."""

    ros_distro: str  # "" where no ROS 2 is sourced

    @property
    def key(self) -> str:
        prefixes = os.environ.get("AMENT_PREFIX_PATH", "") if self.ros_distro else "wheels"
        return f"{sys.implementation.cache_tag} {platform.machine()} {self.ros_distro} {prefixes}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Make .venv and what goes into it.")
    parser.add_argument("profile", choices=("runtime", "test"))
    profile = parser.parse_args().profile
    try:
        set_up(profile, look_at_machine())
    except SetupError as err:
        print(f"\nset-up failed: {err}\n\ncure: {err.cure}", file=sys.stderr)
        return 1
    return 0


def set_up(profile: str, machine: Machine) -> None:
    make_venv(machine)
    install_ros(machine)
    install("cpu", machine)
    install_interfaces(RUNTIME_INTERFACES, machine)
    if profile == "test":
        install("train", machine)
        install("test", machine)
        install_interfaces(TEST_INTERFACES, machine)
    install_open3d_libraries()
    install_this_package(machine)


def look_at_machine() -> Machine:
    """:raises SetupError: before anything is written, where this cannot come to an end"""
    distro = os.environ.get("ROS_DISTRO", "")
    if distro and os.environ.get("AMENT_PREFIX_PATH"):
        check_rclpy_fits(distro)
        return Machine(distro)
    installed = sorted(Path("/opt/ros").glob("*/setup.bash"))
    if installed:
        say(f"ROS 2 is installed but not sourced. Using wheels; to use it: source {installed[-1]}")
    check_wheels_exist()
    return Machine("")


def check_rclpy_fits(distro: str) -> None:
    if importlib.util.find_spec("rclpy") is None:
        raise SetupError(
            f"ROS 2 {distro} is sourced, but {sys.executable} does not find its rclpy",
            "use the Python that this ROS was built for: make PYTHON=/usr/bin/python3 ...",
        )


def check_wheels_exist() -> None:
    versions = " to ".join(f"{major}.{minor}" for major, minor in (OLDEST, NEWEST))
    if sys.implementation.name != "cpython" or not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise SetupError(
            f"{sys.executable} is {sys.implementation.name} {platform.python_version()}; "
            f"the ROS wheels and pinned packages exist for CPython {versions}",
            "make PYTHON=python3.12 ... (one of those versions), or source a ROS 2 installation",
        )
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise SetupError(
            f"there are no ROS 2 wheels for {sys.platform} on {platform.machine()}",
            "install ROS 2 Jazzy (https://docs.ros.org/en/jazzy/Installation.html) and source it",
        )


def make_venv(machine: Machine) -> None:
    """A venv without our stamp was made by its owner: it is used, never removed."""
    stamp = Stamp("venv", machine.key)
    if PYTHON.exists() and (stamp.current or not stamp.path.exists()):
        stamp.write()
        return
    if importlib.util.find_spec("ensurepip") is None:
        apt_install(["python3-venv"], why="Debian packs the venv module apart")
    with working("virtual environment .venv"):
        shutil.rmtree(VENV, ignore_errors=True)
        options = ["--system-site-packages"] if machine.ros_distro else []
        run([sys.executable, "-m", "venv", *options, str(VENV)], log="venv")
    stamp.write()


def install_ros(machine: Machine) -> None:
    if machine.ros_distro:
        say(f"using the sourced ROS 2 {machine.ros_distro}")
    else:
        install("ros-wheels", machine)


def install(name: str, machine: Machine) -> None:
    """Install requirements/<name>.txt; TORCH_INDEX may name an index with CPU builds of torch."""
    file = REQUIREMENTS / f"{name}.txt"
    stamp = Stamp(name, machine.key, file, CONSTRAINTS)
    if stamp.current:
        return
    torch_index = os.environ.get("TORCH_INDEX")
    extra = ["--extra-index-url", torch_index] if torch_index else []
    with working(f"packages of requirements/{name}.txt"):
        pip_install("--requirement", str(file), *extra, log=name)
    stamp.write()


def install_interfaces(packages: Iterable[str], machine: Machine) -> None:
    """Generate the message packages that no ROS installation provides."""
    for package in packages:
        sources = sorted(path for path in (INTERFACES / package).rglob("*") if path.is_file())
        stamp = Stamp(package, machine.key, INTERFACES / "interface_package.cmake", *sources)
        if stamp.current:
            continue
        if stamp.path.exists() or not can_import(f"{package}.msg"):
            generate(package, machine)
        stamp.write()


def generate(package: str, machine: Machine) -> None:
    require_compiler()
    if not machine.ros_distro:
        install("interface-generators", machine)
    build = STATE / "build" / package
    shutil.rmtree(build, ignore_errors=True)
    prefixes = [str(VENV), *filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(":"))]
    environment = {**os.environ, "AMENT_PREFIX_PATH": ":".join(prefixes)}
    configure = ["cmake", "-S", str(INTERFACES / package), "-B", str(build), "-DBUILD_TESTING=OFF",
                 f"-DPython3_EXECUTABLE={PYTHON}", f"-DCMAKE_INSTALL_PREFIX={VENV}",
                 f"-DCMAKE_PREFIX_PATH={';'.join(prefixes)}"]  # fmt: skip
    compile_ = ["cmake", "--build", str(build), "--parallel", str(os.cpu_count() or 1)]
    with working(f"messages of {package}"):
        run(configure, log=f"{package}-configure", env=environment)
        run([*compile_, "--target", "install"], log=f"{package}-build", env=environment)
    shutil.rmtree(build)
    if not can_import(f"{package}.msg"):
        raise SetupError(f"{package} was built but cannot be imported", "make clean, start again")


def require_compiler() -> None:
    """CMake, make, a C++ compiler and Python.h, from apt where root allows it."""
    found = {
        "cmake": shutil.which("cmake"),
        "make": shutil.which("make"),
        "g++": os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++"),
        "python3-dev": Path(sysconfig.get_path("include"), "Python.h").exists(),
    }
    missing = [package for package, there in found.items() if not there]
    if missing:
        apt_install(missing, why="messages without a wheel are compiled")


def install_open3d_libraries() -> None:
    """Only the simulator loads open3d, no vehicle does: without its libraries all else works, so
    this stops nothing."""
    if platform.machine() != "x86_64":
        say("open3d has no wheel for this machine: no bev sim, and bev demo only with --data")
        return
    missing = [package for library, package in OPEN3D_LIBRARIES.items() if not can_load(library)]
    if not missing:
        return
    try:
        apt_install(missing, why="open3d, which the simulator casts its rays with, loads them")
    except SetupError as err:
        say(f"without the simulator: {err}; cure: {err.cure}")


def install_this_package(machine: Machine) -> None:
    """`pip install --editable .`: entry points follow from setup.py and the names of the nodes."""
    nodes = sorted(path.name for path in (ROOT / "perception_bev" / "nodes").glob("*_node.py"))
    inputs = [ROOT / "setup.py", ROOT / "package.xml", REQUIREMENTS / "cpu.txt", CONSTRAINTS]
    stamp = Stamp("perception_bev", f"{machine.key} {nodes}", *inputs)
    if stamp.current:
        return
    with working("perception_bev (editable)"):
        pip_install("setuptools", "wheel", log="setuptools")
        pip_install("--no-deps", "--no-build-isolation", "--editable", str(ROOT), log="package")
    stamp.write()


if __name__ == "__main__":
    sys.exit(main())
