"""Packaging: what setup.py, package.xml and requirements/ say must agree with each other."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
PINNED = ("ros-wheels", "interface-generators", "cpu", "train", "test")
INTERFACES = ROOT / "scripts" / "interfaces"

pytestmark = pytest.mark.skipif(not REQUIREMENTS.exists(), reason="needs the checkout")


def ask_setup(*arguments: str) -> str:
    command = [sys.executable, "setup.py", "-q", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def names(file: str) -> set[str]:
    lines = (REQUIREMENTS / f"{file}.txt").read_text().splitlines()
    found = (re.match(r"[A-Za-z0-9_.-]+", line) for line in lines if not line.startswith("-"))
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


@pytest.mark.parametrize("file", PINNED)
def test_every_requirement_is_pinned(file):
    assert names(file) <= names("constraints")


def test_constraints_are_exact():
    pins = [p for p in (REQUIREMENTS / "constraints.txt").read_text().splitlines() if p[0] != "#"]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []


def test_version_is_the_same_everywhere():
    described = ElementTree.parse(ROOT / "package.xml").findtext("version")
    assert ask_setup("--version").strip() == described


def test_runtime_needs_no_torch():
    assert not names("cpu") & {"torch", "onnx", "onnxscript"}


LIST_DATA_FILES = """
import runpy, setuptools
setuptools.setup = lambda **kw: print(*[name for _, names in kw["data_files"] for name in names])
runpy.run_path("setup.py")
"""


def test_data_files_exist_and_leave_out_what_may_not_be_redistributed():
    command = [sys.executable, "-c", LIST_DATA_FILES]
    files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    listed = files.stdout.split()
    assert {"package.xml", "resource/perception_bev"} <= set(listed)
    assert [file for file in listed if not (ROOT / file).is_file()] == []
    assert [file for file in listed if file.startswith("models/astyx")] == []


def test_interface_definitions_name_the_packages_they_use():
    for description in INTERFACES.glob("*/package.xml"):
        package = description.parent
        fields = "\n".join(path.read_text() for path in package.glob("msg/*.msg"))
        used = set(re.findall(r"^(\w+)/\w+", fields, re.MULTILINE)) - {package.name}
        named = {node.text for node in ElementTree.parse(description).iterfind("depend")}
        assert used == named, package.name
