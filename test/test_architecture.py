"""The layers, held: every import of the package is read and compared with where it stands.

L0 the vocabulary (top-level modules), L1 rooms of pure steps, L2 assemblies, L3 edges. "Late" is an
import inside a function; those under `if TYPE_CHECKING` do not count.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

NAME = "perception_bev"
PACKAGE = Path(__file__).resolve().parent.parent / NAME

L1 = {"messages", "sensors", "sync", "temporal", "inputs", "network", "engines", "outputs",
      "latency"}
L2 = {"pipeline", "recordings", "sim", "train", "eval", "survey"}
L3 = {"nodes", "commands"}

VOCABULARY_VENDORS = {"numpy", "yaml"}
IMAGE_ROOMS = {"sensors", "inputs", "outputs"}  # may import cv2 and numba at module level
HEAVY = {"torch", "torchvision", "onnx", "onnxruntime", "tensorrt", "tvm", "open3d", "cuda",
         "pycuda", "cupy", "matplotlib"}
TORCH_PLACES = ("network/", "train/", "engines/torch.py")
HEAVY_HOMES = {  # where a heavy vendor is what the file is about
    "torch": TORCH_PLACES, "torchvision": TORCH_PLACES,
}
ROS_HOME = "nodes/"
ROS_TOPS = ("rclpy", "tf2_", "ament_index", "launch", "cv_bridge", "message_filters", "rosidl")
EXPORTERS = {"network/export.py", "network/parity.py"}  # assemblies, beside the torch they need
EXCEPTIONS = {  # (file, module): why; each must still exist
    ("network/decide.py", "perception_bev.outputs.heads"):
        "the layout of the box channels is stated where it is decoded",
    ("network/fuse.py", "perception_bev.inputs.lift"):
        "the number of taps is stated where the tables are made",
    ("engines/golden.py", "safetensors.numpy"): "golden tensors are read with NumPy alone",
    ("commands/train.py", "torch"): "the verb of train/ sets its number of threads",
    ("commands/raster_peers.py", "torch"): "one of those that the rasters are compared with",
}


@dataclass(frozen=True)
class Import:
    """One import statement of the package."""

    file: str  # relative to the package, "room/module.py"
    line: int
    module: str  # absolute dotted name
    late: bool

    @property
    def room(self) -> str:
        """The folder of the importing file; "" for the vocabulary."""
        return self.file.rpartition("/")[0].partition("/")[0]

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def own(self) -> bool:
        return self.top == NAME

    @property
    def target_room(self) -> str:
        """The room of ours that is imported; "" for the vocabulary."""
        parts = self.module.split(".")
        return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""

    @property
    def target_file(self) -> str:
        """The file of ours that is imported, as `file` is written."""
        return "/".join(self.module.split(".")[1:]) + ".py"

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}{' (late)' if self.late else ''}"


def imports_of(source: str, file: str) -> Iterator[Import]:
    """Every import in a module's source, with whether it is inside a function."""
    def visit(node: ast.AST, late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from (Import(file, child.lineno, a.name, late) for a in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield from _from(child, file, late)
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                yield from visit(child, True)
            else:
                yield from visit(child, late)
    yield from visit(ast.parse(source), False)


def _from(node: ast.ImportFrom, file: str, late: bool) -> Iterator[Import]:
    """`from package import room` imports the room: names are resolved against the folders."""
    base = node.module or ""
    if node.level:
        folder = [NAME, *file.split("/")[:-1]]
        folder = folder[:len(folder) - node.level + 1]
        base = ".".join([*folder, *filter(None, [node.module])])
    if base == NAME:
        yield from (Import(file, node.lineno, f"{base}.{a.name}", late) for a in node.names)
    else:
        yield Import(file, node.lineno, base, late)


def all_imports() -> list[Import]:
    return [found for path in sorted(PACKAGE.rglob("*.py"))
            for found in imports_of(path.read_text(), path.relative_to(PACKAGE).as_posix())]


IMPORTS = all_imports()


def is_ros(module: str) -> bool:
    top = module.partition(".")[0]
    return top.startswith(ROS_TOPS) or top.endswith(("_msgs", "_interfaces"))


def violations(of: list[Import]) -> list[str]:
    return [f"{found}: {why}" for found in of
            if (why := wrong(found)) and (found.file, found.module) not in EXCEPTIONS]


def wrong(found: Import) -> str | None:
    """Why an import does not fit its place; None when it does."""
    return _wrong_room(found) if found.own else _wrong_vendor(found)


def _wrong_room(found: Import) -> str | None:
    here, there = found.room, found.target_room
    if there == "network" and here in L1 and found.target_file in EXPORTERS - {found.file}:
        return "a pure step does not import an assembly"
    if there in ("", here):
        return None
    if found.file in EXPORTERS:
        here = "train"  # an assembly with torch
    if here == "":
        return "the vocabulary knows no room"
    if here in L1:
        if found.file == "engines/torch.py" and there == "network" and found.late:
            return None
        return "a pure step imports the vocabulary and its own room only"
    if here in L2:
        if there in L3:
            return "an assembly does not import the edges"
        if there == "network" and here != "train":
            return "torch is for train/ only"
    return None


def _wrong_vendor(found: Import) -> str | None:
    here, top = found.room, found.top
    if top in sys.stdlib_module_names:
        return None
    if is_ros(found.module):
        return None if found.file.startswith(ROS_HOME) else "ROS is for nodes/ only"
    if top in ("torch", "torchvision"):
        return None if found.file.startswith(TORCH_PLACES) else "torch is for network/ and train/"
    if here == "":
        return None if top in VOCABULARY_VENDORS else "the vocabulary has NumPy and YAML only"
    if top in HEAVY and not found.late and not found.file.startswith(HEAVY_HOMES.get(top, ("-",))):
        return "heavy vendors are imported late"
    if here in L1 - IMAGE_ROOMS and not found.late and top not in {"numpy", "yaml"} \
            and found.room != "network":
        return "this room has NumPy only"
    return None


def test_every_import_fits_its_layer():
    assert len(IMPORTS) > 50, "the imports were not found"
    found = violations(IMPORTS)
    assert not found, "\n" + "\n".join(found)


def test_no_exception_outlives_its_reason():
    assert not set(EXCEPTIONS) - {(found.file, found.module) for found in IMPORTS}


def test_every_folder_is_a_known_room():
    rooms = {path.name for path in PACKAGE.iterdir()
             if path.is_dir() and any(path.glob("*.py"))}
    assert rooms <= L1 | L2 | L3, f"give {rooms - L1 - L2 - L3} a layer here"


def test_every_room_is_a_package():
    without = [path.name for path in PACKAGE.iterdir()
               if path.is_dir() and any(path.glob("*.py")) and not (path / "__init__.py").exists()]
    assert not without, "setuptools would leave them out"


def test_every_module_says_first_what_it_is():
    silent = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")
              if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


@pytest.mark.parametrize("file, source", [
    ("geometry.py", "import cv2"), ("geometry.py", "from perception_bev.outputs import nms"),
    ("sync/clock.py", "from perception_bev import sensors"),
    ("sync/clock.py", "from ..sensors import lidar"),
    ("sync/clock.py", "import cv2"), ("sync/clock.py", "def f():\n    import rclpy"),
    ("pipeline/a.py", "from sensor_msgs.msg import Image"),
    ("pipeline/a.py", "def f():\n    import torch"), ("engines/base.py", "import onnxruntime"),
    ("recordings/a.py", "from perception_bev.nodes import table"),
    ("pipeline/a.py", "from perception_bev.network.model import Net"),
    ("network/model.py", "from perception_bev.network.export import write"),
    ("network/export.py", "from perception_bev.nodes import table"),
    ("commands/a.py", "import torch"), ("commands/a.py", "def f():\n    import rclpy")])
def test_the_reader_finds_what_is_wrong(file, source):
    assert violations(list(imports_of(source, file)))


@pytest.mark.parametrize("file, source", [
    ("geometry.py", "import numpy as np\nfrom perception_bev.errors import ConfigError"),
    ("sensors/lidar.py", "import cv2, numba\nfrom perception_bev.sensors import checks"),
    ("engines/onnxruntime.py", "def f():\n    import onnxruntime"),
    ("engines/torch.py", "import torch\ndef f():\n    from perception_bev.network import model"),
    ("nodes/a.py", "import rclpy\nfrom sensor_msgs.msg import Image"),
    ("network/export.py", "import torch\nfrom perception_bev.engines import golden"),
    ("train/a.py", "import torch\nfrom perception_bev.network import model"),
    ("sync/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
    ("pipeline/a.py", "from . import b\nfrom perception_bev.rig import Rig")])
def test_the_reader_accepts_what_is_right(file, source):
    assert not violations(list(imports_of(source, file)))


ONLY_NUMPY = """
import sys
class Block:
    allowed = ("numpy", "yaml", "_yaml", "perception_bev")
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in self.allowed:
            raise ModuleNotFoundError(f"{name}: not on this machine", name=name)
sys.meta_path.insert(0, Block())
"""


@pytest.mark.parametrize("module", ["perception_bev.pipeline", "perception_bev.commands.main",
                                    "perception_bev.nodes.table", "perception_bev.rig"])
def test_imports_with_numpy_alone(module):
    code = f"{ONLY_NUMPY}\nimport {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
