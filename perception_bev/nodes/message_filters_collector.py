"""Nodes: message_filters' ApproximateTimeSynchronizer behind the collector's protocol.

For comparison only. It needs the ROS package `message_filters`, which has no wheel: where it is
not installed the constructor says so. What it lacks by design, beside `sync.Collector`: it emits
nothing while any sensor is missing, it has no deadline, and a match needs all stamps in `slop_s`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from types import MappingProxyType, ModuleType, SimpleNamespace

from perception_bev.contracts import SensorBundle, SensorFrame, Slot
from perception_bev.errors import EngineUnavailable
from perception_bev.geometry import SE3
from perception_bev.rig import Rig
from perception_bev.sync.clock import ClockWatch, Now
from perception_bev.sync.collector import no_ego

CURE = ("collector 'message_filters' needs the ROS package message_filters: "
        "apt install ros-$ROS_DISTRO-message-filters and source the ROS installation, "
        "or use the collector 'deadline'")
MAX_BUNDLES = 16


def load_message_filters() -> ModuleType:
    """The package, or EngineUnavailable with the cure."""
    try:
        import message_filters
    except ImportError as err:
        raise EngineUnavailable(CURE) from err
    return message_filters


class MessageFiltersCollector:
    """The protocol of `sync.collector.BundleCollector`; one set of matching frames is a bundle."""

    def __init__(self, rig: Rig, ego: Callable[[int], SE3 | None] = no_ego,
                 slop_s: float = 0.1, queue_size: int = 10) -> None:
        filters = load_message_filters()
        self.epoch = 0
        self.epoch_reason = "start"
        self.drops: Counter[tuple[str, str]] = Counter()
        self.clock = ClockWatch()
        self._rig, self._ego = rig, ego
        self._slop_s, self._queue_size = slop_s, queue_size
        self._filters = filters
        self._sequence = 0
        self._begin()

    def push(self, name: str, frame: SensorFrame, now: Now) -> None:
        """Hand a frame to its filter; matching sets wait for `poll`."""
        reason = self.clock.observe(now)
        if reason is not None:
            self.new_epoch(reason)
        if name not in self._inputs:
            self.drops[name, "unknown_sensor"] += 1
            return
        self._inputs[name].signalMessage(_message(frame))

    def drop(self, name: str, reason: str, now: Now) -> None:
        """Count a frame that the decoder refused."""
        self.drops[name, reason] += 1

    def poll(self, now: Now) -> SensorBundle | None:
        """The next matching set, if there is one."""
        if not self._matched:
            return None
        frames = self._matched.popleft()
        t_ref = frames[self._rig.reference.sensor].stamp_ns
        slots = {name: Slot((frame,), t_ref - frame.stamp_ns) for name, frame in frames.items()}
        self._sequence += 1
        return SensorBundle(t_ref, self.epoch, self._sequence - 1, MappingProxyType(slots),
                            "complete", self._ego(t_ref))

    def next_wakeup_ns(self) -> int | None:
        """None: it has no deadline."""
        return None

    def new_epoch(self, reason: str) -> None:
        """Begin with empty queues; message_filters itself never notices a jump."""
        self.epoch += 1
        self.epoch_reason = reason
        self._begin()

    def advice(self) -> tuple[str, ...]:
        """It has none."""
        return ()

    def _begin(self) -> None:
        self._matched: deque[dict[str, SensorFrame]] = deque(maxlen=MAX_BUNDLES)
        self._inputs = {name: self._filters.SimpleFilter() for name in self._rig.sensors}
        self._synchronizer = self._filters.ApproximateTimeSynchronizer(
            list(self._inputs.values()), self._queue_size, self._slop_s)
        self._synchronizer.registerCallback(self._keep)

    def _keep(self, *messages: SimpleNamespace) -> None:
        """Only keeps: an exception here would leave the synchronizer's lock taken for good."""
        if len(self._matched) == MAX_BUNDLES:
            self.drops[self._rig.reference.sensor, "overflow"] += 1
        self._matched.append({name: message.frame for name, message in
                              zip(self._inputs, messages, strict=True)})


def _message(frame: SensorFrame) -> SimpleNamespace:
    """What message_filters looks at: something with header.stamp."""
    from builtin_interfaces.msg import Time

    stamp = Time(sec=frame.stamp_ns // 1_000_000_000, nanosec=frame.stamp_ns % 1_000_000_000)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), frame=frame)
