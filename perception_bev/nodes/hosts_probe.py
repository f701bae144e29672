"""Nodes: every engine of a stage node called beside the same engine of this process, in turns, for
`bev bench hosts`. One JSON line a call.

Start: `python -m perception_bev.nodes.hosts_probe --ros-args -p model:=DIR -p report:=OUT.jsonl`
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import rclpy
from rclpy.node import Node

from perception_bev.commands.two_hosts import received_and_sent
from perception_bev.deployment import Deployment, Remote, load_deployment
from perception_bev.engines import golden
from perception_bev.engines.base import Engine
from perception_bev.errors import ConfigError, PerceptionError, WorkerLost
from perception_bev.manifest import Manifest, load_manifest
from perception_bev.nodes import spin
from perception_bev.nodes.dds_engine import DdsEngine, DdsLink
from perception_bev.pipeline.stages import open_engines

PATIENCE_S = 120.0  # with a stage node that loads its engines
WARM = 5  # calls of each way before any counts
PARAMETERS: dict[str, Any] = {
    "model": "", "deployment": "", "report": "", "stages": ["decide"], "calls": 100,
    "pause_ms": 20.0, "device": "lo", "timeout_ms": 500.0}


class Probe:
    """Local, remote, remote as float16: one after the other, so that all meet the same minutes."""

    def __init__(self, node: Node) -> None:
        for name, default in PARAMETERS.items():
            node.declare_parameter(name, default)
        for name in ("model", "report"):
            if not node.get_parameter(name).value:
                raise ConfigError(f"no {name}: give one with --ros-args -p {name}:=...")
        self._node = node
        path = self._value("deployment")
        remote = Remote(half=True, timeout_ms=self._value("timeout_ms"))
        self._deployment = dataclasses.replace(
            load_deployment(path) if path else Deployment(),
            remote=dict.fromkeys(self._value("stages"), remote))

    def run(self) -> None:
        folder, deployment = Path(self._value("model")), self._deployment
        manifest = load_manifest(folder)
        local = open_engines(folder, manifest.variant(deployment.variant), deployment,
                             lambda name: deployment.remote_of(name) is not None)
        link = DdsLink(self._node, folder, deployment)
        try:
            self._until_present(link)
            with Path(self._value("report")).open("w") as out:
                for name, engine in link.engines.items():
                    self._measure(name, local[name], engine, manifest, out)
        finally:
            link.close()

    def _until_present(self, link: DdsLink) -> None:
        end = time.monotonic() + PATIENCE_S
        while link.absent:
            if time.monotonic() > end:
                raise WorkerLost(f"no stage node serves {', '.join(link.absent)}")
            time.sleep(0.05)

    def _measure(self, name: str, local: Engine, remote: DdsEngine, manifest: Manifest,
                 out: TextIO) -> None:
        feeds = golden.inputs_of(name, remote.inputs, manifest.feature_rows)
        wanted = local.infer(feeds)
        for number in range(-WARM, self._value("calls")):
            for way in ("local", "exact", "half"):
                row = (self._local(local, feeds) if way == "local" else
                       self._remote(remote, feeds, wanted, way == "half"))
                if number >= 0:
                    out.write(json.dumps({"engine": name, "way": way, **row}) + "\n")
                time.sleep(self._value("pause_ms") / 1e3)

    def _local(self, engine: Engine, feeds: dict) -> dict[str, Any]:
        start = time.monotonic_ns()
        engine.infer(feeds)
        return {"ms": (time.monotonic_ns() - start) / 1e6}

    def _remote(self, engine: DdsEngine, feeds: dict, wanted: dict, half: bool) -> dict[str, Any]:
        engine.half = half
        before = received_and_sent(self._value("device"))
        start = time.monotonic_ns()
        try:
            got = engine.infer(feeds)
        except PerceptionError as err:
            return {"lost": str(err), "wire_bytes": (0, 0)}
        ms = (time.monotonic_ns() - start) / 1e6
        after = received_and_sent(self._value("device"))
        return {"ms": ms, "hop_ms": engine.hop_ms, "tensor_bytes": engine.bytes_each_way,
                "wire_bytes": (after[1] - before[1], after[0] - before[0]),
                "same_bits": all(got[k].tobytes() == wanted[k].tobytes() for k in wanted)}

    def _value(self, name: str) -> Any:
        return self._node.get_parameter(name).value


def main(args: list[str] | None = None) -> int:
    """Entry point; 2 when it could not measure."""
    spin.init(args)
    node = rclpy.create_node("hosts_probe")
    try:
        Probe(node).run()
    except PerceptionError as err:
        print(f"hosts_probe: {err}", file=sys.stderr)
        return 2
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
