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

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from perception_bev.contracts import Boxes3D, check_array
from perception_bev.errors import ShapeMismatch
from perception_bev.geometry import SE3, wrap_angle
from perception_bev.outputs import heading, kalman
from perception_bev.outputs.assign import assign, solver
from perception_bev.outputs.motion_models import MotionTable

NS = 1e-9  # [s]
BRIDGE_NS = 500_000_000
VAGUE = 6.0  # a track costs at most so much for being vague
OTHER_CLASS = 3.0  # what it costs to be of another class of the same kind
VELOCITY_GATE = 16.0  # squared sigmas; a measured velocity further off is not believed
SIZE_GAIN, HEIGHT_GAIN, SCORE_GAIN = 0.15, 0.3, 0.3  # of a new measurement once a track is old
VOTE_KEPT = 0.9  # of the votes for a class, a detection later


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """What makes a track; the classes' own numbers are in motion_models.py."""

    sure_score: float = 0.2  # boxes from here on are assigned first and begin tracks
    faint_score: float = 0.1  # boxes from here on may continue a track
    instant_score: float = 0.6  # one box from here on is a track at once
    confirm_hits: int = 3  # else so many
    max_misses: int = 2  # in a row, of a track that is not confirmed
    max_age_s: float = 1.5  # a track that nobody saw for longer is gone
    faint_age_s: float = 0.5  # faint boxes continue tracks that were seen so lately
    gate: float = 11.8  # squared sigmas: 99.7 % of the right pairs are nearer
    faint_gate: float = 6.0  # the same for faint boxes
    fade_s: float = 1.0  # an unseen track's score falls to 37 % in this time
    max_tracks: int = 400


@dataclass(frozen=True, slots=True)
class Tracks:
    """Confirmed tracks in base_link at a stamp, by rising id. Row i of all arrays is track i."""

    stamp_ns: int
    boxes: Boxes3D  # velocity over ground [m/s]; score fades while a track is unseen
    id: np.ndarray  # (N,) int64, positive; never used again by the same tracker
    hits: np.ndarray  # (N,) int64: detections so far
    age_s: np.ndarray  # (N,) float64: since the first detection
    unseen_s: np.ndarray  # (N,) float64: since the last detection; 0: at this very stamp
    predicted: bool = False  # there were no detections at the stamp: all are carried on

    def __post_init__(self) -> None:
        n = len(self.boxes)
        for name, dtype in (("id", np.int64), ("hits", np.int64), ("age_s", np.float64),
                            ("unseen_s", np.float64)):
            check_array(f"Tracks.{name}", getattr(self, name), (n,), dtype)

    def __len__(self) -> int:
        return len(self.boxes)

    @staticmethod
    def empty(stamp_ns: int, classes: tuple[str, ...], predicted: bool = False) -> Tracks:
        none = np.zeros(0)
        return Tracks(stamp_ns, Boxes3D.empty(classes), none.astype(np.int64),
                      none.astype(np.int64), none, none, predicted)


class _Frame(NamedTuple):
    """Where stamps and poses mean the same; tracks do not outlive it."""

    epoch: int
    generation: int
    moving: bool  # False: no ego motion, base_link is taken for odom


