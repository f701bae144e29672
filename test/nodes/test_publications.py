"""Outputs as messages."""

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytestmark = pytest.mark.ros

import numpy as np  # noqa: E402

from perception_bev.contracts import Boxes3D  # noqa: E402
from perception_bev.grid import BevGrid  # noqa: E402
from perception_bev.messages.detections import read_detections, read_ids  # noqa: E402
from perception_bev.messages.objects_cloud import (  # noqa: E402
    COASTING,
    PREDICTED,
    SEEN,
    read_objects,
)
from perception_bev.messages.read import read_cloud  # noqa: E402
from perception_bev.nodes.autoware import (  # noqa: E402
    AUTOWARE_LABELS,
    autoware_objects,
    autoware_tracks,
)
from perception_bev.nodes.publications import (  # noqa: E402
    DetectionMessages,
    Publications,
    header_of,
    occupancy_grid,
    tracks_cloud,
)
from perception_bev.outputs.track import Tracks  # noqa: E402

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


def tracks(n: int, predicted: bool = False) -> Tracks:
    unseen = np.where(np.arange(n) % 2, 0.3, 0.0)
    return Tracks(STAMP, boxes(n, velocity=True), np.arange(n) * 7 + 1, np.full(n, 5),
                  np.full(n, 2.0), unseen, predicted)


def test_tracks_are_detections_with_their_number():
    given = tracks(4)
    message = DetectionMessages().of(given.boxes, HEADER, given.id)
    assert [d.id for d in message.detections] == ["1", "8", "15", "22"]
    assert read_ids(message).tolist() == given.id.tolist()


def test_the_cloud_of_tracks_read_back_is_the_tracks():
    given = tracks(6)
    raw = read_cloud(tracks_cloud(given, "base_link"))
    assert (raw.stamp_ns, raw.frame_id) == (STAMP, "base_link")
    found, ids, mode = read_objects(raw.points, given.boxes.classes)
    for name in ("centre", "size", "yaw", "score", "velocity", "label"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given.boxes, name))
    assert ids.tolist() == given.id.tolist() and mode.tolist() == [SEEN, COASTING] * 3
    _, _, mode = read_objects(read_cloud(tracks_cloud(tracks(2, True), "base_link")).points,
                              given.boxes.classes)
    assert mode.tolist() == [PREDICTED, PREDICTED]
    assert len(read_cloud(tracks_cloud(tracks(0), "base_link")).points) == 0


def test_a_number_beyond_the_cloud_s_begins_anew():
    given = Tracks(STAMP, boxes(1, velocity=True), np.array([2**31 + 4]), np.ones(1, np.int64),
                   np.zeros(1), np.zeros(1))
    assert read_cloud(tracks_cloud(given, "base_link")).points["id"].tolist() == [4]


class Listening:
    """A node whose publishers keep what is published; `listeners` of each topic."""

    def __init__(self, listeners: int) -> None:
        self.listeners, self.topics = listeners, {}

    def create_lifecycle_publisher(self, kind, topic, qos):
        self.topics[topic] = Kept(kind, self.listeners)
        return self.topics[topic]

    def destroy_lifecycle_publisher(self, publisher):
        self.topics = {k: v for k, v in self.topics.items() if v is not publisher}


class Kept:
    def __init__(self, kind, listeners):
        self.kind, self.listeners, self.got = kind, listeners, []

    def get_subscription_count(self):
        return self.listeners

    def publish(self, message):
        assert isinstance(message, self.kind)
        self.got.append(message)


def test_tracks_go_out_and_the_costly_forms_only_to_listeners():
    for listeners in (0, 1):
        node = Listening(listeners)
        publications = Publications(node, "base_link", BevGrid(0, 3, -1, 1, 1.0))
        publications.tracks(tracks(3))
        publications.tracks(None)
        assert len(node.topics["tracks"].got) == 1
        assert len(node.topics["tracks/cloud"].got) == listeners
        if "tracks_autoware" in node.topics:
            assert len(node.topics["tracks_autoware"].got) == listeners
        publications.destroy(node)
        assert not node.topics


def test_tracks_can_be_switched_off():
    node = Listening(1)
    Publications(node, "base_link", BevGrid(0, 3, -1, 1, 1.0), False).tracks(tracks(3))
    assert not [topic for topic in node.topics if "tracks" in topic] and node.topics


def test_autowares_tracks():
    pytest.importorskip("autoware_perception_msgs.msg", reason="not installed")
    given = tracks(5)
    one, other = (autoware_tracks(given, HEADER, run).objects for run in (b"a" * 8, b"b" * 8))
    numbers = [bytes(o.object_id.uuid) for o in (*one, *other)]
    assert len(set(numbers)) == 10 and numbers[1] == b"a" * 8 + (8).to_bytes(8, "big")
    objects = autoware_objects(given.boxes, HEADER).objects
    for mine, theirs in zip(one, objects, strict=True):
        assert (mine.kinematics.pose_with_covariance == theirs.kinematics.pose_with_covariance
                and mine.kinematics.twist_with_covariance == theirs.kinematics.twist_with_covariance
                and mine.shape == theirs.shape and mine.classification == theirs.classification)


def test_autoware_is_not_told_that_who_is_new_stands_still():
    pytest.importorskip("autoware_perception_msgs.msg", reason="not installed")
    given = tracks(3)
    given.boxes.velocity[:] = (0, 0), (np.nan, np.nan), (3, 4)
    told = [o.kinematics for o in autoware_tracks(given, HEADER, b"a" * 8).objects]
    assert [k.is_stationary for k in told] == [True, False, False]
    assert all(np.isfinite(k.twist_with_covariance.twist.linear.x) for k in told)


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
