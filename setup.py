"""Packaging: ament_python for colcon and `ros2 run`, an ordinary package for pip."""

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "perception_bev"
ROOT = Path(__file__).resolve().parent
SHARED = ("launch", "config", "rviz", "models", "requirements")  # installed under share/
NOT_INSTALLED = (Path("models/astyx"),)  # trained on non-commercial data: stays in the repository


def version() -> str:
    return re.search(r'__version__ = "(.+)"', (ROOT / NAME / "__init__.py").read_text())[1]


def data_files() -> list[tuple[str, list[str]]]:
    share = Path("share", NAME)
    files = {Path("share/ament_index/resource_index/packages"): [f"resource/{NAME}"]}
    files[share] = ["package.xml"]
    for folder in SHARED:
        for path in sorted(ROOT.joinpath(folder).rglob("*")):
            path = path.relative_to(ROOT)
            if is_installed(path):
                files.setdefault(share / path.parent, []).append(str(path))
    return [(str(folder), names) for folder, names in files.items()]


def is_installed(path: Path) -> bool:
    kept = not any(path.is_relative_to(folder) for folder in NOT_INSTALLED)
    return kept and (ROOT / path).is_file() and "__pycache__" not in path.parts


def executables() -> list[str]:
    """`bev`, and one executable per file perception_bev/nodes/*_node.py."""
    nodes = sorted(path.stem for path in ROOT.joinpath(NAME, "nodes").glob("*_node.py"))
    return [f"bev = {NAME}.commands.main:main", *(f"{n} = {NAME}.nodes.{n}:main" for n in nodes)]


def requirements(name: str) -> list[str]:
    lines = ROOT.joinpath("requirements", f"{name}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


setup(
    name=NAME,
    version=version(),
    description="Camera, lidar and radar to 3D objects in bird's-eye view, for ROS 2",
    license="Apache-2.0",
    maintainer="perception_bev developers",
    maintainer_email="perception-bev@example.org",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["**/*.yaml", "**/*.xml", "**/*.html", "**/*.json"]},
    data_files=data_files(),
    python_requires=">=3.10",
    install_requires=requirements("cpu"),
    extras_require={name: requirements(name) for name in ("train", "test")},
    entry_points={"console_scripts": executables()},
    zip_safe=False,
)
