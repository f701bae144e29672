"""Outputs: what tracks are: settings, the table that the tracker keeps, and what it gives out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_bev.contracts import Boxes3D, check_array
from perception_bev.geometry import SE3, wrap_angle
from perception_bev.outputs.heading import FRONT_VOTE

NS = 1e-9  # [s]
UNKNOWN_MPS = 4.0  # a velocity that is vaguer than this (one sigma) is none: NaN
FAINT_SHARE = 0.5  # of the published score: fainter boxes do not even continue a track


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

    @staticmethod
    def of_published(score: float) -> TrackSettings:
        """Of a model whose boxes are published from `score` on."""
        return TrackSettings(sure_score=score, faint_score=FAINT_SHARE * score)


@dataclass(frozen=True, slots=True)
class Tracks:
    """Confirmed tracks in base_link at a stamp, by rising id. Row i of all arrays is track i."""

    stamp_ns: int
    boxes: Boxes3D  # velocity over ground [m/s], NaN while unknown; score fades while unseen
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


def row_type(classes: int) -> np.dtype:
    """One track, in odom. A detection has the same row; its velocity may be NaN."""
    return np.dtype([
        ("id", "i8"), ("mean", "f8", (4,)), ("cov", "f8", (4, 4)),  # as in kalman.py
        ("z", "f8"), ("size", "f8", (3,)), ("yaw", "f8"),
        ("front", "f8"),  # log-odds that yaw is not the other way round
        ("score", "f8"), ("label", "i8"), ("votes", "f8", (classes,)),
        ("hits", "i8"), ("misses", "i8"),  # misses: in a row
        ("born_ns", "i8"), ("seen_ns", "i8"), ("confirmed", "?")])


def rows_of(boxes: Boxes3D, odom_from_base: SE3, stamp_ns: int, with_velocity: bool) -> np.ndarray:
    """Boxes in base_link as rows, the best first: the same rows in whichever order they came."""
    order = np.lexsort((boxes.yaw, boxes.centre[:, 1], boxes.centre[:, 0], boxes.label,
                        -boxes.score))
    boxes = boxes[order]
    rows = np.zeros(len(boxes), row_type(len(boxes.classes)))
    centre = odom_from_base.apply(boxes.centre.astype(np.float64))
    rows["mean"][:, :2], rows["z"] = centre[:, :2], centre[:, 2]
    rows["mean"][:, 2:] = turned(boxes.velocity, odom_from_base.yaw) if with_velocity else np.nan
    rows["yaw"], rows["front"] = wrap_angle(boxes.yaw + odom_from_base.yaw), FRONT_VOTE
    rows["size"], rows["score"], rows["label"] = boxes.size, boxes.score, boxes.label
    rows["votes"][np.arange(len(boxes)), boxes.label] = boxes.score
    rows["hits"], rows["born_ns"], rows["seen_ns"] = 1, stamp_ns, stamp_ns
    return rows


def tracks_of(rows: np.ndarray, odom_from_base: SE3, stamp_ns: int, classes: tuple[str, ...],
              fade_s: float, predicted: bool) -> Tracks:
    """Rows as seen from the vehicle at `odom_from_base`."""
    unseen = np.maximum((stamp_ns - rows["seen_ns"]) * NS, 0.0)
    centre = np.column_stack([rows["mean"][:, :2], rows["z"]])
    vague = np.maximum(rows["cov"][:, 2, 2], rows["cov"][:, 3, 3]) > UNKNOWN_MPS**2
    velocity = np.where(vague[:, None], np.nan, turned(rows["mean"][:, 2:], -odom_from_base.yaw))
    boxes = Boxes3D(
        odom_from_base.inverse().apply(centre).astype(np.float32),
        rows["size"].astype(np.float32),
        wrap_angle(rows["yaw"] - odom_from_base.yaw).astype(np.float32),
        (rows["score"] * np.exp(-unseen / fade_s)).astype(np.float32),
        rows["label"].astype(np.int32), classes,
        velocity.astype(np.float32))
    return Tracks(stamp_ns, boxes, rows["id"].copy(), rows["hits"].copy(),
                  (stamp_ns - rows["born_ns"]) * NS, unseen, predicted)


def turned(xy: np.ndarray, yaw: float) -> np.ndarray:
    """(N, 2) turned by `yaw` [rad]."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return xy.astype(np.float64) @ np.array([[cos, sin], [-sin, cos]])
