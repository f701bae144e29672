"""Engines: the proof that an engine computes what was exported. Inputs are generated from a seed,
never taken from a data set; a sample of every output travels with the model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from perception_bev.engines.base import Engine, TensorSpec
from perception_bev.errors import EngineMismatch

SEED = 20_260_101
SAMPLES = 4096  # elements kept of each output


@dataclass(frozen=True)
class Deviation:
    """How far one output is from the stored one."""

    engine: str
    output: str
    largest: float  # |difference|, in units of the stored output's own largest |value|


def inputs_of(engine_name: str, specs: tuple[TensorSpec, ...], feature_rows: int) -> dict:
    """Generated inputs: uniform numbers, bytes, and indices into `feature_rows` feature pixels."""
    rng = np.random.default_rng([SEED, *engine_name.encode()])
    feeds = {}
    for spec in specs:
        if np.issubdtype(spec.dtype, np.floating):
            feeds[spec.name] = rng.random(spec.shape, np.float32).astype(spec.dtype)
        else:
            high = 256 if spec.dtype == np.uint8 else feature_rows
            feeds[spec.name] = rng.integers(0, high, spec.shape).astype(spec.dtype)
    return feeds


def sample_of(name: str, output: np.ndarray) -> np.ndarray:
    """(n,) float32: elements at seeded places."""
    rng = np.random.default_rng([SEED, *name.encode()])
    places = rng.integers(0, output.size, min(SAMPLES, output.size))
    return output.reshape(-1)[places].astype(np.float32)


def record(engines: Mapping[str, Engine], feature_rows: int, file: Path) -> None:
    """Run every engine on its generated inputs and store samples of the outputs."""
    stored = {}
    for name, engine in engines.items():
        for output, array in engine.infer(inputs_of(name, engine.inputs, feature_rows)).items():
            stored[f"{name}.{output}"] = sample_of(f"{name}.{output}", array)
    save_file(stored, file)


def compare(name: str, engine: Engine, feature_rows: int, file: Path) -> list[Deviation]:
    """Deviations of one engine's outputs; EngineMismatch for NaN or a missing output."""
    stored = load_file(file)
    deviations = []
    for output, array in engine.infer(inputs_of(name, engine.inputs, feature_rows)).items():
        key = f"{name}.{output}"
        if key not in stored:
            raise EngineMismatch(f"{file} holds no golden output '{key}': export the model again")
        if not np.isfinite(array).all():
            raise EngineMismatch(f"engine {name}: output '{output}' has NaN or infinite values on "
                                 "its golden input: a corrupt file or an overflowing precision")
        scale = max(float(np.abs(stored[key]).max()), 1e-12)
        difference = np.abs(sample_of(key, array) - stored[key]).max()
        deviations.append(Deviation(name, output, float(difference) / scale))
    return deviations


def check(name: str, engine: Engine, feature_rows: int, file: Path, tolerance: float) -> None:
    """EngineMismatch when an output is farther from the stored one than the tolerance."""
    for deviation in compare(name, engine, feature_rows, file):
        if not deviation.largest <= tolerance:  # also NaN
            raise EngineMismatch(
                f"engine {name}: output '{deviation.output}' is off its golden values by "
                f"{deviation.largest:.2e} of their scale, {tolerance:.2e} is allowed: the file or "
                "the engine is not what was exported (`bev verify` prints all deviations)")


def sha256(file: Path) -> str:
    """Hexadecimal digest of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
