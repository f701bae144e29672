"""Pipeline: the three stages over their engines: extract (one a modality), fuse, decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perception_bev.deployment import Deployment
from perception_bev.engines import golden
from perception_bev.engines.base import Engine, check_wiring, open_engine
from perception_bev.errors import EngineMismatch
from perception_bev.inputs.build import Inputs
from perception_bev.latency.trace import Trace
from perception_bev.manifest import Manifest
from perception_bev.temporal.memory import ALONE, Moment, memory_of

ENGINES = ("extract_camera", "extract_lidar", "extract_radar", "fuse", "decide")


class Maps(NamedTuple):
    """What the stages make of one sample."""

    heat: np.ndarray  # (classes, X, Y) float32
    boxes: np.ndarray  # (channels, X, Y) float32
    history_s: float | None  # [s] how far back the memory reached; None: a frame for itself


class Stages:
    """Runs the engines of one model; what is absent is not run, its features are zeros. The fuse
    stage holds the memory of past frames.

    `extract_camera` may run in another thread than the rest; each engine has one caller at a time.
    """

    def __init__(self, folder: Path, manifest: Manifest, deployment: Deployment,
                 clock: Callable[[], int]) -> None:
        """clock: monotonic ns, read for the trace only."""
        variant = manifest.variant(deployment.variant)
        self._clock = clock
        self.engines: dict[str, Engine] = {}
        absent = [name for name in ENGINES if name not in variant.engines]
        if absent:
            raise EngineMismatch(f"{folder}: variant '{deployment.variant}' names no file for "
                                 f"{', '.join(absent)} (export the model again)")
        for name in ENGINES:
            file = folder / variant.engines[name].file
            check_file(file, variant.engines[name].sha256)
            self.engines[name] = open_engine(file, deployment)
        check_wiring(self.engines)
        self.memory = memory_of(manifest)
        _check_memory(folder, self.engines["fuse"], self.memory.recall(ALONE).feeds)
        shapes = {spec.name: spec for spec in self.engines["fuse"].inputs}
        rows, columns = manifest.camera.feature_shape
        self._pixels = rows * columns
        self._camera = np.zeros(shapes["camera"].shape, np.float32)
        self._lidar = np.zeros(shapes["lidar"].shape, np.float32)
        self._radar = np.zeros(shapes["radar"].shape, np.float32)
        if deployment.check_golden and variant.golden is not None:
            file = folder / variant.golden.file
            check_file(file, variant.golden.sha256)
            for name, engine in self.engines.items():
                golden.check(name, engine, self._camera.shape[1], file, variant.golden.tolerance)

    def extract_camera(self, picture: np.ndarray) -> np.ndarray:
        """One picture (H, W, 3) uint8 -> features (pixels, C) float32."""
        return self.engines["extract_camera"].infer({"picture": picture[None]})["camera"][0]

    def run(self, inputs: Inputs, camera_features: Mapping[str, np.ndarray],
            trace: Trace, now: Moment = ALONE) -> Maps:
        """One sample; `now` is where its past is seen from, and what it is remembered by."""
        for name, slot in inputs.camera_slots.items():
            rows = slice(slot * self._pixels, (slot + 1) * self._pixels)
            self._camera[0, rows] = camera_features[name]
        start = self._clock()
        recall = self.memory.recall(now)
        trace.add("memory", start, self._clock())
        fused = self._timed("fuse", trace, {
            "camera": self._camera, "lift_index": inputs.lift_index[None],
            "lift_weight": inputs.lift_weight[None],
            "lidar": self._extracted("lidar", inputs.lidar, self._lidar, trace),
            "radar": self._extracted("radar", inputs.radar, self._radar, trace),
            "context": inputs.context, **recall.feeds})
        maps = self._timed("decide", trace, {"fused": fused["fused"]})
        start = self._clock()
        self.memory.store(now, fused)
        trace.add("memory", start, self._clock())
        return Maps(maps["heat"][0], maps["boxes"][0], recall.history_s)

    def close(self) -> None:
        for engine in self.engines.values():
            engine.close()

    def _extracted(self, modality: str, raster: np.ndarray | None, absent: np.ndarray,
                   trace: Trace) -> np.ndarray:
        if raster is None:
            return absent
        return self._timed(f"extract_{modality}", trace, {"raster": raster})[modality]

    def _timed(self, name: str, trace: Trace, feeds: dict[str, np.ndarray]) -> dict:
        start = self._clock()
        outputs = self.engines[name].infer(feeds)
        trace.add(name, start, self._clock())
        return outputs


def _check_memory(folder: Path, fuse: Engine, feeds: Mapping[str, np.ndarray]) -> None:
    """EngineMismatch unless fuse takes exactly the past that model.yaml speaks of."""
    taken = {spec.name: spec.shape for spec in fuse.inputs if spec.name.startswith("memory")}
    given = {name: array.shape for name, array in feeds.items()}
    if taken != given:
        raise EngineMismatch(f"{folder}: model.yaml's memory is {given or 'none'}, fuse takes "
                             f"{taken or 'none'} (export the model again)")


def check_file(file: Path, sha256: str) -> None:
    """EngineMismatch unless the file is there and is the one that model.yaml means."""
    if not file.exists():
        raise EngineMismatch(f"{file}: missing; model.yaml names it (export or copy it again)")
    if golden.sha256(file) != sha256:
        raise EngineMismatch(f"{file}: its SHA-256 is not what model.yaml says: a damaged or "
                             "foreign file (export or copy the model again)")
