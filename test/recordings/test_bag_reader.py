"""What was written is read, whatever the storage; of a damaged bag first what is readable."""

import shutil
import sqlite3

import numpy as np
import pytest
import yaml
import zstandard
from bag_scenes import (
    MS,
    START_NS,
    STRING,
    readable_part,
    rows_of,
    text_bytes,
    write_sqlite,
    write_texts,
)
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter

from perception_bev.errors import RecordingError
from perception_bev.recordings import bag_write
from perception_bev.recordings.bag_reader import BagReader

COMPRESSIONS = ("none", "lz4", "zstd")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """So that small bags have many."""
    monkeypatch.setattr(bag_write, "_CHUNK_BYTES", 1 << 14)


def mcap_of(bag):
    return next(bag.glob("*.mcap"))


def rewrite_metadata(bag, **changes):
    path = bag / "metadata.yaml"
    content = yaml.safe_load(path.read_text())
    content["rosbag2_bagfile_information"].update(changes)
    path.write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_mcap_reads_what_was_written(tmp_path, compression):
    rows = write_texts(tmp_path / "bag", 200, compression)
    with BagReader(tmp_path / "bag") as reader:
        assert rows_of(reader) == rows
        assert rows_of(reader) == rows, "a second reading is the same"
        assert {name: info.count for name, info in reader.topics.items()} == {
            "/text_0": 100, "/text_1": 100}
        assert (reader.start_ns, reader.end_ns) == (START_NS, START_NS + 199 * MS)
        assert reader.duration == pytest.approx(0.199)
        assert reader.compression == ("" if compression == "none" else compression)
        assert reader.notes == [] and reader.damage is None


@pytest.mark.parametrize("version", (8, 9))
def test_sqlite_reads_what_was_written(tmp_path, version):
    rows = write_sqlite(tmp_path / "bag", 50, version)
    with BagReader(tmp_path / "bag") as reader:
        assert rows_of(reader) == rows
        assert reader.topics["/text_1"].count == 25 and reader.topics["/text_1"].type == STRING
        assert reader.metadata.version == version


@pytest.mark.parametrize("write", (write_texts, write_sqlite))
def test_messages_are_fetched_again_by_address(tmp_path, write):
    write(tmp_path / "bag", 200)
    with BagReader(tmp_path / "bag") as reader:
        found = list(reader.raw_messages())
        order = np.random.default_rng(1).permutation(len(found))[:50]
        assert all(reader.fetch(found[i].address) == found[i].data for i in order)


def test_chosen_topics_come_alone_and_deserialised(tmp_path):
    write_texts(tmp_path / "bag", 10)
    with BagReader(tmp_path / "bag") as reader:
        found = list(reader.messages(["/text_1"]))
    assert [topic for topic, _, _ in found] == ["/text_1"] * 5
    assert all(len(message.data) == 400 for _, _, message in found)


# -- metadata.yaml -------------------------------------------------------------------------------


QOS_TEXT = "- history: 3\n  depth: 0\n  reliability: 1\n  durability: 1\n"
QOS_LIST = [{"history": "keep_last", "depth": 5, "reliability": "best_effort",
             "durability": "volatile"}]


@pytest.mark.parametrize("version", range(1, 10))
def test_every_version_of_metadata_is_read(tmp_path, version):
    rows = write_sqlite(tmp_path / "bag", 20)
    path = tmp_path / "bag" / "metadata.yaml"
    about = yaml.safe_load(path.read_text())["rosbag2_bagfile_information"]
    introduced = {"compression_format": 3, "compression_mode": 3, "files": 5, "custom_data": 6,
                  "ros_distro": 8}
    about = {key: value for key, value in about.items() if introduced.get(key, 1) <= version}
    about["version"] = version
    if version < 4:
        about["relative_file_paths"] = [f"bag/{name}" for name in about["relative_file_paths"]]
    for entry in about["topics_with_message_count"]:
        topic = entry["topic_metadata"]
        topic["offered_qos_profiles"] = QOS_LIST if version == 9 else QOS_TEXT
        for key, since in (("offered_qos_profiles", 4), ("type_description_hash", 7)):
            if version < since:
                del topic[key]
    path.write_text(yaml.safe_dump({"rosbag2_bagfile_information": about}))
    with BagReader(tmp_path / "bag") as reader:
        assert rows_of(reader) == rows
        assert reader.metadata.version == version
        qos = reader.metadata.topics["/text_0"].qos
        expected = ("best_effort", False) if version == 9 else (
            ("reliable", True) if version >= 4 else ("unknown", False))
        assert (qos.reliability, qos.latched) == expected


def test_a_newer_version_is_named_and_the_files_are_read(tmp_path):
    rows = write_texts(tmp_path / "bag", 5)
    rewrite_metadata(tmp_path / "bag", version=10)
    with BagReader(tmp_path / "bag") as reader:
        assert rows_of(reader) == rows
        assert "version 10" in reader.notes[0]


