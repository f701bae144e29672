"""What every engine keeps to: exact feeds, and stages that fit each other."""

from dataclasses import replace

import numpy as np
import pytest

from perception_bev.deployment import Deployment
from perception_bev.engines.base import TensorSpec, check_feeds, check_wiring, open_engine
from perception_bev.errors import EngineUnavailable, ShapeMismatch

FLOAT = np.dtype(np.float32)
SPECS = (TensorSpec("a", (1, 2), FLOAT), TensorSpec("b", (3,), np.dtype(np.int32)))


def feeds(**changed) -> dict:
    return {"a": np.zeros((1, 2), np.float32), "b": np.zeros(3, np.int32)} | changed


def test_exact_feeds_pass():
    check_feeds(feeds(), SPECS)


@pytest.mark.parametrize("changed, said", [
    ({"a": np.zeros((2, 1), np.float32)}, r"'a': expected \(1, 2\) float32, got \(2, 1\) float32"),
    ({"b": np.zeros(3, np.int64)}, r"'b': expected \(3,\) int32, got \(3,\) int64"),
    ({"c": np.zeros(1)}, "no input c; it takes: a, b")])
def test_other_feeds_are_named(changed, said):
    with pytest.raises(ShapeMismatch, match=said):
        check_feeds(feeds(**changed), SPECS)


def test_a_missing_feed_is_named():
    with pytest.raises(ShapeMismatch, match=r"'b' is missing; given: \['a'\]"):
        check_feeds({"a": feeds()["a"]}, SPECS)


class Ports:
    """An engine of which only the ports matter."""

    def __init__(self, inputs: dict, outputs: dict) -> None:
        self.inputs = tuple(TensorSpec(n, shape, FLOAT) for n, shape in inputs.items())
        self.outputs = tuple(TensorSpec(n, shape, FLOAT) for n, shape in outputs.items())


def engines() -> dict[str, Ports]:
    return {
        "extract_camera": Ports({"picture": (1, 8, 8, 3)}, {"camera": (1, 4, 5)}),
        "extract_lidar": Ports({"raster": (1, 9, 6, 6)}, {"lidar": (1, 24, 3, 3)}),
        "extract_radar": Ports({"raster": (1, 7, 6, 6)}, {"radar": (1, 16, 3, 3)}),
        "fuse": Ports({"camera": (1, 8, 5), "lidar": (1, 24, 3, 3), "radar": (1, 16, 3, 3)},
                      {"fused": (1, 7, 3, 3)}),
        "decide": Ports({"fused": (1, 7, 3, 3)}, {"heat": (1, 2, 3, 3)})}


def test_stages_that_fit_pass():
    check_wiring(engines())


@pytest.mark.parametrize("name, side, shape, said", [
    ("extract_lidar", "outputs", (1, 24, 4, 3), "extract_lidar gives"),
    ("extract_radar", "outputs", (1, 15, 3, 3), "extract_radar gives"),
    ("extract_camera", "outputs", (1, 4, 6), "extract_camera gives 4 x 6 a picture"),
    ("extract_camera", "outputs", (1, 3, 5), "extract_camera gives 3 x 5 a picture"),
    ("decide", "inputs", (1, 8, 3, 3), "decide takes")])
def test_stages_that_do_not_fit_are_named(name, side, shape, said):
    wired = engines()
    port, = getattr(wired[name], side)
    setattr(wired[name], side, (replace(port, shape=shape),))
    with pytest.raises(ShapeMismatch, match=said):
        check_wiring(wired)


def remembering() -> dict[str, Ports]:
    """Engines whose fuse takes back what it gives."""
    wired = engines()
    fuse = {s.name: s.shape for s in wired["fuse"].inputs} | {
        "memory": (1, 3, 9, 2, 2), "memory_warp": (1, 3, 2, 3), "memory_age": (1, 3)}
    wired["fuse"] = Ports(fuse, {"fused": (1, 7, 3, 3), "remember": (1, 9, 2, 2)})
    return wired


def test_a_memory_that_fits_passes():
    check_wiring(remembering())


@pytest.mark.parametrize("side, port, shape, said", [
    ("outputs", "remember", (1, 8, 2, 2), r"gives \(1, 8, 2, 2\) to be remembered"),
    ("inputs", "memory_warp", (1, 2, 2, 3), r"'memory_warp' has to be \(1, 3, 2, 3\)"),
    ("inputs", "memory_age", (1, 2), r"'memory_age' has to be \(1, 3\)"),
    ("inputs", "memory_age", None, r"'memory_age' has to be \(1, 3\)"),
    ("outputs", "remember", None, "or neither"), ("inputs", "memory", None, "or neither")])
def test_a_memory_that_does_not_fit_is_named(side, port, shape, said):
    wired = remembering()
    specs = [replace(s, shape=shape) if s.name == port else s for s in getattr(wired["fuse"], side)]
    setattr(wired["fuse"], side, tuple(s for s in specs if s.shape is not None))
    with pytest.raises(ShapeMismatch, match=said):
        check_wiring(wired)


def test_an_engine_that_is_not_built_in_lists_what_is(tmp_path):
    with pytest.raises(EngineUnavailable, match="'tvm' is not built in; known: onnxruntime"):
        open_engine(tmp_path / "x.onnx", replace(Deployment(), engine="tvm"))
