"""When what is played with which stamps: laws of the pace, of epochs and of restamping."""

import numpy as np
import pytest
from bag_scenes import MS, START_NS, STRING, SmallRecording
from hypothesis import given
from hypothesis import strategies as st

from perception_bev.errors import RecordingError
from perception_bev.geometry import SE3, CameraModel
from perception_bev.recordings.bag_reader import BagReader, RawMessage
from perception_bev.recordings.bag_types import TypeBook, jazzy
from perception_bev.recordings.convert import convert
from perception_bev.recordings.playback import Epochs, Pace, Restamper, leading_stamp
from perception_bev.recordings.sample_messages import WRITER

NOW_NS = 1_800_000_000 * 10**9
DELTAS = st.integers(0, 10**13)
RATES = st.floats(0.01, 100)


def message(ms, topic="/top"):
    return RawMessage(topic, STRING, START_NS + ms * MS, b"", (0,))


@given(DELTAS, RATES)
def test_bag_time_and_due_time_are_inverse(delta, rate):
    pace = Pace(START_NS, 5_000, NOW_NS, rate)
    due = pace.due_mono_ns(START_NS + delta)
    assert due == pytest.approx(5_000 + delta / rate, abs=1)
    assert abs(pace.bag_time_ns(due) - (START_NS + delta)) <= rate + 1 + delta * 1e-15


@given(DELTAS, RATES)
def test_original_stamps_are_never_moved(delta, rate):
    pace = Pace(START_NS, 0, NOW_NS, rate, "original")
    assert pace.shift_ns(START_NS + delta) == 0
    assert pace.clock_ns(START_NS + delta) == START_NS + delta


@given(DELTAS, RATES)
def test_fresh_stamps_were_logged_when_they_are_published(delta, rate):
    pace = Pace(START_NS, 0, NOW_NS, rate, "fresh")
    log = START_NS + delta
    assert log + pace.shift_ns(log) == NOW_NS + pace.due_mono_ns(log) == pace.clock_ns(log)


@given(st.lists(DELTAS, min_size=2, max_size=20))
def test_at_rate_1_all_fresh_stamps_move_alike(deltas):
    pace = Pace(START_NS, 0, NOW_NS, 1.0, "fresh")
    assert len({pace.shift_ns(START_NS + d) for d in deltas}) == 1


def test_anchored_anew_the_clock_does_not_run_back():
    pace = Pace(START_NS, 0, NOW_NS, 1.0, "fresh")
    later = pace.anchored(START_NS + 100 * MS, 5_000 * MS, NOW_NS + 5_000 * MS)
    assert later.due_mono_ns(START_NS + 100 * MS) == 5_000 * MS
    assert later.clock_ns(START_NS + 100 * MS) > pace.clock_ns(START_NS + 100 * MS)


def numbers(epochs, messages):
    return [epochs.before(m) for m in messages]


def test_the_first_message_begins_an_epoch_and_gaps_do():
    epochs = Epochs(300 * MS, (), ())
    found = numbers(epochs, [message(ms) for ms in (0, 100, 400, 701, 800, 500)])
    assert found == [0, None, None, 1, None, None]
    assert epochs.before(message(100)) == 2, "backwards beyond the limit is a gap as well"


def test_what_the_bag_announces_is_announced_once():
    epochs = Epochs(300 * MS, {"/epoch"}, {"/epoch", "/tf_static"})
    found = numbers(epochs, [
        message(0, "/epoch"), message(0, "/tf_static"), message(1), message(100),
        message(101, "/epoch"), message(102), message(900, "/epoch"), message(901),
        message(2000), message(2001, "/epoch"), message(2002)])
    assert found == [0, None, None, None, 1, None, 2, None, 3, 4, None]


def test_latched_messages_do_not_fill_a_gap():
    epochs = Epochs(300 * MS, (), {"/tf_static"})
    found = numbers(epochs, [message(0), message(200, "/tf_static"), message(400)])
    assert found == [0, None, 1]