def test_an_empty_storage_identifier_is_no_matter(tmp_path):
    rows = write_texts(tmp_path / "bag", 5)
    rewrite_metadata(tmp_path / "bag", storage_identifier="")
    with BagReader(tmp_path / "bag") as reader:
        assert rows_of(reader) == rows and reader.notes == []


@pytest.mark.parametrize("content", (None, "]", "a: 1", "rosbag2_bagfile_information: 3"))
def test_without_usable_metadata_the_files_are_read(tmp_path, content):
    rows = write_texts(tmp_path / "bag", 5)
    path = tmp_path / "bag" / "metadata.yaml"
    path.unlink() if content is None else path.write_text(content)
    with BagReader(tmp_path / "bag") as reader:
        assert rows_of(reader) == rows and len(reader.notes) == 1


def test_a_wrong_message_count_is_noted(tmp_path):
    write_texts(tmp_path / "bag", 6)
    path = tmp_path / "bag" / "metadata.yaml"
    path.write_text(path.read_text().replace("message_count: 3", "message_count: 4"))
    with BagReader(tmp_path / "bag") as reader:
        assert any("promises 8" in note and "hold 6" in note for note in reader.notes)


def test_a_single_file_needs_no_folder(tmp_path):
    rows = write_texts(tmp_path / "bag", 5)
    with BagReader(mcap_of(tmp_path / "bag")) as reader:
        assert rows_of(reader) == rows


# -- several files, compressed files -------------------------------------------------------------


def split_bag(tmp_path, parts=12):
    """Files bag_0.mcap ... in one folder, and what they hold together."""
    bag, rows = tmp_path / "split", []
    bag.mkdir()
    for part in range(parts):
        write_texts(tmp_path / f"part_{part}", 3 + part)
        file = bag / f"split_{part}.mcap"
        shutil.move(mcap_of(tmp_path / f"part_{part}"), file)
        with BagReader(file) as reader:
            rows += rows_of(reader)
    return bag, rows


def test_split_files_follow_each_other_by_number(tmp_path):
    bag, rows = split_bag(tmp_path)
    with BagReader(bag) as reader:
        assert rows_of(reader) == rows
        assert reader.message_count == len(rows) and len(reader.files) == 12


def test_a_missing_file_of_a_split_bag_ends_the_readable_part(tmp_path):
    bag, rows = split_bag(tmp_path, 3)
    names = [f"split_{part}.mcap" for part in range(3)]
    (bag / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": {
        "version": 5, "storage_identifier": "mcap", "relative_file_paths": names,
        "topics_with_message_count": []}}))
    (bag / "split_1.mcap").unlink()
    with BagReader(bag) as reader:
        found, error = readable_part(reader)
    assert found == rows[:3]
    assert isinstance(error, RecordingError) and "split_1.mcap" in str(error)
    assert "3 messages before it were readable" in str(error)


@pytest.mark.parametrize("write", (write_texts, write_sqlite))
def test_files_compressed_as_a_whole(tmp_path, write):
    rows = write(tmp_path / "bag", 40)
    plain = next(f for f in (tmp_path / "bag").iterdir() if f.suffix in (".mcap", ".db3"))
    packed = plain.with_name(plain.name + ".zstd")
    packed.write_bytes(zstandard.compress(plain.read_bytes()))
    plain.unlink()
    rewrite_metadata(tmp_path / "bag", relative_file_paths=[packed.name],
                     compression_format="zstd", compression_mode="FILE")
    with BagReader(tmp_path / "bag") as reader:
        assert rows_of(reader) == rows and reader.compression == "zstd (file)"
    whole = packed.read_bytes()
    packed.write_bytes(whole[:len(whole) // 2])
    with BagReader(tmp_path / "bag") as reader:
        found, error = readable_part(reader)
    assert found == rows[:len(found)] and isinstance(error, RecordingError)


def test_messages_compressed_one_by_one(tmp_path):
    rows = write_sqlite(tmp_path / "bag", 10)
    database = sqlite3.connect(next((tmp_path / "bag").glob("*.db3")))
    for row, data in database.execute("SELECT id, data FROM messages").fetchall():
        database.execute("UPDATE messages SET data = ? WHERE id = ?",
                         (zstandard.compress(data), row))
    database.commit()
    database.close()
    with BagReader(tmp_path / "bag") as reader:
        assert rows_of(reader) == rows


def test_a_write_ahead_log_beside_the_file_is_read(tmp_path):
    rows = write_sqlite(tmp_path / "bag", 10)
    path = next((tmp_path / "bag").glob("*.db3"))
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)",
                     (START_NS + 10 * MS, text_bytes("last")))
    database.commit()  # and not closed: the message is in the log alone
    with BagReader(tmp_path / "bag") as reader:
        assert rows_of(reader) == [*rows, ("/text_0", START_NS + 10 * MS, text_bytes("last"))]
    database.close()


# -- MCAP as others write it ---------------------------------------------------------------------


@pytest.mark.parametrize("options", (
    {"use_chunking": False}, {"index_types": IndexType.NONE}, {"repeat_channels": False},
    {"repeat_schemas": False, "repeat_channels": False, "use_statistics": False},
    {"use_summary_offsets": False, "enable_crcs": False},
    {"chunk_size": 10, "compression": CompressionType.LZ4},
    {"index_types": IndexType.NONE, "use_statistics": False, "repeat_channels": False,
         "use_chunking": False}), ids=str)
