"""Nodes: the watchdog, a lifecycle node in a process of its own. `tracks` and `status` in;
`/diagnostics` and `degrade` out.

It looks on timers of the monotonic clock, so a stack that fell silent is reported too. What it
thinks is in `watch.py` and in latency/. It asks for less work by `degrade`; it restarts nobody.
With `autostart` (the default) it configures and activates itself.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import rclpy
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.timer import Timer

from perception_bev.deployment import Deployment, load_deployment
from perception_bev.errors import PerceptionError
from perception_bev.latency.health_settings import HealthSettings, sensor_limits
from perception_bev.latency.host import HostLimits
from perception_bev.latency.ladder import PLANS
from perception_bev.latency.remedy import RemedySettings
from perception_bev.nodes import spin
from perception_bev.nodes.clock import ClockReader
from perception_bev.nodes.contract_inputs import ContractInputs
from perception_bev.nodes.degrade import BEAT_S, DegradePublisher
from perception_bev.nodes.diagnostics import Diagnostics
from perception_bev.nodes.host_watch import HostWatch
from perception_bev.nodes.watch import Watch
from perception_bev.rig import load_rig

LOOK_S = 0.1  # how often levels are looked at

PARAMETERS = {
    "rig": ("", "file of the vehicle's sensors: their rates, and a row for each before it is "
                "heard; empty: what `status` names"),
    "deployment": ("", "file of what this computer does: the budget"),
    "act": (True, "ask for a floor by `degrade`; false: only report"),
    "autostart": (True, "configure and activate without a lifecycle manager"),
}
Limit = tuple[float, float, str]  # least, most, text; defaults are those of the settings
LIMITS: dict[type, dict[str, Limit]] = {
    HealthSettings: {
        "window_s": (1.0, 60.0, "of all percentiles and shares [s]"),
        "persist_s": (0.1, 60.0, "a limit exceeded for so long is an ERROR [s]"),
        "silent_ms": (100.0, 10_000.0, "without any status: an ERROR at once [ms]"),
        "start_s": (1.0, 600.0, "until the first status: an ERROR when it takes longer [s]"),
        "heartbeat_ms": (50.0, 10_000.0, "age of a stage's last frame [ms]"),
        "guard_delay_ms": (0.1, 100.0, "how late the output guard may be [ms]"),
        "miss_share": (0.0, 1.0, "of the periods without a result in time"),
        "drop_share": (0.0, 1.0, "of a sensor's messages that were dropped"),
        "least_rate": (0.0, 1.0, "of the rate that the rig states for a sensor"),
    },
    RemedySettings: {
        "overload_s": (1.0, 3600.0, "how long an overload is left to the ladder alone [s]"),
        "overload_share": (0.001, 1.0, "predictions among the outputs of that time"),
        "release_s": (1.0, 3600.0, "after the last prediction that floor is released [s]"),
        "most_release_s": (1.0, 3600.0, "the same, where it comes back again and again [s]"),
    },
    HostLimits: {
        "headroom_c": (0.0, 50.0, "so far below its throttling point a sensor is hot [°C]"),
        "throttles_at_c": (40.0, 150.0, "throttling point of sensors that do not say [°C]"),
        "memory_free_mb": (0.0, 1e6, "less is a warning [MB]"),
        "recover_s": (0.0, 3600.0, "until a floor for heat goes down one step [s]"),
    },
}


class WatchdogNode(LifecycleNode):
    """Wires topics and timers to a `Watch`."""

    def __init__(self, **options: Any) -> None:
        super().__init__("watchdog", **options)
        for name, (default, text) in PARAMETERS.items():
            self.declare_parameter(name, default, ParameterDescriptor(
                description=text, read_only=name == "autostart"))
        for settings, limits in LIMITS.items():
            defaults = {field.name: field.default for field in dataclasses.fields(settings)}
            for name, (least, most, text) in limits.items():
                self.declare_parameter(name, float(defaults[name]), ParameterDescriptor(
                    description=text, floating_point_range=[
                        FloatingPointRange(from_value=least, to_value=most)]))
        self._watch: Watch | None = None
        self._inputs: ContractInputs | None = None
        self._diagnostics: Diagnostics | None = None
        self._degrade: DegradePublisher | None = None
        self._host: HostWatch | None = None
        self._alarms: list[Timer] = []

    # -- lifecycle -----------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._attempt(self._start)
        if result != TransitionCallbackReturn.SUCCESS:
            self._stop()
            return result
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._watch = None
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState | None) -> TransitionCallbackReturn:
        self._stop()
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

    def _configure(self) -> None:
        rig, deployment = self._value("rig"), self._value("deployment")
        known = load_rig(rig) if rig else None
        computer = load_deployment(deployment) if deployment else Deployment()
        self._settings = HealthSettings(
            budget_ms=computer.budget_ms, **self._limits(HealthSettings),
            **({} if known is None else {"period_ms": known.reference.period_ms,
                                         "sensors": sensor_limits(known)}))
        self._host_limits = HostLimits(**self._limits(HostLimits))
        self._clock_reader = ClockReader(self)
        self._watch = Watch(self._settings, RemedySettings(**self._limits(RemedySettings)),
                            self._clock_reader.live)

    def _limits(self, settings: type) -> dict[str, float]:
        return {name: self._value(name) for name in LIMITS[settings]}

    def _start(self) -> None:
        self._diagnostics = Diagnostics(self)
        self._degrade = DegradePublisher(self)
        self._host = HostWatch(self._host_limits, min(2, len(PLANS) - 1))
        self._inputs = ContractInputs(self, self._clock_reader,
                                      round(self._settings.period_ms * 1e6),
                                      self._watch.tracks, self._watch.status)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # /clock may stand still, we do not
        self._alarms = [self.create_timer(BEAT_S, self._degrade.beat, clock=steady),
                        self.create_timer(LOOK_S, self._look, clock=steady)]

    def _stop(self) -> None:
        """Timers first: they use what goes after them."""
        for timer in self._alarms:
            self.destroy_timer(timer)
        self._alarms = []
        if self._host is not None:
            self._host.close()
        for made in (self._inputs, self._degrade, self._diagnostics):
            if made is not None:
                made.destroy()
        self._inputs = self._degrade = self._diagnostics = self._host = None

    # -- the timer -----------------------------------------------------------------------------

    def _look(self) -> None:
        self._inputs.repair()
        now = self._clock_reader.now()
        found = self._watch.look(now, self._inputs.row(), self._host.row(now.mono_ns),
                                 self._host.floor(now.mono_ns))
        if found is None:
            return
        if self._value("act"):
            self._degrade.set(found.floor, found.reason)
        self._diagnostics.say(found.rows, now.mono_ns, self.get_clock().now().to_msg())

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def destroy_node(self) -> None:
        self._stop()
        super().destroy_node()


def main(args: list[str] | None = None) -> int:
    """Entry point: watch until a signal comes; 2 when the parameters are wrong."""
    try:
        stopping = spin.init(args)
        node = WatchdogNode()
    except Exception as err:  # rclpy's errors of arguments and parameters have no common base
        print(f"watchdog: {err}", file=sys.stderr)
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


def _started(node: WatchdogNode) -> bool:
    success = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == success and node.trigger_activate() == success


if __name__ == "__main__":
    sys.exit(main())
