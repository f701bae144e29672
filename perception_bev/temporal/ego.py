"""Temporal: ego motion. Odometry samples in, the pose at any recent time out."""

from __future__ import annotations

import copy
import math
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from perception_bev.errors import PerceptionError
from perception_bev.geometry import SE3, rotvec_from_rotation, skew

MS = 1_000_000  # [ns]
SECOND = 1_000_000_000  # [ns]
MAX_SAMPLES = 4096
REWIND_NS = SECOND  # stamps that go back further are a loop or a jump, not disorder
MAX_SPEED = 100.0  # [m/s]; a faster pose is a reset of the odometry
MAX_STEP = 1.0  # [m] allowed on top, for noise between samples that are close in time
COMPARE_NS = 100 * MS  # between two comparisons of twist and pose
SMALL_ANGLE = 1e-4  # [rad]; below it the closed forms lose digits, their limits do not
KEPT_STEPS = 64  # motions between samples that are kept; a frame needs those of its sweep
EYE = np.eye(3)
TWIST_TOLERANCE = 1.0  # [m/s] between the twist and the pose's own motion, plus a third of it


@dataclass(frozen=True, slots=True)
class Twist:
    """Velocity of base_link in base_link."""

    linear: np.ndarray  # (3,) float64 [m/s]
    angular: np.ndarray  # (3,) float64 [rad/s]

    def motion(self, seconds: float) -> SE3:
        """start_from_end after moving with this constant twist (exponential map of SE(3))."""
        return exp_se3(self.linear * seconds, self.angular * seconds)


@dataclass(frozen=True, slots=True)
class KnownMotion:
    """Ego motion as it was known at one time, for reading. Each stamp is worked out once."""

    ego: EgoMotion
    generation: int
    _poses: dict[int, SE3 | None] = field(default_factory=dict)  # by stamp

    def at(self, stamp_ns: int) -> SE3 | None:
        """As `EgoMotion.at`."""
        if stamp_ns not in self._poses:
            self._poses[stamp_ns] = self.ego.at(stamp_ns)
        return self._poses[stamp_ns]

    def twist_at(self, stamp_ns: int) -> tuple[np.ndarray, np.ndarray] | None:
        """As `EgoMotion.twist_at`."""
        return self.ego.twist_at(stamp_ns)


def exp_se3(v: np.ndarray, w: np.ndarray) -> SE3:
    """Exponential map: translation part v (3,) [m] and rotation vector w (3,) [rad] -> SE3.

    Closed form with the left Jacobian of SO(3) (Barfoot, State Estimation for Robotics, 7.1).
    """
    angle = math.sqrt(float(w @ w))
    if angle < SMALL_ANGLE:
        sine, cosine, third = 1.0, 0.5, 1 / 6
    else:
        sine, cosine = math.sin(angle) / angle, (1 - math.cos(angle)) / angle**2
        third = (1 - sine) / angle**2
    k = skew(w)
    kk = k @ k
    return SE3.unchecked(EYE + sine * k + cosine * kk, (EYE + cosine * k + third * kk) @ v)


def log_se3(pose: SE3) -> Twist:
    """Inverse of `exp_se3`: the constant twist that makes the pose in one second."""
    w = rotvec_from_rotation(pose.rotation)
    angle = math.sqrt(float(w @ w))
    second = 1 / 12 if angle < SMALL_ANGLE else (
        (1 - 0.5 * angle / math.tan(0.5 * angle)) / angle**2)
    k = skew(w)
    return Twist((EYE - 0.5 * k + second * (k @ k)) @ pose.translation, w)


def pose_or_none(translation: np.ndarray, xyzw: np.ndarray) -> SE3 | None:
    """A pose from a message; None when it is not one (NaN, zero quaternion). `push` counts it."""
    try:
        return SE3.from_quaternion(translation, xyzw)
    except PerceptionError:
        return None


