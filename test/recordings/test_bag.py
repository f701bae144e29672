"""A bag as a Recording: grouping around the reference, and bags that are not as they should be."""

import numpy as np
import pytest
from bag_scenes import (
    LIDAR_DTYPE,
    MS,
    RIG,
    START_NS,
    STRING,
    SmallRecording,
    cloud,
    small_rig,
    text,
)

from perception_bev.errors import RecordingError
from perception_bev.raw import RawCloud
from perception_bev.recordings import bag_write
from perception_bev.recordings import sample_messages as messages
from perception_bev.recordings.bag import BagRecording
from perception_bev.recordings.bag_write import BagWriter
from perception_bev.recordings.convert import convert


def write_clouds(path, stamps_ms):
    """{topic: stamps of clouds [ms]}, logged at their stamps."""
    rows = sorted((START_NS + round(ms * MS), topic) for topic, times in stamps_ms.items()
                  for ms in times)
    with BagWriter(path) as writer:
        for stamp, topic in rows:
            msgtype, message = messages.frame_message(
                RawCloud(stamp, "any", cloud(LIDAR_DTYPE, 0, 2)), stamp)
            writer.write(topic, msgtype, message, stamp)


def two_lidars(**top) -> dict:
    lidar = {"topic": "top", "frame_id": "*", "extrinsics": "from_tf", "max_age_ms": 150}
    return {"name": "two", "cameras": {}, "odometry": None,
            "lidars": {"top": {**lidar, **top}, "side": {**lidar, "topic": "side"}},
            "radars": {"nose": {**lidar, "topic": "nose", "period_ms": 50}}}


def ages_ms(sample, name):
    return [round((sample.t_ref_ns - raw.stamp_ns) / MS) for raw in sample.raw[name]]


def test_the_newest_within_the_age_limit_is_taken(tmp_path):
    write_clouds(tmp_path / "bag", {"top": (0, 100, 200), "side": (-20, 60, 150)})
    bag = BagRecording(tmp_path / "bag", small_rig(**two_lidars()))
    assert [ages_ms(bag[i], "side") for i in range(3)] == [[20], [40], [50]]


def test_what_is_too_old_or_ahead_is_not(tmp_path):
    write_clouds(tmp_path / "bag", {"top": (0, 100, 200), "side": (-151, 108)})
    bag = BagRecording(tmp_path / "bag", small_rig(**two_lidars()))
    assert [ages_ms(bag[i], "side") for i in range(3)] == [[], [], [92]]


def test_every_radar_scan_serves_once(tmp_path):
    write_clouds(tmp_path / "bag", {"top": (0, 100, 200), "nose": range(-50, 201, 25)})
    bag = BagRecording(tmp_path / "bag", small_rig(**two_lidars()))
    stamps = [raw.stamp_ns for i in range(3) for raw in bag[i].raw["nose"]]
    assert len(stamps) == len(set(stamps)) == 11


def test_a_faster_lidar_closes_every_second_sweep_and_both_are_there(tmp_path):
    write_clouds(tmp_path / "bag", {"top": range(0, 400, 50)})
    bag = BagRecording(tmp_path / "bag", small_rig(**two_lidars(period_ms=50)))
    assert np.diff([bag[i].t_ref_ns for i in range(len(bag))]).tolist() == [100 * MS] * 3
    assert ages_ms(bag[1], "top") == [50, 0]


def test_the_sweep_s_end_is_the_reference_time(tmp_path):
    write_clouds(tmp_path / "bag", {"top": (0, 100)})
    rig = small_rig(**two_lidars(stamp="start", clock_offset_ms=7))
    bag = BagRecording(tmp_path / "bag", rig)
    assert bag[0].t_ref_ns == START_NS + 107 * MS
    assert bag[0].raw["top"][0].stamp_ns == START_NS + 7 * MS


