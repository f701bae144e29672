"""The reader: what came is what was sent, views where that can be, and BadMessage else."""

import array
import tracemalloc
from types import SimpleNamespace as Message

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perception_bev.errors import BadMessage
from perception_bev.messages import read
from perception_bev.raw import RawCloud, RawImage

HUGE = st.sampled_from([0, 1, 2, 3, 7, 16, 2**16, 2**31 - 1, 2**31, 2**32 - 1])


def header(sec=5, nanosec=7, frame_id="sensor"):
    return Message(stamp=Message(sec=sec, nanosec=nanosec), frame_id=frame_id)


def field(name, offset, datatype, count=1):
    return Message(name=name, offset=offset, datatype=datatype, count=count)


def cloud(points, rows_of=1, row_padding=0, is_bigendian=False, **changes):
    """PointCloud2 of float32 x y z in `points` (N, 3), in `rows_of` rows."""
    order = ">f4" if is_bigendian else "<f4"
    rows = points.astype(order).reshape(rows_of, -1).view(np.uint8)
    data = np.pad(rows, ((0, 0), (0, row_padding))).tobytes()
    made = {"header": header(), "width": len(points) // rows_of, "height": rows_of,
            "point_step": 12, "row_step": rows.shape[1] + row_padding,
            "is_bigendian": is_bigendian, "data": data,
            "fields": [field(name, 4 * i, 7) for i, name in enumerate("xyz")]}
    return Message(**{**made, **changes})


def reason_of(function, *arguments):
    with pytest.raises(BadMessage) as caught:
        function(*arguments)
    return caught.value.reason


def test_stamps():
    assert read.stamp_ns(header(3, 4)) == 3_000_000_004
    assert read.stamp_ns(header(0, 0)) == 0
    assert reason_of(read.stamp_ns, header(-1, 0)) == "bad_stamp"
    assert reason_of(read.stamp_ns, header(1, 10**9)) == "bad_stamp"


@given(height=st.integers(1, 4), width=st.integers(1, 5), row_padding=st.integers(0, 9),
       is_bigendian=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_clouds_of_any_layout_keep_their_values(height, width, row_padding, is_bigendian, seed):
    points = np.random.default_rng(seed).normal(size=(height * width, 3)).astype(np.float32)
    points[0, 0] = np.nan
    got = read.read_cloud(cloud(points, height, row_padding, is_bigendian)).points
    np.testing.assert_array_equal(np.stack([got[n] for n in "xyz"], axis=1), points)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: array.array("B", b),
                                  lambda b: np.frombuffer(b, np.uint8)])
def test_buffers_are_viewed_not_copied(kind):
    data = kind(np.arange(60, dtype=np.float32).tobytes())
    msg = cloud(np.zeros((20, 3)), data=data)
    got = read.read_cloud(msg)
    assert np.shares_memory(got.points, np.frombuffer(data, np.uint8))
    assert got.points["z"][3] == 11 and (got.stamp_ns, got.frame_id) == (5_000_000_007, "sensor")


def test_a_list_of_bytes_is_read_too():
    data = list(np.arange(6, dtype=np.float32).tobytes())
    assert read.read_cloud(cloud(np.zeros((2, 3)), data=data)).points["y"].tolist() == [1, 4]


@pytest.mark.parametrize("data", [[300] * 24, ["a"] * 24, "a" * 24, np.zeros(24, np.float32),
                                  array.array("d", [0.0] * 24), np.zeros((24, 1), np.uint8)])
def test_data_that_is_not_bytes(data):
    assert reason_of(read.read_cloud, cloud(np.zeros((2, 3)), data=data)) == "bad_data"


@pytest.mark.parametrize("changes, reason", [
    ({"width": 2**31}, "bad_size"), ({"width": 3}, "bad_size"), ({"row_step": 25}, "bad_size"),
    ({"row_step": 0}, "bad_size"), ({"height": 2**31}, "bad_size"), ({"height": 0}, "bad_size"),
    ({"data": b""}, "bad_size"), ({"point_step": 2**31}, "bad_layout"),
    ({"point_step": 11}, "bad_layout"), ({"point_step": 0, "fields": []}, "bad_size"),
    ({"fields": [field("x", 0, 99)]}, "bad_layout"),
    ({"header": header(-1, 0)}, "bad_stamp")])
def test_inconsistent_clouds_are_named(changes, reason):
    assert reason_of(read.read_cloud, cloud(np.zeros((2, 3)), **changes)) == reason


def test_an_empty_cloud_is_a_cloud():
    empty = read.read_cloud(cloud(np.zeros((0, 3))))
    assert empty.points.shape == (0,) and empty.points.dtype.names == ("x", "y", "z")
    bare = cloud(np.zeros((0, 3)), fields=[], point_step=0)
    assert len(read.read_cloud(bare).points) == 0


