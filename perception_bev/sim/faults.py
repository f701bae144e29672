"""Sim: faults as filters on the messages of a bag, in the order of log time. What no fault of the
scenario concerns passes untouched, byte for byte. The same on disk (`bev bag fault`) and while a
bag is played, since both have messages as they are stored.

Chance is drawn per fault and topic from the seed: it does not matter what else is in the bag.
"""

from __future__ import annotations

import heapq
from binascii import crc32
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perception_bev.errors import BadMessage, ConfigError, RecordingError
from perception_bev.raw import RawCloud
from perception_bev.recordings.bag_reader import RawMessage
from perception_bev.recordings.bag_types import TypeBook, full_name
from perception_bev.recordings.bag_write import absolute
from perception_bev.recordings.convert import shift_point_time
from perception_bev.recordings.playback import Restamper
from perception_bev.rig import Camera, Lidar, Rig
from perception_bev.sim import scenario as kinds
from perception_bev.sim import spoil
from perception_bev.sim.scenario import Fault, Scenario, nanoseconds, targets

HELD = 4096  # late messages that wait at once; beyond, the one that is due next is lost
_PICTURES = frozenset({"sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image"})
_CLOUD, _SCAN = "sensor_msgs/msg/PointCloud2", "radar_msgs/msg/RadarScan"
CONTENT: dict[type, frozenset[str]] = {  # what changes contents, and of which message types
    kinds.Blinded: _PICTURES, kinds.Garbage: _PICTURES | {_CLOUD},
    kinds.Nan: frozenset({_CLOUD, _SCAN}), kinds.Ghosts: frozenset({_CLOUD, _SCAN})}


