"""Temporal: ego motion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev.geometry import SE3
from perception_bev.temporal.ego import (
    MAX_SAMPLES,
    MS,
    SECOND,
    EgoMotion,
    exp_se3,
    log_se3,
    pose_or_none,
)

T0 = 1_700_000_000 * SECOND
SPEED, YAW_RATE = 15.0, 0.5  # [m/s], [rad/s]: a tight bend
LINEAR, ANGULAR = np.array([SPEED, 0, 0]), np.array([0, 0, YAW_RATE])


def on_the_bend(ms: float) -> SE3:
    """Exact pose on a circle, heading along it."""
    angle, radius = YAW_RATE * ms / 1000, SPEED / YAW_RATE
    return SE3.from_rpy(np.array([radius * np.sin(angle), radius * (1 - np.cos(angle)), 0]),
                        np.array([0, 0, angle]))


def driven(period_ms=20, count=50, twist=True, **settings) -> EgoMotion:
    """Odometry every `period_ms` from T0."""
    ego = EgoMotion(**settings)
    for k in range(count):
        ms = k * period_ms
        ego.push(T0 + ms * MS, on_the_bend(ms), *((LINEAR, ANGULAR) if twist else ()))
    return ego


def error_m(pose: SE3, ms: float) -> float:
    return float(np.linalg.norm(pose.translation - on_the_bend(ms).translation))


class TestAt:
    def test_exact_at_a_sample(self):
        assert error_m(driven().at(T0 + 400 * MS), 400) < 1e-12

    @pytest.mark.parametrize("ms", [405, 410, 419])
    def test_interpolates(self, ms):
        pose = driven().at(T0 + ms * MS)
        assert error_m(pose, ms) < 1e-3
        assert abs(pose.yaw - on_the_bend(ms).yaw) < 1e-9

    @pytest.mark.parametrize("twist", [True, False])
    @pytest.mark.parametrize("ms", [990, 1030, 1080])
    def test_extrapolates_along_the_bend(self, ms, twist):
        pose = driven(twist=twist).at(T0 + ms * MS)
        assert error_m(pose, ms) < 1e-3, "by the twist; without one, by the last two poses"
        assert abs(pose.yaw - on_the_bend(ms).yaw) < 1e-6

    def test_extrapolates_at_most_so_far(self):
        ego = driven()
        assert ego.at(T0 + 1080 * MS) is not None
        assert ego.at(T0 + 1081 * MS) is None
        assert ego.at(T0 - 100 * MS) is not None and ego.at(T0 - 101 * MS) is None

    def test_inside_a_gap_nothing_is_further_from_a_sample_than_the_reach(self):
        ego = EgoMotion()
        for ms in (0, 20, 700, 720):
            ego.push(T0 + ms * MS, on_the_bend(ms), LINEAR, ANGULAR)
        assert ego.at(T0 + 120 * MS) is not None and ego.at(T0 + 600 * MS) is not None
        assert ego.at(T0 + 121 * MS) is None and ego.at(T0 + 599 * MS) is None

    def test_knows_nothing_before_the_first(self):
        assert EgoMotion().at(T0) is None and EgoMotion().twist_at(T0) is None

    def test_one_sample_without_a_twist_gives_its_own_time_only(self):
        ego = EgoMotion()
        ego.push(T0, on_the_bend(0))
        assert ego.at(T0) is not None
        assert ego.at(T0 + 1) is None and ego.twist_at(T0) is None

    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(st.floats(-90, 1070), st.sampled_from([5, 20, 50, 100]))
    def test_never_far_from_the_truth(self, ms, period_ms):
        ego = driven(period_ms, count=1000 // period_ms)
        pose = ego.at(T0 + round(ms * MS))
        if pose is not None:
            assert error_m(pose, ms) < 0.02
        else:
            assert ms > 1000 - period_ms + 99


class TestTwist:
    @pytest.mark.parametrize("ms", [0, 405, 980, 1080])
    def test_is_the_odometrys(self, ms):
        v, w = driven().twist_at(T0 + ms * MS)
        assert np.allclose(v, LINEAR) and np.allclose(w, ANGULAR)

    def test_interpolates(self):
        ego = EgoMotion()
        ego.push(T0, SE3.identity(), np.zeros(3), np.zeros(3))
        ego.push(T0 + 20 * MS, SE3.identity(), np.array([1.0, 0, 0]), np.array([0, 0, 0.2]))
        v, w = ego.twist_at(T0 + 5 * MS)
        assert np.allclose(v, [0.25, 0, 0]) and np.allclose(w, [0, 0, 0.05])

    def test_is_derived_from_the_poses_where_none_is_given(self):
        v, w = driven(twist=False).twist_at(T0 + 500 * MS)
        assert np.allclose(v, LINEAR, atol=1e-3) and np.allclose(w, ANGULAR, atol=1e-6)

    def test_out_of_reach(self):
        assert driven().twist_at(T0 + 1081 * MS) is None

    def test_a_twist_that_contradicts_the_pose_is_named(self):
        ego = EgoMotion()
        for k in range(40):
            ego.push(T0 + k * 20 * MS, on_the_bend(k * 20), np.zeros(3), np.zeros(3))
        assert "twist says 0.0 m/s, the pose moves at 15.0 m/s" in ego.fault()
        assert driven().fault() is None


class TestRefusals:
    def test_bad_poses_are_counted(self):
        ego = driven(count=3)
        for bad in (pose_or_none([np.nan, 0, 0], [0, 0, 0, 1]), pose_or_none([0, 0, 0], [0] * 4)):
            assert bad is None and not ego.push(T0 + 100 * MS, bad)
        assert ego.drops == {"bad_pose": 2} and len(ego) == 3

    @pytest.mark.parametrize("bad", [np.full(3, np.nan), np.array([np.inf, 0, 0]), np.zeros(2)])
    def test_a_bad_twist_is_counted_and_replaced(self, bad):
        ego = driven(count=3)
        assert ego.push(T0 + 60 * MS, on_the_bend(60), bad, ANGULAR)
        assert ego.drops == {"bad_twist": 1}
        assert np.allclose(ego.twist_at(T0 + 60 * MS)[0], LINEAR, atol=1e-2)

    def test_duplicates_and_small_steps_back_are_counted(self):
        ego = driven(count=3)
        assert not ego.push(T0 + 40 * MS, on_the_bend(40))
        assert not ego.push(T0 + 30 * MS, on_the_bend(30))
        assert ego.drops == {"duplicate": 1, "backward": 1} and len(ego) == 3

    def test_a_loop_begins_anew(self):
        ego = driven(count=200)
        assert ego.push(T0, on_the_bend(0), LINEAR, ANGULAR)
        assert len(ego) == 1 and ego.generation == 1 and ego.drops["rewound"] > 0
        assert ego.at(T0 + 3000 * MS) is None

    def test_a_reset_of_the_odometry_is_never_interpolated_across(self):
        ego = driven(count=200)
        away = SE3(np.eye(3), np.array([500.0, 0, 0]))
        assert ego.push(T0 + 4000 * MS, away, LINEAR, ANGULAR)
        assert len(ego) == 1 and ego.generation == 1 and ego.drops["jump"] > 0

    def test_driving_fast_after_a_gap_is_no_reset(self):
        ego = driven(count=3)
        ego.push(T0 + 2040 * MS, SE3(np.eye(3), np.array([90.0, 0, 0])), LINEAR, ANGULAR)
        assert ego.generation == 0

    def test_reset(self):
        ego = driven()
        ego.reset()
        assert len(ego) == 0 and ego.generation == 1 and ego.at(T0) is None


def test_history_is_bounded():
    ego = driven(period_ms=20, count=500)
    assert len(ego) == 3000 // 20 + 1
    flood = EgoMotion(history_s=3)
    for k in range(MAX_SAMPLES + 50):
        flood.push(T0 + k * 1000, SE3.identity(), LINEAR, ANGULAR)
    assert len(flood) == MAX_SAMPLES


def test_exponential_map_composes():
    """exp(a x) @ exp(b x) == exp((a + b) x), with and without rotation."""
    rng = np.random.default_rng(3)
    for scale in (1.0, 1e-9):
        v, w = rng.normal(size=3), scale * rng.normal(size=3)
        both = exp_se3(0.3 * v, 0.3 * w) @ exp_se3(0.7 * v, 0.7 * w)
        assert np.allclose(both.matrix, exp_se3(v, w).matrix, atol=1e-9)


@settings(max_examples=60)
@given(st.tuples(*[st.floats(-50, 50)] * 3), st.tuples(*[st.floats(-1, 1)] * 3),
       st.sampled_from([0.0, 1e-9, 1e-5, 1e-4, 1.01e-4, 1e-3, 0.1, 1.0, 1.8]))
def test_the_logarithm_inverts_the_exponential(v, w, scale):
    v, w = np.array(v), scale * np.array(w)  # angles below pi
    pose = exp_se3(v, w)
    assert np.allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-12)
    found = log_se3(pose)
    assert np.allclose(found.angular, w, atol=1e-9)
    assert np.allclose(found.linear, v, atol=1e-6)


class TestSnapshot:
    def test_says_what_the_motion_said(self):
        ego = driven()
        known = ego.snapshot()
        for ms in (405, 1030, 400):
            assert np.array_equal(known.at(T0 + ms * MS).matrix, ego.at(T0 + ms * MS).matrix)
            assert np.array_equal(known.twist_at(T0 + ms * MS), ego.twist_at(T0 + ms * MS))
        assert known.at(T0 + 5000 * MS) is None

    def test_what_is_pushed_later_does_not_change_it(self):
        ego = driven(count=200)
        known, before = ego.snapshot(), ego.at(T0 + 3990 * MS)
        ego.push(T0 + 4000 * MS, SE3(np.eye(3), np.array([500.0, 0, 0])), LINEAR, ANGULAR)
        assert ego.generation == 1 and ego.at(T0 + 3800 * MS) is None
        assert known.generation == 0
        assert np.array_equal(known.at(T0 + 3990 * MS).matrix, before.matrix)
        assert error_m(known.at(T0 + 3805 * MS), 3805) < 1e-3
        assert known.at(T0 + 4081 * MS) is None


@pytest.mark.parametrize("period_ms", [20, 100, 180])
def test_a_bend_stays_a_bend_at_any_rate_of_the_odometry(period_ms):
    ego = driven(period_ms, count=1 + 1000 // period_ms, twist=False)
    for ms in range(0, 900, 7):
        assert error_m(ego.at(T0 + ms * MS), ms) < 1e-9