class Tracker:
    """update() with the boxes of each output time in order, predict() in between.

    Attributes:
        counts: resets by reason, and what was left out.
    """

    def __init__(self, classes: tuple[str, ...], settings: TrackSettings | None = None) -> None:
        self.classes, self.settings = classes, settings or TrackSettings()
        self.counts: Counter[str] = Counter()
        self._motion, self._solve = MotionTable(classes), solver()
        self._row = _row_type(len(classes))
        self._rows = np.zeros(0, self._row)
        self._next_id = 1
        self._frame: _Frame | None = None
        self._stamp_ns = 0
        self._poses: list[tuple[int, SE3]] = []  # the last two that were known, oldest first

    def update(self, boxes: Boxes3D, odom_from_base: SE3 | None, t_ref_ns: int, epoch: int = 0,
               generation: int = 0) -> Tracks:
        """Tracks at `t_ref_ns` with its boxes taken in.

        Args:
            boxes: in base_link at t_ref, down to settings.faint_score; fainter ones are ignored.
                ShapeMismatch when their classes are not the tracker's.
            odom_from_base: at t_ref; None: no ego motion.
            epoch, generation: when one changes, stamps or poses before mean nothing any more.
        """
        if boxes.classes != self.classes:
            raise ShapeMismatch(f"boxes of the classes {boxes.classes}, tracker of {self.classes}")
        pose = self._enter(odom_from_base, t_ref_ns, epoch, generation)
        self._move(t_ref_ns)
        found = self._measured(boxes, pose)
        taken = self._associate(found)
        self._bury(taken)
        self._bear(found[~taken.boxes])
        return self._tracks(self._rows, pose, t_ref_ns, False)

    def predict(self, stamp_ns: int, odom_from_base: SE3 | None, generation: int | None = None
                ) -> Tracks:
        """The tracks carried on to a stamp, seen from the vehicle's pose then; nothing changes.

        Those unseen for longer than settings.max_age_s are left out; all, when the pose is of
        another `generation` than the tracks.
        """
        foreign = generation is not None and self._frame and generation != self._frame.generation
        if self._frame is None or foreign:
            return Tracks.empty(stamp_ns, self.classes, True)
        pose = self._pose(odom_from_base, stamp_ns) if self._frame.moving else SE3.identity()
        if pose is None:
            return Tracks.empty(stamp_ns, self.classes, True)
        rows = self._rows.copy()
        rows["mean"], rows["cov"] = self._moved(rows, stamp_ns)
        young = (stamp_ns - rows["seen_ns"]) * NS <= self.settings.max_age_s
        return self._tracks(rows[young], pose, stamp_ns, True)

    def reset(self, reason: str) -> None:
        """Forget all tracks; their numbers stay used."""
        self.counts[f"reset: {reason}"] += len(self._rows) > 0
        self._rows = np.zeros(0, self._row)
        self._poses.clear()

    def __len__(self) -> int:
        """Tracks, those not yet confirmed included."""
        return len(self._rows)

    # -- time and place ------------------------------------------------------------------------

    def _enter(self, odom_from_base: SE3 | None, t_ref_ns: int, epoch: int,
               generation: int) -> SE3:
        """The pose to use, after a reset where this time or place has nothing to do with before."""
        before = self._frame
        if before is not None and (epoch, generation) != before[:2]:
            self.reset("epoch" if epoch != before.epoch else "odometry began anew")
        elif before is not None and t_ref_ns < self._stamp_ns:
            self.reset("time ran back")
        pose = self._pose(odom_from_base, t_ref_ns)
        self._frame = _Frame(epoch, generation, pose is not None)
        if before is not None and self._frame.moving != before.moving:
            self.reset("ego motion came" if self._frame.moving else "ego motion was lost")
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
        self._rows["mean"], self._rows["cov"] = self._moved(self._rows, stamp_ns)
        self._stamp_ns = stamp_ns

    def _moved(self, rows: np.ndarray, stamp_ns: int) -> tuple[np.ndarray, np.ndarray]:
        seconds = (stamp_ns - self._stamp_ns) * NS
        return kalman.predict(rows["mean"], rows["cov"],
                              self._motion.agility[rows["label"]] ** 2, seconds)

    # -- one update, step by step --------------------------------------------------------------

    def _measured(self, boxes: Boxes3D, odom_from_base: SE3) -> np.ndarray:
        """Boxes as new rows in odom, the best first; their order does not depend on the input's."""
        boxes = boxes[_usable(boxes, self.settings.faint_score)]
        order = np.lexsort((boxes.yaw, boxes.centre[:, 1], boxes.centre[:, 0], boxes.label,
                            -boxes.score))
        boxes = boxes[order]
        rows = np.zeros(len(boxes), self._row)
        centre = odom_from_base.apply(boxes.centre.astype(np.float64))
        rows["mean"][:, :2], rows["z"] = centre[:, :2], centre[:, 2]
        rows["mean"][:, 2:] = np.nan
        if self._frame.moving:
            rows["mean"][:, 2:] = _turned(boxes.velocity, odom_from_base.yaw)
        rows["yaw"] = wrap_angle(boxes.yaw + odom_from_base.yaw)
        rows["front"] = heading.FRONT_VOTE
        rows["size"], rows["score"], rows["label"] = boxes.size, boxes.score, boxes.label
        rows["votes"][np.arange(len(boxes)), boxes.label] = boxes.score
        rows["hits"], rows["born_ns"], rows["seen_ns"] = 1, self._stamp_ns, self._stamp_ns
        return rows

    def _associate(self, found: np.ndarray) -> _Taken:
        """Take in what continues a track: the sure ones first, then the faint ones."""
        s = self.settings
        taken = _Taken(np.zeros(len(self._rows), bool), np.zeros(len(found), bool))
        sure = found["score"] >= s.sure_score
        self._take(found, taken, np.ones(len(self._rows), bool), sure, s.gate)
        lately = (self._stamp_ns - self._rows["seen_ns"]) * NS <= s.faint_age_s
        self._take(found, taken, self._rows["confirmed"] & lately, ~sure, s.faint_gate)
        return taken

    def _take(self, found: np.ndarray, taken: _Taken, tracks: np.ndarray, boxes: np.ndarray,
              gate: float) -> None:
        """Assign among the given tracks and boxes (masks) that are still free."""
        i, j = np.nonzero(tracks & ~taken.tracks)[0], np.nonzero(boxes & ~taken.boxes)[0]
        pairs = assign(self._worth(self._rows[i], found[j], gate), self._solve)
        i, j = i[pairs.tracks], j[pairs.boxes]
        taken.tracks[i], taken.boxes[j] = True, True
        self._rows[i] = self._corrected(self._rows[i], found[j])

    def _worth(self, rows: np.ndarray, found: np.ndarray, gate: float) -> np.ndarray:
        """(N, M): positive within the gate; the more, the nearer and the less vague."""
        noise = self._position_noise(found)
        near, vague = kalman.distances(rows["mean"], rows["cov"], found["mean"][:, :2], noise)
        vague = np.clip(vague - np.log(np.linalg.det(noise))[None], 0.0, VAGUE)
        other = rows["label"][:, None] != found["label"][None]
        kind = self._motion.kind
        fits = (near < gate) & (kind[rows["label"]][:, None] == kind[found["label"]][None])
        return np.where(fits, gate + VAGUE + OTHER_CLASS + 1e-3 - near - vague
                        - OTHER_CLASS * other, 0.0)

    def _corrected(self, rows: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Tracks with one detection each taken in."""
        out = rows.copy()
        out["mean"], out["cov"] = kalman.update(
            rows["mean"], rows["cov"], kalman.POSITION, found["mean"][:, :2],
            self._position_noise(found))
        self._correct_velocity(out, found["mean"][:, 2:])
        out["yaw"], out["front"] = heading.smoothed(rows["yaw"], rows["front"], found["yaw"],
                                                    rows["hits"])
        variance = out["cov"][:, 2, 2] + out["cov"][:, 3, 3]
        out["yaw"], out["front"] = heading.with_motion(out["yaw"], out["front"],
                                                       out["mean"][:, 2:], variance < 1.0)
        for name, gain in (("size", SIZE_GAIN), ("z", HEIGHT_GAIN), ("score", SCORE_GAIN)):
            share = np.maximum(1.0 / (rows["hits"] + 1.0), gain)
            out[name] += (share * (found[name] - rows[name]).T).T
        out["votes"] = VOTE_KEPT * rows["votes"] + found["votes"]
        out["label"] = out["votes"].argmax(axis=1)
        out["hits"] += 1
        out["misses"], out["seen_ns"] = 0, found["seen_ns"]
        out["confirmed"] |= (out["hits"] >= self.settings.confirm_hits) | self._instant(found)
        return out

    def _correct_velocity(self, rows: np.ndarray, velocity: np.ndarray) -> None:
        """In place, with the velocities that are known and not absurd."""
        noise = _isotropic(self._motion.velocity[rows["label"]])
        known = np.nonzero(np.isfinite(velocity).all(axis=1))[0]
        far = kalman.squared_distance(rows["mean"][known], rows["cov"][known], kalman.VELOCITY,
                                      velocity[known], noise[known])
        self.counts["velocity not believed"] += int((far > VELOCITY_GATE).sum())
        good = known[far <= VELOCITY_GATE]
        rows["mean"][good], rows["cov"][good] = kalman.update(
            rows["mean"][good], rows["cov"][good], kalman.VELOCITY, velocity[good], noise[good])

    def _bury(self, taken: _Taken) -> None:
        """Count misses, and let go of who was missed too often or for too long."""
        rows, s = self._rows, self.settings
        rows["misses"] += ~taken.tracks
        unseen = (self._stamp_ns - rows["seen_ns"]) * NS
        lives = np.where(rows["confirmed"], unseen <= s.max_age_s, rows["misses"] < s.max_misses)
        self._rows = rows[lives]

    def _bear(self, found: np.ndarray) -> None:
        """New tracks of sure boxes that continue none, the best first while there is room."""
        born = found[found["score"] >= self.settings.sure_score]
        room = max(self.settings.max_tracks - len(self._rows), 0)
        self.counts["no room"] += max(len(born) - room, 0)
        born = born[:room]
        born["id"] = self._next_id + np.arange(len(born))
        self._next_id += len(born)
        born["confirmed"] = self._instant(born) | (self.settings.confirm_hits <= 1)
        born["cov"][:, :2, :2] = self._position_noise(born)
        born["cov"][:, 2:, 2:] = self._first_velocity(born)
        self._rows = np.concatenate([self._rows, born])

    def _first_velocity(self, born: np.ndarray) -> np.ndarray:
        """(N, 2, 2) covariance; where nothing is measured the mean becomes 0, and what a road user
        may do along its heading is much more than across it."""
        label, measured = born["label"], np.isfinite(born["mean"]).all(axis=1)
        born["mean"][~measured, 2:] = 0.0
        guess = kalman.oriented(born["yaw"], self._motion.along[label], self._motion.across[label])
        return np.where(measured[:, None, None], _isotropic(self._motion.velocity[label]), guess)

    def _instant(self, rows: np.ndarray) -> np.ndarray:
        return rows["score"] >= self.settings.instant_score

    def _position_noise(self, rows: np.ndarray) -> np.ndarray:
        return _isotropic(self._motion.position[rows["label"]])

    # -- out -----------------------------------------------------------------------------------

    def _tracks(self, rows: np.ndarray, odom_from_base: SE3, stamp_ns: int,
                predicted: bool) -> Tracks:
        rows = rows[rows["confirmed"]]
        unseen = np.maximum((stamp_ns - rows["seen_ns"]) * NS, 0.0)
        centre = np.column_stack([rows["mean"][:, :2], rows["z"]])
        boxes = Boxes3D(
            odom_from_base.inverse().apply(centre).astype(np.float32),
            rows["size"].astype(np.float32),
            wrap_angle(rows["yaw"] - odom_from_base.yaw).astype(np.float32),
            (rows["score"] * np.exp(-unseen / self.settings.fade_s)).astype(np.float32),
            rows["label"].astype(np.int32), self.classes,
            _turned(rows["mean"][:, 2:], -odom_from_base.yaw).astype(np.float32))
        return Tracks(stamp_ns, boxes, rows["id"].copy(), rows["hits"].copy(),
                      (stamp_ns - rows["born_ns"]) * NS, unseen, predicted)


class _Taken(NamedTuple):
    """What belongs together already; masks."""

    tracks: np.ndarray  # (N,) bool
    boxes: np.ndarray  # (M,) bool


def _row_type(classes: int) -> np.dtype:
    """One track, in odom; a detection has the same row."""
    return np.dtype([
        ("id", "i8"), ("mean", "f8", (4,)), ("cov", "f8", (4, 4)), ("z", "f8"),
        ("size", "f8", (3,)), ("yaw", "f8"), ("front", "f8"), ("score", "f8"), ("label", "i8"),
        ("votes", "f8", (classes,)), ("hits", "i8"), ("misses", "i8"), ("born_ns", "i8"),
        ("seen_ns", "i8"), ("confirmed", "?")])


def _usable(boxes: Boxes3D, score: float) -> np.ndarray:
    """(N,) bool: bright enough, and finite."""
    finite = np.isfinite(np.column_stack([boxes.centre, boxes.size, boxes.yaw])).all(axis=1)
    return finite & (boxes.score >= score)


def _turned(xy: np.ndarray, yaw: float) -> np.ndarray:
    """(N, 2) turned by `yaw` [rad]."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return xy.astype(np.float64) @ np.array([[cos, sin], [-sin, cos]])


def _isotropic(sigma: np.ndarray) -> np.ndarray:
    """(N,) deviations -> (N, 2, 2) covariances."""
    return (sigma**2)[:, None, None] * np.eye(2)
