"""Outputs as messages."""

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytestmark = pytest.mark.ros

import numpy as np  # noqa: E402

from perception_bev.contracts import Boxes3D  # noqa: E402
from perception_bev.grid import BevGrid  # noqa: E402
from perception_bev.messages.detections import read_detections  # noqa: E402
from perception_bev.nodes.publications import (  # noqa: E402
    AUTOWARE_LABELS,
    DetectionMessages,
    autoware_objects,
    header_of,
    occupancy_grid,
)

STAMP = 1_700_000_000_123_456_789
HEADER = header_of(STAMP, "base_link")


def boxes(n: int, seed: int = 0, velocity: bool = False) -> Boxes3D:
    rng = np.random.default_rng(seed)
    return Boxes3D(rng.uniform(-50, 50, (n, 3)).astype(np.float32),
                   rng.uniform(0.5, 6, (n, 3)).astype(np.float32),
                   rng.uniform(-3.1, 3.1, n).astype(np.float32), rng.random(n).astype(np.float32),
                   rng.integers(0, 2, n).astype(np.int32), ("car", "tram"),
                   rng.normal(size=(n, 2)).astype(np.float32) if velocity else None)


def test_the_stamp_is_exact():
    assert (HEADER.stamp.sec, HEADER.stamp.nanosec) == (1_700_000_000, 123_456_789)


def test_detections_read_back_are_the_boxes():
    given = boxes(7)
    found, left_out = read_detections(DetectionMessages().of(given, HEADER))
    assert left_out == 0
    for name in ("centre", "size", "yaw", "score"):
        np.testing.assert_allclose(getattr(found, name), getattr(given, name), atol=1e-5)
    assert [found.classes[i] for i in found.label] == [given.classes[i] for i in given.label]


def test_messages_that_are_used_again_hold_nothing_of_before():
    made, fresh = DetectionMessages(), DetectionMessages()
    made.of(boxes(9, seed=1), HEADER)
    for n in (3, 0, 12):
        again, new = (m.of(boxes(n, seed=2), HEADER) for m in (made, fresh))
        assert again == new and len(again.detections) == n


def test_occupancy_runs_along_x_first():
    grid = BevGrid(0, 3, -1, 1, 1.0)
    cells = np.array([[0, 100, -1], [-1, -1, 0]], np.int8)  # (Y, X)
    message = occupancy_grid(cells, grid, HEADER)
    assert (message.info.width, message.info.height, message.info.resolution) == (3, 2, 1.0)
    assert list(message.data) == [0, 100, -1, -1, -1, 0]
    assert (message.info.origin.position.x, message.info.origin.position.y) == (0.0, -1.0)


def test_autowares_objects():
    pytest.importorskip("autoware_perception_msgs.msg", reason="not installed")
    given = boxes(5, velocity=True)
    found = autoware_objects(given, HEADER).objects
    assert [o.classification[0].label for o in found] == [
        AUTOWARE_LABELS["car"] if label == 0 else 0 for label in given.label]
    for i, made in enumerate(found):
        twist = made.kinematics.twist_with_covariance.twist.linear
        cos, sin = np.cos(given.yaw[i]), np.sin(given.yaw[i])
        back = [cos * twist.x - sin * twist.y, sin * twist.x + cos * twist.y]
        np.testing.assert_allclose(back, given.velocity[i], atol=1e-5)
        assert made.kinematics.has_twist


def test_an_unknown_velocity_is_none():
    pytest.importorskip("autoware_perception_msgs.msg", reason="not installed")
    assert not any(o.kinematics.has_twist for o in autoware_objects(boxes(3), HEADER).objects)
