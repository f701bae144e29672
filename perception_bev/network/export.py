"""Network: torch weights -> ONNX files, golden outputs and model.yaml."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import torch
import yaml
from torch import nn

from perception_bev.deployment import Deployment
from perception_bev.engines import golden
from perception_bev.engines.base import check_wiring, open_engine
from perception_bev.inputs.build import CONTEXT
from perception_bev.inputs.lift import TAPS
from perception_bev.manifest import MANIFEST, EngineFile, Golden, Manifest, Variant
from perception_bev.network.extract import RASTER_STRIDE
from perception_bev.network.fuse import FuseAlone
from perception_bev.network.model import Model

OPSET = 18  # GridSample, Resize and Gather as TensorRT 10, ONNX Runtime and TVM read them
TOLERANCE = 2e-4  # fp32, between CPUs and thread counts


@dataclasses.dataclass(frozen=True)
class Port:
    """Names and example inputs of one engine file."""

    inputs: dict[str, torch.Tensor]
    outputs: tuple[str, ...]


def ports(manifest: Manifest) -> dict[str, Port]:
    """Every engine's inputs, with static shapes, and the names of its outputs."""
    camera, (rows, columns) = manifest.camera, manifest.grid.shape
    half = (rows // RASTER_STRIDE, columns // RASTER_STRIDE)
    pixels = camera.feature_shape[0] * camera.feature_shape[1]
    cells = manifest.lift_grid.shape[0] * manifest.lift_grid.shape[1] * len(camera.lift_heights)
    found = {
        "extract_camera": Port(
            {"picture": torch.zeros(1, camera.height, camera.width, 3, dtype=torch.uint8)},
            ("camera",)),
        "extract_lidar": Port(
            {"raster": torch.zeros(1, manifest.lidar.channels, rows, columns)}, ("lidar",)),
        "extract_radar": Port(
            {"raster": torch.zeros(1, manifest.radar.channels, rows, columns)}, ("radar",)),
        "fuse": Port(
            {"camera": torch.zeros(1, camera.slots * pixels, camera.channels),
             "lift_index": torch.zeros(1, TAPS, cells, dtype=torch.int32),
             "lift_weight": torch.zeros(1, TAPS, cells),
             "lidar": torch.zeros(1, manifest.widths.lidar, *half),
             "radar": torch.zeros(1, manifest.widths.radar, *half),
             "context": torch.ones(1, len(CONTEXT)), **_memory_inputs(manifest)},
            ("fused",) if manifest.memory is None else ("fused", "remember")),
        "decide": Port({"fused": torch.zeros(1, manifest.fused_channels, *half)},
                       ("heat", "boxes")),
    }
    if manifest.memory is not None:
        fuse, past = found["fuse"], _memory_inputs(manifest)
        found["fuse_alone"] = Port({name: tensor for name, tensor in fuse.inputs.items()
                                    if name not in past}, fuse.outputs)
    return found


def engine_of(model: Model, name: str) -> nn.Module:
    """What is exported under this name."""
    return FuseAlone(model.fuse) if name == "fuse_alone" else getattr(model, name)


def _memory_inputs(manifest: Manifest) -> dict[str, torch.Tensor]:
    """What fuse takes of past frames, all zeros for none; nothing for a model without memory."""
    if manifest.memory is None:
        return {}
    slots, shape = len(manifest.memory.ages_s), manifest.grid.coarser(4).shape
    return {"memory": torch.zeros(1, slots, manifest.memory.channels + 1, *shape),
            "memory_warp": torch.zeros(1, slots, 2, 3), "memory_age": torch.zeros(1, slots)}


def export(model: Model, manifest: Manifest, folder: Path, variant: str = "fp32") -> Manifest:
    """Write all engines, their golden outputs and model.yaml into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    model = model.eval()
    engines = {}
    for name, port in ports(manifest).items():
        file = folder / f"{name}.{variant}.onnx"
        _export_one(engine_of(model, name), port, file)
        engines[name] = EngineFile(file.name, golden.sha256(file))
    golden_file = _record_golden(engines, manifest, folder, variant)
    complete = dataclasses.replace(
        manifest, variants={**manifest.variants, variant: Variant(engines, golden_file)})
    write_manifest(complete, folder)
    return complete


def write_manifest(manifest: Manifest, folder: Path) -> None:
    text = yaml.safe_dump(_plain(manifest), sort_keys=False, default_flow_style=None, width=100)
    (folder / MANIFEST).write_text(text)


def _export_one(engine: nn.Module, port: Port, file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(engine, tuple(port.inputs.values()), str(file), dynamo=True,
                          input_names=list(port.inputs), output_names=list(port.outputs),
                          opset_version=OPSET, external_data=False, verbose=False)
    _strip(file)


def _strip(file: Path) -> None:
    """Take out what the exporter notes of this machine (source paths, stack traces): the same
    weights give the same bytes everywhere."""
    import onnx

    model = onnx.load(file)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info,
                 *model.graph.input, *model.graph.output, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.save(model, file)


def _record_golden(engines: dict[str, EngineFile], manifest: Manifest, folder: Path,
                   variant: str) -> Golden:
    opened = {name: open_engine(folder / engine.file, Deployment(threads=1))
              for name, engine in engines.items()}
    check_wiring(opened)
    file = folder / f"golden.{variant}.safetensors"
    golden.record(opened, manifest.feature_rows, file)
    return Golden(file.name, golden.sha256(file), TOLERANCE)


def _plain(value):
    """Dataclasses and tuples -> mappings and lists, for YAML."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)
                if getattr(value, f.name) is not None}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
