"""Nodes: stages of a model on another host than the perception node, as a lifecycle node.

configure: load the engines and prove them. activate: answer requests on `features/<engine>`. It
has no state that a death would lose: memory, tracks and outputs stay with the perception node.
With `autostart` (the default) the node does both by itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from perception_bev.deployment import MOVABLE, Deployment, load_deployment, stage_of
from perception_bev.engines import golden
from perception_bev.engines.base import Engine
from perception_bev.errors import ConfigError, PerceptionError
from perception_bev.manifest import load_manifest
from perception_bev.nodes import spin, table
from perception_bev.nodes.dds_engine import identity
from perception_bev.nodes.stage_desk import Desk
from perception_bev.pipeline import punctual, realtime
from perception_bev.pipeline.stages import check_file, open_engines

PARAMETERS = {
    "model": ("", "folder of the model, the same files as the perception node's"),
    "deployment": ("", "file of what this computer does; empty: ONNX Runtime on the CPU"),
    "stages": (["decide"], f"what runs here: {', '.join(MOVABLE)}"),
    "autostart": (True, "configure and activate without a lifecycle manager"),
}


class StageNode(LifecycleNode):
    """Engines behind topics."""

    def __init__(self, **options: Any) -> None:
        super().__init__("stages", **options)
        for name, (default, text) in PARAMETERS.items():
            self.declare_parameter(name, default, ParameterDescriptor(
                description=text, read_only=name == "autostart"))
        self._engines: dict[str, Engine] = {}
        self._identities: dict[str, bytes] = {}
        self._desks: list[Desk] = []

    # -- lifecycle -----------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._attempt(self._load)
        if result != TransitionCallbackReturn.SUCCESS:
            self._release()
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._attempt(self._open_desks)
        if result != TransitionCallbackReturn.SUCCESS:
            self._stop()
            return result
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState | None) -> TransitionCallbackReturn:
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _attempt(self, step: Callable[[], None]) -> TransitionCallbackReturn:
        """Errors are said here: rclpy would swallow them."""
        try:
            step()
        except Exception as err:
            if self.context.ok():  # else a signal came meanwhile
                self.get_logger().error(str(err) if isinstance(err, PerceptionError) else
                                        f"internal error: {type(err).__name__}: {err}")
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _load(self) -> None:
        """Open and prove the engines of the wanted stages."""
        model, path = self._value("model"), self._value("deployment")
        if not model:
            raise ConfigError(f"parameter 'model' is empty: {PARAMETERS['model'][1]}")
        wanted = wanted_stages(self._value("stages"))
        deployment = load_deployment(path) if path else Deployment()
        folder, manifest = Path(model), load_manifest(model)
        variant = manifest.variant(deployment.variant)
        self._prepare(deployment, wanted)
        self._engines = open_engines(folder, variant, deployment,
                                     lambda name: bool({name, stage_of(name)} & wanted))
        self._identities = {name: identity(name, variant.engines[name].sha256, engine)[0]
                            for name, engine in self._engines.items()}
        proof = variant.golden if deployment.check_golden else None
        if proof is not None:
            check_file(folder / proof.file, proof.sha256)
        for name, engine in self._engines.items():
            if proof is None:  # no engine's first real call is its first
                engine.infer(golden.inputs_of(name, engine.inputs, 1))
            else:
                golden.check(name, engine, manifest.feature_rows, folder / proof.file,
                             proof.tolerance)
        punctual.prepare_process(deployment)
        self.get_logger().info(f"ready: {', '.join(self._engines)} of model '{manifest.name}'")

    def _prepare(self, deployment: Deployment, wanted: set[str]) -> None:
        """Before any thread of an engine is made, because they inherit it."""
        stages = {stage_of(name) for name in wanted}
        cores = sorted({core for stage in stages for core in deployment.cores.get(stage, ())})
        if (refused := realtime.pin(cores)) is not None:
            self.get_logger().warning(f"cores: {refused}")

    def _open_desks(self) -> None:
        for name, engine in self._engines.items():
            self._desks.append(Desk(self, name, engine, self._identities[name], self._complain))

    def _complain(self, text: str) -> None:
        if self.context.ok():
            self.get_logger().error(text, throttle_duration_sec=10.0)

    def _stop(self) -> None:
        for desk in self._desks:
            desk.close()
            if desk.counts and self.context.ok():
                self.get_logger().info(f"{desk.name}: " + ", ".join(
                    f"{what} {count}" for what, count in sorted(desk.counts.items())))
        self._desks = []

    def _release(self) -> None:
        for engine in self._engines.values():
            engine.close()
        self._engines = {}

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def destroy_node(self) -> None:
        self._stop()
        self._release()
        super().destroy_node()


def wanted_stages(names: Sequence[str]) -> set[str]:
    """Stages and single engines; ConfigError for others, and for none."""
    unknown = sorted(set(names) - set(MOVABLE))
    if unknown or not names:
        raise ConfigError(f"parameter 'stages': {', '.join(unknown) or 'empty'}; known: "
                          f"{', '.join(MOVABLE)}")
    return set(names)


def main(args: list[str] | None = None) -> int:
    """Entry point: serve until a signal comes; 2 when the parameters are wrong."""
    try:
        os.environ.update(table.environment(profile=table.HOSTS_PROFILE))
        stopping = spin.init(args)
        node = StageNode()
    except Exception as err:  # rclpy's errors of arguments and parameters have no common base
        print(f"stages: {err}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    try:
        if node.get_parameter("autostart").value and not _started(node):
            node.destroy_node()
            return 2
        spin.spin(node, stopping)
    finally:
        rclpy.try_shutdown()
    return 0


def _started(node: StageNode) -> bool:
    success = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == success and node.trigger_activate() == success


if __name__ == "__main__":
    sys.exit(main())
