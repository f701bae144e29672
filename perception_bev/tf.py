"""Vocabulary: the transform tree, our one TF buffer, whether tf2_ros is installed or not.

Follows the semantics of tf2 (Foote, "tf: The transform library", TePRA 2013): every frame has one
parent, a look-up walks both frames up to their common ancestor, static edges hold for all time and
dynamic ones are interpolated between two samples, never extrapolated.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from perception_bev.errors import ConfigError
from perception_bev.geometry import SE3

HISTORY_NS = 10_000_000_000  # as long as tf2's default cache
MAX_SAMPLES = 2_000  # per frame: 10 s at 200 Hz


@dataclass
class _Edge:
    """One frame's place in its parent; stamps ascend. A static edge has one sample."""

    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)  # ns
    poses: list[SE3] = field(default_factory=list)  # parent_from_child

    def at(self, stamp_ns: int) -> SE3 | None:
        """The pose at a time inside the history, else None."""
        if self.static:
            return self.poses[0]
        i = bisect_left(self.stamps, stamp_ns)
        if i == len(self.stamps):
            return None
        if self.stamps[i] == stamp_ns:
            return self.poses[i]
        if i == 0:
            return None
        before, after = self.stamps[i - 1], self.stamps[i]
        fraction = (stamp_ns - before) / (after - before)
        return self.poses[i - 1].interpolate(self.poses[i], fraction)


