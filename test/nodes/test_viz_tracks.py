"""Tracks in the viz node: numbers, arrows and trails; what stands still leaves no trail."""

import os

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytestmark = pytest.mark.ros

import rclpy  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import PointCloud2  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from vision_msgs.msg import Detection3DArray  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from perception_bev.contracts import Boxes3D  # noqa: E402
from perception_bev.geometry import SE3  # noqa: E402
from perception_bev.messages.objects_cloud import COASTING, SEEN  # noqa: E402
from perception_bev.nodes.markers import track_markers  # noqa: E402
from perception_bev.nodes.publications import WRITER, header_of, tracks_cloud  # noqa: E402
from perception_bev.nodes.viz_node import VizNode  # noqa: E402
from perception_bev.nodes.viz_trails import MAX_POINTS, Trails  # noqa: E402
from perception_bev.outputs.track import Tracks  # noqa: E402

MS = 1_000_000
NOW = 1_700_000_000_000_000_000
RIG = """
name: car
reference: {sensor: front}
odometry: {topic: odometry}
cameras:
  front:
    topic: camera/front/image/compressed
    frame_id: front
    extrinsics: {translation: [0, 0, 1.5], rotation_rpy_deg: [-90, 0, -90]}
    intrinsics: {width: 320, height: 240, k: [200, 200, 159.5, 119.5]}
"""


def boxes(*rows: tuple[float, float, float, float]) -> Boxes3D:
    """x, y, vx, vy each."""
    table = np.array(rows, np.float32).reshape(-1, 4)
    n = len(table)
    size = np.tile(np.float32((4, 2, 1.5)), (n, 1))
    return Boxes3D(np.pad(table[:, :2], ((0, 0), (0, 1))), size,
                   np.zeros(n, np.float32), np.full(n, 0.7, np.float32), np.zeros(n, np.int32),
                   ("car",), table[:, 2:])


def markers_of(array: MarkerArray, namespace: str) -> list[Marker]:
    return [m for m in array.markers if m.ns == namespace and m.action == Marker.ADD]


def test_tracks_have_numbers_arrows_and_trails():
    given = boxes((10, 1, 5, 0), (20, -1, 0, 0), (30, 2, np.nan, np.nan))
    trails = [np.array([[8, 1, 0], [9, 1, 0], [10, 1, 0]]), np.zeros((1, 3)), np.zeros((0, 3))]
    array = track_markers(given, np.array([7, 8, 9]), np.array([SEEN, COASTING, SEEN]), trails,
                          Header(frame_id="base_link"), 0.5, "full")
    assert array.markers[0].action == Marker.DELETEALL
    assert [m.text for m in markers_of(array, "labels")] == ["car 7  5.0 m/s", "car 8", "car 9"]
    arrow, = markers_of(array, "velocities")
    assert arrow.points[1].x - arrow.points[0].x == 5.0, "a second's way"
    trail, = markers_of(array, "trails")
    assert [p.x for p in trail.points] == [8, 9, 9, 10] and len(trail.colors) == 4
    seen, coasting, _ = markers_of(array, "boxes")
    assert coasting.color.a < seen.color.a
    assert len({(m.ns, m.id) for m in array.markers[1:]}) == len(array.markers) - 1, "ids differ"


def test_no_tracks_are_no_boxes():
    array = track_markers(boxes(), np.zeros(0, int), np.zeros(0, int), [], Header(), 0.5, "")
    assert not [m for m in array.markers if m.action == Marker.ADD]


def test_what_stands_in_odom_has_a_trail_of_no_length():
    trails, ids = Trails(seconds=1.0), np.array([3, 4])
    for k in range(30):
        pose = SE3.from_rpy(np.array([1.5 * k, 0, 0]), np.array([0, 0, 0.05 * k]))
        standing = pose.inverse().apply(np.array([[60.0, 5, 0], [k * 1.0, 8, 0]]))
        trails.take(NOW + 100 * MS * k, ids, standing, pose)
        still, moving = trails.of(ids, pose)
        np.testing.assert_allclose(still, np.tile(standing[0], (len(still), 1)), atol=1e-9)
        assert len(moving) == min(k + 1, 11), "a second of them"
    np.testing.assert_allclose(np.linalg.norm(moving[-1] - moving[0]), 10.0)


