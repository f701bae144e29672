"""Start-up proves the model's files; what is damaged, foreign or drifting is refused by name."""

import dataclasses
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from perception_bev.deployment import Deployment
from perception_bev.engines import golden
from perception_bev.errors import ConfigError, EngineMismatch, ShapeMismatch
from perception_bev.latency.trace import Trace
from perception_bev.manifest import load_manifest
from perception_bev.network.export import write_manifest
from perception_bev.pipeline.stages import ENGINES, Stages

CHECKED = Deployment(threads=1)


def stages(folder, deployment: Deployment = CHECKED) -> Stages:
    return Stages(folder, load_manifest(folder), deployment, lambda: 0)


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def resigned(folder) -> None:
    """Make model.yaml's digests those of the files as they are."""
    manifest = load_manifest(folder)
    variant = manifest.variants["fp32"]
    engines = {name: dataclasses.replace(e, sha256=golden.sha256(folder / e.file))
               for name, e in variant.engines.items()}
    stored = dataclasses.replace(variant.golden, sha256=golden.sha256(folder / variant.golden.file))
    write_manifest(dataclasses.replace(manifest, variants={"fp32": dataclasses.replace(
        variant, engines=engines, golden=stored)}), folder)


def edit_weights(file, change) -> None:
    """Apply `change` to the largest floating-point tensor of an ONNX file."""
    model = onnx.load(file)
    tensors = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    largest = max(tensors, key=lambda t: np.prod(t.dims))
    values = numpy_helper.to_array(largest).copy()
    change(values)
    largest.CopyFrom(numpy_helper.from_array(values, largest.name))
    onnx.save(model, file)


def test_a_whole_model_is_accepted(tiny_model):
    assert set(stages(tiny_model).engines) == set(ENGINES)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_flipped_bit_is_a_damaged_file(copy, engine):
    file = copy / f"{engine}.fp32.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(EngineMismatch, match=f"{engine}.fp32.onnx: its SHA-256"):
        stages(copy)


def test_a_missing_file_is_named(copy):
    (copy / "decide.fp32.onnx").unlink()
    with pytest.raises(EngineMismatch, match=r"decide.fp32.onnx: missing"):
        stages(copy)


def test_a_file_that_is_no_network_is_named(copy):
    (copy / "fuse.fp32.onnx").write_bytes(b"not ONNX")
    resigned(copy)
    with pytest.raises(EngineMismatch, match=r"fuse.fp32.onnx: ONNX Runtime cannot load it"):
        stages(copy)


def test_a_model_without_one_of_its_engines_is_named(copy):
    manifest = load_manifest(copy)
    variant = manifest.variants["fp32"]
    engines = {name: e for name, e in variant.engines.items() if name != "extract_radar"}
    write_manifest(dataclasses.replace(manifest, variants={
        "fp32": dataclasses.replace(variant, engines=engines)}), copy)
    with pytest.raises(EngineMismatch, match="names no file for extract_radar"):
        stages(copy)


def test_an_unknown_variant_lists_what_there_is(tiny_model):
    with pytest.raises(ConfigError, match="no variant 'int8'; it has: fp32"):
        stages(tiny_model, Deployment(variant="int8"))


def test_not_a_number_among_the_weights_is_found(copy):
    edit_weights(copy / "decide.fp32.onnx", lambda values: values.fill(np.nan))
    resigned(copy)
    with pytest.raises(EngineMismatch, match="engine decide: output"):
        stages(copy)


@pytest.mark.parametrize("engine", ENGINES)
def test_other_weights_are_found(copy, engine):
    edit_weights(copy / f"{engine}.fp32.onnx", lambda values: np.negative(values, out=values))
    resigned(copy)
    with pytest.raises(EngineMismatch, match=f"engine {engine}: .*off its golden values"):
        stages(copy)


def test_the_check_can_be_left_out(copy):
    edit_weights(copy / "decide.fp32.onnx", lambda values: np.negative(values, out=values))
    resigned(copy)
    stages(copy, dataclasses.replace(CHECKED, check_golden=False))


def test_damaged_golden_outputs_are_named(copy):
    file = copy / "golden.fp32.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(EngineMismatch, match=r"golden.fp32.safetensors: its SHA-256"):
        stages(copy)


def test_engines_of_two_models_do_not_fit_together(copy):
    """A lidar engine of another grid: the next stage could not take what it gives."""
    model = onnx.load(copy / "extract_lidar.fp32.onnx")
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[3].dim_value *= 2
    del model.graph.value_info[:]
    onnx.save(model, copy / "extract_lidar.fp32.onnx")
    resigned(copy)
    with pytest.raises(ShapeMismatch, match="extract_lidar gives"):
        stages(copy)


@pytest.mark.parametrize(("computed_ns", "spans"), [
    (None, {"decide": (1000, 2000)}),
    (600, {"copy:decide": (1800, 2000), "decide": (1200, 1800)}),
    (5000, {"decide": (1000, 2000)})])  # another clock's nanoseconds
def test_the_way_to_a_remote_engine_is_a_copy_and_no_computing(tiny_model, computed_ns, spans):
    ticks = iter([1000, 2000])
    made = Stages(tiny_model, load_manifest(tiny_model), dataclasses.replace(
        CHECKED, check_golden=False), lambda: next(ticks))
    decide = made.engines["decide"]

    class Remote:
        inputs, outputs, infer, close = decide.inputs, decide.outputs, decide.infer, decide.close

    Remote.computed_ns = computed_ns
    made.engines["decide"] = Remote
    trace = Trace(0, 0)
    made.decide(np.zeros(decide.inputs[0].shape, np.float32), trace)
    assert {name: (start, end) for name, start, end in trace.spans} == spans
