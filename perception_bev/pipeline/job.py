"""Pipeline: what a worker process is told, and what it says. Values that travel as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from perception_bev.engines.base import TensorSpec
from perception_bev.pipeline.shared import Place


@dataclass(frozen=True, slots=True)
class EngineJob:
    """One engine that a worker opens."""

    file: str = ""
    threads: int = 1
    echo_bytes: int = 0  # above 0: no file, but what gives back what it gets, to measure the way


@dataclass(frozen=True, slots=True)
class GoldenJob:
    """The proof that every engine has to give before it serves."""

    file: str
    tolerance: float
    feature_rows: int  # that indices among the generated inputs point into


@dataclass(frozen=True, slots=True)
class Job:
    """All that one worker is to do."""

    engines: Mapping[str, EngineJob]
    deployment: Mapping = field(default_factory=dict)  # as in its file
    golden: GoldenJob | None = None
    cores: tuple[int, ...] = ()  # none: any

    def to_json(self, place: Place) -> bytes:
        return json.dumps({"place": place, **asdict(self)}).encode()


def job_of(text: bytes) -> tuple[Job, Place]:
    """The inverse of `to_json`."""
    told = json.loads(text)
    return Job({name: EngineJob(**engine) for name, engine in told["engines"].items()},
               told["deployment"], told["golden"] and GoldenJob(**told["golden"]),
               tuple(told["cores"])), Place(*told["place"])


def specs_to_json(specs: Sequence[TensorSpec]) -> list:
    return [[spec.name, spec.shape, spec.dtype.str] for spec in specs]


def specs_of(values: Sequence) -> tuple[TensorSpec, ...]:
    """The inverse of `specs_to_json`."""
    return tuple(TensorSpec(name, tuple(shape), np.dtype(dtype)) for name, shape, dtype in values)