class TransformTree:
    """A forest of frames with a bounded history; implements `rig.TransformSource`.

    Safe to fill from one thread and to read from others. What is refused or replaced is counted
    in `counts`: "self", "unnamed", "cycle", "bad_pose", "old" (refused), "reparented",
    "kind_changed" (history dropped), "repeated" (the newer message wins) and "overflow" (more
    samples than are kept).
    """

    def __init__(self, history_ns: int = HISTORY_NS, max_samples: int = MAX_SAMPLES) -> None:
        self.counts: Counter[str] = Counter()
        self._history_ns = history_ns
        self._max_samples = max_samples
        self._edges: dict[str, _Edge] = {}
        self._lock = threading.Lock()

    def set(self, parent: str, child: str, parent_from_child: SE3, stamp_ns: int,
            static: bool) -> bool:
        """Take one transform; False (and counted) when it is refused."""
        parent, child = parent.lstrip("/"), child.lstrip("/")
        with self._lock:
            refusal = self._refusal(parent, child)
            if refusal:
                return self._refuse(refusal)
            edge = self._edge_for(parent, child, static)
            if static:
                edge.stamps, edge.poses = [stamp_ns], [parent_from_child]
                return True
            return self._insert(edge, stamp_ns, parent_from_child)

    def set_message(self, message: Any, static: bool) -> int:
        """Take a tf2_msgs/TFMessage (rclpy's or rosbags'); how many transforms were accepted."""
        return sum(self._set_stamped(stamped, static) for stamped in message.transforms)

    def lookup(self, target: str, source: str, stamp_ns: int | None = None) -> SE3 | None:
        """target_from_source, or None when the frames are not connected (at that time).

        Without a stamp: at the newest time that all edges between the two frames know.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        with self._lock:
            if target == source:
                return SE3.identity() if self._knows(target) else None
            up, down = self._branches(target, source)
            if up is None:
                return None
            edges = [self._edges[frame] for frame in (*up, *down)]
            stamp = _common_stamp(edges) if stamp_ns is None else stamp_ns
            common_from_target = _chain([self._edges[frame].at(stamp) for frame in up])
            common_from_source = _chain([self._edges[frame].at(stamp) for frame in down])
        if common_from_target is None or common_from_source is None:
            return None
        return common_from_target.inverse() @ common_from_source

    def is_static(self, target: str, source: str) -> bool:
        """True when the frames are connected by static edges alone."""
        with self._lock:
            up, down = self._branches(target.lstrip("/"), source.lstrip("/"))
            return up is not None and all(self._edges[frame].static for frame in (*up, *down))

    def frames(self) -> dict[str, str | None]:
        """Every known frame with its parent; None for a root."""
        with self._lock:
            known: dict[str, str | None] = {edge.parent: None for edge in self._edges.values()}
            known.update({child: edge.parent for child, edge in self._edges.items()})
            return known

    def forget_motion(self) -> None:
        """Drop all dynamic history, as after a clock jump; what is static stays."""
        with self._lock:
            self._edges = {child: edge for child, edge in self._edges.items() if edge.static}

    def _set_stamped(self, stamped: Any, static: bool) -> bool:
        t, q = stamped.transform.translation, stamped.transform.rotation
        stamp_ns = stamped.header.stamp.sec * 1_000_000_000 + stamped.header.stamp.nanosec
        try:
            pose = SE3.from_quaternion((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
        except ConfigError:
            with self._lock:
                return self._refuse("bad_pose")
        return self.set(stamped.header.frame_id, stamped.child_frame_id, pose, stamp_ns, static)

    def _refuse(self, reason: str) -> bool:
        self.counts[reason] += 1
        return False

    def _refusal(self, parent: str, child: str) -> str | None:
        if not parent or not child:
            return "unnamed"
        if parent == child:
            return "self"
        return "cycle" if child in self._ancestors(parent) else None

    def _edge_for(self, parent: str, child: str, static: bool) -> _Edge:
        """The child's edge; a new one when its parent or kind changed."""
        edge = self._edges.get(child)
        if edge is not None and (edge.parent, edge.static) == (parent, static):
            return edge
        if edge is not None:
            self.counts["reparented" if edge.parent != parent else "kind_changed"] += 1
        self._edges[child] = _Edge(parent, static)
        return self._edges[child]

    def _insert(self, edge: _Edge, stamp_ns: int, pose: SE3) -> bool:
        if edge.stamps and stamp_ns < edge.stamps[-1] - self._history_ns:
            return self._refuse("old")
        i = bisect_left(edge.stamps, stamp_ns)
        if i < len(edge.stamps) and edge.stamps[i] == stamp_ns:
            edge.poses[i] = pose
            self.counts["repeated"] += 1
            return True
        edge.stamps.insert(i, stamp_ns)
        edge.poses.insert(i, pose)
        self._trim(edge)
        return True

    def _trim(self, edge: _Edge) -> None:
        expired = bisect_left(edge.stamps, edge.stamps[-1] - self._history_ns)
        surplus = len(edge.stamps) - expired - self._max_samples
        if surplus > 0:
            self.counts["overflow"] += surplus
        first = expired + max(0, surplus)
        del edge.stamps[:first], edge.poses[:first]

    def _knows(self, frame: str) -> bool:
        return frame in self._edges or any(e.parent == frame for e in self._edges.values())

    def _ancestors(self, frame: str) -> list[str]:
        """The frame, its parent, and so on up to the root. `set` keeps it free of cycles."""
        chain = [frame]
        while chain[-1] in self._edges:
            chain.append(self._edges[chain[-1]].parent)
        return chain

    def _branches(self, target: str, source: str) -> tuple[list[str] | None, list[str]]:
        """Frames to walk up from target and from source, below their common ancestor."""
        ups, downs = self._ancestors(target), self._ancestors(source)
        shared = set(ups) & set(downs)
        if not shared:
            return None, []
        return ([frame for frame in ups if frame not in shared],
                [frame for frame in downs if frame not in shared])


def _common_stamp(edges: list[_Edge]) -> int:
    """The newest time at which every dynamic edge has an answer; 0 when all are static."""
    return min((edge.stamps[-1] for edge in edges if not edge.static), default=0)


def _chain(poses: list[SE3 | None]) -> SE3 | None:
    """root_from_leaf of parent_from_child poses, leaf first."""
    total = SE3.identity()
    for pose in poses:
        if pose is None:
            return None
        total = pose @ total
    return total
