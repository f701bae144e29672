"""Sim: faults ordered while a bag is played: the kinds of a scenario, for some seconds from now.

Messages are changed by the thread that reads ahead, so a fault begins with the first message that
has not been read yet. When that one is played is known, and is the answer to the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from perception_bev import config
from perception_bev.errors import ConfigError
from perception_bev.recordings.bag_reader import RawMessage
from perception_bev.recordings.bag_types import TypeBook
from perception_bev.recordings.player import Filter
from perception_bev.rig import Rig
from perception_bev.sim.faults import Faults
from perception_bev.sim.scenario import Fault, Scenario, with_off

FOR_S = 3.0  # how long an order lasts that does not say
LONGEST_S = 3600.0
MARGIN_NS = 20_000_000  # the reading thread goes on while an order is taken
NONE = Scenario("orders", "what is ordered while a bag is played")


@dataclass(frozen=True)
class Order:
    """When a fault begins and ends, in the bag's log time [ns]."""

    begins_ns: int
    ends_ns: int


class LiveFaults(Faults):
    """Faults ordered one by one, behind those of a scenario, which begin again with every loop of
    the bag; what was ordered goes on across loops."""

    def __init__(self, rig: Rig, types: TypeBook, start_ns: int, before: Filter, seed: int = 0
                 ) -> None:
        """
        Args:
            start_ns: log time of the bag's beginning.
            before: the faults of the scenario.
        """
        super().__init__(NONE, rig, types, start_ns, seed)
        self._before = before
        self.counts = before.counts  # one count for both
        self._first_ns = start_ns
        self._newest_ns = start_ns  # log time that the reading thread has come to

    def order(self, words: Mapping[str, Any], now_ns: int) -> Order:
        """One more fault, from any thread: `kind`, its parameters, `sensor` where it has one, and
        `for_s`. A time jump is taken back after that.

        Args:
            now_ns: log time that is being played.

        Raises ConfigError; then nothing was ordered.
        """
        words = dict(words)
        for_s = config.convert(float, words.pop("for_s", FOR_S), "for_s")
        if not 0 < for_s <= LONGEST_S:
            raise ConfigError(f"for_s: {for_s:g} is outside 0 .. {LONGEST_S:g}")
        begins = max(now_ns, self._newest_ns) + MARGIN_NS
        from_s = (begins - self._start_ns) / 1e9
        for fault in _faults(words, from_s, from_s + for_s):
            self._add(fault)
        return Order(begins, begins + round(for_s * 1e9))

    def apply(self, messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
        """As of `Faults`; time goes on from where the last call's messages ended."""
        self._start_ns -= self._newest_ns - self._first_ns
        self._newest_ns = self._first_ns
        return super().apply(self._watched(self._before.apply(messages)))

    def clock_shift_ns(self, log_ns: int) -> int:
        return super().clock_shift_ns(log_ns) + self._before.clock_shift_ns(log_ns)

    def _watched(self, messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
        for message in messages:
            self._newest_ns = max(self._newest_ns, message.stamp_ns)
            yield message


def parse(text: str) -> dict[str, Any]:
    """An order as text: YAML or JSON, `{kind: off, sensor: cam_front, for_s: 3}`."""
    try:
        words = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ConfigError(f"a fault is ordered as YAML: {err}") from err
    if not isinstance(words, dict):
        raise ConfigError("a fault is ordered as {kind: ..., sensor: ..., for_s: ...}, got "
                          f"{text[:60]!r}")
    return words


def _faults(words: dict[str, Any], from_s: float, to_s: float) -> list[Fault]:
    """The faults of a scenario that an order means. Times are ours to say, not the order's."""
    said = {"from_s", "to_s", "at_s"} & words.keys()
    if said:
        raise ConfigError(f"an order begins at once and lasts for_s seconds, it has no "
                          f"{', '.join(sorted(said))}")
    words = with_off(words)
    if words.get("kind") == "time_jump":
        by_s = words.get("by_s")
        back = -by_s if isinstance(by_s, (int, float)) else by_s
        return [_fault({**words, "at_s": from_s}),
                _fault({**words, "at_s": to_s, "by_s": back})]
    return [_fault({**words, "from_s": from_s, "to_s": to_s})]


def _fault(words: dict[str, Any]) -> Fault:
    return config.convert(Fault, words, "fault")
