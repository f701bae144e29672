"""read(write(x)) == x, through the bytes of both worlds: rosbags' and rclpy's messages."""

import numpy as np
import pytest

from perception_bev.geometry import SE3, CameraModel
from perception_bev.messages import read
from perception_bev.messages.write import MessageWriter, packed_array, time_parts
from perception_bev.raw import EncodedImage, RawCloud, RawImage


def rosbags_world():
    typesys = pytest.importorskip("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)

    def through_bytes(msg):
        return store.deserialize_cdr(store.serialize_cdr(msg, msg.__msgtype__), msg.__msgtype__)

    return MessageWriter(lambda name: store.types[name], np.ascontiguousarray), through_bytes


def rclpy_world():
    serialization = pytest.importorskip("rclpy.serialization")

    def types(name):
        package, _, kind = name.split("/")
        return getattr(pytest.importorskip(f"{package}.msg"), kind)

    def through_bytes(msg):
        return serialization.deserialize_message(serialization.serialize_message(msg), type(msg))

    return MessageWriter(types, packed_array), through_bytes


@pytest.fixture(params=[rosbags_world, rclpy_world], ids=["rosbags", "rclpy"])
def world(request):
    return request.param()


def test_time_parts():
    assert time_parts(3_000_000_004) == (3, 4)
    assert time_parts(np.int64(999_999_999)) == (0, 999_999_999)


def test_compressed_image(world):
    writer, through_bytes = world
    got = read.read_compressed_image(through_bytes(writer.compressed_image(
        EncodedImage(1_500_000_000, "front", b"\xff\xd8\xff\0"))))
    assert (got.stamp_ns, got.frame_id, bytes(got.data)) == (1_500_000_000, "front",
                                                             b"\xff\xd8\xff\0")


def test_image(world):
    writer, through_bytes = world
    rows = np.arange(24, dtype=np.uint8).reshape(3, 8)
    got = read.read_image(through_bytes(writer.image(RawImage(7, "front", "rgb8", 2, 3, rows))))
    assert (got.stamp_ns, got.encoding, got.width, got.height) == (7, "rgb8", 2, 3)
    np.testing.assert_array_equal(got.rows, rows)


@pytest.mark.parametrize("dtype", [
    np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")]),
    np.dtype([("x", ">f8"), ("ring", "u1"), ("colour", ">u2", (3,))]),
    np.dtype({"names": ["t", "x"], "formats": ["<u4", "<f4"], "offsets": [18, 4],
              "itemsize": 24})])
def test_cloud(world, dtype):
    writer, through_bytes = world
    points = np.zeros(5, dtype)
    for name in dtype.names:
        points[name] = np.random.default_rng(0).integers(0, 99, points[name].shape)
    got = read.read_cloud(through_bytes(writer.cloud(RawCloud(9, "lidar", points))))
    assert got.points.dtype == dtype and (got.stamp_ns, got.frame_id) == (9, "lidar")
    np.testing.assert_array_equal(got.points, points)


@pytest.mark.parametrize("model, count", list(CameraModel.COEFFICIENTS.items()))
def test_camera_info(world, model, count):
    writer, through_bytes = world
    lens = CameraModel(640, 480, np.array([[500, 0, 320], [0, 510, 240], [0, 0, 1.0]]), model,
                       np.linspace(0.1, 0.2, count))
    got = read.read_camera_info(through_bytes(writer.camera_info(lens, 7, "front")))
    assert (got.width, got.height, got.model) == (640, 480, model)
    np.testing.assert_array_equal(got.k, lens.k)
    np.testing.assert_array_equal(got.distortion, lens.distortion)


POSE = SE3.from_rpy(np.array([1.0, -2.0, 0.5]), np.array([0.1, -0.2, 3.0]))


def same(a: SE3, b: SE3) -> bool:
    return np.allclose(a.matrix, b.matrix, atol=1e-12)


def test_transforms(world):
    writer, through_bytes = world
    try:
        msg = writer.transforms([("base_link", "lidar", POSE, 11), ("odom", "base_link", POSE, 12)])
    except ImportError:
        pytest.skip("tf2_msgs is not installed")
    first, second = read.read_transforms(through_bytes(msg))
    assert first[:2] == ("base_link", "lidar") and same(first[2], POSE) and first[3] == 11
    assert second[:2] == ("odom", "base_link") and second[3] == 12


def test_odometry(world):
    writer, through_bytes = world
    got = read.read_odometry(through_bytes(writer.odometry(
        13, POSE, np.array([4.0, 0, 0]), np.array([0, 0, 0.5]))))
    assert got.stamp_ns == 13 and same(got.odom_from_base, POSE)
    assert got.linear.tolist() == [4, 0, 0] and got.angular.tolist() == [0, 0, 0.5]