def test_trails_end_with_their_tracks_and_when_time_runs_back():
    trails, still = Trails(seconds=1.0), SE3.identity()
    for k in range(100):
        trails.take(NOW + 100 * MS * k, np.array([k]), np.zeros((1, 3)), still)
    assert len(trails) == 11
    for k in range(200):
        trails.take(NOW + 10_000 * MS + k * MS, np.array([1]), np.zeros((1, 3)), still)
    assert len(trails.of(np.array([1]), still)[0]) == MAX_POINTS
    trails.take(NOW, np.array([5]), np.zeros((1, 3)), still)
    assert len(trails) == 1 and len(trails.of(np.array([77]), still)[0]) == 0


@pytest.fixture
def viz(tmp_path):
    """A viz node, another one, and spinning until something holds."""
    (tmp_path / "rig.yaml").write_text(RIG)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=1 + os.getpid() % 100)
    node = VizNode(context=context, parameter_overrides=[
        Parameter("rig", value=str(tmp_path / "rig.yaml")), Parameter("refresh_ms", value=50)])
    other = rclpy.create_node("other", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    executor.add_node(other)

    def until(condition, doing=lambda: None):
        for _ in range(1200):
            doing()
            for _ in range(8):  # all that comes of it, and then some
                executor.spin_once(timeout_sec=0.01)
            if condition():
                return
        raise AssertionError("it did not happen")
    yield node, other, until
    executor.shutdown()
    node.destroy_node()
    other.destroy_node()
    rclpy.shutdown(context=context)


def tracks(stamp: int, x: float) -> Tracks:
    one = np.ones(1)
    return Tracks(stamp, boxes((x, 0, 3, 0)), np.array([12]), np.array([9]), one, 0 * one)


def test_markers_show_tracks_while_somebody_publishes_them(viz):
    _, other, until = viz
    got: list[MarkerArray] = []
    other.create_subscription(MarkerArray, "markers", got.append, 10)
    objects = other.create_publisher(Detection3DArray, "objects", 1)
    until(lambda: objects.get_subscription_count() == 1)
    until(lambda: got, lambda: objects.publish(
        Detection3DArray(header=header_of(NOW, "base_link"))))
    assert not any(m.ns == "trails" for m in got[-1].markers)

    cloud = other.create_publisher(PointCloud2, "tracks/cloud", 1)
    motion = other.create_publisher(Odometry, "odometry", 1)
    until(lambda: cloud.get_subscription_count() == motion.get_subscription_count() == 1)
    sent = iter(range(10**6))

    def drive():
        k = next(sent)
        stamp, ahead = NOW + 100 * MS * k, 2.0 * k
        pose = SE3(np.eye(3), np.array([ahead, 0, 0]))
        motion.publish(WRITER.odometry(stamp, pose, np.array([20.0, 0, 0]), np.zeros(3)))
        cloud.publish(tracks_cloud(tracks(stamp, 30 - 1.7 * k), "base_link"))
    until(lambda: any(markers_of(m, "trails") for m in got), drive)
    trail = next(t for m in got for t in markers_of(m, "trails"))
    assert all(p.x > q.x for p, q in zip(trail.points[1::2], trail.points[::2], strict=True)), \
        "it drives ahead, though it comes nearer"
    assert any("12" in m.text for m in markers_of(got[-1], "labels"))


def test_a_cloud_that_is_no_tracks_is_counted(viz):
    node, _, _ = viz
    message = tracks_cloud(tracks(NOW, 3), "base_link")
    message.fields[0].name = "number"
    node.draw_tracks(message)
    assert dict(node.scene.dropped) == {"tracks: bad_layout": 1}
