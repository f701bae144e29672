"""Nodes: plays a bag on its topics, with /clock and epochs. `recordings/player.py` is the loop;
here are parameters, publishers and signals.

`epoch` (std_msgs/UInt32, reliable, transient local) is published at the start, at each loop, where
the bag announces a new epoch and after gaps: consumers forget what they remember. /clock is
published before every message that it stamps. Topics are relative to the node's namespace, except
/tf, /tf_static and /clock.

With a rig, faults can be ordered while it plays (`bev fault message`): YAML on `~/fault`
(std_msgs/String), the kinds and parameters of a scenario's faults and `for_s`; the answer, when it
begins and ends, comes as JSON on `~/fault_answer`.

Exit code: 0 when all was played or the player was stopped, 1 when the bag is damaged (its readable
part is played) or a parameter is wrong.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rclpy
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String, UInt32

from perception_bev.errors import ConfigError, PerceptionError
from perception_bev.nodes import table
from perception_bev.recordings import player
from perception_bev.recordings.bag_metadata import TopicInfo
from perception_bev.recordings.bag_reader import BagReader
from perception_bev.recordings.bag_write import absolute
from perception_bev.rig import Rig, load_rig

if TYPE_CHECKING:
    from perception_bev.sim.live_faults import LiveFaults

GLOBAL_TOPICS = ("/tf", "/tf_static")  # in every namespace; who hears only these is no consumer yet
RELIABILITY = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}
SETTLE_S = 0.5  # subscribers have matched when no topic got one for so long
LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)

PARAMETERS = {  # name: default, meaning, lowest, highest
    "bag": ("", "folder of a rosbag2 bag, or one .mcap or .db3 file"),
    "rate": (1.0, "bag seconds per second", 0.01, 100.0),
    "loop": (False, "begin again at the end; each time a new epoch"),
    "endless": (False, "laps that join without a seam in time or ego motion; needs the rig"),
    "stamps": ("original", "original, or fresh: moved so that they lie around now"),
    "clock": (True, "publish /clock"),
    "clock_hz": (100.0, "ticks of /clock between messages [Hz]; 0: none", 0.0, 1000.0),
    "start_delay": (0.0, "wait before the first message [s]", 0.0, 3600.0),
    "wait_for_subscribers_s": (30.0, "wait at most so long for subscribers [s]", 0.0, 3600.0),
    "expect": ([""], "topics that must have a subscriber before playing begins"),
    "topics": ([""], "play only these topics of the bag; empty: all"),
    "exclude": ([""], "topics of the bag not to play"),
    "max_gap_ms": (300.0, "a longer gap in the data begins a new epoch [ms]", 1.0, 1e9),
    "reliability": ("reliable", "of the played topics: reliable or best_effort"),
    "depth": (10.0, "messages kept per publisher", 1.0, 1000.0),
    "scenario": ("", "name or file of a scenario whose faults befall the messages; needs the rig"),
    "rig": ("", "file of the rig that was recorded; only faults need it"),
    "seed": (0, "of what a scenario leaves to chance"),
    "report": ("", "write the counts to this JSON file at the end"),
}


class ReplayNode(Node):
    """One player and its publishers; implements `player.Sink` and `player.Host`."""

    def __init__(self, **options: Any) -> None:
        super().__init__("replay", **options)
        for name, (default, text, *limits) in PARAMETERS.items():
            self.declare_parameter(name, default, ParameterDescriptor(
                description=text, read_only=True, floating_point_range=_range(*limits)))
        self._stopping = threading.Event()
        self._outputs: dict[str, Publisher] = {}
        self._epoch_output = self.create_publisher(
            UInt32, "epoch", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        self._clock_output = (self.create_publisher(Clock, "/clock", 10) if self._value("clock")
                              else None)
        self._clock_ns: int | None = None
        self._player: player.Player | None = None
        self._orders: LiveFaults | None = None
        self._answers = self.create_publisher(String, "~/fault_answer", 10)
        self.create_subscription(String, "~/fault", self._take_order, 10)

    def play(self) -> int:
        """Play the bag as the parameters say; the exit code."""
        report = player.Report()
        try:
            settings = self._settings()
            with BagReader(self._value("bag")) as reader:
                for note in reader.notes:
                    self.get_logger().warning(note)
                topics = player.choose_topics(reader, self._names("topics"), self._names("exclude"))
                self._advertise({name: reader.topics[name] for name in sorted(topics)})
                self._wait_for_subscribers()
                self._player = player.Player(reader, topics, self, self, settings,
                                             self._filter(reader, topics))
                report = self._player.play()
        except PerceptionError as err:
            report.error = str(err)
        self._finish(report)
        return 1 if report.error else 0

    # -- player.Sink -----------------------------------------------------------------------------

    def publish(self, topic: str, data: bytes) -> bool:
        output = self._outputs.get(topic)
        if output is not None:
            output.publish(data)
        return output is not None

    def epoch(self, number: int) -> None:
        self._epoch_output.publish(UInt32(data=number))

    def clock(self, ros_ns: int) -> None:
        if self._clock_output is None or ros_ns == self._clock_ns:
            return
        self._clock_ns, message = ros_ns, Clock()
        message.clock.sec, message.clock.nanosec = divmod(ros_ns, 10**9)
        self._clock_output.publish(message)

    # -- player.Host -----------------------------------------------------------------------------

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def ros_ns(self) -> int:
        return time.time_ns()

    def wait(self, seconds: float) -> None:
        self._stopping.wait(seconds)

    def stopped(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """End `play` soon; from a signal or another thread."""
        self._stopping.set()

    # -- topics ----------------------------------------------------------------------------------

    def _advertise(self, topics: dict[str, TopicInfo]) -> None:
        """A publisher for each; a type that is not installed is named and left out."""
        for name, info in topics.items():
            if player.is_epoch(name, info):
                continue
            message_type = _message_type(info.type)
            if message_type is None:
                self.get_logger().warning(f"{name} is not played: {info.type} is not installed "
                                          f"({info.count} messages)")
                continue
            relative = name if name in GLOBAL_TOPICS else name.lstrip("/")
            self._outputs[name] = self.create_publisher(message_type, relative,
                                                        self._qos(name, info))

    def _qos(self, name: str, info: TopicInfo) -> QoSProfile:
        """Reliable serves best-effort subscribers too. A latched topic keeps what all publishers
        of the recording had sent, so that late subscribers get the whole static tree."""
        if player.is_latched(name, info):
            return LATCHED
        return QoSProfile(depth=int(self._value("depth")),
                          reliability=RELIABILITY[self._value("reliability")])

    def _wait_for_subscribers(self) -> None:
        """Until every expected topic has one or, without expectations, some have and no more
        come; not longer than the parameter says."""
        limit = time.monotonic() + self._value("wait_for_subscribers_s")
        expected = {absolute(name) for name in self._names("expect")}
        matched, since = self._matched(), time.monotonic()
        while time.monotonic() < limit and not self.stopped():
            settled = time.monotonic() - since >= SETTLE_S
            if matched and settled and expected <= matched:
                break
            self.wait(0.02)
            if (now := self._matched()) != matched:
                matched, since = now, time.monotonic()
        missing = sorted(expected - matched) or ([] if matched else ["any topic"])
        if missing and not self.stopped():
            self.get_logger().warning(f"playing without a subscriber on {', '.join(missing)}")
        self.wait(self._value("start_delay"))

    def _matched(self) -> set[str]:
        return {name for name, output in self._outputs.items()
                if name not in GLOBAL_TOPICS and output.get_subscription_count()}

    # -- the rest --------------------------------------------------------------------------------

    def _filter(self, reader: BagReader, topics: set[str]) -> player.Filter | None:
        """What becomes of the messages on their way."""
        faults = self._faults(reader)
        if not self._value("endless"):
            return faults
        from perception_bev.recordings.laps import Laps

        if not self._value("rig"):
            raise ConfigError("endless play follows the rig's reference: give it with -p rig:=FILE")
        return Laps(reader, load_rig(self._value("rig")), topics, faults)

    def _faults(self, reader: BagReader) -> player.Filter:
        """What the parameters `scenario`, `rig` and `seed` say, and what will be ordered."""
        if not self._value("rig"):
            if self._value("scenario"):
                raise ConfigError("a scenario names sensors of a rig: give it with -p rig:=FILE")
            return player.NoFilter()
        from perception_bev.sim.live_faults import LiveFaults

        rig = load_rig(self._value("rig"))
        self._orders = LiveFaults(rig, reader.types, reader.start_ns,
                                  self._scenario(reader, rig), self._value("seed"))
        return self._orders

    def _scenario(self, reader: BagReader, rig: Rig) -> player.Filter:
        if not self._value("scenario"):
            return player.NoFilter()
        from perception_bev.sim.faults import Faults
        from perception_bev.sim.scenario import load_scenario

        scenario = load_scenario(self._value("scenario"))
        self.get_logger().info(f"scenario {scenario.name}: {scenario.what}")
        if scenario.needs_world:
            self.get_logger().info("its world is that of the bag, or is missing: only its faults "
                                   "are applied here")
        return Faults(scenario, rig, reader.types, reader.start_ns, self._value("seed"))

    def _take_order(self, message: String) -> None:
        """A fault from now on; every order is answered."""
        try:
            answer = self._order(message.data)
            self.get_logger().info(f"fault ordered: {message.data}")
        except PerceptionError as err:
            answer = {"error": str(err)}
            self.get_logger().warning(f"fault refused: {err}")
        self._answers.publish(String(data=json.dumps({"order": message.data, **answer})))

    def _order(self, text: str) -> dict[str, int]:
        """When it begins and ends [ns of the monotonic clock], and where in the bag that is."""
        from perception_bev.sim.live_faults import parse

        if self._orders is None:
            raise ConfigError("the player does not know whose topics these are: start it with "
                              "-p rig:=FILE")
        pace = None if self._player is None else self._player.pace
        if pace is None:
            raise ConfigError("nothing is played yet")
        order = self._orders.order(parse(text), pace.bag_time_ns(self.monotonic_ns()))
        return {"begins_mono_ns": pace.due_mono_ns(order.begins_ns),
                "ends_mono_ns": pace.due_mono_ns(order.ends_ns)}

    def _settings(self) -> player.Settings:
        if not self._value("bag"):
            raise ConfigError("no bag: give one with --ros-args -p bag:=FOLDER")
        if self._value("reliability") not in RELIABILITY:
            raise ConfigError(f"reliability: '{self._value('reliability')}' is none of "
                              + ", ".join(RELIABILITY))
        hz = self._value("clock_hz") if self._value("clock") else 0.0
        return player.Settings(self._value("rate"), self._value("loop"), self._value("stamps"), hz,
                               self._value("max_gap_ms"))

    def _finish(self, report: player.Report) -> None:
        """Let reliable subscribers get the last messages, then say what was done."""
        if report.error:
            self.get_logger().error(report.error)
        for output in (*self._outputs.values(), self._epoch_output):
            if not self.stopped():
                output.wait_for_all_acked(Duration(seconds=1))
        counts = ", ".join(f"{name} {count}" for name, count in sorted(report.published.items()))
        self.get_logger().info(f"played {report.published.total()} messages in {report.epochs} "
                               f"epochs: {counts or 'nothing'}")
        if report.faults:
            text = ", ".join(f"{kind} {topic} {count}" for (kind, topic), count
                             in sorted(report.faults.items()))
            self.get_logger().info(f"messages changed or lost by the scenario: {text}")
        if report.slips:
            self.get_logger().warning(f"could not keep up {report.slips} times, at worst "
                                      f"{report.max_late_ms:.0f} ms late")
        if self._value("report"):
            Path(self._value("report")).write_text(json.dumps(report.as_dict(), indent=2) + "\n")

    def _names(self, parameter: str) -> set[str]:
        return {name for name in self._value(parameter) if name}

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value


def _range(*limits: float) -> list[FloatingPointRange]:
    return [FloatingPointRange(from_value=limits[0], to_value=limits[1])] if limits else []


def _message_type(name: str) -> type | None:
    """The class of "pkg/msg/Name", or None where it is not installed."""
    module, _, kind = name.rpartition("/")
    try:
        return getattr(import_module(module.replace("/", ".")), kind)
    except (ImportError, AttributeError, ValueError):
        return None


def main(args: list[str] | None = None) -> int:
    """Entry point: play the bag that the parameters name; the exit code."""
    os.environ.update(table.environment())  # the writer's DDS profile decides what gets through
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = ReplayNode()
    except Exception as err:  # rclpy's errors of parameters have no common base
        print(f"replay: {err}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: node.stop())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinner = threading.Thread(target=_spin, args=(executor,), name="spin", daemon=True)
    spinner.start()
    code = node.play()
    executor.shutdown()
    spinner.join(timeout=2.0)
    node.destroy_node()
    rclpy.try_shutdown()
    return code


def _spin(executor: SingleThreadedExecutor) -> None:
    """Answers parameter services while the main thread plays."""
    try:
        executor.spin()
    except ExternalShutdownException:
        return


if __name__ == "__main__":
    sys.exit(main())
