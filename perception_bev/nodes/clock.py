"""Nodes: one reading of both clocks, and how fast ROS time runs."""

from __future__ import annotations

import threading
import time
from collections import deque

from rclpy.node import Node

from perception_bev.sync.clock import Now

WINDOW_NS = 1_000_000_000  # over which the rate of /clock is measured
LEAST_NS = 200_000_000
STEP_NS = 20_000_000
JUMP_NS = 1_000_000_000  # forward, beyond what the fastest replay does
FASTEST = 20


class ClockReader:
    """`now()` for one node, from any thread. Without use_sim_time (read once) ROS time is the
    system's, its rate 1; else it is the node's, and the rate is measured."""

    def __init__(self, node: Node) -> None:
        self._clock = node.get_clock()
        self._simulated = node.get_parameter("use_sim_time").value
        self._lock = threading.Lock()  # else readings would be noted in another order than made
        self._readings: deque[tuple[int, int]] = deque(maxlen=64)  # mono, ros [ns]

    @property
    def live(self) -> bool:
        """ROS time is the system's, so latencies mean something."""
        return not self._simulated

    def now(self) -> Now:
        if not self._simulated:  # asked for every message, and the node's clock takes its time
            return Now(time.monotonic_ns(), time.time_ns())
        with self._lock:
            mono, ros = time.monotonic_ns(), self._clock.now().nanoseconds
            return Now(mono, ros, self._rate(mono, ros))

    def _rate(self, mono: int, ros: int) -> float:
        """Slope over the last second; 1 until it is known and after jumps."""
        readings = self._readings
        if readings and _jumped(mono - readings[-1][0], ros - readings[-1][1]):
            readings.clear()
        if not readings or mono - readings[-1][0] > STEP_NS:
            readings.append((mono, ros))
        while len(readings) > 2 and mono - readings[0][0] > WINDOW_NS:
            readings.popleft()
        span = mono - readings[0][0]
        return max((ros - readings[0][1]) / span, 0.0) if span > LEAST_NS else 1.0


def _jumped(mono_step: int, ros_step: int) -> bool:
    """Back, or forward as no replay runs: a seek, a loop, or the first /clock after none."""
    return ros_step < 0 or ros_step > JUMP_NS + FASTEST * mono_step
