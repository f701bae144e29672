"""ONNX Runtime behind the protocol: never another provider than asked for, its errors are ours."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from perception_bev.engines import onnxruntime as room
from perception_bev.engines.onnxruntime import OnnxRuntimeEngine
from perception_bev.errors import (
    EngineFailed,
    EngineMismatch,
    EngineUnavailable,
    ShapeMismatch,
)


def network(path, operator: str = "Gather", rows=4, kind=TensorProto.FLOAT):
    """out = table[index]: a file that fails for an index out of range."""
    table = helper.make_tensor_value_info("table", kind, [rows, 2])
    index = helper.make_tensor_value_info("index", TensorProto.INT32, [3])
    out = helper.make_tensor_value_info("out", kind, [3, 2])
    graph = helper.make_graph([helper.make_node(operator, ["table", "index"], ["out"])], "g",
                              [table, index], [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)],
                                ir_version=10), path)
    return path


@pytest.fixture
def engine(tmp_path):
    made = OnnxRuntimeEngine(network(tmp_path / "gather.onnx"), threads=1)
    yield made
    made.close()


def feeds(last: int = 3) -> dict[str, np.ndarray]:
    return {"table": np.arange(8, dtype=np.float32).reshape(4, 2),
            "index": np.array([0, 2, last], np.int32)}


def test_ports_and_values(engine):
    assert [(s.name, s.shape, s.dtype) for s in engine.inputs] == [
        ("table", (4, 2), np.float32), ("index", (3,), np.int32)]
    out = engine.infer(feeds())
    np.testing.assert_array_equal(out["out"], [[0, 1], [4, 5], [6, 7]])


def test_wrong_feeds_do_not_reach_the_vendor(engine):
    with pytest.raises(ShapeMismatch, match="'index'"):
        engine.infer(feeds() | {"index": np.zeros(3, np.int64)})
    with pytest.raises(ShapeMismatch, match="no input more"):
        engine.infer(feeds() | {"more": np.zeros(1)})


def test_what_fails_while_running_is_an_error_of_ours_with_the_file(engine):
    with pytest.raises(EngineFailed, match=r"gather\.onnx: ONNX Runtime: .*out of data bounds"):
        engine.infer(feeds(last=99))
    assert engine.infer(feeds())["out"].shape == (3, 2), "and the next call works"


def test_a_provider_that_is_not_in_this_build_lists_those_that_are(tmp_path):
    with pytest.raises(EngineUnavailable, match=r"no NoSuchProvider here; it has .*CPUExecution"):
        OnnxRuntimeEngine(network(tmp_path / "g.onnx"), ("NoSuchProvider",))


def test_a_provider_that_does_not_start_is_not_replaced_in_silence(tmp_path, monkeypatch):
    """ONNX Runtime's CUDA build on a computer without a device goes on with the CPU."""
    import onnxruntime

    def session(file, options, providers):
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    fake = SimpleNamespace(
        SessionOptions=onnxruntime.SessionOptions, InferenceSession=session,
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(room, "_load", lambda: fake)
    with pytest.raises(EngineUnavailable, match="could not start CUDAExecutionProvider and would"):
        OnnxRuntimeEngine(network(tmp_path / "g.onnx"),
                          ("CUDAExecutionProvider", "CPUExecutionProvider"))


def test_without_the_package_the_cure_is_named(tmp_path, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineUnavailable, match="pip install onnxruntime"):
        OnnxRuntimeEngine(tmp_path / "g.onnx")


@pytest.mark.parametrize("rows, kind", [("any", TensorProto.FLOAT), (4, TensorProto.DOUBLE)])
def test_shapes_are_static_and_types_are_known(tmp_path, rows, kind):
    with pytest.raises(EngineMismatch, match="'table' is tensor"):
        OnnxRuntimeEngine(network(tmp_path / "g.onnx", rows=rows, kind=kind))


@pytest.mark.parametrize("content", [b"", b"no network", bytes(1000)])
def test_a_file_that_is_no_network_is_named(tmp_path, content):
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(EngineMismatch, match=r"bad\.onnx: ONNX Runtime cannot load it"):
        OnnxRuntimeEngine(tmp_path / "bad.onnx")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(EngineMismatch, match=r"gone\.onnx"):
        OnnxRuntimeEngine(tmp_path / "gone.onnx")
