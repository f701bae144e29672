"""Serialized messages: the same frames as through other deserialisers, nothing read outside."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev.errors import BadMessage
from perception_bev.geometry import SE3
from perception_bev.messages import cdr, read
from perception_bev.messages.write import MessageWriter, packed_array
from perception_bev.raw import EncodedImage, RawCloud, RawImage

typesys = pytest.importorskip("rosbags.typesys")
SerdeError = pytest.importorskip("rosbags.serde").SerdeError
STORE = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
WRITER = MessageWriter(lambda name: STORE.types[name], np.ascontiguousarray)
PAIRS = {"sensor_msgs/msg/CompressedImage": (cdr.read_compressed_image, read.read_compressed_image),
         "sensor_msgs/msg/Image": (cdr.read_image, read.read_image),
         "sensor_msgs/msg/PointCloud2": (cdr.read_cloud, read.read_cloud)}
POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("ring", "u1"), ("t", "<f8")])
# What rosbags refuses and rclpy does not.
STRICT = ("utf-8", "size mismatch", "string terminator", "string length 0")
stamps, names = st.integers(0, 2**31 * 10**9 - 1), st.text("aé/_1", max_size=9)


@st.composite
def frames(draw):
    """A raw frame of any of the three kinds; strings of all lengths move what follows."""
    kind, chance = draw(st.integers(0, 2)), np.random.default_rng(draw(st.integers(0, 99)))
    origin = draw(stamps), draw(names).lstrip("/")
    if kind == 0:
        return EncodedImage(*origin, chance.integers(0, 256, draw(st.integers(1, 30)), np.uint8))
    if kind == 1:
        height, step = draw(st.integers(1, 3)), draw(st.integers(1, 9))
        rows = chance.integers(0, 256, (height, step), np.uint8)
        return RawImage(*origin, draw(names), draw(st.integers(1, step)), height, rows)
    points = np.zeros(draw(st.integers(0, 4)), POINT)
    points["x"], points["t"] = chance.normal(size=(2, len(points)))
    return RawCloud(*origin, points)


def message_of(frame):
    return {EncodedImage: WRITER.compressed_image, RawImage: WRITER.image,
            RawCloud: WRITER.cloud}[type(frame)](frame)


def serialized(message, little_endian=True) -> bytes:
    return bytes(STORE.serialize_cdr(message, message.__msgtype__, little_endian=little_endian))


def array_of(frame) -> np.ndarray:
    return {EncodedImage: lambda: frame.data, RawImage: lambda: frame.rows,
            RawCloud: lambda: frame.points}[type(frame)]()


def same(a, b) -> bool:
    names = [n for n in type(a).__slots__ if n not in ("data", "rows", "points")]
    x, y = array_of(a), array_of(b)
    return (type(a) is type(b) and all(getattr(a, n) == getattr(b, n) for n in names)
            and x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes())


def outcome(function, data):
    """The frame, or the reason of its refusal."""
    try:
        return function(data)
    except BadMessage as err:
        return err.reason


@given(frame=frames(), little_endian=st.booleans())
@settings(max_examples=80)
def test_both_byte_orders_give_what_was_written(frame, little_endian):
    message = message_of(frame)
    data = serialized(message, little_endian)
    ours, _ = PAIRS[message.__msgtype__]
    assert same(ours(data), frame)


@given(frame=frames())
@settings(max_examples=30)
def test_data_is_a_view_of_the_bytes(frame):
    message = message_of(frame)
    whole = np.frombuffer(serialized(message), np.uint8)
    got = array_of(PAIRS[message.__msgtype__][0](whole))
    assert got.size == 0 or np.shares_memory(got, whole)


@given(frame=frames(), offset=st.integers(0, 3))
@settings(max_examples=30)
def test_a_cut_message_is_refused_wherever_it_was_cut(frame, offset):
    """Behind the cut lie the bytes that lack: whoever reads outside gets the whole frame."""
    message = message_of(frame)
    data = serialized(message)
    ours, _ = PAIRS[message.__msgtype__]
    inside = memoryview(b"\xff" * offset + data)[offset:]
    for length in range(len(data)):
        assert outcome(ours, inside[:length]) in ("truncated", "bad_cdr")
    assert same(ours(inside), frame)


@given(frame=frames(), little_endian=st.booleans(),
       changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1,
                        max_size=4))
@settings(max_examples=250)
def test_damage_is_refused_or_read_as_the_other_deserialiser_reads_it(frame, little_endian,
                                                                      changes):
    message = message_of(frame)
    damaged = bytearray(serialized(message, little_endian))
    for place, value in changes:
        damaged[place % len(damaged)] = value
    ours, theirs = PAIRS[message.__msgtype__]
    got = outcome(ours, damaged)
    if isinstance(got, str):
        return
    assert got is not None and array_of(got).nbytes <= len(damaged)
    try:
        oracle = theirs(STORE.deserialize_cdr(bytes(damaged), message.__msgtype__))
    except SerdeError as err:
        assert any(text in str(err) for text in STRICT), err
        return
    assert same(got, oracle)


@given(st.binary(max_size=80), st.sampled_from(sorted(PAIRS)))
@settings(max_examples=150)
def test_any_bytes_give_a_frame_or_a_reason(noise, kind):
    got = outcome(PAIRS[kind][0], b"\x00\x01\x00\x00" + noise)
    assert isinstance(got, (str, EncodedImage, RawImage, RawCloud))


@given(frame=frames())
@settings(max_examples=30)
def test_rclpy_writes_the_same_and_reads_the_same(frame):
    serialization = pytest.importorskip("rclpy.serialization")
    from sensor_msgs import msg as sensor_msgs

    message = message_of(frame)
    kind = message.__msgtype__
    types = _rclpy_types(sensor_msgs)
    theirs = {EncodedImage: MessageWriter.compressed_image, RawImage: MessageWriter.image,
              RawCloud: MessageWriter.cloud}[type(frame)](MessageWriter(types, packed_array), frame)
    data = serialization.serialize_message(theirs)
    ours, typed = PAIRS[kind]
    assert same(ours(data), frame)
    assert same(typed(serialization.deserialize_message(serialized(message), type(theirs))),
                ours(serialized(message)))


def _rclpy_types(sensor_msgs):
    from builtin_interfaces.msg import Time
    from std_msgs.msg import Header

    others = {"builtin_interfaces/msg/Time": Time, "std_msgs/msg/Header": Header}
    return lambda name: others.get(name) or getattr(sensor_msgs, name.rpartition("/")[2])


def image_bytes(order="<", frame_length=None, data_length=None, kind=1, step=3, height=1):
    """An Image of 1x1 rgb8, by hand; lengths may lie."""
    text = b"cam\0"
    frame_length = len(text) if frame_length is None else frame_length
    data = struct.pack(">HH", kind, 0) + struct.pack(order + "iII", 5, 7, frame_length)
    data += text + struct.pack(order + "III", height, 1, 5) + b"rgb8\0" + b"\0" + b"\0\0"
    return data + struct.pack(order + "II", step, 3 if data_length is None else data_length) + (
        b"abc")


def test_the_layout_by_hand():
    for order, kind in (("<", 1), (">", 0)):
        got = cdr.read_image(image_bytes(order, kind=kind))
        assert (got.stamp_ns, got.frame_id, got.encoding) == (5_000_000_007, "cam", "rgb8")
        assert got.rows.tobytes() == b"abc"


@pytest.mark.parametrize("changes, reason", [
    ({"frame_length": 2**32 - 1}, "too_large"), ({"frame_length": 4000}, "truncated"),
    ({"data_length": 2**32 - 1}, "truncated"), ({"data_length": 4}, "truncated"),
    ({"data_length": 2}, "bad_size"), ({"step": 2**31}, "bad_size"), ({"height": 0}, "empty"),
    ({"kind": 2}, "bad_cdr"), ({"kind": 7}, "bad_cdr"), ({"kind": 0x100}, "bad_cdr")])
def test_lengths_that_lie(changes, reason):
    assert outcome(cdr.read_image, image_bytes(**changes)) == reason


def test_absurd_numbers_of_fields_are_refused_before_they_are_read():
    head = b"\x00\x01\x00\x00" + struct.pack("<iII", 5, 7, 1) + b"\0\0\0\0"
    assert outcome(cdr.read_cloud, head + struct.pack("<III", 1, 1, 2**32 - 1)) == "bad_layout"
    assert outcome(cdr.read_cloud, head + struct.pack("<III", 1, 1, 200)) == "truncated"


@pytest.mark.parametrize("text", [b"", b"cam", b"cam\0", b"c\xff\0"])
def test_strings_with_and_without_their_zero(text):
    data = b"\x00\x01\x00\x00" + struct.pack("<iII", 5, 7, len(text)) + text
    data += b"\0" * (-len(text) % 4) + struct.pack("<II", 0, 1) + b"x"
    expected = text.removesuffix(b"\0").decode(errors="replace")
    assert cdr.read_compressed_image(data).frame_id == expected


@pytest.mark.parametrize("thing", [None, "text", 5, [1, 2], SimpleNamespace(data=b"")])
def test_what_is_no_buffer(thing):
    assert outcome(cdr.read_image, thing) == "bad_data"


def test_padding_behind_a_message_is_ignored():
    assert same(cdr.read_image(image_bytes() + b"\0\0\0"), cdr.read_image(image_bytes()))


LAYOUTS = [np.dtype([(name, kind) for name in names.split()])
           for names in ("x y z", "x y v", "x y zz") for kind in ("<f4", "<f8")]


def test_layouts_take_turns_and_are_not_mixed_up():
    """Equal numbers of fields, equal beginnings, equal sizes; each comes again after the others."""
    clouds = [RawCloud(5, "top", np.ones(2, layout)) for layout in LAYOUTS]
    for cloud in clouds * 3:
        for little_endian in (True, False):
            assert same(cdr.read_cloud(serialized(message_of(cloud), little_endian)), cloud)


def test_remembered_layouts_are_few_and_small():
    for number in range(2 * cdr._layouts.KEPT):
        for name in (f"f{number}", "long" * 2000 + str(number)):
            cloud = RawCloud(5, "top", np.ones(2, [(name, "<f4")]))
            assert same(cdr.read_cloud(serialized(message_of(cloud))), cloud)
    assert len(cdr._layouts._known) == cdr._layouts.KEPT
    assert all(len(block) <= cdr._layouts.MAX_BYTES for _, _, block, _ in cdr._layouts._known)


def test_a_remembered_layout_is_not_read_beyond_the_message():
    data = serialized(message_of(RawCloud(5, "top", np.ones(1, LAYOUTS[0]))))
    assert same(cdr.read_cloud(data), cdr.read_cloud(data))
    for length in range(len(data)):
        assert outcome(cdr.read_cloud, memoryview(data)[:length]) in ("truncated", "bad_cdr")


@given(child=names, frame=names, stamp=stamps, little_endian=st.booleans(),
       seed=st.integers(0, 99))
@settings(max_examples=40)
def test_odometry_is_what_the_other_deserialiser_reads(child, frame, stamp, little_endian, seed):
    values = np.random.default_rng(seed).normal(size=(3, 3))
    message = WRITER.odometry(stamp, SE3.from_rpy(values[0], values[1]), values[1], values[2],
                              frame, child)
    message.pose.covariance[:], message.twist.covariance[:] = np.nan, 7.0
    data = serialized(message, little_endian)
    ours, theirs = cdr.odometry(data), STORE.deserialize_cdr(serialized(message),
                                                             message.__msgtype__)
    assert ours.child_frame_id == theirs.child_frame_id == child
    assert ours.header.frame_id == frame
    got, expected = read.read_odometry(ours), read.read_odometry(theirs)
    assert got.stamp_ns == expected.stamp_ns == stamp
    for field in ("linear", "angular"):
        np.testing.assert_array_equal(getattr(got, field), getattr(expected, field))
    np.testing.assert_array_equal(got.odom_from_base.rotation, expected.odom_from_base.rotation)
    np.testing.assert_array_equal(got.odom_from_base.translation, values[0])


def test_odometry_that_was_cut_is_refused():
    data = serialized(WRITER.odometry(5, SE3.identity(), np.zeros(3), np.zeros(3)))
    inside = memoryview(data + b"\xff" * 9)
    for length in range(len(data)):
        assert outcome(cdr.odometry, inside[:length]) in ("truncated", "bad_cdr")
    assert outcome(cdr.odometry, None) == "bad_data"
    assert cdr.odometry(inside).child_frame_id == "base_link"
