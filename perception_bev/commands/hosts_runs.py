"""Commands: the runs of `bev bench hosts`: a stage node there, and here either a probe that calls
engines or the whole stack under a drive."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from perception_bev.commands import bench_soak
from perception_bev.commands.live_bench_stack import LiveResult, LiveStack
from perception_bev.commands.live_run import environment
from perception_bev.commands.two_hosts import Place
from perception_bev.commands.up import Child
from perception_bev.errors import PerceptionError
from perception_bev.nodes.table import Entry, ros_words

GRACE_S = 20.0
STAGE_NODE = "perception_bev.nodes.stage_node"


@dataclass(frozen=True)
class Setup:
    """What both hosts have."""

    place: Place
    folder: Path  # for logs
    model: Path


def call_engines(setup: Setup, engines: Sequence[str], calls: int,
                 deployment: Path | None) -> list[dict[str, Any]]:
    """Rows of nodes/hosts_probe.py. PerceptionError with the end of its log when it fails."""
    report, log = (setup.folder / "calls.jsonl").resolve(), setup.folder / "calls.log"
    parameters = {"model": str(setup.model), "report": str(report), "stages": list(engines),
                  "calls": calls, "device": setup.place.device,
                  **({"deployment": str(deployment)} if deployment else {})}
    words = [*setup.place.here, sys.executable, "-m", "perception_bev.nodes.hosts_probe",
             *ros_words(parameters)]
    print(f"calling {', '.join(engines)}: here, there, there as float16; {calls} times each")
    with _variables(setup.place), log.open("w") as out, _stage_node(setup, engines, deployment):
        done = subprocess.run(words, env=environment(), stdout=out, stderr=subprocess.STDOUT)
    if done.returncode:
        raise PerceptionError(f"the probe ended with {done.returncode}; its log is {log}:\n"
                              + "\n".join(log.read_text().splitlines()[-8:]))
    return [json.loads(line) for line in report.read_text().splitlines()]


@contextlib.contextmanager
def _stage_node(setup: Setup, stages: Sequence[str],
                deployment: Path | None) -> Iterator[subprocess.Popen]:
    with (setup.folder / "stages.log").open("w") as out:
        process = subprocess.Popen(_stage_words(setup, stages, deployment), env=environment(),
                                   stdout=out, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _stage_words(setup: Setup, stages: Sequence[str], deployment: Path | None) -> list[str]:
    parameters = {"model": str(setup.model), "stages": list(stages),
                  **({"deployment": str(deployment)} if deployment else {})}
    return [*setup.place.there, sys.executable, "-m", STAGE_NODE, *ros_words(parameters)]


@contextlib.contextmanager
def _variables(place: Place) -> Iterator[None]:
    """Those of the place, for all that is started meanwhile."""
    before = {name: os.environ.get(name) for name in place.variables}
    os.environ.update(place.variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class _Stack(LiveStack):
    """The live stack, all of it here, beside a stage node there."""

    def __init__(self, setup: Setup, stage: Sequence[str], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for child in self._children:
            child.command = [*setup.place.here, *child.command]
        if stage:
            entry = Entry("stage_node", "stages", lambda _: {}, respawn=False)
            self._children.insert(0, Child(entry, list(stage)))


def drive(args: argparse.Namespace, place: Place, folder: Path,
          ways: dict[str, dict[str, Any]], rounds: int) -> dict[str, list[LiveResult]]:
    """The stack in every way, by turns; results by way."""
    found: dict[str, list[LiveResult]] = {way: [] for way in ways}
    setup = Setup(place, folder, bench_soak.model_of(args))
    with _variables(place):
        for number in range(rounds):
            for way, remote in ways.items():
                found[way].append(_run(args, setup, f"{way.replace(' ', '_')}_{number}", remote))
    return found


def _run(args: argparse.Namespace, setup: Setup, name: str, remote: dict[str, Any]) -> LiveResult:
    from perception_bev.commands.live_bench_soak import Bar

    folder = setup.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    deployment = bench_soak.deployment_of(args)
    file = folder / "deployment.yaml"
    file.write_text(yaml.safe_dump(_plain({**dataclasses.asdict(deployment), "remote": remote})))
    choices = dataclasses.replace(bench_soak.choices_of(args), deployment=str(file.resolve()))
    stage = _stage_words(setup, list(remote), args.deployment) if remote else []
    stack = _Stack(setup, stage, folder, choices, bench_soak.bag_of(args),
                   bench_soak.contract_of(args), nice=deployment.realtime.nice,
                   quiet=not args.verbose)
    print(name)
    with Bar(args.seconds) as bar:
        return stack.run(args.seconds, bar.show)


def _plain(value: Any) -> Any:
    """Without tuples, which are no YAML."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
