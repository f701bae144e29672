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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from perception_bev.deployment import Deployment, load_deployment
from perception_bev.engines.base import Engine
from perception_bev.errors import CalibrationError, ConfigError, PerceptionError
from perception_bev.geometry import CameraModel
from perception_bev.inputs.build import camera_slots
from perception_bev.latency.ladder import PLANS
from perception_bev.latency.trace_log import TraceLog
from perception_bev.manifest import load_manifest
from perception_bev.nodes import spin
from perception_bev.nodes.clock import ClockReader
from perception_bev.nodes.contract import Contract, waiting_values
from perception_bev.nodes.dds_engine import DdsLink
from perception_bev.nodes.degrade import DegradeReceiver
from perception_bev.nodes.message_filters_collector import MessageFiltersCollector
from perception_bev.nodes.publications import Publications
from perception_bev.nodes.subscriptions import Subscriptions
from perception_bev.pipeline import punctual
from perception_bev.pipeline.live import Live
from perception_bev.pipeline.perception import Perception
from perception_bev.pipeline.stages import open_engines
from perception_bev.rig import Calibration, load_rig, resolve
from perception_bev.sync.clock import MS
from perception_bev.sync.collector import BundleCollector, Collector
from perception_bev.tf import TransformTree

RECHECK_S = 1.0  # how often a calibration from topics is compared with the one in use
RELOAD_S = 30.0  # until a model that could not be loaded is tried again
MISSING_PERIOD_S = 1.0  # `status` of an incomplete calibration
STOP_S = 30.0  # until a model that is just being loaded is left to itself

if TYPE_CHECKING:
    from perception_bev.pipeline.supervisor import Supervisor

