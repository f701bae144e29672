"""Nodes: where tracks have been in the last seconds, for the viz node. No ROS needed."""

from __future__ import annotations

from collections import deque

import numpy as np

from perception_bev.geometry import SE3

MAX_POINTS = 64  # of one trail


class Trails:
    """Centres of tracks in `odom`, so that a parked car has none however the vehicle moves."""

    def __init__(self, seconds: float = 3.0) -> None:
        self._length_ns = round(seconds * 1e9)
        self._newest_ns = 0
        self._points: dict[int, deque[tuple[int, np.ndarray]]] = {}

    def take(self, stamp_ns: int, ids: np.ndarray, centre: np.ndarray, odom_from_base: SE3) -> None:
        """Centres (N, 3) in base_link at a stamp. When time runs back all trails end."""
        if stamp_ns < self._newest_ns:
            self.forget()
        self._newest_ns = stamp_ns
        for number, at in zip(ids.tolist(), odom_from_base.apply(centre.astype(np.float64)),
                              strict=True):
            self._points.setdefault(number, deque(maxlen=MAX_POINTS)).append((stamp_ns, at))
        self._drop_old()

    def of(self, ids: np.ndarray, odom_from_base: SE3) -> list[np.ndarray]:
        """One (K, 3) float64 in base_link for each id, oldest first; K is 0 for unknown ones."""
        base_from_odom = odom_from_base.inverse()
        return [base_from_odom.apply(np.array([at for _, at in self._points.get(number, ())],
                                              np.float64).reshape(-1, 3))
                for number in ids.tolist()]

    def forget(self) -> None:
        self._points.clear()

    def __len__(self) -> int:
        return len(self._points)

    def _drop_old(self) -> None:
        oldest = self._newest_ns - self._length_ns
        for number, points in list(self._points.items()):
            while points and points[0][0] < oldest:
                points.popleft()
            if not points:
                del self._points[number]
