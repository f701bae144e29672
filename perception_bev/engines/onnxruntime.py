"""Engines: ONNX Runtime, the default. A provider that is asked for and missing is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from perception_bev.engines.base import TensorSpec, check_feeds
from perception_bev.errors import EngineFailed, EngineMismatch, EngineUnavailable

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int32)": np.int32,
          "tensor(int64)": np.int64, "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_}


class OnnxRuntimeEngine:
    """One session on one file."""

    def __init__(self, file: Path, providers: Sequence[str] = ("CPUExecutionProvider",),
                 threads: int = 2) -> None:
        runtime = _load()
        missing = sorted(set(providers) - set(runtime.get_available_providers()))
        if missing:
            raise EngineUnavailable(
                f"ONNX Runtime has no {', '.join(missing)} here; it has "
                f"{', '.join(runtime.get_available_providers())}. Install the build that has it "
                "(onnxruntime-gpu for CUDA and TensorRT) or name another provider")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        # Sessions that share cores: spinning threads of one would hold up the next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(str(file), options, providers=list(providers))
        except Exception as err:  # ONNX Runtime has a class an error code and no common base
            raise EngineMismatch(f"{file}: ONNX Runtime cannot load it: {err}") from err
        _refuse_fallback(providers, self._session.get_providers())
        self._file = file
        self.inputs = _specs(file, self._session.get_inputs())
        self.outputs = _specs(file, self._session.get_outputs())
        self._names = [spec.name for spec in self.outputs]

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        check_feeds(feeds, self.inputs)
        try:
            arrays = self._session.run(self._names, dict(feeds))
        except Exception as err:  # as above: no common base
            raise EngineFailed(f"{self._file}: ONNX Runtime: {err}") from err
        return dict(zip(self._names, arrays, strict=True))

    def close(self) -> None:
        self._session = None


def _load():
    try:
        import onnxruntime
    except ImportError as err:
        raise EngineUnavailable("engine 'onnxruntime' needs the package onnxruntime: "
                                "pip install onnxruntime") from err
    return onnxruntime


def _refuse_fallback(wanted: Sequence[str], used: Sequence[str]) -> None:
    """ONNX Runtime goes on without a provider whose libraries or device are missing."""
    absent = [name for name in wanted if name not in used]
    if absent:
        raise EngineUnavailable(
            f"ONNX Runtime could not start {', '.join(absent)} and would run on "
            f"{', '.join(used)}: its libraries or its device are missing (`nvidia-smi` and "
            "ONNX Runtime's own log say more), or name the other provider")


def _specs(file: Path, arguments) -> tuple[TensorSpec, ...]:
    for a in arguments:
        if a.type not in DTYPES or not all(isinstance(n, int) for n in a.shape):
            raise EngineMismatch(f"{file}: '{a.name}' is {a.type} {a.shape}; engines have static "
                                 f"shapes and one of {', '.join(DTYPES)}")
    return tuple(TensorSpec(a.name, tuple(a.shape), np.dtype(DTYPES[a.type])) for a in arguments)