class EgoMotion:
    """The last seconds of odometry: odom_from_base at a time, or None where nobody knows.

    Between samples the pose is interpolated with the constant twist from one to the next, so that
    a bend stays a bend at any rate of the odometry; beyond them it is carried on by the nearest
    sample's twist. No answer is further than `max_extrapolation_ms` from a sample, also inside a
    gap. `generation` changes when poses before and after have nothing to do with each other
    (a loop, a reset of the odometry): what was remembered in `odom` is then worthless.
    """

    def __init__(self, max_extrapolation_ms: float = 100, history_s: float = 3) -> None:
        self._reach_ns = round(max_extrapolation_ms * MS)
        self._history_ns = round(history_s * SECOND)
        self.drops: Counter[str] = Counter()
        self.generation = 0
        self._clear()

    def push(self, stamp_ns: int, odom_from_base: SE3 | None, linear: np.ndarray | None = None,
             angular: np.ndarray | None = None) -> bool:
        """Take one sample; False when it was refused (and counted in `drops`).

        linear (3,) [m/s] and angular (3,) [rad/s] in base; without them, or where they are not
        finite, the twist is the motion from the sample before.
        """
        if odom_from_base is None:
            return self._refuse("bad_pose")
        if not self._in_order(stamp_ns):
            return False
        if self._jumped(stamp_ns, odom_from_base):
            self.drops["jump"] += len(self._stamps)
            self.reset()
        twist = self._checked_twist(linear, angular)
        if twist is None and self._stamps:
            twist = self._mean_twist(self._stamps[-1], self._poses[-1], stamp_ns, odom_from_base)
        elif twist is not None:
            self._compare(twist, stamp_ns, odom_from_base)
        self._stamps.append(stamp_ns)
        self._poses.append(odom_from_base)
        self._twists.append(twist)
        self._trim()
        return True

    def at(self, stamp_ns: int) -> SE3 | None:
        """odom_from_base at a stamp; None further than the reach from every sample."""
        i = bisect_left(self._stamps, stamp_ns)
        near = self._nearest(i, stamp_ns)
        if near is None:
            return None
        if self._stamps[near] == stamp_ns:
            return self._poses[near]
        if 0 < i < len(self._stamps):
            return self._poses[i - 1] @ self._step(i).motion(self._fraction(i, stamp_ns))
        if self._twists[near] is None:
            return None
        seconds = (stamp_ns - self._stamps[near]) / SECOND
        return self._poses[near] @ self._twists[near].motion(seconds)

    def twist_at(self, stamp_ns: int) -> tuple[np.ndarray, np.ndarray] | None:
        """(linear (3,) [m/s], angular (3,) [rad/s]) of base in base; None as for `at`."""
        i = bisect_left(self._stamps, stamp_ns)
        near = self._nearest(i, stamp_ns)
        if near is None:
            return None
        nearest = self._twists[near]
        if nearest is None or not 0 < i < len(self._stamps) or self._twists[i - 1] is None:
            return None if nearest is None else (nearest.linear, nearest.angular)
        before, after, f = self._twists[i - 1], self._twists[i], self._fraction(i, stamp_ns)
        return (before.linear + f * (after.linear - before.linear),
                before.angular + f * (after.angular - before.angular))

    def snapshot(self) -> KnownMotion:
        """The motion as it is known now: what is pushed later does not change it."""
        still = copy.copy(self)
        still._stamps, still._poses, still._twists = (
            self._stamps[:], self._poses[:], self._twists[:])
        return KnownMotion(still, self.generation)

    def reset(self) -> None:
        """Forget all samples: in a new epoch, or when the odometry began anew."""
        self.generation += 1
        self._clear()

    def fault(self) -> str | None:
        """What is wrong with this odometry, in words; None: nothing."""
        if self._disagreement < 5:
            return None
        said, moved = self._speeds
        return (f"odometry: the twist says {said:.1f} m/s, the pose moves at {moved:.1f} m/s; "
                "the twist must be the velocity of child_frame_id in child_frame_id")

    def __len__(self) -> int:
        return len(self._stamps)

    def _step(self, i: int) -> Twist:
        """The motion from sample i - 1 to sample i. A frame asks for the same few many times."""
        between = self._stamps[i - 1], self._stamps[i]
        step = self._steps.get(between)
        if step is None:
            if len(self._steps) >= KEPT_STEPS:
                self._steps.clear()
            step = log_se3(self._poses[i - 1].inverse() @ self._poses[i])
            self._steps[between] = step
        return step

    def _clear(self) -> None:
        self._steps: dict[tuple[int, int], Twist] = {}  # by the stamps of two samples
        self._stamps: list[int] = []
        self._poses: list[SE3] = []
        self._twists: list[Twist | None] = []
        self._compared: tuple[int, SE3] | None = None  # the sample of the last comparison
        self._disagreement = 0  # comparisons in a row in which the twist contradicted the pose
        self._speeds = (0.0, 0.0)

    def _refuse(self, reason: str) -> bool:
        self.drops[reason] += 1
        return False

    def _in_order(self, stamp_ns: int) -> bool:
        if not self._stamps or stamp_ns > self._stamps[-1]:
            return True
        if self._stamps[-1] - stamp_ns > REWIND_NS:
            self.drops["rewound"] += len(self._stamps)
            self.reset()
            return True
        return self._refuse("duplicate" if stamp_ns == self._stamps[-1] else "backward")

    def _jumped(self, stamp_ns: int, pose: SE3) -> bool:
        if not self._stamps:
            return False
        seconds = (stamp_ns - self._stamps[-1]) / SECOND
        step = float(np.linalg.norm(pose.translation - self._poses[-1].translation))
        return step > MAX_STEP + MAX_SPEED * seconds

    def _mean_twist(self, from_ns: int, start: SE3, to_ns: int, end: SE3) -> Twist | None:
        """Mean motion between two poses; None when they are too far apart to say."""
        if to_ns - from_ns > 2 * self._reach_ns:
            return None
        seconds = (to_ns - from_ns) / SECOND
        moved = log_se3(start.inverse() @ end)
        return Twist(moved.linear / seconds, moved.angular / seconds)

    def _checked_twist(self, linear: np.ndarray | None,
                       angular: np.ndarray | None) -> Twist | None:
        if linear is None or angular is None:
            return None
        v, w = np.asarray(linear, dtype=np.float64), np.asarray(angular, dtype=np.float64)
        if v.shape == (3,) and w.shape == (3,) and np.isfinite(v).all() and np.isfinite(w).all():
            return Twist(v, w)
        self.drops["bad_twist"] += 1
        return None

    def _compare(self, given: Twist, stamp_ns: int, pose: SE3) -> None:
        """Now and then, the twist against how the pose has moved since."""
        if self._compared is None or not 0 <= stamp_ns - self._compared[0] < COMPARE_NS:
            since, self._compared = self._compared, (stamp_ns, pose)
            moved = None if since is None else self._mean_twist(*since, stamp_ns, pose)
            if moved is not None:
                self._judge(given.linear, moved.linear)

    def _judge(self, said: np.ndarray, moved: np.ndarray) -> None:
        speeds = float(np.linalg.norm(said)), float(np.linalg.norm(moved))
        wrong = np.linalg.norm(said - moved) > TWIST_TOLERANCE + max(speeds) / 3
        self._disagreement = self._disagreement + 1 if wrong else 0
        self._speeds = speeds

    def _trim(self) -> None:
        keep = bisect_left(self._stamps, self._stamps[-1] - self._history_ns)
        keep = max(keep, len(self._stamps) - MAX_SAMPLES)
        if keep > 0:
            del self._stamps[:keep], self._poses[:keep], self._twists[:keep]

    def _nearest(self, i: int, stamp_ns: int) -> int | None:
        """Index of the sample nearest to a stamp that sorts in at i; None out of reach."""
        near = min((j for j in (i - 1, i) if 0 <= j < len(self._stamps)),
                   key=lambda j: abs(self._stamps[j] - stamp_ns), default=None)
        if near is None or abs(self._stamps[near] - stamp_ns) > self._reach_ns:
            return None
        return near

    def _fraction(self, i: int, stamp_ns: int) -> float:
        before, after = self._stamps[i - 1], self._stamps[i]
        return (stamp_ns - before) / (after - before)
