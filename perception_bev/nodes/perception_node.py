"""Nodes: perception, the product as a lifecycle node. Sensor topics in; `objects`, `tracks` and
`status` out.

configure: read rig, model and deployment, load the engines. activate: subscribe and run.
A rig with holes ("from_tf", "from_camera_info") waits, active, until they are filled; `status`
says what is missing. With `autostart` (the default) the node does both by itself.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from perception_bev.deployment import Deployment, load_deployment
from perception_bev.errors import CalibrationError, ConfigError, PerceptionError
from perception_bev.geometry import CameraModel
from perception_bev.inputs.build import camera_slots
from perception_bev.latency.report import status_values
from perception_bev.latency.trace import Trace
from perception_bev.manifest import load_manifest
from perception_bev.nodes import spin
from perception_bev.nodes.clock import ClockReader
from perception_bev.nodes.message_filters_collector import MessageFiltersCollector
from perception_bev.nodes.publications import Publications
from perception_bev.nodes.subscriptions import Subscriptions
from perception_bev.pipeline.output import Condition, Output
from perception_bev.pipeline.perception import Perception
from perception_bev.rig import Calibration, load_rig, resolve
from perception_bev.sync.collector import BundleCollector, Collector
from perception_bev.tf import TransformTree

IDLE_S = 0.5  # the runner looks around at least so often
RECHECK_S = 1.0  # how often a calibration from topics is compared with the one in use
RELOAD_S = 30.0  # until a model that could not be loaded is tried again
MISSING_PERIOD_S = 1.0  # `status` of an incomplete calibration
STALE_NS = 1_000_000_000  # an output that is older was not made of fresh stamps

PARAMETERS = {
    "rig": ("", "file of the vehicle's sensors (`bev rig init` writes one)"),
    "model": ("", "folder of the model (model.yaml and its engine files)"),
    "deployment": ("", "file of what this computer does; empty: ONNX Runtime on the CPU"),
    "publish_tracks": (True, "publish tracks, tracks/cloud and tracks_autoware"),
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
        self._publications: Publications | None = None
        self._sensor_inputs: Subscriptions | None = None
        self._calibration: Calibration | None = None
        self._followed = False  # a part of the calibration comes from topics
        self._recheck_at = 0.0  # monotonic [s]
        self._stopping = threading.Event()
        self._runner: threading.Thread | None = None

    # -- lifecycle -----------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._attempt(self._configure)
        if result != TransitionCallbackReturn.SUCCESS:
            self._release()
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._attempt(self._subscribe)
        if result != TransitionCallbackReturn.SUCCESS:
            return result
        super().on_activate(state)  # the publishers first: the runner has something to say at once
        self._stopping = threading.Event()  # of this runner alone: an old one stays stopped
        self._runner = threading.Thread(target=self._run, args=(self._stopping,), name="runner",
                                        daemon=True)
        self._runner.start()
        return TransitionCallbackReturn.SUCCESS

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
                self.get_logger().error(_text_of(err))
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
        camera_slots(self._rig, manifest)  # more cameras than slots is said now, not later
        if not manifest.provenance.commercial_use:
            self.get_logger().warning(f"model '{manifest.name}' is non-commercial: "
                                      f"{manifest.provenance.licence}, {manifest.provenance.data}")
        self._clock_reader = ClockReader(self)
        self._tf, self._infos = TransformTree(), dict[str, CameraModel]()
        self._publications = Publications(self, self._rig.base_frame,
                                          manifest.output_grid, self._value("publish_tracks"))
        try:
            calibration, self._followed = resolve(self._rig), False
        except CalibrationError as err:
            self._followed = True
            self.get_logger().info(f"waiting for topics: {err}")
        else:
            self._take_calibration(calibration)

    def _subscribe(self) -> None:
        self._sensor_inputs = Subscriptions(self, self._rig, self._clock_reader, self._tf,
                                            self._infos)
        self._sensor_inputs.perception = self._perception

    def _stop(self) -> None:
        """End the runner, then the subscriptions; nothing is pushed or published any more."""
        self._stopping.set()
        if self._runner is not None:
            self._runner.join(timeout=5.0)
            self._runner = None
        if self._sensor_inputs is not None:
            self._sensor_inputs.destroy()
            self._sensor_inputs = None

    def _release(self) -> None:
        if self._perception is not None:
            self._perception.close()
            self._perception = None
        if self._publications is not None:
            self._publications.destroy(self)
            self._publications = None

    # -- the runner's thread -------------------------------------------------------------------

    def _run(self, stopping: threading.Event) -> None:
        """Outputs as they become due, until the node is deactivated."""
        while not stopping.is_set():
            try:
                if self._perception is None and not self._complete_calibration():
                    stopping.wait(MISSING_PERIOD_S)
                    continue
                self._perception.wait(self._patience_s())
                self._publish_due()
                self._follow_calibration()
            except Exception as err:  # a fault of ours: say so, go on with the next output
                if stopping.is_set() or not self.context.ok():
                    return
                with contextlib.suppress(Exception):  # the context may end at any moment
                    self._say_no_output(self._clock_reader.now().ros_ns, _text_of(err))
                # Without engines nothing heals by trying again at once.
                stopping.wait(0.1 if self._perception is not None else RELOAD_S)

    def _publish_due(self) -> None:
        perception = self._perception
        while (output := perception.tick(self._clock_reader.now())) is not None:
            self._publish(output)
        failure, perception.last_failure = perception.last_failure, None
        if failure is not None:
            self._publications.tracks(failure.tracks)
            self._say_no_output(failure.t_ref_ns, failure.text)

    def _say_no_output(self, stamp_ns: int, text: str) -> None:
        self._publications.status(stamp_ns, DiagnosticStatus.ERROR, f"no output: {text}", {})
        self.get_logger().error(f"no output: {text}", throttle_duration_sec=10.0)

    def _patience_s(self) -> float:
        due = self._perception.next_wakeup_ns()
        if due is None:
            return IDLE_S
        return min(max((due - time.monotonic_ns()) / 1e9, 0.0), IDLE_S)

    def _publish(self, output: Output) -> None:
        self._publications.objects(output)
        self._publications.tracks(output.tracks)
        output.trace.published = time.monotonic_ns()
        level = DiagnosticStatus.OK if output.mode == "full" else DiagnosticStatus.WARN
        message = output.mode if not output.reasons else (
            f"{output.mode} ({'; '.join(output.reasons)})")
        condition = self._perception.condition()
        notes = {"objects": str(len(output.boxes)),
                 "tracks": "n/a" if output.tracks is None else str(len(output.tracks)),
                 "history_s": "n/a" if output.history_s is None else f"{output.history_s:.2f}",
                 **condition.faults,
                 "latency.claimed": self._claim(output.trace, condition)}
        notes |= {f"advice.{i}": text for i, text in enumerate(condition.advice)}
        notes |= {f"received.{name}": str(n) for name, n in condition.received.items()}
        notes |= {f"failures.{i}": f"{count} x {text}"
                  for i, (text, count) in enumerate(condition.failures.items())}
        self._publications.status(output.t_ref_ns, level, message, status_values(
            output.bundle, output.trace, condition.drops, notes))
        self._perception.want_occupancy = self._publications.occupancy_wanted

    def _claim(self, trace: Trace, condition: Condition) -> str:
        """A latency is claimed for stamps of this computer's clock only: not for recorded ones."""
        fresh = 0 <= trace.published - trace.t_ref < STALE_NS
        known = fresh and self._clock_reader.live and not condition.foreign_clock
        return "yes" if known else "n/a"

    def _complete_calibration(self) -> bool:
        try:
            calibration = resolve(self._rig, self._tf, self._infos)
        except CalibrationError as err:
            self._say_no_output(self._clock_reader.now().ros_ns, str(err))
            return False
        self._take_calibration(calibration)
        self._sensor_inputs.perception = self._perception
        return True

    def _follow_calibration(self) -> None:
        """Transforms and lenses from topics may change while the node runs."""
        if not self._followed or time.monotonic() < self._recheck_at:
            return
        self._recheck_at = time.monotonic() + RECHECK_S
        try:
            found = resolve(self._rig, self._tf, self._infos)
        except CalibrationError as err:  # a tree that was torn apart says nothing new
            self.get_logger().warning(f"keeping the calibration: {err}",
                                      throttle_duration_sec=10.0)
            return
        if not found.same_as(self._calibration):
            self._perception.recalibrate(found)
            self._calibration = found
            self.get_logger().info("the calibration changed, the next output uses the new one")

    def _take_calibration(self, calibration: Calibration) -> None:
        began = time.monotonic()
        perception = Perception(self._value("model"), calibration, self._deployment,
                                time.monotonic_ns, self._collector_class())
        try:
            perception.warm_up()
        except Exception:
            perception.close()
            raise
        self._perception, self._calibration = perception, calibration
        self.get_logger().info(f"ready: rig '{calibration.rig.name}', model "
                               f"'{perception.manifest.name}', loaded and warm in "
                               f"{time.monotonic() - began:.2f} s")

    def _collector_class(self) -> Callable[..., BundleCollector]:
        return {"deadline": Collector, "message_filters": MessageFiltersCollector}[
            self._deployment.collector]

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def destroy_node(self) -> None:
        self._stop()
        self._release()
        super().destroy_node()


def _text_of(err: Exception) -> str:
    return str(err) if isinstance(err, PerceptionError) else (
        f"internal error: {type(err).__name__}: {err}")


def main(args: list[str] | None = None) -> int:
    """Entry point: run until a signal comes; 2 when the parameters are wrong."""
    try:
        stopping = spin.init(args)
        node = PerceptionNode()
    except Exception as err:  # rclpy's errors of arguments and parameters have no common base
        print(f"perception: {err}", file=sys.stderr)
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


def _started(node: PerceptionNode) -> bool:
    success = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == success and node.trigger_activate() == success


if __name__ == "__main__":
    sys.exit(main())