def test_on_arrival_the_log_time_counts(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        msgtype, message = messages.frame_message(
            RawCloud(0, "any", cloud(LIDAR_DTYPE, 0, 2)), 0)
        writer.write("top", msgtype, message, START_NS)
    bag = BagRecording(tmp_path / "bag", small_rig(**two_lidars(stamp_source="arrival")))
    assert bag[0].t_ref_ns == START_NS == bag[0].raw["top"][0].stamp_ns


def test_gaps_begin_new_sequences(tmp_path):
    write_clouds(tmp_path / "bag", {"top": (0, 100, 401, 501), "side": (0, 100, 401, 501)})
    bag = BagRecording(tmp_path / "bag", small_rig(**two_lidars()))
    assert [bag[i].sequence for i in range(4)] == [0, 0, 1, 1]


def test_a_reference_that_pauses_begins_a_new_sequence(tmp_path):
    write_clouds(tmp_path / "bag", {"top": (0, 1000), "side": range(0, 1001, 100)})
    bag = BagRecording(tmp_path / "bag", small_rig(**two_lidars()))
    assert [bag[i].sequence for i in range(2)] == [0, 1]


def test_a_missing_reference_is_an_error_that_lists_the_topics(tmp_path):
    write_clouds(tmp_path / "bag", {"side": (0,)})
    with pytest.raises(RecordingError, match=r"no topic /top .* topics: /side"):
        BagRecording(tmp_path / "bag", small_rig(**two_lidars()))


def test_wrong_types_are_counted(tmp_path):
    write_clouds(tmp_path / "bag", {"top": (0,)})
    with BagWriter(tmp_path / "bag2") as writer:
        msgtype, message = messages.frame_message(
            RawCloud(START_NS, "any", cloud(LIDAR_DTYPE, 0, 2)), START_NS)
        writer.write("top", msgtype, message, START_NS)
        writer.write("side", STRING, text("not a cloud"), START_NS)
    bag = BagRecording(tmp_path / "bag2", small_rig(**two_lidars()))
    assert bag.drops == {("side", "wrong_type"): 1} and len(bag) == 1


def test_a_frame_that_cannot_be_read_is_noted_and_the_rest_is_there(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        msgtype, message = messages.frame_message(
            RawCloud(START_NS, "any", cloud(LIDAR_DTYPE, 0, 2)), START_NS)
        writer.write("top", msgtype, message, START_NS)
        broken = messages.frame_message(RawCloud(START_NS, "a", cloud(LIDAR_DTYPE, 0, 2)), START_NS)
        writer.write("side", broken[0], _with(broken[1], width=77), START_NS)
    bag = BagRecording(tmp_path / "bag", small_rig(**two_lidars()))
    assert bag[0].raw["side"] == () and "77" in bag[0].notes["side"]
    assert len(bag[0].raw["top"]) == 1 and "top" not in bag[0].notes


def _with(message, **changes):
    for name, value in changes.items():
        object.__setattr__(message, name, value)
    return message


def test_a_torn_bag_gives_its_samples_and_then_the_error(tmp_path, monkeypatch):
    monkeypatch.setattr(bag_write, "_CHUNK_BYTES", 4000)
    recording = SmallRecording((12,))
    convert(recording, tmp_path / "bag")
    path = tmp_path / "bag" / "bag_0.mcap"
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    bag, seen = BagRecording(tmp_path / "bag", small_rig()), []
    with pytest.raises(RecordingError, match="were readable"):
        for sample in bag:
            seen.append(sample)
    assert 2 < len(seen) == len(bag) < 12 and bag.damage is not None
    assert [s.t_ref_ns for s in seen] == [recording[i].t_ref_ns for i in range(len(seen))]


def test_an_unknown_class_of_truth_is_named(tmp_path):
    convert(SmallRecording((6,)), tmp_path / "bag")
    bag = BagRecording(tmp_path / "bag", small_rig(), classes=("tram",))
    with pytest.raises(RecordingError, match="known: tram"):
        [bag[i] for i in range(6)]


def test_classes_come_from_the_messages_where_the_metadata_is_lost(tmp_path):
    convert(SmallRecording((6,)), tmp_path / "bag")
    (tmp_path / "bag" / "metadata.yaml").unlink()
    bag = BagRecording(tmp_path / "bag", small_rig())
    assert set(bag.classes) == {"car", "truck"}
    assert RIG["name"] == bag.rig_of(0).name
