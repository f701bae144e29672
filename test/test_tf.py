"""The transform tree: laws of composition and time, and what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from perception_bev.geometry import SE3
from perception_bev.tf import TransformTree

SECOND = 1_000_000_000


def pose(x=0.0, y=0.0, z=0.0, yaw=0.0) -> SE3:
    return SE3.from_rpy((x, y, z), (0.0, 0.0, yaw))


def random_pose(rng: np.random.Generator) -> SE3:
    return SE3.from_rpy(rng.uniform(-5, 5, 3), rng.uniform(-3, 3, 3))


def assert_same(a: SE3, b: SE3) -> None:
    np.testing.assert_allclose(a.matrix, b.matrix, atol=1e-9)


@pytest.fixture
def tree() -> TransformTree:
    """odom -(moving)-> base_link -> roof -> {lidar, camera}; map stands alone."""
    rng = np.random.default_rng(1)
    tree = TransformTree()
    tree.set("base_link", "roof", random_pose(rng), 0, static=True)
    tree.set("roof", "lidar", random_pose(rng), 0, static=True)
    tree.set("roof", "camera", random_pose(rng), 0, static=True)
    tree.set("odom", "base_link", pose(0.0), 1 * SECOND, static=False)
    tree.set("odom", "base_link", pose(10.0, yaw=1.0), 2 * SECOND, static=False)
    return tree


def test_lookup_composes_over_the_common_ancestor(tree):
    camera_from_lidar = tree.lookup("camera", "lidar")
    assert_same(camera_from_lidar, tree.lookup("camera", "base_link")
                @ tree.lookup("base_link", "lidar"))


def test_lookup_of_swapped_frames_is_the_inverse(tree):
    assert_same(tree.lookup("camera", "odom", SECOND).inverse(),
                tree.lookup("odom", "camera", SECOND))


def test_lookup_of_one_frame_is_identity_and_of_unknown_ones_none(tree):
    assert_same(tree.lookup("roof", "roof"), SE3.identity())
    assert_same(tree.lookup("odom", "odom"), SE3.identity())
    assert tree.lookup("nowhere", "nowhere") is None
    assert tree.lookup("base_link", "nowhere") is None


def test_unconnected_trees_have_no_transform(tree):
    tree.set("map", "beacon", pose(1.0), 0, static=True)
    assert tree.lookup("base_link", "beacon") is None


def test_dynamic_edge_interpolates(tree):
    middle = tree.lookup("odom", "base_link", int(1.5 * SECOND))
    assert middle.translation[0] == pytest.approx(5.0)
    assert middle.yaw == pytest.approx(0.5)


@pytest.mark.parametrize("stamp", [SECOND - 1, 2 * SECOND + 1])
def test_dynamic_edge_never_extrapolates(tree, stamp):
    assert tree.lookup("odom", "lidar", stamp) is None
    assert tree.lookup("base_link", "lidar", stamp) is not None, "static holds for all time"


def test_without_stamp_the_newest_common_time_counts(tree):
    tree.set("base_link", "gimbal", pose(yaw=0.0), 1 * SECOND, static=False)
    tree.set("base_link", "gimbal", pose(yaw=0.5), int(1.5 * SECOND), static=False)
    assert tree.lookup("odom", "gimbal").yaw == pytest.approx(0.5 + 0.5)
    assert tree.lookup("odom", "base_link").translation[0] == pytest.approx(10.0)


def test_samples_out_of_order_are_sorted_in():
    tree = TransformTree()
    for second in (3, 1, 2):
        tree.set("a", "b", pose(float(second)), second * SECOND, static=False)
    assert tree.lookup("a", "b", int(1.5 * SECOND)).translation[0] == pytest.approx(1.5)


def test_equal_stamp_replaces_and_is_counted():
    tree = TransformTree()
    tree.set("a", "b", pose(1.0), SECOND, static=False)
    tree.set("a", "b", pose(2.0), SECOND, static=False)
    assert tree.lookup("a", "b", SECOND).translation[0] == 2.0
    assert tree.counts["repeated"] == 1


@pytest.mark.parametrize("parent, child, reason", [
    ("lidar", "lidar", "self"), ("", "lidar", "unnamed"), ("lidar", "/", "unnamed"),
    ("lidar", "base_link", "cycle"), ("camera", "odom", "cycle")])
def test_refusals_are_counted_and_change_nothing(tree, parent, child, reason):
    before = tree.frames()
    assert not tree.set(parent, child, pose(), 0, static=True)
    assert tree.counts == {reason: 1}
    assert tree.frames() == before


def test_reparenting_moves_the_frame_and_is_counted(tree):
    assert tree.set("base_link", "camera", pose(1.0), 0, static=True)
    assert_same(tree.lookup("base_link", "camera"), pose(1.0))
    assert tree.counts["reparented"] == 1


def test_a_static_frame_that_starts_to_move_is_counted(tree):
    tree.set("roof", "lidar", pose(1.0), 5 * SECOND, static=False)
    assert tree.counts["kind_changed"] == 1
    assert not tree.is_static("base_link", "lidar")
    assert tree.is_static("base_link", "camera")


def test_history_is_bounded_in_time_and_in_number():
    tree = TransformTree(history_ns=2 * SECOND, max_samples=5)
    for i in range(100):
        tree.set("a", "b", pose(float(i)), i * SECOND // 10, static=False)
    assert tree.lookup("a", "b", int(9.5 * SECOND)) is not None
    assert tree.lookup("a", "b", int(9.4 * SECOND)) is None
    assert tree.counts["overflow"] == 95
    assert not tree.set("a", "b", pose(), int(7.0 * SECOND), static=False)
    assert tree.counts["old"] == 1


def test_forget_motion_keeps_what_is_static(tree):
    tree.forget_motion()
    assert tree.lookup("odom", "base_link") is None
    assert tree.lookup("base_link", "lidar") is not None
    assert tree.set("odom", "base_link", pose(), 0, static=False), "an earlier clock is welcome"


def stamped(parent, child, rotation=(0.0, 0.0, 0.0, 1.0)):
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=parent, stamp=SimpleNamespace(sec=1, nanosec=5)),
        child_frame_id=child,
        transform=SimpleNamespace(
            translation=SimpleNamespace(x=1.0, y=2.0, z=3.0),
            rotation=SimpleNamespace(**dict(zip("xyzw", rotation, strict=True)))))


def test_messages_are_read_and_a_bad_rotation_is_counted():
    tree = TransformTree()
    message = SimpleNamespace(transforms=[
        stamped("/base_link", "/lidar"), stamped("base_link", "camera", (0.0, 0.0, 0.0, 0.0))])
    assert tree.set_message(message, static=False) == 1
    np.testing.assert_allclose(tree.lookup("base_link", "lidar", SECOND + 5).translation, [1, 2, 3])
    assert tree.counts == {"bad_pose": 1}