def test_too_much_data_is_refused_before_it_is_looked_at(monkeypatch):
    monkeypatch.setattr(read, "MAX_BYTES", 23)
    assert reason_of(read.read_cloud, cloud(np.zeros((2, 3)))) == "too_large"


def peak_bytes(function):
    tracemalloc.start()
    try:
        function()
    except BadMessage:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


# Mostly consistent sizes, so that more than the first check is reached.
@given(width=HUGE, height=st.one_of(st.just(1), HUGE), point_step=HUGE,
       row_step=st.one_of(st.none(), HUGE), size=st.integers(0, 64),
       fields=st.lists(st.tuples(st.sampled_from("xyz"), HUGE, st.integers(0, 255), HUGE)))
@example(width=2**31, height=1, point_step=0, row_step=0, size=0, fields=[])
@example(width=1, height=2**31, point_step=0, row_step=0, size=0, fields=[])
@settings(max_examples=100, deadline=None, derandomize=True)
def test_no_cloud_crashes_or_allocates_much(width, height, point_step, row_step, size, fields):
    row_step = size // max(height, 1) if row_step is None else row_step
    msg = cloud(np.zeros((0, 3)), width=width, height=height, point_step=point_step,
                row_step=row_step, data=bytes(size), fields=[field(*f) for f in fields])

    def check():
        got = read.read_cloud(msg)
        assert isinstance(got, RawCloud) and got.points.nbytes <= size

    assert peak_bytes(check) < 2**20


