"""Nodes: what the end of a node means, the same for the launch files and `bev up`. No rclpy."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from perception_bev.nodes.table import Entry

BAD_CONFIGURATION = 2  # exit code of a node after a ConfigError: it does not heal by itself
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
HEALTHY_AFTER_S = 60.0  # a node that lived so long begins again with the first pause


@dataclass(frozen=True)
class Ending:
    """What follows: start again after a pause, end everything with a code, or neither."""

    text: str
    again_after_s: float | None = None
    end_all_with: int | None = None


class Endings:
    """Judges every end of one node: pauses double, are capped, and reset by a long life."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._pause_s = FIRST_PAUSE_S

    def judge(self, code: int, lived_s: float) -> Ending:
        """`code` as of subprocess: negative is the signal that ended it."""
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        if self._entry.ends_all or (code == BAD_CONFIGURATION and self._entry.vital):
            return Ending(f"ended {how}; ending all", None, code if code >= 0 else 128 - code)
        if not self._entry.respawn or code == BAD_CONFIGURATION:
            return Ending(f"ended {how}; the others go on")
        pause_s = self._next_pause(lived_s)
        return Ending(f"ended {how}; starting again in {pause_s:g} s", again_after_s=pause_s)

    def _next_pause(self, lived_s: float) -> float:
        if lived_s >= HEALTHY_AFTER_S:
            self._pause_s = FIRST_PAUSE_S
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, LONGEST_PAUSE_S)
        return pause_s
