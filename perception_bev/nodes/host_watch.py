"""Nodes: this computer's signals, read in a thread of their own: a driver that hangs in sysfs must
not make the watchdog look dead. No rclpy."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from perception_bev.latency.host import HostFloor, HostLimits, HostState, host_row
from perception_bev.latency.host_reader import HostReader
from perception_bev.latency.level import NA, Level, Row

PERIOD_S = 1.0
OLD_NS = 5_000_000_000  # a reading that is older says nothing about now


class HostWatch:
    """row() and floor() of the newest reading."""

    def __init__(self, limits: HostLimits, steps: int, reader: HostReader | None = None) -> None:
        """steps: plans that may be forbidden at most."""
        self._limits, self._reader = limits, reader or HostReader()
        self._floor = HostFloor(limits, steps)
        self._newest: tuple[int, HostState] | None = None  # read at [monotonic ns]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="host", daemon=True)
        self._thread.start()

    def row(self, mono_ns: int) -> Row:
        read = self._newest
        if read is None:
            return Row("host", Level.STALE, f"{NA}: not read yet")
        row, age_ns = host_row(read[1], self._limits), mono_ns - read[0]
        if age_ns > OLD_NS:
            return replace(row, level=Level.STALE,
                           message=f"{NA}: the last reading is {age_ns / 1e9:.0f} s old")
        return row

    def floor(self, mono_ns: int) -> tuple[int, str]:
        """Index and reason; none while nobody knows."""
        read = self._newest
        if read is None or mono_ns - read[0] > OLD_NS:
            return 0, ""
        return self._floor.choose(read[1], mono_ns)

    def close(self) -> None:
        """Does not wait for a reading that hangs."""
        self._over.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        while True:
            state = self._reader.read()
            self._newest = (time.monotonic_ns(), state)
            if self._over.wait(PERIOD_S):
                self._reader.close()
                return