@given(width=HUGE, height=st.one_of(st.just(1), HUGE), step=st.one_of(st.none(), HUGE),
       size=st.integers(0, 64), big=st.booleans(),
       encoding=st.sampled_from(["rgb8", "mono16", "16", "", "\0"]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_no_image_crashes_or_allocates_much(width, height, step, size, big, encoding):
    msg = Message(header=header(), width=width, height=height, encoding=encoding,
                  step=size // max(height, 1) if step is None else step,
                  is_bigendian=big, data=bytes(size))

    def check():
        got = read.read_image(msg)
        assert isinstance(got, RawImage) and got.rows.nbytes == size

    assert peak_bytes(check) < 2**20


def image(**changes):
    made = {"header": header(), "width": 2, "height": 3, "step": 8, "encoding": "rgb8",
            "is_bigendian": 0, "data": bytes(range(24))}
    return Message(**{**made, **changes})


def test_images_keep_their_padded_rows():
    got = read.read_image(image())
    assert got.rows.shape == (3, 8) and got.rows[1, 0] == 8 and got.encoding == "rgb8"


def test_big_endian_pixels_become_little_endian():
    got = read.read_image(image(encoding="mono16", is_bigendian=1))
    assert got.rows[0, :4].tolist() == [1, 0, 3, 2]


@pytest.mark.parametrize("changes, reason", [
    ({"width": 0}, "empty"), ({"height": 0}, "empty"), ({"data": b""}, "empty"),
    ({"width": 9}, "bad_size"), ({"step": 7}, "bad_size"), ({"height": 2**31}, "bad_size")])
def test_inconsistent_images_are_named(changes, reason):
    assert reason_of(read.read_image, image(**changes)) == reason


def test_compressed_images_are_passed_on_as_they_are():
    got = read.read_compressed_image(Message(header=header(), format="?", data=b"abc"))
    assert bytes(got.data) == b"abc" and got.frame_id == "sensor"
    assert reason_of(read.read_compressed_image, Message(header=header(), data=b"")) == "empty"


def radar_return(*values):
    names = ("range", "azimuth", "elevation", "doppler_velocity", "amplitude")
    return Message(**dict(zip(names, values, strict=True)))


def test_radar_scans_become_cartesian():
    scan = Message(header=header(), returns=[
        radar_return(10.0, 0.0, 0.0, -3.0, 20.0), radar_return(10.0, np.pi / 2, 0.0, 0.0, 0.0),
        radar_return(10.0, 0.0, np.pi / 6, 0.0, 0.0), radar_return(-1.0, 0.0, 0.0, 0.0, 0.0),
        radar_return(np.nan, np.inf, 0.0, 1e300, 0.0)])
    points = read.read_radar_scan(scan).points
    xyz = np.stack([points[n] for n in "xyz"], axis=1)
    np.testing.assert_allclose(xyz[:3], [[10, 0, 0], [0, 10, 0], [75**0.5, 0, 5]], atol=1e-5)
    assert not np.isfinite(xyz[3:]).any()
    assert points["doppler"][0] == -3 and points["amplitude"][0] == 20
    assert len(read.read_radar_scan(Message(header=header(), returns=[])).points) == 0


def test_radar_scans_are_limited(monkeypatch):
    monkeypatch.setattr(read, "MAX_RETURNS", 1)
    scan = Message(header=header(), returns=[radar_return(1.0, 0.0, 0.0, 0.0, 0.0)] * 2)
    assert reason_of(read.read_radar_scan, scan) == "too_large"


def info(**changes):
    made = {"header": header(), "width": 640, "height": 480, "distortion_model": "plumb_bob",
                "d": [0.1, 0.01, 0.001, 0.002, 0.003], "k": [500.0, 0, 320, 0, 510, 240, 0, 0, 1]}
    return Message(**{**made, **changes})


@pytest.mark.parametrize("name, d, model, expected", [
    ("plumb_bob", [], "pinhole", []),
    ("", [], "pinhole", []),
    ("plumb_bob", [1, 2, 3, 4], "plumb_bob", [1, 2, 3, 4, 0]),
    ("rational_polynomial", range(8), "rational_polynomial", range(8)),
    ("rational_polynomial", [*range(8), 0, 0, 0, 0], "rational_polynomial", range(8)),
    ("equidistant", [1, 2, 3, 4], "equidistant", [1, 2, 3, 4]),
    ("fisheye", [1, 2, 3, 4], "equidistant", [1, 2, 3, 4])])
def test_lenses(name, d, model, expected):
    got = read.read_camera_info(info(distortion_model=name, d=[float(x) for x in d]))
    assert got.model == model and got.distortion.tolist() == list(expected)


@pytest.mark.parametrize("changes, reason", [
    ({"k": [0.0] * 9}, "uncalibrated"), ({"k": [1.0]}, "bad_camera_info"),
    ({"k": [np.nan] * 9}, "bad_camera_info"), ({"width": 0}, "bad_camera_info"),
    ({"width": 2**31}, "bad_camera_info"), ({"d": [np.inf] * 5}, "bad_camera_info"),
    ({"distortion_model": "thin_prism"}, "bad_camera_info"),
    ({"distortion_model": ""}, "bad_camera_info"),
    ({"d": [1.0] * 6}, "bad_camera_info"), ({"binning_x": 1000}, "bad_camera_info")])
def test_bad_camera_infos_are_named(changes, reason):
    assert reason_of(read.read_camera_info, info(**changes)) == reason


def test_region_and_binning_describe_the_pictures_as_sent():
    roi = Message(x_offset=100, y_offset=50, width=400, height=300, do_rectify=False)
    points = np.array([[0.1, -0.1, 1.0], [0.0, 0.2, 2.0]])
    full = read.read_camera_info(info()).project(points)[0]
    sent = read.read_camera_info(info(roi=roi, binning_x=2, binning_y=2))
    assert (sent.width, sent.height) == (200, 150)
    np.testing.assert_allclose(sent.project(points)[0], (full - [100, 50] + 0.5) / 2 - 0.5)


def quaternion(x, y, z, w):
    return Message(x=x, y=y, z=z, w=w)


def vector(x, y, z):
    return Message(x=x, y=y, z=z)


def test_transforms_without_leading_slashes():
    stamped = Message(header=header(frame_id="/base_link"), child_frame_id="/lidar",
                      transform=Message(translation=vector(1.0, 2.0, 3.0),
                                        rotation=quaternion(0.0, 0.0, 1.0, 1.0)))
    [(parent, child, pose, stamp)] = read.read_transforms(Message(transforms=[stamped]))
    assert (parent, child, stamp) == ("base_link", "lidar", 5_000_000_007)
    np.testing.assert_allclose(pose.apply(np.array([1.0, 0, 0])), [1, 3, 3])


@pytest.mark.parametrize("rotation", [quaternion(0, 0, 0, 0), quaternion(np.nan, 0, 0, 1),
                                      quaternion(np.inf, 0, 0, 1), quaternion(1e300, 0, 0, 1e300)])
def test_transforms_without_rotation_are_refused(rotation):
    stamped = Message(header=header(), child_frame_id="lidar",
                      transform=Message(translation=vector(0, 0, 0), rotation=rotation))
    assert reason_of(read.read_transforms, Message(transforms=[stamped])) == "bad_transform"


def odometry(position=(1.0, 2.0, 3.0), linear=(4.0, 0.0, 0.0), angular=(0.0, 0.0, 0.5)):
    return Message(header=header(frame_id="odom"), child_frame_id="base_link",
                   pose=Message(pose=Message(position=vector(*position),
                                             orientation=quaternion(0.0, 0.0, 0.0, 1.0))),
                   twist=Message(twist=Message(linear=vector(*linear), angular=vector(*angular))))


def test_odometry():
    stamp, odom_from_base, linear, angular = read.read_odometry(odometry())
    assert stamp == 5_000_000_007 and odom_from_base.translation.tolist() == [1, 2, 3]
    assert linear.tolist() == [4, 0, 0] and angular.tolist() == [0, 0, 0.5]


@pytest.mark.parametrize("bad", [{"position": (np.nan, 0, 0)}, {"linear": (np.inf, 0, 0)},
                                 {"angular": (0, 0, np.nan)}])
def test_odometry_that_is_not_finite_is_refused(bad):
    assert reason_of(read.read_odometry, odometry(**bad)) == "bad_odometry"
