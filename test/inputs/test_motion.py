"""Laws of motion compensation: what stands still in the world stands still at t_ref."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import T_REF, ConstantTwist

from perception_bev.contracts import LidarSweep
from perception_bev.errors import ShapeMismatch
from perception_bev.geometry import SE3
from perception_bev.inputs.motion import NoEgo, now_from_then, sweep_in_base

MS = 1_000_000
PLACE = SE3.from_rpy(np.array([0.2, -0.1, 1.8]), np.array([0.02, -0.03, 0.4]))
twists = st.builds(ConstantTwist,
                   linear=st.tuples(st.floats(-10, 40), st.floats(-2, 2), st.floats(-0.5, 0.5)),
                   angular=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(-1, 1)))


def wall(n: int = 300) -> np.ndarray:
    """A plane x = 20 m in odom, which is base_link at T_REF."""
    rng = np.random.default_rng(0)
    return np.column_stack([np.full(n, 20.0), rng.uniform(-15, 15, n), rng.uniform(0, 3, n)])


def seen_by(ego: ConstantTwist, world: np.ndarray, stamp_ns: int) -> LidarSweep:
    """A sweep of 100 ms that ends at the stamp: each point from where the lidar then was."""
    offsets = np.linspace(-0.1, 0.0, len(world)).astype(np.float32)
    points = [(ego.at(stamp_ns + int(offset * 1e9)) @ PLACE).inverse().apply(point[None])[0]
              for offset, point in zip(offsets, world, strict=True)]
    intensity = np.arange(len(world))[:, None]
    return LidarSweep(stamp_ns, np.hstack([points, intensity]).astype(np.float32), offsets)


def deskewed(sweep: LidarSweep, ego) -> np.ndarray:
    return sweep_in_base(sweep, PLACE, ego, T_REF, np.empty((len(sweep.points), 4), np.float32))


@settings(max_examples=25)
@given(ego=twists, late_ms=st.integers(-40, 60))
def test_a_static_wall_is_flat_and_in_its_place_under_any_motion(ego, late_ms):
    sweep = seen_by(ego, wall(), T_REF - late_ms * MS)
    found = deskewed(sweep, ego)
    # chords of 12 ms: the sagitta at 25 m and 1 rad/s is below a millimetre
    assert np.abs(found[:, :3] - wall()).max() < 5e-3
    assert (found[:, 3] == sweep.points[:, 3]).all()


def test_without_compensation_the_same_wall_is_bent():
    """The law above can fail."""
    ego = ConstantTwist((15.0, 0, 0), (0, 0, 0.5))
    found = deskewed(seen_by(ego, wall(), T_REF), NoEgo())
    assert np.ptp(found[:, 0]) > 1.0


def test_without_point_times_the_whole_sweep_is_moved_from_its_stamp():
    ego = ConstantTwist((10.0, 0, 0))
    points = PLACE.inverse().apply(wall()).astype(np.float32)
    sweep = LidarSweep(T_REF - 100 * MS, np.pad(points, ((0, 0), (0, 1))))
    assert np.allclose(deskewed(sweep, ego)[:, :3], wall() - [1.0, 0, 0], atol=1e-4)


def test_without_ego_motion_only_the_place_of_the_lidar_counts():
    sweep = seen_by(ConstantTwist(), wall(), T_REF)
    assert np.allclose(deskewed(sweep, NoEgo())[:, :3], wall(), atol=1e-4)


def test_points_that_all_have_one_time_are_fine():
    ego = ConstantTwist((10.0, 0, 0))
    points = np.pad(PLACE.inverse().apply(wall()).astype(np.float32), ((0, 0), (0, 1)))
    sweep = LidarSweep(T_REF, points, np.full(len(points), -0.05, np.float32))
    assert np.allclose(deskewed(sweep, ego)[:, :3], wall() - [0.5, 0, 0], atol=1e-3)


def test_an_empty_sweep_gives_no_points():
    for offsets in (None, np.zeros(0, np.float32)):
        sweep = LidarSweep(T_REF, np.zeros((0, 4), np.float32), offsets)
        assert deskewed(sweep, ConstantTwist((10.0, 0, 0))).shape == (0, 4)


def test_only_the_first_rows_of_the_buffer_are_written():
    sweep = seen_by(ConstantTwist(), wall(10), T_REF)
    buffer = np.full((20, 4), -7.0, np.float32)
    made = sweep_in_base(sweep, PLACE, NoEgo(), T_REF, buffer)
    assert np.shares_memory(made, buffer)
    assert len(made) == 10
    assert (buffer[10:] == -7.0).all()


def test_a_buffer_that_is_too_small_is_refused_not_overrun():
    sweep = seen_by(ConstantTwist(), wall(10), T_REF)
    with pytest.raises(ShapeMismatch, match="10"):
        sweep_in_base(sweep, PLACE, NoEgo(), T_REF, np.empty((9, 4), np.float32))


@given(ego=twists, a=st.integers(-200, 200), b=st.integers(-200, 200), c=st.integers(-200, 200))
def test_motions_chain_and_invert(ego, a, b, c):
    a, b, c = (T_REF + t * MS for t in (a, b, c))
    ab, bc, ac = (now_from_then(ego, *pair) for pair in ((a, b), (b, c), (a, c)))
    assert np.allclose((ab @ bc).matrix, ac.matrix, atol=1e-9)
    assert np.allclose(now_from_then(ego, b, a).matrix, ab.inverse().matrix, atol=1e-9)


def test_unknown_motion_at_either_end_is_none():
    class Young(ConstantTwist):
        def at(self, stamp_ns):
            return None if stamp_ns < T_REF else ConstantTwist.at(self, stamp_ns)

    ego = Young((10.0, 0, 0))
    for pair in ((T_REF, T_REF - 1), (T_REF - 1, T_REF)):
        assert np.allclose(now_from_then(ego, *pair).matrix, np.eye(4))


def test_motion_that_is_known_for_half_a_sweep_only_is_not_used_for_that_half_alone():
    """Odometry that began in mid-sweep: a wall must not be torn in two."""
    class Young(ConstantTwist):
        def at(self, stamp_ns):
            return None if stamp_ns < T_REF - 50 * MS else ConstantTwist.at(self, stamp_ns)

    moving = ConstantTwist((20.0, 0, 0))
    found = deskewed(seen_by(moving, wall(), T_REF), Young((20.0, 0, 0)))
    steps = np.abs(np.diff(found[:, 0]))
    assert steps.max() < 0.1
