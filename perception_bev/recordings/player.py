"""Recordings: the loop that plays a bag into a sink, without ROS. The clocks and the waiting are
handed in, so that tests play hours in no time."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from perception_bev.errors import ConfigError, PerceptionError
from perception_bev.recordings.bag_metadata import TopicInfo
from perception_bev.recordings.bag_reader import BagReader, RawMessage
from perception_bev.recordings.bag_write import absolute
from perception_bev.recordings.playback import Epochs, Pace, Restamper, Stamps

OWN_TOPICS = frozenset({"/clock", "/rosout", "/parameter_events"})  # never played: any node's own
AHEAD = 64  # messages read in advance at most, so that unpacking a chunk delays none
BATCH = 16  # of them are handed over at once: each handing over wakes a thread
LATE_NS = 1_000_000_000  # who is this late cannot keep up: the pace is anchored anew
_NAP_S = 0.2


class Sink(Protocol):
    """Where a player's output goes."""

    def publish(self, topic: str, data: bytes) -> bool:
        """One message; False when the topic cannot be published."""

    def epoch(self, number: int) -> None: ...

    def clock(self, ros_ns: int) -> None:
        """What /clock says from now on."""


class Host(Protocol):
    """Time and waiting."""

    def monotonic_ns(self) -> int: ...

    def ros_ns(self) -> int:
        """What fresh stamps are measured by."""

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or earlier when stopped."""

    def stopped(self) -> bool: ...


class Filter(Protocol):
    """What may change messages on their way, such as the faults of a scenario (`sim/faults.py`)."""

    counts: Counter[tuple[str, str]]  # messages changed or lost, by (kind, topic)

    def apply(self, messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
        """The bag's messages as they are to be played, in the order of log time."""

    def clock_shift_ns(self, log_ns: int) -> int:
        """What ROS time is ahead of the bag's then: the clock was set."""


