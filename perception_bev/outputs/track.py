"""Outputs: boxes to tracks. Objects keep a number over time, also while they are hidden for a
second, and can be carried on to any stamp.

Tracks live in `odom`, so that the vehicle's own motion moves nothing. Motion is a Kalman filter
with constant velocity (kalman.py), as in X. Weng et al., "3D Multi-Object Tracking: A Baseline and
New Evaluation Metrics" (AB3DMOT), IROS 2020. Sure boxes are assigned first, faint ones then only
continue what is there: Y. Zhang et al., "ByteTrack", ECCV 2022.

Without ego motion, tracks are in base_link as if the vehicle stood still: velocities are then
relative to it, and measured ones (over ground) are not used. A gap of up to BRIDGE_NS is bridged
with the vehicle's last motion.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import NamedTuple

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.errors import ShapeMismatch
from perception_bev.geometry import SE3
from perception_bev.outputs.assign import assign, solver
from perception_bev.outputs.track_filter import TrackFilter
from perception_bev.outputs.track_values import (
    NS,
    Tracks,
    TrackSettings,
    row_type,
    rows_of,
    tracks_of,
)

__all__ = ["BRIDGE_NS", "TrackSettings", "Tracker", "Tracks"]

BRIDGE_NS = 500_000_000


class _Frame(NamedTuple):
    """Where stamps and poses mean the same; tracks do not outlive it."""

    epoch: int
    generation: int
    moving: bool  # False: no ego motion, base_link is taken for odom


class Tracker:
    """update() with the boxes of each output time in order, predict() in between.

    One thread at a time. `counts` has resets by reason, and what was left out.
    """

    def __init__(self, classes: tuple[str, ...], settings: TrackSettings | None = None) -> None:
        self.classes, self.settings = classes, settings or TrackSettings()
        self.counts: Counter[str] = Counter()
        self._filter, self._solve = TrackFilter(classes), solver()
        self._rows = self._none = np.zeros(0, row_type(len(classes)))
        self._next_id = 1
        self._frame: _Frame | None = None
        self._stamp_ns = 0
        self._poses: list[tuple[int, SE3]] = []  # the last two that were known, oldest first

    def update(self, boxes: Boxes3D, odom_from_base: SE3 | None, t_ref_ns: int, epoch: int = 0,
               generation: int = 0) -> Tracks:
        """Tracks at `t_ref_ns` with its boxes taken in.

        Args:
            boxes: in base_link at t_ref, down to settings.faint_score. Fainter ones are ignored,
                ones that are not finite counted. ShapeMismatch for other classes.
            odom_from_base: at t_ref; None: no ego motion.
            epoch, generation: when one changes, stamps or poses before mean nothing any more.
        """
        if boxes.classes != self.classes:
            raise ShapeMismatch(f"boxes of the classes {boxes.classes}, tracker of {self.classes}")
        pose = self._enter(odom_from_base, t_ref_ns, epoch, generation)
        self._move(t_ref_ns)
        self._bury()  # who was unseen for too long must not take a box after a gap in the stream
        found = rows_of(boxes[self._usable(boxes)], pose, t_ref_ns, self._frame.moving)
        continued = self._associate(found)
        self._bury()
        self._bear(found[~continued])
        return self._tracks(self._rows, pose, t_ref_ns, False)

    def knows(self, stamp_ns: int, epoch: int | None = None, generation: int | None = None) -> bool:
        """Whether update() had boxes of this time and place, no longer ago than a track may be
        unseen. If not, that there are no tracks says nothing about the world."""
        frame, age = self._frame, (stamp_ns - self._stamp_ns) * NS
        return (frame is not None and age <= self.settings.max_age_s
                and epoch in (None, frame.epoch) and generation in (None, frame.generation))

    def predict(self, stamp_ns: int, odom_from_base: SE3 | None, epoch: int | None = None,
                generation: int | None = None) -> Tracks | None:
        """The tracks carried on to a stamp, seen from the vehicle's pose then; nothing changes.

        Those unseen for longer than settings.max_age_s are left out. None, which is not an empty
        street, where `knows` says no (epoch and generation None: those of the tracks), or nobody
        knows where the vehicle is.
        """
        moving = self._frame is not None and self._frame.moving
        pose = self._pose(odom_from_base, stamp_ns) if moving else SE3.identity()
        if pose is None or not self.knows(stamp_ns, epoch, generation):
            return None
        rows = self._rows.copy()
        rows["mean"], rows["cov"] = self._filter.moved(rows, stamp_ns - self._stamp_ns)
        young = (stamp_ns - rows["seen_ns"]) * NS <= self.settings.max_age_s
        return self._tracks(rows[young], pose, stamp_ns, True)

    def frozen(self) -> Tracker:
        """The tracks as they are now, for predict() in another thread."""
        still = copy.copy(self)
        still._rows, still._poses = self._rows.copy(), list(self._poses)
        return still

    def reset(self, reason: str) -> None:
        """Forget all tracks; their numbers stay used."""
        if len(self._rows):
            self.counts[f"reset: {reason}"] += 1
        self._rows, self._frame = self._none, None
        self._poses.clear()

    def __len__(self) -> int:
        """Tracks, those not yet confirmed included."""
        return len(self._rows)

    # -- time and place ------------------------------------------------------------------------

    def _enter(self, odom_from_base: SE3 | None, t_ref_ns: int, epoch: int,
               generation: int) -> SE3:
        """The pose to use, after a reset where this time or place has nothing to do with before."""
        before = self._frame
        if before is not None and epoch != before.epoch:
            self.reset("epoch")
        elif before is not None and generation != before.generation:
            self.reset("odometry began anew")
        elif before is not None and t_ref_ns < self._stamp_ns:
            self.reset("time ran back")
        pose = self._pose(odom_from_base, t_ref_ns)
        moving = pose is not None
        if self._frame is not None and self._frame.moving != moving:
            self.reset("ego motion came" if moving else "ego motion was lost")
        self._frame = _Frame(epoch, generation, moving)
        if odom_from_base is not None:
            self._poses = [*self._poses[-1:], (t_ref_ns, odom_from_base)]
        return pose or SE3.identity()

    def _pose(self, known: SE3 | None, stamp_ns: int) -> SE3 | None:
        """`known`, or the last motion carried on over a short gap."""
        if known is not None or not self._poses:
            return known
        (start_ns, start), (end_ns, end) = self._poses[0], self._poses[-1]
        if stamp_ns - end_ns > BRIDGE_NS:
            return None
        if start_ns == end_ns:
            return end
        return start.interpolate(end, (stamp_ns - start_ns) / (end_ns - start_ns))

    def _move(self, stamp_ns: int) -> None:
        self._rows["mean"], self._rows["cov"] = self._filter.moved(
            self._rows, stamp_ns - self._stamp_ns)
        self._stamp_ns = stamp_ns

    # -- one update, step by step --------------------------------------------------------------

    def _usable(self, boxes: Boxes3D) -> np.ndarray:
        """(N,) bool: bright enough, and finite."""
        finite = np.isfinite(np.column_stack([boxes.centre, boxes.size, boxes.yaw,
                                              boxes.score])).all(axis=1)
        if not finite.all():
            self.counts["not finite"] += int((~finite).sum())
        return finite & (boxes.score >= self.settings.faint_score)

    def _associate(self, found: np.ndarray) -> np.ndarray:
        """Take in what continues a track, the sure ones first; which those are, (M,) bool."""
        s, rows = self.settings, self._rows
        rows["misses"] += 1
        sure = found["score"] >= s.sure_score
        first = self._take(found, np.ones(len(rows), bool), sure, s.gate)
        unseen = rows["seen_ns"] < self._stamp_ns
        lately = (self._stamp_ns - rows["seen_ns"]) * NS <= s.faint_age_s
        second = self._take(found, rows["confirmed"] & unseen & lately, ~sure, s.faint_gate)
        return first | second

    def _take(self, found: np.ndarray, tracks: np.ndarray, boxes: np.ndarray,
              gate: float) -> np.ndarray:
        """Assign among the given tracks and boxes (masks); the boxes that continue a track."""
        taken = np.zeros(len(found), bool)
        i, j = np.nonzero(tracks)[0], np.nonzero(boxes)[0]
        if not (len(i) and len(j)):
            return taken
        pairs = assign(self._filter.worth(self._rows[i], found[j], gate), self._solve)
        i, j = i[pairs.tracks], j[pairs.boxes]
        rows = self._filter.corrected(self._rows[i], found[j])
        rows["hits"] += 1
        rows["misses"], rows["seen_ns"] = 0, self._stamp_ns
        rows["confirmed"] |= self._is_confirmed(rows, found[j]["score"])
        self._rows[i], taken[j] = rows, True
        return taken

    def _bury(self) -> None:
        """Let go of who was missed too often or for too long."""
        rows, s = self._rows, self.settings
        unseen = (self._stamp_ns - rows["seen_ns"]) * NS
        self._rows = rows[(unseen <= s.max_age_s)
                          & (rows["confirmed"] | (rows["misses"] < s.max_misses))]

    def _bear(self, found: np.ndarray) -> None:
        """New tracks of sure boxes that continue none, the best first while there is room."""
        sure = found[found["score"] >= self.settings.sure_score]
        born = self._filter.begun(sure[:max(self.settings.max_tracks - len(self._rows), 0)])
        if len(born) < len(sure):
            self.counts["no room"] += len(sure) - len(born)
        born["id"] = self._next_id + np.arange(len(born))
        self._next_id += len(born)
        born["confirmed"] = self._is_confirmed(born, born["score"])
        self._rows = np.concatenate([self._rows, born])

    def _is_confirmed(self, rows: np.ndarray, score: np.ndarray) -> np.ndarray:
        s = self.settings
        return (rows["hits"] >= s.confirm_hits) | (score >= s.instant_score)

    def _tracks(self, rows: np.ndarray, odom_from_base: SE3, stamp_ns: int,
                predicted: bool) -> Tracks:
        return tracks_of(rows[rows["confirmed"]], odom_from_base, stamp_ns, self.classes,
                         self.settings.fade_s, predicted)
