"""Exported files: plain ONNX with static shapes, described and proved by what lies beside them."""

import dataclasses

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

from perception_bev.deployment import Deployment
from perception_bev.engines import golden
from perception_bev.engines.base import open_engine
from perception_bev.inputs.build import CONTEXT
from perception_bev.manifest import load_manifest
from perception_bev.network import export
from perception_bev.pipeline.stages import ENGINES

pytestmark = pytest.mark.torch
ALLOWED = {"Add", "And", "Cast", "CastLike", "Clip", "Concat", "Constant", "ConstantOfShape",
           "Conv", "Div", "Equal", "Exp", "Expand", "Flatten", "Gather", "Gemm", "Identity",
           "MatMul", "MaxPool", "Mul", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Slice",
           "Split", "Squeeze", "Sub", "Transpose", "Unsqueeze"}


@pytest.fixture(scope="module")
def manifest(tiny_model):
    return load_manifest(tiny_model)


def files(tiny_model, manifest) -> dict[str, onnx.ModelProto]:
    return {name: onnx.load(tiny_model / engine.file)
            for name, engine in manifest.variants["fp32"].engines.items()}


def test_every_stage_has_a_file_with_its_digest(tiny_model, manifest):
    variant = manifest.variants["fp32"]
    assert tuple(variant.engines) == ENGINES
    for engine in variant.engines.values():
        assert golden.sha256(tiny_model / engine.file) == engine.sha256
    assert golden.sha256(tiny_model / variant.golden.file) == variant.golden.sha256


def test_operators_are_plain_and_the_opset_is_said(tiny_model, manifest):
    for name, model in files(tiny_model, manifest).items():
        onnx.checker.check_model(model)
        used = {node.op_type for node in model.graph.node}
        assert used <= ALLOWED, f"{name} uses {used - ALLOWED}"
        assert not any(node.domain for node in model.graph.node), f"{name}: a vendor's operator"
        assert [o.version for o in model.opset_import if not o.domain] == [export.OPSET]


def test_all_shapes_are_static(tiny_model, manifest):
    for name, model in files(tiny_model, manifest).items():
        for port in (*model.graph.input, *model.graph.output):
            dims = port.type.tensor_type.shape.dim
            assert dims and all(d.HasField("dim_value") for d in dims), f"{name}: {port.name}"


def test_ports_are_what_the_stages_are_fed_with(tiny_model, manifest):
    opened = {n: open_engine(tiny_model / e.file, Deployment(threads=1))
              for n, e in manifest.variants["fp32"].engines.items()}
    ports = {n: {s.name: s.shape for s in e.inputs} for n, e in opened.items()}
    camera, (rows, columns) = manifest.camera, manifest.grid.shape
    assert ports["extract_camera"] == {"picture": (1, camera.height, camera.width, 3)}
    assert ports["extract_lidar"] == {"raster": (1, manifest.lidar.channels, rows, columns)}
    assert ports["extract_radar"] == {"raster": (1, manifest.radar.channels, rows, columns)}
    assert ports["fuse"]["camera"] == (1, manifest.feature_rows, camera.channels)
    assert ports["fuse"]["context"] == (1, len(CONTEXT))
    heat, boxes = (s.shape for s in opened["decide"].outputs)
    assert heat == (1, len(manifest.classes), *manifest.output_grid.shape)
    assert boxes[2:] == manifest.output_grid.shape


def test_model_yaml_is_read_back_as_it_was(tiny_model, manifest, tmp_path):
    export.write_manifest(manifest, tmp_path)
    assert load_manifest(tmp_path) == manifest


def test_golden_outputs_hold_no_recorded_data(tiny_model, manifest):
    """Inputs come from a seed, so only outputs are stored, a sample of each."""
    from safetensors.numpy import load_file
    stored = load_file(tiny_model / manifest.variants["fp32"].golden.file)
    assert {key.split(".")[0] for key in stored} == set(ENGINES)
    assert all(v.ndim == 1 and v.size <= golden.SAMPLES and np.isfinite(v).all()
               for v in stored.values())


def test_more_camera_slots_are_more_rows_of_the_same_weights(manifest):
    """`bev export --cameras N`: weights do not depend on the number of cameras."""
    from tiny_model import weights

    from perception_bev.network.model import Model
    wide = dataclasses.replace(manifest, camera=dataclasses.replace(manifest.camera, slots=5))
    Model(wide).load_state_dict(weights(manifest).state_dict())
    two, five = (export.ports(m)["fuse"].inputs["camera"].shape[1] for m in (manifest, wide))
    assert five * 2 == two * 5


def test_files_tell_nothing_of_the_machine_that_made_them(tiny_model):
    """Source paths would make the same weights another file on every machine."""
    files = sorted(tiny_model.glob("*.onnx"))
    assert len(files) == 5
    for file in files:
        content = file.read_bytes()
        assert b"stack_trace" not in content and b".py" not in content