class Faults:
    """The faults of a scenario for the messages of one bag.

    Attributes:
        counts: messages changed or lost, by (kind of fault, topic).
        skipped: messages that a fault could not change, by (kind, topic, why).
    """

    def __init__(self, scenario: Scenario, rig: Rig, types: TypeBook, start_ns: int,
                 seed: int = 0) -> None:
        """
        Args:
            rig: which topic is which sensor's.
            types: the bag's, to read what is inside its messages.
            start_ns: log time from which the scenario's seconds count: the bag's beginning.

        Raises ConfigError for sensors that the rig does not have.
        """
        self.scenario = scenario
        self.counts: Counter[tuple[str, str]] = Counter()
        self.skipped: Counter[tuple[str, str, str]] = Counter()
        self._start_ns = start_ns
        self._rig, self._seed, self._tools = rig, seed, _Tools(rig, types)
        self._stages: list[_Stage] = []
        for number, fault in enumerate(scenario.faults):
            try:
                self._add(fault)
            except ConfigError as err:
                raise ConfigError(f"scenario '{scenario.name}', faults[{number}]: {err}") from err
        self._done: Counter[int] = Counter()  # by the fault's number

    def _add(self, fault: Fault) -> None:
        topics = topics_of(fault, self._rig)
        self._stages.append(_Stage(fault, topics, (self._seed, len(self._stages)), self._tools))

    def apply(self, messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
        """The messages as they come out, again in the order of log time; from the bag's beginning,
        and anew with every call. The error of a damaged bag comes after what was readable of it."""
        for stage in self._stages:
            stage.begin()
        held: list[tuple[int, int, RawMessage]] = []
        damage = None
        try:
            for order, message in enumerate(messages):
                changed = self._through(message)
                if changed is not None:
                    heapq.heappush(held, (changed.stamp_ns, order, changed))
                yield from _due(held, message.stamp_ns)
                self._shed(held)
        except RecordingError as err:
            damage = err
        yield from _due(held, None)
        if damage is not None:
            raise damage

    def clock_shift_ns(self, log_ns: int) -> int:
        """What ROS time is ahead of a bag's log time then: the sum of the time jumps until then."""
        faults = [stage.fault for stage in self._stages]
        return sum(nanoseconds(fault.by_s) for fault in faults
                   if isinstance(fault, kinds.TimeJump) and fault.active(log_ns - self._start_ns))

    def idle(self) -> list[str]:
        """The faults that have changed nothing so far, in words."""
        return [f"faults[{number}] ({stage.fault.kind}"
                + (f" of {stage.fault.sensor})" if stage.topics is not None else ")")
                for number, stage in enumerate(self._stages) if not self._done[number]]

    def _through(self, message: RawMessage) -> RawMessage | None:
        """One message through all faults, in the scenario's order."""
        at_ns = message.stamp_ns - self._start_ns
        for number, stage in enumerate(self._stages):
            if not stage.concerns(message.topic, at_ns):
                continue
            after = self._one(stage, message, at_ns)
            if after is not message:
                self._done[number] += 1
                self.counts[stage.fault.kind, message.topic] += 1
            if after is None:
                return None
            message = after
        return message

    def _one(self, stage: _Stage, message: RawMessage, at_ns: int) -> RawMessage | None:
        try:
            return stage.change(message, at_ns)
        except BadMessage as err:
            self.skipped[stage.fault.kind, message.topic, err.reason] += 1
        except RecordingError:
            self.skipped[stage.fault.kind, message.topic, "unreadable"] += 1
        return message

    def _shed(self, held: list[tuple[int, int, RawMessage]]) -> None:
        while len(held) > HELD:
            lost = heapq.heappop(held)[2]
            self.counts["overflow", lost.topic] += 1


def topics_of(fault: Fault, rig: Rig) -> dict[str, str] | None:
    """Topics that a fault changes, as a bag names them, with their sensors; None: all topics.

    What befalls a camera as a whole befalls its CameraInfo too.
    """
    if isinstance(fault, kinds.TimeJump):
        return None
    found: dict[str, str] = {}
    for name in targets(fault, rig):
        sensor = rig.sensors.get(name)
        found[absolute(rig.odometry_topic if sensor is None else sensor.topic)] = name
        if isinstance(sensor, Camera) and type(fault) not in CONTENT:
            found[absolute(sensor.info_topic)] = name
    return found


def _due(held: list[tuple[int, int, RawMessage]], now_ns: int | None) -> Iterator[RawMessage]:
    """What is to go out by now (None: all); nothing that comes later can be due before it."""
    while held and (now_ns is None or held[0][0] <= now_ns):
        yield heapq.heappop(held)[2]


class _Tools:
    """Reads and writes messages of one bag, by its own types."""

    def __init__(self, rig: Rig, types: TypeBook) -> None:
        self.rig, self._types = rig, types
        self._restamper = Restamper(types)
        self._absolute_times = {
            absolute(lidar.topic): lidar for lidar in rig.lidars.values()
            if lidar.point_time is not None and lidar.point_time.origin == "absolute"}

    def edited(self, message: RawMessage, edit: Callable[[Any], Any]) -> RawMessage:
        """The message with its content changed."""
        content = edit(self._types.deserialize(message.data, message.type))
        store = self._types.store(message.type)
        data = bytes(store.serialize_cdr(content, full_name(message.type)))
        return message if data == message.data else message._replace(data=data)

    def restamped(self, message: RawMessage, shift_ns: int) -> RawMessage:
        """The message with all its stamps moved, and with them point times that count from 1970."""
        data = self._restamper.shift(message.data, message.type, shift_ns)
        if data == message.data:
            return message
        message = message._replace(data=data)
        lidar = self._absolute_times.get(message.topic)
        if lidar is None or full_name(message.type) != _CLOUD:
            return message
        return self.edited(message, lambda cloud: _later_points(cloud, lidar, shift_ns))

    def return_class(self, message: RawMessage) -> type:
        """radar_msgs/RadarReturn, as the bag has it."""
        return self._types.store(message.type).types["radar_msgs/msg/RadarReturn"]


def _later_points(cloud: Any, lidar: Lidar, shift_ns: int) -> Any:
    def move(points: np.ndarray) -> None:
        points[...] = shift_point_time(RawCloud(0, "", points), lidar, shift_ns).points

    return spoil.with_points(cloud, move)


@dataclass
class _Stage:
    """One fault at work."""

    fault: Fault
    topics: dict[str, str] | None  # with their sensors; None: all
    seed: tuple[int, int]
    tools: _Tools
    _chances: dict[str, np.random.Generator] = field(default_factory=dict)
    _last_ns: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def begin(self) -> None:
        """Forget: the bag begins."""
        self._chances.clear()
        self._last_ns.clear()

    def concerns(self, topic: str, at_ns: int) -> bool:
        if self.topics is not None and topic not in self.topics:
            return False
        return self.fault.active(at_ns) or topic in self._last_ns  # what is late holds up the next

    def change(self, message: RawMessage, at_ns: int) -> RawMessage | None:
        """The message afterwards, itself if it is as it was, or None if it is lost.

        Raises BadMessage or RecordingError where it cannot be changed.
        """
        wanted = CONTENT.get(type(self.fault))
        if wanted is not None and full_name(message.type) not in wanted:
            raise BadMessage("wrong_type", f"{message.topic} carries {message.type}")
        return _CHANGES[type(self.fault)](self, self.fault, message, at_ns)

    def chance(self, topic: str) -> np.random.Generator:
        """Of this fault and topic alone."""
        if topic not in self._chances:
            self._chances[topic] = np.random.default_rng([*self.seed, crc32(topic.encode())])
        return self._chances[topic]

    def hits(self, topic: str, probability: float) -> bool:
        return self.chance(topic).random() < probability

    def late(self, message: RawMessage, at_ns: int) -> RawMessage:
        delay = 0.0
        if self.fault.active(at_ns):
            delay = (self.fault.delay_ms
                     + self.fault.jitter_ms * self.chance(message.topic).random())
        due = max(message.stamp_ns + round(delay * 1e6), self._last_ns[message.topic])
        self._last_ns[message.topic] = due
        return message if due == message.stamp_ns else message._replace(stamp_ns=due)


# -- what each kind does: (stage, fault, message, ns since the beginning) -> message or None


def _flapping(stage: _Stage, fault: kinds.Flapping, message: RawMessage, at_ns: int
              ) -> RawMessage | None:
    period = nanoseconds(fault.on_s) + nanoseconds(fault.off_s)
    phase = (at_ns - nanoseconds(fault.from_s)) % period
    return message if phase < nanoseconds(fault.on_s) else None


def _drop(stage: _Stage, fault: kinds.Drop, message: RawMessage, at_ns: int
          ) -> RawMessage | None:
    return None if stage.hits(message.topic, fault.probability) else message


def _skewed(stage: _Stage, fault: kinds.ClockSkew, message: RawMessage, at_ns: int) -> RawMessage:
    drift_ns = fault.drift_ppm * 1e-6 * (at_ns - nanoseconds(fault.from_s))
    return stage.tools.restamped(message, round(fault.offset_ms * 1e6 + drift_ns))


def _future(stage: _Stage, fault: kinds.FutureStamp, message: RawMessage, at_ns: int
            ) -> RawMessage:
    if not stage.hits(message.topic, fault.probability):
        return message
    return stage.tools.restamped(message, nanoseconds(fault.ahead_s))


def _jumped(stage: _Stage, fault: kinds.TimeJump, message: RawMessage, at_ns: int) -> RawMessage:
    return stage.tools.restamped(message, nanoseconds(fault.by_s))


def _blinded(stage: _Stage, fault: kinds.Blinded, message: RawMessage, at_ns: int) -> RawMessage:
    place = crc32(f"{stage.seed} {message.topic}".encode())
    return stage.tools.edited(message, lambda picture: spoil.blind(fault, picture, place))


def _garbage(stage: _Stage, fault: kinds.Garbage, message: RawMessage, at_ns: int) -> RawMessage:
    if not stage.hits(message.topic, fault.probability):
        return message
    return stage.tools.edited(message, lambda content: spoil.cut(fault, content))


def _nan(stage: _Stage, fault: kinds.Nan, message: RawMessage, at_ns: int) -> RawMessage:
    chance = stage.chance(message.topic)
    return stage.tools.edited(message, lambda cloud: spoil.spoil_points(fault, cloud, chance))


def _ghosts(stage: _Stage, fault: kinds.Ghosts, message: RawMessage, at_ns: int) -> RawMessage:
    radar = stage.tools.rig.radars[stage.topics[message.topic]]
    chance, make = stage.chance(message.topic), lambda **v: stage.tools.return_class(message)(**v)
    return stage.tools.edited(message, lambda scan: spoil.haunt(fault, scan, radar, chance, make))


_CHANGES: dict[type, Callable[[_Stage, Any, RawMessage, float], RawMessage | None]] = {
    kinds.Off: lambda *_: None, kinds.Flapping: _flapping, kinds.Drop: _drop,
    kinds.Late: lambda stage, _, message, at_ns: stage.late(message, at_ns),
    kinds.ClockSkew: _skewed, kinds.FutureStamp: _future, kinds.TimeJump: _jumped,
    kinds.Blinded: _blinded, kinds.Garbage: _garbage, kinds.Nan: _nan, kinds.Ghosts: _ghosts}
