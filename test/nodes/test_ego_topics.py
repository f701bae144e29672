"""Ego motion from `odometry` and from /tf, straight into the subscriptions' callbacks."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytestmark = pytest.mark.ros

from geometry_msgs.msg import TransformStamped  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from perception_bev.nodes.subscriptions import Subscriptions  # noqa: E402
from perception_bev.tf import TransformTree  # noqa: E402


@pytest.fixture
def world():
    """Subscriptions without a node's topics, and what reaches the pipeline and the log."""
    pushed, said = [], []
    made = Subscriptions.__new__(Subscriptions)
    logger = SimpleNamespace(warning=lambda text, **_: said.append(text))
    made._node = SimpleNamespace(get_logger=lambda: logger)
    made._rig = SimpleNamespace(odom_frame="odom", base_frame="base_link")
    made._tf = TransformTree()
    made.perception = SimpleNamespace(push_odometry=lambda *args: pushed.append(args))
    return made, pushed, said


def edge(parent: str, child: str, x: float, sec: int = 5) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id, message.header.stamp.sec = parent, sec
    message.transform.translation.x, message.transform.rotation.w = x, 1.0
    return message


def odometry(child: str) -> Odometry:
    message = Odometry(child_frame_id=child)
    message.header.frame_id, message.header.stamp.sec = "odom", 5
    message.pose.pose.orientation.w = 1.0
    return message


@pytest.mark.parametrize("child", ["base_link", "/base_link"])
def test_odometry_of_the_base_is_taken(world, child):
    subscriptions, pushed, said = world
    subscriptions._odometry(odometry(child))
    assert [args[0] for args in pushed] == [5 * 10**9] and not said


def test_odometry_of_another_frame_is_refused_and_said(world):
    subscriptions, pushed, said = world
    subscriptions._odometry(odometry("imu_link"))
    assert not pushed and "imu_link" in said[0] and "base_link" in said[0]


def test_tf_is_followed_through_frames_between(world):
    subscriptions, pushed, _ = world
    subscriptions._tf.set_message(TFMessage(transforms=[edge("foot", "base_link", 0.5)]), True)
    subscriptions._tf_odometry(TFMessage(transforms=[edge("odom", "foot", 2.0)]))
    (stamp, pose, linear, angular), = pushed
    assert stamp == 5 * 10**9 and linear is None and angular is None
    assert pose.translation == pytest.approx([2.5, 0.0, 0.0])


def test_a_tree_that_lacks_the_base_is_said(world):
    subscriptions, pushed, said = world
    subscriptions._tf_odometry(TFMessage(transforms=[edge("odom", "foot", 2.0)]))
    assert not pushed and "does not connect odom with base_link" in said[0]


def test_other_frames_on_tf_do_not_repeat_the_pose(world):
    subscriptions, pushed, said = world
    subscriptions._tf_odometry(TFMessage(transforms=[edge("odom", "base_link", 2.0)]))
    subscriptions._tf_odometry(TFMessage(transforms=[edge("base_link", "wheel", 0.1, sec=6)]))
    assert len(pushed) == 1 and not said, "a wheel that turns says nothing of the vehicle"
