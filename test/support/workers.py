"""Shared by tests of the workers: processes that give back what they get."""

import contextlib
import os
import time
from pathlib import Path

import numpy as np

from perception_bev.errors import WorkerLost
from perception_bev.pipeline.job import EngineJob, Job
from perception_bev.pipeline.vitals import Limits

COUNT = 100_000  # bytes of one call
LIMITS = Limits(call_s=20.0, longest_wait_s=0.02, second_wait_s=0.02, steady_s=0.0)
BYTES = np.random.default_rng(0).integers(0, 256, COUNT).astype(np.uint8)


def echoes(*names: str, cores: tuple[int, ...] = ()) -> Job:
    return Job({name: EngineJob(echo_bytes=COUNT) for name in names}, cores=cores)


def call(engine, feeds: np.ndarray = BYTES) -> np.ndarray:
    return engine.infer({"bytes": feeds})["bytes"]


def wait_for(condition, seconds: float = 30.0):
    """What the condition gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)
    return value


def answer(engine, feeds: np.ndarray = BYTES) -> np.ndarray:
    """Ask until a worker is there again."""
    def once():
        with contextlib.suppress(WorkerLost):
            return call(engine, feeds), True
    return wait_for(once)[0]


def lives(pid: int) -> bool:
    """Zombies do not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def lowest(counts, times: int = 20) -> tuple[int, ...]:
    """Of several counts: a supervisor that looks has a file of /proc open for a moment."""
    seen = []
    for _ in range(times):
        seen.append(counts())
        time.sleep(0.01)
    return tuple(map(min, zip(*seen, strict=True)))


def shared_names(pid: int) -> int:
    """Names of a parent process in shared memory."""
    return sum(name.startswith(f"perception_bev.{pid}.") for name in os.listdir("/dev/shm"))


def listed(folder: Path) -> int:
    """Files in the lists of iceoryx2."""
    return sum(len(files) for _, _, files in os.walk(folder))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def shared_maps(name: str) -> int:
    """Mappings of shared memory in this process, removed ones among them."""
    return Path("/proc/self/maps").read_text().count(name)
