"""Pipeline: ego motion that one thread writes and another reads."""

from __future__ import annotations

import threading

import numpy as np

from perception_bev.geometry import SE3
from perception_bev.temporal.ego import EgoMotion, KnownMotion


class SharedEgo:
    """EgoMotion behind a lock."""

    def __init__(self, ego: EgoMotion) -> None:
        self._ego = ego
        self._lock = threading.Lock()

    def push(self, stamp_ns: int, odom_from_base: SE3 | None, linear: np.ndarray | None = None,
             angular: np.ndarray | None = None) -> None:
        with self._lock:
            self._ego.push(stamp_ns, odom_from_base, linear, angular)

    def at(self, stamp_ns: int) -> SE3 | None:
        with self._lock:
            return self._ego.at(stamp_ns)

    def twist_at(self, stamp_ns: int) -> tuple[np.ndarray, np.ndarray] | None:
        with self._lock:
            return self._ego.twist_at(stamp_ns)

    def snapshot(self) -> KnownMotion:
        """One motion for one frame: a reset that comes meanwhile must not tear it in two."""
        with self._lock:
            return self._ego.snapshot()

    def fault(self) -> str | None:
        with self._lock:
            return self._ego.fault()

    def reset(self) -> None:
        with self._lock:
            self._ego.reset()
