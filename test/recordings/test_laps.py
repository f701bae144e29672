"""An endless drive of a short one: time and ego motion go on across the seams."""

import itertools

import numpy as np
import pytest
from bag_scenes import MS, SmallRecording, small_rig

from perception_bev.errors import ConfigError, RecordingError
from perception_bev.geometry import SE3
from perception_bev.messages.read import read_odometry
from perception_bev.recordings.bag_reader import BagReader
from perception_bev.recordings.bag_types import jazzy
from perception_bev.recordings.convert import convert
from perception_bev.recordings.laps import Laps, moved_odometry
from perception_bev.recordings.playback import leading_stamp
from perception_bev.recordings.player import NoFilter, Player, Settings

LAPS, SAMPLES = 4, 6
LIDAR, CAMERA, ODOMETRY = "/lidar/top/points", "/camera/front/image/compressed", "/odometry"


@pytest.fixture
def bag(tmp_path):
    convert(SmallRecording((SAMPLES,)), tmp_path / "bag")
    return tmp_path / "bag"


def played(bag, inner=None, rig=None):
    """The messages of the first laps."""
    with BagReader(bag) as reader:
        topics = set(reader.topics)
        laps = Laps(reader, rig or small_rig(), topics, inner)
        end = reader.start_ns + (LAPS * SAMPLES + 1) * 100 * MS
        stream = laps.apply(reader.raw_messages(topics))
        return list(itertools.takewhile(lambda raw: raw.stamp_ns < end, stream))


def stamps(messages, topic):
    return [raw.stamp_ns for raw in messages if raw.topic == topic]


@pytest.mark.parametrize("topic", [LIDAR, CAMERA])
def test_no_period_is_longer_or_shorter_at_a_seam(bag, topic):
    messages = played(bag)
    gaps = set(np.diff(stamps(messages, topic)))
    assert gaps == {100 * MS} and len(stamps(messages, topic)) > (LAPS - 1) * SAMPLES


def test_log_time_never_goes_back_and_no_stamp_comes_twice(bag):
    messages = played(bag)
    assert [raw.stamp_ns for raw in messages] == sorted(raw.stamp_ns for raw in messages)
    for topic in {raw.topic for raw in messages}:
        assert len(set(stamps(messages, topic))) == len(stamps(messages, topic)), topic


def test_the_stamps_inside_move_with_log_time(bag):
    assert all(leading_stamp(raw.data) == raw.stamp_ns for raw in played(bag)
               if raw.topic in (LIDAR, ODOMETRY))


def test_the_vehicle_does_not_jump(bag):
    """Its pose goes on at every seam as it does between two samples of the drive."""
    with BagReader(bag) as reader:
        poses = [read_odometry(reader.types.deserialize(raw.data, raw.type)).odom_from_base
                 for raw in played(bag) if raw.topic == ODOMETRY]
    steps = [(a.inverse() @ b).translation for a, b in itertools.pairwise(poses)]
    inside = np.linalg.norm(steps[:SAMPLES - 1], axis=1)
    assert np.allclose(np.linalg.norm(steps, axis=1), inside.mean(), rtol=0.2)
    assert np.linalg.norm(poses[-1].translation) > 2 * np.linalg.norm(poses[SAMPLES].translation)


def test_what_is_latched_comes_once(bag):
    messages = played(bag)
    assert len(stamps(messages, "/epoch")) == len(stamps(messages, "/tf_static")) == 1


def test_a_scenario_befalls_the_endless_drive_as_a_whole(bag):
    class Second(NoFilter):
        """Loses what the second lap brings."""

        def apply(self, messages):
            for raw in messages:
                if (raw.stamp_ns - START) // (SAMPLES * 100 * MS) == 1:
                    self.counts["lost", raw.topic] += 1
                else:
                    yield raw

    with BagReader(bag) as reader:
        START = reader.start_ns
    inner = Second()
    assert max(np.diff(stamps(played(bag, inner), LIDAR))) == (SAMPLES + 1) * 100 * MS
    assert inner.counts["lost", LIDAR] == SAMPLES


def test_a_player_plays_it_until_it_is_stopped(bag):
    class Host:
        now, sent = 0, []

        def publish(self, topic, data):
            self.sent.append(topic)
            return True

        def epoch(self, number):
            self.epochs = number

        def clock(self, ros_ns):
            pass

        def monotonic_ns(self):
            return self.now

        def ros_ns(self):
            return 10**18 + self.now

        def wait(self, seconds):
            self.now += max(int(seconds * 1e9), 1)

        def stopped(self):
            return self.sent.count(LIDAR) > 3 * SAMPLES

    host = Host()
    with BagReader(bag) as reader:
        laps = Laps(reader, small_rig(), set(reader.topics))
        report = Player(reader, set(reader.topics), host, host, Settings(stamps="fresh"),
                        laps).play()
    assert not report.complete and report.slips == 0
    assert host.epochs == 0, "a seam is no new epoch"


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("frame_id", ["odom", "o", "odometry_frame"])
def test_a_pose_is_moved_in_the_bytes(order, frame_id):
    from perception_bev.recordings.sample_messages import WRITER
    kind, store = "nav_msgs/msg/Odometry", jazzy()
    pose = SE3.from_rpy(np.array([3.0, -2.0, 0.5]), np.array([0.0, 0.02, 1.0]))
    move = SE3.from_rpy(np.array([10.0, 5.0, 0.0]), np.array([0.0, 0.0, -2.0]))
    message = WRITER.odometry(5_000_000_007, pose, np.array([1.0, 2, 3]), np.array([4.0, 5, 6]),
                              frame_id)
    data = bytes(store.serialize_cdr(message, kind, little_endian=order == "little"))
    moved = read_odometry(store.deserialize_cdr(moved_odometry(data, move), kind))
    np.testing.assert_allclose(moved.odom_from_base.matrix, (move @ pose).matrix, atol=1e-12)
    assert moved.stamp_ns == 5_000_000_007 and moved.linear.tolist() == [1, 2, 3]
    assert moved_odometry(data, SE3.identity())[:20] == data[:20]


def test_what_cannot_be_joined_is_refused(bag, tmp_path):
    with pytest.raises(ConfigError, match="odometry topic"):
        played(bag, rig=small_rig(odometry="from_tf"))
    with pytest.raises(RecordingError, match="/elsewhere does not reach"):
        played(bag, rig=small_rig(odometry={"topic": "elsewhere"}))
    convert(SmallRecording((1,)), tmp_path / "one")
    with pytest.raises(RecordingError, match="needs two"):
        played(tmp_path / "one")