PARAMETERS = {
    "rig": ("", "file of the vehicle's sensors (`bev rig init` writes one)"),
    "model": ("", "folder of the model (model.yaml and its engine files)"),
    "deployment": ("", "file of what this computer does; empty: ONNX Runtime on the CPU"),
    "publish_tracks": (True, "publish tracks, tracks/cloud and tracks_autoware"),
    "trace_file": ("", "file to which the trace of every output is appended, as JSON lines"),
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
        self._supervisor: Supervisor | None = None
        self._link: DdsLink | None = None  # to stage nodes on other hosts
        self._live: Live | None = None
        self._log: TraceLog | None = None
        self._degrade: DegradeReceiver | None = None
        self._publications: Publications | None = None
        self._sensor_inputs: Subscriptions | None = None
        self._calibration: Calibration | None = None
        self._followed = False  # a part of the calibration comes from topics
        self._stopping = threading.Event()
        self._keeper: threading.Thread | None = None

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
        self._stopping = threading.Event()  # of this keeper alone: an old one stays stopped
        self._keeper = threading.Thread(target=self._keep, args=(self._stopping,), name="keeper",
                                        daemon=True)
        self._keeper.start()
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
                                          manifest.output_grid, self._value("publish_tracks"),
                                          round(self._rig.reference.period_ms * MS))
        if self._deployment.remote:
            self._link = DdsLink(self, self._value("model"), self._deployment)
        try:
            calibration, self._followed = resolve(self._rig), False
        except CalibrationError as err:
            self._followed = True
            self.get_logger().info(f"waiting for topics: {err}")
        else:
            if self._link is None:  # else the keeper waits for the stage nodes
                self._take_calibration(calibration)

    def _subscribe(self) -> None:
        self._sensor_inputs = Subscriptions(self, self._rig, self._clock_reader, self._tf,
                                            self._infos)
        self._sensor_inputs.perception = self._perception
        self._degrade = DegradeReceiver(self, self._floor, self._watchdog_gone)

    def _stop(self) -> None:
        """End the pipeline, then the subscriptions; nothing is pushed or published any more."""
        self._stopping.set()
        if self._keeper is not None:
            self._keeper.join(timeout=STOP_S)
            self._keeper = None
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._sensor_inputs is not None:
            self._sensor_inputs.destroy()
            self._sensor_inputs = None
        if self._degrade is not None:
            self._degrade.destroy()
            self._degrade = None

    def _unload(self) -> None:
        """The engines, wherever they are."""
        if self._perception is not None:
            self._perception.close()
            self._perception = None
        if self._supervisor is not None:
            self._supervisor.close()
            self._supervisor = None

    def _release(self) -> None:
        self._unload()
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._publications is not None:
            self._publications.destroy(self)
            self._publications = None

    # -- the keeper's thread -------------------------------------------------------------------

    def _keep(self, stopping: threading.Event) -> None:
        """Complete the calibration, begin, and follow what may change, until deactivated."""
        pause_s = 0.0
        while not stopping.wait(pause_s):
            try:
                pause_s = RECHECK_S
                if self._live is not None:
                    self._follow_calibration()
                elif self._perception is not None or self._complete_calibration():
                    if not stopping.is_set():  # loading takes its time
                        self._begin()
                else:
                    pause_s = MISSING_PERIOD_S
            except Exception as err:  # a fault of ours: say so and go on
                if stopping.is_set() or not self.context.ok():
                    return
                self._fault(err)
                # Without engines nothing heals by trying again at once.
                pause_s = RECHECK_S if self._perception is not None else RELOAD_S

    def _begin(self) -> None:
        """All threads of the pipeline."""
        reader, deployment = self._clock_reader, self._deployment
        if self._log is None and self._value("trace_file"):
            self._log = TraceLog(self._value("trace_file"))
        self._contract = Contract(self._publications, self._perception.condition,
                                  lambda: reader.live, self._notes, self._log)
        self._live = Live(self._perception, deployment, self._rig.reference.period_ms, reader.now,
                          reader.live, self._contract, self._costs, self._fault)
        self._contract.guard = self._live.guard
        self._floor(self._degrade.floor, self._degrade.reason)
        punctual.prepare_process(deployment)
        self._live.start()

    def _fault(self, err: Exception) -> None:
        """Tell of an error; the context may end at any moment. While the outlet runs, no other
        thread publishes: stamps would not be in order, and there may well be outputs."""
        text = _text_of(err)
        with contextlib.suppress(Exception):
            if self._live is None:
                self._say_no_output(text)
            else:
                self._perception.count_failure(text)
                self.get_logger().error(text, throttle_duration_sec=10.0)

    def _say_no_output(self, text: str) -> None:
        self._publications.status(self._clock_reader.now().ros_ns, DiagnosticStatus.ERROR,
                                  f"no output: {text}", waiting_values())
        self.get_logger().error(f"no output: {text}", throttle_duration_sec=10.0)

    def _notes(self) -> dict[str, str]:
        """What `status` says of the runner, the workers and the watchdog."""
        self._perception.want_occupancy = self._publications.occupancy_wanted
        live, now = self._live, time.monotonic_ns()
        floor = PLANS[live.floor].name if live.floor else "none"
        notes = {"watchdog": self._degrade.watchdog, "floor": floor, "plan.why": live.ladder.why}
        if live.floor:
            notes["floor.why"] = self._degrade.reason
        notes |= {f"heartbeat.{stage}_ms": f"{(now - at) / 1e6:.1f}"
                  for stage, at in dict(live.runner.beats).items()}
        notes |= {f"queue.{stage}": str(n) for stage, n in live.overtaken().items()}
        notes |= {f"realtime.{what}": said for what, said in dict(punctual.refused).items()}
        if self._log is not None:
            notes |= {f"trace_file.lost.{why}": str(n) for why, n in dict(self._log.lost).items()}
        return notes | self._worker_notes()

    def _worker_notes(self) -> dict[str, str]:
        notes = {} if self._link is None else self._link.notes()
        if self._supervisor is None:
            return notes
        for name, state in self._supervisor.states().items():
            notes[f"worker.{name}"] = f"{state.state}, restarts {state.restarts}" + (
                f": {state.reason}" if state.reason else "")
            notes[f"pid.{name}"] = str(state.pid)
        return notes

    def _floor(self, name: str | None, reason: str) -> None:
        """The watchdog's order: the dearest plan that is allowed."""
        if self._live is None:
            return
        try:
            self._live.floor = 0 if name is None else self._live.ladder.index(name)
        except ConfigError as err:
            self.get_logger().warning(f"degrade: {err}", throttle_duration_sec=10.0)
            return
        self.get_logger().info(f"floor: {name or 'none'} {reason}".rstrip())

    def _watchdog_gone(self) -> None:
        self.get_logger().error("the watchdog is gone; its floor is released")

    def _complete_calibration(self) -> bool:
        try:
            calibration = resolve(self._rig, self._tf, self._infos)
        except CalibrationError as err:
            self._say_no_output(str(err))
            return False
        if self._link is not None and (absent := self._link.absent):
            self._say_no_output(f"waiting for stage nodes that serve {', '.join(absent)} (the same "
                                "ROS_DOMAIN_ID there, and the namespace that the deployment says)")
            return False
        self._take_calibration(calibration)
        return True

    def _follow_calibration(self) -> None:
        """Transforms and lenses from topics may change while the node runs."""
        if not self._followed:
            return
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
        supervisor = self._workers()
        try:
            perception = Perception(self._value("model"), calibration, self._deployment,
                                    time.monotonic_ns, self._collector_class(),
                                    self._engines(supervisor))
        except Exception:
            if supervisor is not None:
                supervisor.close()
            raise
        self._perception, self._calibration, self._supervisor = perception, calibration, supervisor
        if self._link is not None:
            self._link.compress()  # after the proof, which was of the very bits
        try:
            self._costs = perception.warm_up()
        except Exception:
            self._unload()
            raise
        if self._link is not None:
            self._link.serve()
        if self._sensor_inputs is not None:
            self._sensor_inputs.perception = perception
        self.get_logger().info(f"ready: rig '{calibration.rig.name}', model "
                               f"'{perception.manifest.name}', runner {self._deployment.runner}, "
                               f"loaded and warm in {time.monotonic() - began:.2f} s")

    def _workers(self) -> Supervisor | None:
        """The engines' processes, if the deployment wants them."""
        if self._deployment.runner != "processes":
            return None
        from perception_bev.pipeline.supervisor import Supervisor  # iceoryx2 comes with it

        return Supervisor.of_model(Path(self._value("model")), self._deployment)

    def _engines(self, supervisor: Supervisor | None) -> dict[str, Engine] | None:
        """Those that are not opened in this process alone, and the rest of them then."""
        local = None if supervisor is None else supervisor.engines
        if self._link is None:
            return local
        self._link.prove()
        if local is None:
            folder = Path(self._value("model"))
            variant = load_manifest(folder).variant(self._deployment.variant)
            local = open_engines(folder, variant, self._deployment,
                                 lambda name: self._deployment.remote_of(name) is None)
        return {**local, **self._link.engines}

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
