"""Pipeline: pictures that are not awaited wait while a frame is on its way to its output.

What comes after a bundle has closed is for the next one, and has time: decoding a picture and
running its backbone then takes the cores from the frame that has a deadline. It waits until that
frame is out, but never for long, and not at all where frames come so fast that one is always on
its way: there is no idle time to move the work to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

HOLD_NS = 40_000_000  # the longest that a picture waits
LEAST_PERIOD_NS = 80_000_000  # of the frames; where they follow each other faster, nothing waits


class Gate:
    """shut() when a frame begins, lift() when it is out; pass_() is what pictures call."""

    def __init__(self, clock: Callable[[], int]) -> None:
        """clock: monotonic ns."""
        self._clock = clock
        self._changed = threading.Condition()
        self._until = 0  # monotonic ns; open when it has passed
        self._last = -LEAST_PERIOD_NS
        self.held = 0  # pictures that waited

    def shut(self) -> None:
        with self._changed:
            now = self._clock()
            if now - self._last >= LEAST_PERIOD_NS:
                self._until = now + HOLD_NS
            self._last = now

    def lift(self) -> None:
        with self._changed:
            self._until = 0
            self._changed.notify_all()

    def pass_(self) -> None:
        """Return when the gate is open."""
        with self._changed:
            left = self._until - self._clock()
            self.held += left > 0
            while left > 0:
                self._changed.wait(left / 1e9)
                left = self._until - self._clock()
