"""Nodes: perception, the product as a lifecycle node. Sensor topics in, `objects` and `status` out.

configure: read rig, model and deployment, load the engines. activate: subscribe and run.
A rig with holes ("from_tf", "from_camera_info") waits, active, until they are filled; `status`
says what is missing. With `autostart` (the default) the node does both by itself.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from perception_bev.deployment import Deployment, load_deployment
from perception_bev.errors import CalibrationError, ConfigError, PerceptionError
from perception_bev.geometry import CameraModel
from perception_bev.latency.report import status_values
from perception_bev.manifest import load_manifest
from perception_bev.nodes import table
from perception_bev.nodes.clock import ClockReader
from perception_bev.nodes.message_filters_collector import MessageFiltersCollector
from perception_bev.nodes.publications import Publications
from perception_bev.nodes.subscriptions import Subscriptions
from perception_bev.pipeline.perception import Output, Perception
from perception_bev.rig import Calibration, load_rig, resolve
from perception_bev.sync.collector import BundleCollector, Collector
from perception_bev.tf import TransformTree

IDLE_S = 0.5  # the runner looks around at least so often
MISSING_PERIOD_S = 1.0  # `status` of an incomplete calibration

PARAMETERS = {
    "rig": ("", "file of the vehicle's sensors (`bev rig init` writes one)"),
    "model": ("", "folder of the model (model.yaml and its engine files)"),
    "deployment": ("", "file of what this computer does; empty: ONNX Runtime on the CPU"),
    "autostart": (True, "configure and activate without a lifecycle manager"),
}


class PerceptionNode(LifecycleNode):
    """Wires topics to `Perception`; everything else is in there."""

    def __init__(self, **options: Any) -> None:
        super().__init__("perception", **options)
        for name, (default, text) in PARAMETERS.items():
            self.declare_parameter(name, default, ParameterDescriptor(
                description=text, read_only=name == "autostart"))
        self._perception: Perception | None = None
        self._stopping = threading.Event()
        self._runner: threading.Thread | None = None

    # -- lifecycle -----------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._configure()
        except PerceptionError as err:
            self.get_logger().error(str(err))
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        for name in ("rig", "model"):
            if not self._value(name):
                raise ConfigError(f"parameter '{name}' is empty: {PARAMETERS[name][1]}")
        self._rig = load_rig(self._value("rig"))
        path = self._value("deployment")
        self._deployment = load_deployment(path) if path else Deployment()
        manifest = load_manifest(self._value("model"))
        if not manifest.provenance.commercial_use:
            self.get_logger().warning(f"model '{manifest.name}' is non-commercial: "
                                      f"{manifest.provenance.licence}, {manifest.provenance.data}")
        self._clock_reader = ClockReader(self)
        self._tf, self._infos = TransformTree(), dict[str, CameraModel]()
        self._publications = Publications(self, self._rig.base_frame,
                                          manifest.output_grid)
        self._calibration: Calibration | None = None
        try:
            self._take_calibration(resolve(self._rig))
        except CalibrationError as err:
            self.get_logger().info(f"waiting for topics: {err}")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._sensor_inputs = Subscriptions(self, self._rig, self._clock_reader, self._tf,
                                            self._infos)
        self._sensor_inputs.perception = self._perception
        self._stopping.clear()
        self._runner = threading.Thread(target=self._run, name="runner", daemon=True)
        self._runner.start()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_runner()
        self._sensor_inputs.destroy()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_runner()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _stop_runner(self) -> None:
        self._stopping.set()
        if self._runner is not None:
            self._runner.join(timeout=5.0)
            self._runner = None

    def _release(self) -> None:
        if self._perception is not None:
            self._perception.close()
            self._perception = None
        if hasattr(self, "_publications"):
            self._publications.destroy(self)

    # -- the runner's thread -------------------------------------------------------------------

    def _run(self) -> None:
        """Outputs as they become due, until the node is deactivated."""
        while not self._stopping.is_set():
            try:
                if self._perception is None and not self._complete_calibration():
                    self._stopping.wait(MISSING_PERIOD_S)
                    continue
                self._perception.wait(self._patience_s())
                while (output := self._perception.tick(self._clock_reader.now())) is not None:
                    self._publish(output)
            except PerceptionError as err:
                self.get_logger().error(str(err), throttle_duration_sec=1.0)
                self._stopping.wait(0.1)
            except Exception as err:  # a fault of ours: say so, go on with the next output
                if self._stopping.is_set() or not rclpy.ok():
                    return
                self.get_logger().error(f"internal error: {type(err).__name__}: {err}",
                                        throttle_duration_sec=1.0)
                self._stopping.wait(0.1)

    def _patience_s(self) -> float:
        due = self._perception.next_wakeup_ns()
        if due is None:
            return IDLE_S
        return min(max((due - time.monotonic_ns()) / 1e9, 0.0), IDLE_S)

    def _publish(self, output: Output) -> None:
        if output.trace.published is None:
            self._publications.objects(output)
            output.trace.published = time.monotonic_ns()
        level = DiagnosticStatus.OK if output.mode == "full" else DiagnosticStatus.WARN
        message = output.mode if not output.reasons else (
            f"{output.mode} ({'; '.join(output.reasons)})")
        notes = {"objects": str(len(output.boxes)),
                 "latency.claimed": "yes" if self._clock_reader.live else "n/a"}
        for name, monitor in self._perception.monitors.items():
            if (fault := monitor.fault()) is not None:
                notes[f"clock.{name}"] = fault
        notes |= {f"received.{name}": str(n) for name, n in self._perception.received.items()}
        notes |= {f"failures.{i}": f"{count} x {text}"
                  for i, (text, count) in enumerate(self._perception.failures.items())}
        self._publications.status(output.t_ref_ns, level, message, status_values(
            output.bundle, output.trace, self._perception.collector.drops, notes))
        self._perception.want_occupancy = self._publications.occupancy_wanted

    def _complete_calibration(self) -> bool:
        try:
            self._take_calibration(resolve(self._rig, self._tf, self._infos))
        except CalibrationError as err:
            self._publications.status(self._clock_reader.now().ros_ns, DiagnosticStatus.ERROR,
                                      f"no output: {err}", {})
            self.get_logger().warning(str(err), throttle_duration_sec=10.0)
            return False
        self._sensor_inputs.perception = self._perception
        return True

    def _take_calibration(self, calibration: Calibration) -> None:
        began = time.monotonic()
        self._perception = Perception(self._value("model"), calibration, self._deployment,
                                      time.monotonic_ns, self._collector_class())
        self._perception.warm_up()
        self.get_logger().info(f"ready: rig '{calibration.rig.name}', model "
                               f"'{self._perception.manifest.name}', loaded and warm in "
                               f"{time.monotonic() - began:.2f} s")

    def _collector_class(self) -> Callable[..., BundleCollector]:
        return {"deadline": Collector, "message_filters": MessageFiltersCollector}[
            self._deployment.collector]

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value


def main(args: list[str] | None = None) -> int:
    """Entry point: run until a signal comes; 2 when the parameters are wrong."""
    os.environ.update(table.environment())
    rclpy.init(args=args)
    node = PerceptionNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.get_parameter("autostart").value and not _started(node):
            return 2
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.on_shutdown(None)
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _started(node: PerceptionNode) -> bool:
    success = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == success and node.trigger_activate() == success


if __name__ == "__main__":
    sys.exit(main())