def test_no_summary_or_index_is_needed(tmp_path, options):
    path, stamps = tmp_path / "other.mcap", [5, 3, 4, 9, 9, 7, 1]
    with path.open("wb") as file:
        writer = McapWriter(file, **options)
        writer.start("ros2", "test")
        schema = writer.register_schema(STRING, "ros2msg", b"string data")
        channel = writer.register_channel("/a", "cdr", schema)
        for i, stamp in enumerate(stamps):
            writer.add_message(channel, stamp, text_bytes(str(i)), stamp)
        writer.finish()
    with BagReader(path) as reader:
        found = [(stamp, message.data) for _, stamp, message in reader.messages()]
        assert reader.topics["/a"].count == len(stamps)
        assert (reader.start_ns, reader.end_ns) == (1, 9)
    assert sorted(found) == sorted((stamp, str(i)) for i, stamp in enumerate(stamps))
    if options.get("chunk_size") or options.get("use_chunking", True):
        assert [stamp for stamp, _ in found] == sorted(stamps), "in the order of log time"


# -- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_torn_mcap_gives_its_readable_part_and_then_the_error(tmp_path, compression):
    rows = write_texts(tmp_path / "bag", 250, compression)
    path = mcap_of(tmp_path / "bag")
    whole = path.read_bytes()
    rng, counts = np.random.default_rng(7), []
    for cut in np.sort(rng.integers(9, len(whole), 12)):
        path.write_bytes(whole[:cut])
        with BagReader(path) as reader:
            found, error = readable_part(reader)
            assert reader.message_count == len(found), "counts are those of the readable part"
        assert found == rows[:len(found)], f"cut at {cut}"
        assert isinstance(error, RecordingError), f"cut at {cut}"
        if found:
            assert f"{len(found)} messages before it" in str(error)
            assert f".{found[-1][1] % 10**9:09d}" in str(error), "the last good stamp is named"
        counts.append(len(found))
    assert counts == sorted(counts) and counts[-1] > 120, "a longer file gives more"


def test_a_torn_end_of_the_index_loses_no_message(tmp_path):
    rows = write_texts(tmp_path / "bag", 50)
    path = mcap_of(tmp_path / "bag")
    path.write_bytes(path.read_bytes()[:-20])
    with BagReader(path) as reader:
        found, error = readable_part(reader)
    assert found == rows and "only its index" in str(error)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_flipped_bytes_never_pass_as_messages(tmp_path, compression):
    """Chunks carry a checksum: what is read is what was written, up to the damage."""
    rows = write_texts(tmp_path / "bag", 250, compression)
    path = mcap_of(tmp_path / "bag")
    whole = bytearray(path.read_bytes())
    for place in np.random.default_rng(3).integers(300, int(len(whole) * 0.9), 8):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        path.write_bytes(broken)
        with BagReader(path) as reader:
            found, error = readable_part(reader)
        if error is None:  # an index record was hit, which is not needed
            assert found == rows
        assert found == rows[:len(found)]
        assert error is None or isinstance(error, RecordingError)


@pytest.mark.parametrize("size", (40, 3000, 20_000))  # many a page, about one, several pages each
def test_a_torn_sqlite_gives_its_readable_part_and_then_the_error(tmp_path, size):
    rows = write_sqlite(tmp_path / "bag", 100, size=size)
    path = next((tmp_path / "bag").glob("*.db3"))
    whole, counts = path.read_bytes(), []
    for share in (0.1, 0.4, 0.6, 0.7, 0.95):
        path.write_bytes(whole[:int(len(whole) * share)])
        with BagReader(path) as reader:
            found, error = readable_part(reader)
        assert found == rows[:len(found)] and isinstance(error, RecordingError)
        counts.append(len(found))
    assert counts == sorted(counts) and counts[-1] > 30


def test_what_is_no_bag_is_named(tmp_path):
    with pytest.raises(RecordingError, match="no such bag"), BagReader(tmp_path / "absent"):
        pass
    with pytest.raises(RecordingError, match=r"no \.mcap or \.db3 file"), BagReader(tmp_path):
        pass
    (tmp_path / "text.mcap").write_text("hello, this is not a bag")
    with BagReader(tmp_path / "text.mcap") as reader:
        found, error = readable_part(reader)
    assert found == [] and "neither MCAP nor SQLite" in str(error)


def test_a_message_that_is_not_its_type_is_an_error_of_ours(tmp_path):
    write_texts(tmp_path / "bag", 1)
    with BagReader(tmp_path / "bag") as reader:
        for data in (b"", b"\x00\x01\x00\x00", b"\x00\x01\x00\x00\xff\xff\xff\xff"):
            with pytest.raises(RecordingError, match="not a std_msgs"):
                reader.deserialize(data, STRING)
        with pytest.raises(RecordingError, match="not known here"):
            reader.deserialize(b"", "no_msgs/msg/Such")
