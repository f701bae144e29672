"""Commands: `bev bench workers`, what it costs to compute in another process, and to lose it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from perception_bev.errors import PerceptionError, WorkerLost

HELP = """engines in processes of their own: what the way costs, and a death

Bytes there and back through shared memory, back to back and with pauses in which everybody falls
asleep; every engine of a model here and there, with proof that both give the same bits; workers
killed and stopped, the time until that is known and until the next one serves; and what is left of
all that in shared memory and descriptors.

example: bev bench workers --json workers.json"""

SIZES = (100_000, 1_000_000, 4_000_000)  # [bytes] each way
PAUSE_S = 0.01
IDLE_S = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="folder of a model (default: models/sim6)")
    parser.add_argument("--threads", type=int, default=1, help="of an engine (default: 1)")
    parser.add_argument("--calls", type=int, default=1000, help="of one kind (default: 1000)")
    parser.add_argument("--kills", type=int, default=20, help="of each kind (default: 20)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")


def run(args: argparse.Namespace) -> int:
    from perception_bev import resources
    from perception_bev.commands.live_run import machine

    model = args.model or resources.path("models/sim6")
    report = {"machine": machine(), "way": _way(args.calls),
              "engines": _engines(model, args.threads, args.calls),
              **_deaths(model, args.threads, args.kills)}
    text = json.dumps(report, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")
    return 0


def _way(calls: int) -> dict[str, dict]:
    """Size each way -> what a call costs that computes nothing [ms]."""
    from perception_bev.pipeline.job import EngineJob, Job
    from perception_bev.pipeline.supervisor import Supervisor

    job = Job({f"{size / 1e6:g} MB": EngineJob(echo_bytes=size) for size in SIZES})
    supervisor = Supervisor({"echo": job})
    try:
        return {name: _way_of(engine, calls) for name, engine in supervisor.engines.items()}
    finally:
        supervisor.close()


def _way_of(engine, calls: int) -> dict[str, dict]:
    feeds = {"bytes": np.random.default_rng(0).integers(0, 256, engine.inputs[0].shape, np.uint8)}
    cpu = time.thread_time()
    at_once = _times(lambda: engine.infer(feeds), calls)
    cpu = time.thread_time() - cpu
    return {"back_to_back_ms": figures(at_once), "caller_cpu_ms": round(cpu / calls * 1e3, 4),
            "with_pauses_ms": figures(_times(lambda: engine.infer(feeds), calls // 2, PAUSE_S))}


def _engines(model: Path, threads: int, calls: int) -> dict[str, dict]:
    """Engine -> the same call in this process and in a worker, taken by turns."""
    from perception_bev.deployment import Deployment
    from perception_bev.engines import golden
    from perception_bev.manifest import load_manifest
    from perception_bev.pipeline.stages import open_engines
    from perception_bev.pipeline.supervisor import Supervisor

    deployment, manifest = Deployment(threads=threads), load_manifest(model)
    here = open_engines(model, manifest.variant(deployment.variant), deployment)
    supervisor = Supervisor.of_model(model, deployment)
    try:
        return {name: _compare(engine, supervisor.engines[name], calls // 4,
                               golden.inputs_of(name, engine.inputs, manifest.feature_rows))
                for name, engine in here.items()}
    finally:
        supervisor.close()


def _compare(here, there, calls: int, feeds) -> dict:
    local, remote = [], []
    for _ in range(max(calls, 1)):
        local += _times(lambda: here.infer(feeds), 1)
        remote += _times(lambda: there.infer(feeds), 1)
    expected, got = here.infer(feeds), there.infer(feeds)
    return {"here_ms": figures(local), "there_ms": figures(remote),
            "added_p50_ms": round(float(np.median(remote) - np.median(local)), 3),
            "in_bytes": sum(array.nbytes for array in feeds.values()),
            "out_bytes": sum(array.nbytes for array in expected.values()),
            "same_bits": all(expected[k].tobytes() == got[k].tobytes() for k in expected)}


def _deaths(model: Path, threads: int, kills: int) -> dict[str, dict]:
    """The fuse worker, killed and stopped again and again, and what stays of it."""
    from perception_bev.deployment import Deployment
    from perception_bev.engines import golden
    from perception_bev.manifest import load_manifest
    from perception_bev.pipeline.supervisor import Supervisor
    from perception_bev.pipeline.vitals import Limits

    start = time.monotonic()
    supervisor = Supervisor.of_model(model, Deployment(threads=threads),
                                     limits=Limits(call_s=2.0, steady_s=0.0))
    started = time.monotonic() - start
    try:
        fuse = supervisor.engines["fuse"]
        feeds = golden.inputs_of("fuse", fuse.inputs, load_manifest(model).feature_rows)

        def lose(how: signal.Signals) -> tuple[float, float]:
            return _lose(lambda: supervisor.states()["fuse"].pid, how, lambda: fuse.infer(feeds))

        idle = _idle_share()
        lose(signal.SIGKILL)  # memory and descriptors of a first death are kept for the next
        before = _kept(supervisor.folder)
        killed = [lose(signal.SIGKILL) for _ in range(kills)]
        after = _kept(supervisor.folder)
        stopped = [lose(signal.SIGSTOP) for _ in range(kills)]
    finally:
        supervisor.close()
    return {"start_s": round(started, 3), "idle_cpu_percent_of_parent": idle,
            "killed": _told(killed), "stopped": _told(stopped),
            "kept": {"before": before, "after_kills": after}}


def _lose(pid: Callable[[], int | None], how: signal.Signals,
          call: Callable[[], object]) -> tuple[float, float]:
    """-> [ms] until a call fails, until one succeeds again."""
    victim = pid()
    start, known = time.monotonic(), None
    os.kill(victim, how)
    while True:
        if known is None and time.monotonic() - start > 30:
            raise PerceptionError(f"nobody noticed that process {victim} got {how.name}")
        try:
            call()
        except WorkerLost:
            known = known or time.monotonic()
        else:
            if known is not None:
                return (known - start) * 1e3, (time.monotonic() - start) * 1e3
        time.sleep(0.001)


def _told(times: list[tuple[float, float]]) -> dict[str, dict]:
    known, serving = zip(*times, strict=True)
    return {"times": len(times), "known_ms": figures(known), "serving_again_ms": figures(serving)}


def _kept(folder: Path) -> dict[str, int]:
    """What a run holds of the system: the least of some counts, because a supervisor that looks
    has a file of /proc open for a moment."""
    counts = []
    for _ in range(20):
        counts.append(_count(folder))
        time.sleep(0.01)
    return {what: min(count[what] for count in counts) for what in counts[0]}


def _count(folder: Path) -> dict[str, int]:
    return {"shared_memory": sum(n.startswith(folder.name) for n in os.listdir(folder.parent)),
            "lists": sum(len(files) for _, _, files in os.walk(folder)),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "mappings": Path("/proc/self/maps").read_text().count(folder.name)}


def _idle_share() -> float:
    """[%] of one core that this process takes while it only looks after its workers."""
    cpu = time.process_time()
    time.sleep(IDLE_S)
    return round((time.process_time() - cpu) / IDLE_S * 100, 2)


def _times(call: Callable[[], object], count: int, pause_s: float = 0.0) -> list[float]:
    """[ms] of each."""
    times = []
    for _ in range(count):
        if pause_s:
            time.sleep(pause_s)
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def figures(times) -> dict[str, float]:
    """p50, p99, max [ms]."""
    return {"p50": round(float(np.percentile(times, 50)), 3),
            "p99": round(float(np.percentile(times, 99)), 3), "max": round(float(max(times)), 3)}
