"""Pipeline: the stages over their engines: extract (one a modality), fuse, decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perception_bev.deployment import Deployment
from perception_bev.engines import golden
from perception_bev.engines.base import Engine, check_wiring, open_engine
from perception_bev.errors import ConfigError, EngineMismatch
from perception_bev.inputs.build import Inputs
from perception_bev.latency.trace import COPY, Trace
from perception_bev.manifest import Manifest, Variant
from perception_bev.temporal.memory import ALONE, Moment, memory_of

ENGINES = ("extract_camera", "extract_lidar", "extract_radar", "fuse", "decide")
ALONE_ENGINE = "fuse_alone"  # fuse without its memory inputs, of models that have a memory


class Maps(NamedTuple):
    """What the stages make of one sample."""

    heat: np.ndarray  # (classes, X, Y) float32
    boxes: np.ndarray  # (channels, X, Y) float32
    history_s: float | None  # [s] how far back the memory reached; None: a frame for itself


class Stages:
    """Runs the engines of one model; what is absent is not run, its features are zeros. The fuse
    stage holds the memory of past frames.

    extract_camera(), extract(), fuse() and decide() may each have a thread of their own.
    """

    def __init__(self, folder: Path, manifest: Manifest, deployment: Deployment,
                 clock: Callable[[], int], engines: Mapping[str, Engine] | None = None) -> None:
        """
        Args:
            clock: monotonic ns, read for the trace only.
            engines: those of other processes; None opens them here.
        """
        self._clock = clock
        variant = manifest.variant(deployment.variant)
        self.engines = dict(engines or open_engines(folder, variant, deployment))
        absent = sorted(set(ENGINES) - set(self.engines))
        if absent:
            raise ConfigError(f"{', '.join(absent)}: on other hosts, says the deployment; only the "
                              "perception node reaches those")
        check_wiring(self.engines)
        self.memory = memory_of(manifest)
        _check_memory(folder, self.engines["fuse"], self.memory.recall(ALONE).feeds)
        self._shapes = {spec.name: spec.shape for spec in self.engines["fuse"].inputs}
        rows, columns = manifest.camera.feature_shape
        self._pixels = rows * columns
        self._lidar = np.zeros(self._shapes["lidar"], np.float32)
        self._radar = np.zeros(self._shapes["radar"], np.float32)
        if deployment.check_golden and variant.golden is not None:
            file = folder / variant.golden.file
            check_file(file, variant.golden.sha256)
            for name, engine in self.engines.items():
                golden.check(name, engine, manifest.feature_rows, file, variant.golden.tolerance)

    def staging(self) -> np.ndarray:
        """(1, slots * pixels, C) float32 zeros: where one frame's camera features are put."""
        return np.zeros(self._shapes["camera"], np.float32)

    def extract_camera(self, picture: np.ndarray) -> np.ndarray:
        """One picture (H, W, 3) uint8 -> features (pixels, C) float32."""
        return self.engines["extract_camera"].infer({"picture": picture[None]})["camera"][0]

    def extract(self, inputs: Inputs, trace: Trace) -> dict[str, np.ndarray]:
        """What fuse takes of this frame, all but the cameras' features."""
        return {"lift_index": inputs.lift_index[None], "lift_weight": inputs.lift_weight[None],
                "lidar": self._extracted("lidar", inputs.lidar, self._lidar, trace),
                "radar": self._extracted("radar", inputs.radar, self._radar, trace),
                "context": inputs.context}

    def put_cameras(self, inputs: Inputs, features: Mapping[str, np.ndarray],
                    staging: np.ndarray) -> np.ndarray:
        """Features by camera into the network's slots. Rows of absent ones are read by no cell."""
        for name, slot in inputs.camera_slots.items():
            staging[0, slot * self._pixels:(slot + 1) * self._pixels] = features[name]
        return staging

    def fuse(self, feeds: Mapping[str, np.ndarray], trace: Trace, now: Moment = ALONE,
             history: bool = True) -> tuple[np.ndarray, float | None]:
        """One frame's features and its past -> fused (1, C, X / 2, Y / 2) float32, and how far
        back the memory reached [s].

        Args:
            now: where the past is seen from, and what this frame is remembered by.
            history: False does not look back, but remembers.
        """
        start = self._clock()
        past = self.memory.recall(now if history else ALONE)
        trace.add("memory", start, self._clock())
        alone = past.history_s is None and ALONE_ENGINE in self.engines
        fused = (self._timed(ALONE_ENGINE, "fuse", trace, feeds) if alone
                 else self._timed("fuse", "fuse", trace, {**feeds, **past.feeds}))
        start = self._clock()
        self.memory.store(now, fused)
        trace.add("memory", start, self._clock())
        return fused["fused"], past.history_s

    def decide(self, fused: np.ndarray, trace: Trace) -> tuple[np.ndarray, np.ndarray]:
        """-> heat (classes, X / 2, Y / 2), boxes (channels, X / 2, Y / 2) float32."""
        maps = self._timed("decide", "decide", trace, {"fused": fused})
        return maps["heat"][0], maps["boxes"][0]

    def run(self, inputs: Inputs, camera_features: Mapping[str, np.ndarray],
            trace: Trace, now: Moment = ALONE) -> Maps:
        """One sample through all of them."""
        feeds = self.extract(inputs, trace)
        feeds["camera"] = self.put_cameras(inputs, camera_features, self.staging())
        fused, history_s = self.fuse(feeds, trace, now)
        return Maps(*self.decide(fused, trace), history_s)

    def close(self) -> None:
        for engine in self.engines.values():
            engine.close()

    def _extracted(self, modality: str, raster: np.ndarray | None, absent: np.ndarray,
                   trace: Trace) -> np.ndarray:
        if raster is None:
            return absent
        engine = f"extract_{modality}"
        return self._timed(engine, engine, trace, {"raster": raster})[modality]

    def _timed(self, engine: str, span: str, trace: Trace, feeds: Mapping[str, np.ndarray]) -> dict:
        start = self._clock()
        outputs = self.engines[engine].infer(feeds)
        end = self._clock()
        computed = getattr(self.engines[engine], "computed_ns", None)
        way = 0 if computed is None else max(end - start - computed, 0) // 2
        trace.add(span, start + way, end - way)
        if way:  # into another process, and back
            trace.add(f"{COPY}:{span}", start, start + way)
            trace.add(f"{COPY}:{span}", end - way, end)
        return outputs


def engine_files(folder: Path, variant: Variant, name: str) -> dict[str, Path]:
    """Engine -> its file, checked to be the one that model.yaml means. name: the variant's."""
    absent = [engine for engine in ENGINES if engine not in variant.engines]
    if absent:
        raise EngineMismatch(f"{folder}: variant '{name}' names no file for "
                             f"{', '.join(absent)} (export the model again)")
    files = {engine: folder / variant.engines[engine].file
             for engine in (*ENGINES, ALONE_ENGINE) if engine in variant.engines}
    for engine, file in files.items():
        check_file(file, variant.engines[engine].sha256)
    return files


def open_engines(folder: Path, variant: Variant, deployment: Deployment,
                 wanted: Callable[[str], bool] = lambda name: True) -> dict[str, Engine]:
    """Engines of a model, by default all, in this process."""
    files = engine_files(folder, variant, deployment.variant)
    return {name: open_engine(file, replace(deployment, threads=deployment.threads_of(name)))
            for name, file in files.items() if wanted(name)}


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