def test_a_static_tree_before_the_first_announcement_is_of_its_epoch():
    epochs = Epochs(300 * MS, {"/epoch"}, {"/tf_static"})
    assert numbers(epochs, [message(0, "/tf_static"), message(1, "/epoch"), message(2)]) == [
        0, None, None]


def test_a_loop_begins_an_epoch_even_where_the_stamps_go_on():
    epochs = Epochs(300 * MS, (), ())
    assert epochs.before(message(0)) == 0
    epochs.restart()
    assert epochs.before(message(10)) == 1


# -- stamps in serialised messages ---------------------------------------------------------------


@pytest.fixture(scope="module")
def all_messages(tmp_path_factory):
    path = tmp_path_factory.mktemp("bags") / "bag"
    convert(SmallRecording((3,)), path)
    reader = BagReader(path)
    with reader:
        yield reader, list(reader.raw_messages())


def stamps_in(message):
    """Every stamp of a message that has been deserialised [ns]."""
    found = []
    for name in getattr(message, "__dataclass_fields__", {}):
        value = getattr(message, name)
        if name == "stamp":
            found.append(value.sec * 10**9 + value.nanosec)
        for item in value if isinstance(value, list) else (value,):
            found += stamps_in(item) if hasattr(item, "__msgtype__") else []
    return found


@pytest.mark.parametrize("shift", (1, -1, 10**9, 123_456_789_012, -5_999_999_999))
def test_every_stamp_is_moved_and_nothing_else(all_messages, shift):
    reader, raws = all_messages
    restamper = Restamper(reader.types)
    for raw in raws:
        moved = restamper.shift(raw.data, raw.type, shift)
        before, after = (stamps_in(reader.deserialize(data, raw.type))
                         for data in (raw.data, moved))
        assert after == [stamp + shift for stamp in before], raw.topic
        assert restamper.shift(moved, raw.type, -shift) == raw.data, raw.topic


def test_headers_are_patched_without_decoding(all_messages, monkeypatch):
    reader, raws = all_messages
    restamper = Restamper(reader.types)
    monkeypatch.setattr(reader.types, "deserialize", None)
    beginnings = ("/camera", "/lidar", "/radar", "/odom")
    sensors = [raw for raw in raws if raw.topic.startswith(beginnings)]
    assert len(sensors) == 3 * (2 + 1 + 2 + 1)
    for raw in sensors:
        assert leading_stamp(restamper.shift(raw.data, raw.type, 7)) == leading_stamp(raw.data) + 7


INFO = "sensor_msgs/msg/CameraInfo"
LENS = CameraModel(4, 3, np.array([[2.0, 0, 2], [0, 2, 1], [0, 0, 1]]))


@pytest.mark.parametrize("little", (True, False))
def test_both_byte_orders(little):
    data = bytes(jazzy().serialize_cdr(WRITER.camera_info(LENS, 5, "f"), INFO,
                                       little_endian=little))
    assert leading_stamp(data) == 5
    moved = Restamper(TypeBook()).shift(data, INFO, 3_000_000_001)
    assert leading_stamp(moved) == 3_000_000_006 and moved[12:] == data[12:]


@pytest.mark.parametrize("make", (
    lambda stamp: (WRITER.camera_info(LENS, stamp, "f"), INFO),
    lambda stamp: (WRITER.transforms([("a", "b", SE3.identity(), stamp)]),
                   "tf2_msgs/msg/TFMessage")))
def test_a_stamp_of_zero_means_none_and_stays(make):
    restamper = Restamper(TypeBook())
    none, some = (bytes(jazzy().serialize_cdr(*make(stamp))) for stamp in (0, 1))
    assert restamper.shift(none, make(0)[1], 10**9) == none
    assert restamper.shift(some, make(0)[1], 10**9) != some


def test_messages_without_stamps_are_not_touched():
    data = np.random.default_rng(0).bytes(50)
    assert Restamper(TypeBook()).shift(data, STRING, 10**9) is data


def test_too_few_bytes_for_a_header_are_an_error():
    with pytest.raises(RecordingError, match="hold no header"):
        leading_stamp(b"\x00\x01\x00\x00\x05")
