"""Bags that we write are read by others' readers, and are the same for the same messages."""

import pytest
import yaml
from bag_scenes import MS, START_NS, STRING, text, text_bytes, write_texts
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader

from perception_bev.errors import RecordingError
from perception_bev.recordings import sample_messages as messages
from perception_bev.recordings.bag_reader import BagReader
from perception_bev.recordings.bag_write import BagWriter


@pytest.mark.parametrize("compression", ("zstd", "lz4", "none"))
def test_rosbags_reads_it(tmp_path, compression):
    rows = write_texts(tmp_path / "bag", 60, compression)
    with Reader(tmp_path / "bag") as reader:
        assert [(c.topic, stamp, data) for c, stamp, data in reader.messages()] == rows
        assert reader.message_count == 60
        assert (reader.start_time, reader.end_time) == (START_NS, START_NS + 59 * MS + 1)


def test_anyreader_decodes_it_by_the_definitions_inside(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("odometry", messages.EPOCH_TYPE, messages.epoch_message(7), START_NS)
    with AnyReader([tmp_path / "bag"]) as reader:
        (connection, _, data), = reader.messages()
        assert reader.deserialize(data, connection.msgtype).data == 7


def test_a_reader_that_knows_no_type_decodes_it(tmp_path):
    """As Foxglove does: by the schemas in the file alone."""
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/scan", "std_msgs/msg/Header",
                     messages.WRITER.header(12 * 10**9 + 5, "map"), START_NS)
    with (tmp_path / "bag" / "bag_0.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        assert reader.get_header().profile == "ros2"
        (schema, channel, _, decoded), = reader.iter_decoded_messages()
    assert (schema.encoding, channel.message_encoding, channel.topic) == ("ros2msg", "cdr", "/scan")
    assert (decoded.stamp.sec, decoded.stamp.nanosec, decoded.frame_id) == (12, 5, "map")


def test_metadata_says_what_ros2_bag_asks_for(tmp_path):
    write_texts(tmp_path / "bag", 5)
    about = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())
    about = about["rosbag2_bagfile_information"]
    assert (about["version"], about["storage_identifier"]) == (9, "mcap")
    assert about["relative_file_paths"] == ["bag_0.mcap"] == [f["path"] for f in about["files"]]
    assert about["message_count"] == 5 == about["files"][0]["message_count"]
    assert about["duration"] == {"nanoseconds": 4 * MS}
    assert about["starting_time"] == {"nanoseconds_since_epoch": START_NS}
    assert about["compression_format"] == about["compression_mode"] == ""
    topic = about["topics_with_message_count"][0]["topic_metadata"]
    assert topic["serialization_format"] == "cdr"
    assert topic["type_description_hash"].startswith("RIHS01_")
    assert set(topic["offered_qos_profiles"][0]) == {
        "history", "depth", "reliability", "durability", "deadline", "lifespan", "liveliness",
        "liveliness_lease_duration", "avoid_ros_namespace_conventions"}


def test_static_transforms_and_epochs_are_latched_and_sensors_are_not(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/tf_static", messages.TF_TYPE, messages.WRITER.transforms([]), START_NS)
        writer.write("epoch", messages.EPOCH_TYPE, messages.epoch_message(0), START_NS)
        writer.write("text", STRING, text("x"), START_NS)
    with BagReader(tmp_path / "bag") as reader:
        latched = {name: info.qos.latched for name, info in reader.topics.items()}
        assert latched == {"/tf_static": True, "/epoch": True, "/text": False}
        assert all(info.qos.reliability == "reliable" for info in reader.topics.values())


def test_the_same_messages_give_the_same_bytes(tmp_path):
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        write_texts(tmp_path / run / "bag", 30)
    for name in ("bag_0.mcap", "metadata.yaml"):
        first, second = ((tmp_path / run / "bag" / name).read_bytes() for run in "ab")
        assert first == second


def test_serialised_messages_are_written_as_they_are(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/text", STRING, text_bytes("same"), START_NS)
        writer.write("/text", STRING, text("same"), START_NS + 1)
    with BagReader(tmp_path / "bag") as reader:
        first, second = (raw.data for raw in reader.raw_messages())
    assert first == second


def test_what_cannot_be_written_is_refused(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/text", STRING, text("x"), START_NS)
        with pytest.raises(RecordingError, match="/text carries std_msgs/msg/String"):
            writer.write("/text", messages.EPOCH_TYPE, messages.epoch_message(0), START_NS)
        with pytest.raises(RecordingError, match="not known here"):
            writer.write("/other", "no_msgs/msg/Such", b"", START_NS)
    with pytest.raises(RecordingError, match="new folder"):
        BagWriter(tmp_path / "bag")
    with pytest.raises(RecordingError, match="zstd, lz4, none"):
        BagWriter(tmp_path / "other", compression="gzip")


def test_an_empty_bag_is_a_bag(tmp_path):
    BagWriter(tmp_path / "bag").close()
    with BagReader(tmp_path / "bag") as reader:
        assert list(reader.raw_messages()) == [] and reader.duration == 0.0