class NoFilter:
    """The bag as it is."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def apply(self, messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
        return iter(messages)

    def clock_shift_ns(self, log_ns: int) -> int:
        return 0


@dataclass(frozen=True)
class Settings:
    """How to play."""

    rate: float = 1.0  # bag seconds per second
    loop: bool = False
    stamps: Stamps = "original"
    clock_hz: float = 100.0  # ticks of the clock between messages; 0: none
    max_gap_ms: float = 300.0  # a longer gap in the data begins a new epoch

    def __post_init__(self) -> None:
        if self.stamps not in ("original", "fresh"):
            raise ConfigError(f"stamps: '{self.stamps}' is none of original, fresh")
        if not 0.01 <= self.rate <= 100:
            raise ConfigError(f"rate: {self.rate} is outside 0.01 .. 100")


@dataclass
class Report:
    """What was played."""

    published: Counter[str] = field(default_factory=Counter)  # by topic
    epochs: int = 0
    loops: int = 0
    slips: int = 0  # times it could not keep up
    max_late_ms: float = 0.0
    complete: bool = False
    error: str | None = None
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)  # by (kind, topic)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "published": dict(sorted(self.published.items())),
                "faults": by_kind(self.faults)}


def by_kind(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """{kind: {topic: messages}}."""
    nested: dict[str, dict[str, int]] = {}
    for (kind, topic), count in sorted(counts.items()):
        nested.setdefault(kind, {})[topic] = count
    return nested


class Player:
    """Plays `topics` of an open bag into `sink`; `report` counts while it does."""

    def __init__(self, reader: BagReader, topics: set[str], sink: Sink, host: Host,
                 settings: Settings, faults: Filter | None = None) -> None:
        self._reader, self._topics = reader, topics
        self._sink, self._host, self._settings = sink, host, settings
        self._faults = faults or NoFilter()
        infos = {name: reader.topics[name] for name in topics}
        self._epochs = Epochs(round(settings.max_gap_ms * 1e6),
                              {name for name, info in infos.items() if is_epoch(name, info)},
                              {name for name, info in infos.items() if is_latched(name, info)})
        self._restamper = Restamper(reader.types)
        self.pace: Pace | None = None  # when what is played now is due; None before the first
        self.report = Report(faults=self._faults.counts)

    def play(self) -> Report:
        """All of the bag, over and over with `loop`. What is readable of a damaged one is played,
        then `report.error` says what is wrong."""
        try:
            while not self._host.stopped():
                before = self.report.published.total()
                self._play_once()
                self.report.loops += 1
                if not self._settings.loop or self.report.published.total() == before:
                    break
                self._epochs.restart()
            self.report.complete = not self._host.stopped()
        except PerceptionError as err:
            self.report.error = str(err)
        return self.report

    def _play_once(self) -> None:
        pace: Pace | None = None
        messages = read_ahead(self._messages, self._host.stopped)
        for raw in messages:
            pace = self.pace = self._until_due(pace or self._anchor(raw), raw.stamp_ns)
            if self._host.stopped():
                return
            self._clock(pace, raw.stamp_ns)
            self._send(raw, pace.shift_ns(raw.stamp_ns))

    def _messages(self) -> Iterator[RawMessage]:
        """Changed by the thread that reads ahead: encoding a picture anew must delay no other."""
        return self._faults.apply(self._reader.raw_messages(self._topics))

    def _clock(self, pace: Pace, log_ns: int) -> None:
        self._sink.clock(pace.clock_ns(log_ns) + self._faults.clock_shift_ns(log_ns))

    def _send(self, raw: RawMessage, shift_ns: int) -> None:
        number = self._epochs.before(raw)
        if number is not None:
            self.report.epochs += 1
            self._sink.epoch(number)
        if not is_epoch(raw.topic, self._reader.topics[raw.topic]):
            data = self._restamper.shift(raw.data, raw.type, shift_ns)
            self.report.published[raw.topic] += self._sink.publish(raw.topic, data)

    def _anchor(self, raw: RawMessage) -> Pace:
        return Pace(raw.stamp_ns, self._host.monotonic_ns(), self._host.ros_ns(),
                    self._settings.rate, self._settings.stamps)

    def _until_due(self, pace: Pace, log_ns: int) -> Pace:
        """Wait, ticking the clock. Returns a new pace when the old one cannot be kept."""
        hz, due = self._settings.clock_hz, pace.due_mono_ns(log_ns)
        step_ns = round(1e9 / hz) if hz else round(_NAP_S * 1e9)
        while (left := due - self._host.monotonic_ns()) > 0 and not self._host.stopped():
            self._host.wait(min(left, step_ns) * 1e-9)
            if left > step_ns and hz:
                # Who slept too long must not tick past the message: the clock would go back for it.
                self._clock(pace, min(pace.bag_time_ns(self._host.monotonic_ns()), log_ns))
        late = self._host.monotonic_ns() - due
        self.report.max_late_ms = max(self.report.max_late_ms, round(late * 1e-6, 3))
        if late < LATE_NS:
            return pace
        self.report.slips += 1
        return pace.anchored(log_ns, self._host.monotonic_ns(), self._host.ros_ns())


def choose_topics(reader: BagReader, only: set[str], exclude: set[str]) -> set[str]:
    """The topics to play; an empty `only` means all. What announces epochs is played with any.

    ConfigError for names that the bag lacks.
    """
    only, exclude = {absolute(name) for name in only}, {absolute(name) for name in exclude}
    unknown = (only | exclude) - set(reader.topics)
    if unknown:
        raise ConfigError(f"the bag has no topic {', '.join(sorted(unknown))}; it has "
                          + ", ".join(sorted(reader.topics)))
    epochs = {name for name, info in reader.topics.items() if is_epoch(name, info)}
    return ((only | epochs if only else set(reader.topics)) - exclude) - OWN_TOPICS


def is_epoch(name: str, info: TopicInfo) -> bool:
    """A topic on which the bag announces epochs."""
    return info.type == "std_msgs/msg/UInt32" and name.rsplit("/", 1)[-1] == "epoch"


def is_latched(name: str, info: TopicInfo) -> bool:
    """A topic whose newest messages hold for whoever subscribes later."""
    return info.qos.latched or name.rsplit("/", 1)[-1] == "tf_static"


def read_ahead(messages: Callable[[], Iterator[RawMessage]], stopped: Callable[[], bool]
               ) -> Iterator[RawMessage]:
    """What `messages()` yields and raises, read by a thread of its own, AHEAD messages early."""
    ready: queue.Queue[list[Any]] = queue.Queue(AHEAD // BATCH - 1)  # and one that is being filled
    left = threading.Event()  # the consumer has gone

    def put(batch: list[Any]) -> bool:
        while not (stopped() or left.is_set()):
            try:
                ready.put(batch, timeout=_NAP_S)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        batch: list[Any] = []
        try:
            for message in messages():
                batch.append(message)
                if len(batch) == BATCH:
                    if not put(batch):
                        return
                    batch = []
            put([*batch, None])
        except Exception as err:  # handed on, to be raised where the messages are used
            put([*batch, err])

    thread = threading.Thread(target=read, name="read_ahead", daemon=True)
    thread.start()
    try:
        while not stopped():
            try:
                batch = ready.get(timeout=_NAP_S)
            except queue.Empty:
                continue
            for item in batch:
                if item is None or stopped():
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
    finally:
        left.set()
        thread.join(timeout=5.0)
