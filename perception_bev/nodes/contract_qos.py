"""Nodes: quality of service of `tracks` and `status`, between their publisher and our watchdog.

The publisher offers a deadline and its liveliness, so that the middleware tells the watchdog of a
silence or a death. Subscribers that ask for neither (everybody else's) connect all the same. Sensor
inputs never have these: ordinary drivers offer none, and would be disconnected without a word.
"""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import LivelinessPolicy, QoSProfile

DEPTH = 5
DEADLINE_PERIODS = 2  # one late output is no silence
LEASE_S = 1.0


def offered(period_ns: int) -> QoSProfile:
    """For the publisher: reliable, one message a period [ns]."""
    return _profile(DEADLINE_PERIODS * period_ns)


def requested(period_ns: int) -> QoSProfile:
    """For the watchdog: what `offered` gives for the same period, and not more."""
    return _profile(DEADLINE_PERIODS * period_ns)


def plain() -> QoSProfile:
    """For a publisher that offers neither, such as a recording that is played."""
    return QoSProfile(depth=DEPTH)


def _profile(deadline_ns: int) -> QoSProfile:
    return QoSProfile(depth=DEPTH, deadline=Duration(nanoseconds=deadline_ns),
                      liveliness=LivelinessPolicy.AUTOMATIC,
                      liveliness_lease_duration=Duration(seconds=LEASE_S))
