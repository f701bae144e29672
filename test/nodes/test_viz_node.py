"""The viz node among real topics: it draws for those who watch, and listens for nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytestmark = pytest.mark.ros

import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import qos_profile_sensor_data  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from vision_msgs.msg import (  # noqa: E402
    Detection3D,
    Detection3DArray,
    ObjectHypothesisWithPose,
)
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from perception_bev.contracts import Boxes3D  # noqa: E402
from perception_bev.errors import ConfigError  # noqa: E402
from perception_bev.messages.detections import read_detections  # noqa: E402
from perception_bev.nodes.markers import marker_array  # noqa: E402
from perception_bev.nodes.viz_node import VizNode  # noqa: E402

PATIENCE_S = 30.0
RIG = """
name: car
reference: {sensor: front}
cameras:
  front:
    topic: camera/front/image/compressed
    frame_id: front
    extrinsics: {translation: [0, 0, 1.5], rotation_rpy_deg: [-90, 0, -90]}
    intrinsics: {width: 320, height: 240, k: [200, 200, 159.5, 119.5]}
"""


def objects(stamp_s: int, *centres: tuple[float, float, float]) -> Detection3DArray:
    message = Detection3DArray(header=Header(frame_id="base_link"))
    message.header.stamp.sec = stamp_s
    for x, y, z in centres:
        found = Detection3D()
        p, found.bbox.size.x = found.bbox.center.position, 4.0
        p.x, p.y, p.z = float(x), float(y), float(z)
        found.bbox.size.y, found.bbox.size.z = 2.0, 1.5
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = "car", 0.9
        found.results.append(hypothesis)
        message.detections.append(found)
    return message


def image(stamp_s: int) -> CompressedImage:
    data = cv2.imencode(".jpg", np.full((240, 320, 3), 90, np.uint8))[1]
    message = CompressedImage(header=Header(frame_id="front"), format="jpeg", data=data.tobytes())
    message.header.stamp.sec = stamp_s
    return message


def test_detections_are_read_and_those_that_are_not_finite_left_out():
    boxes, left_out = read_detections(objects(5, (10, 1, 0), (np.nan, 0, 0), (20, -1, 0)))
    assert left_out == 1 and len(boxes) == 2 and boxes.classes == ("car",)
    np.testing.assert_allclose(boxes.centre[:, 0], [10, 20])
    np.testing.assert_allclose(boxes.size[0], [4.0, 2.0, 1.5])


def test_no_detections_are_no_boxes():
    boxes, left_out = read_detections(Detection3DArray())
    assert len(boxes) == 0 and left_out == 0


@pytest.mark.parametrize("yaw", [-3.0, -0.5, 0.0, 2.0])
def test_heading_is_read_from_the_quaternion(yaw):
    message = objects(5, (10, 0, 0))
    q = message.detections[0].bbox.center.orientation
    q.z, q.w = float(np.sin(yaw / 2)), float(np.cos(yaw / 2))
    assert read_detections(message)[0].yaw[0] == pytest.approx(yaw, abs=1e-6)


def test_a_detection_without_hypothesis_is_unknown():
    message = objects(5, (10, 0, 0))
    message.detections[0].results = []
    assert read_detections(message)[0].classes == ("unknown",)


def test_markers_replace_the_ones_before_and_vanish_by_themselves():
    boxes, _ = read_detections(objects(5, (10, 1, 0), (20, -1, 0)))
    array = marker_array(boxes, Header(frame_id="base_link"), 0.5, "full").markers
    assert array[0].action == Marker.DELETEALL
    cubes = [m for m in array if m.type == Marker.CUBE and m.ns == "boxes"]
    assert len(cubes) == 2 and cubes[0].scale.x == 4.0 and cubes[1].pose.position.x == 20.0
    assert all(m.lifetime.nanosec == 500_000_000 for m in array[1:])
    assert len({(m.ns, m.id) for m in array[1:]}) == len(array) - 1, "ids differ"
    assert all(0.0 <= c <= 1.0 for m in cubes for c in (m.color.r, m.color.g, m.color.b, m.color.a))


def test_no_objects_give_no_box_markers():
    array = marker_array(Boxes3D.empty(("car",)), Header(), 0.5, "").markers
    assert not [m for m in array if m.action == Marker.ADD and m.type == Marker.CUBE and m.ns]


@pytest.fixture
def world(tmp_path):
    """A viz node, a node beside it, and a way to wait for things to happen between them."""
    path = tmp_path / "rig.yaml"
    path.write_text(RIG)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=1 + os.getpid() % 100)
    viz = VizNode(context=context, parameter_overrides=[
        Parameter("rig", value=str(path)), Parameter("refresh_ms", value=50)])
    other = rclpy.create_node("other", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(viz)
    executor.add_node(other)

    def until(condition, doing=lambda: None) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            doing()
            executor.spin_once(timeout_sec=0.05)

    yield viz, other, until
    executor.shutdown()
    viz.destroy_node()
    other.destroy_node()
    rclpy.shutdown(context=context)


def test_who_watches_gets_markers_and_pictures_and_who_leaves_ends_the_work(world):
    _viz, other, until = world
    pub = other.create_publisher(Detection3DArray, "objects", 1)
    camera = other.create_publisher(CompressedImage, "camera/front/image/compressed",
                                    qos_profile_sensor_data)
    status = other.create_publisher(DiagnosticArray, "status", 1)
    until(lambda: status.get_subscription_count() == 1)
    assert pub.get_subscription_count() == camera.get_subscription_count() == 0

    got: dict[str, object] = {}
    outputs = {"markers": MarkerArray, "bev/image": Image, "camera/front/overlay": Image}
    subscriptions = [other.create_subscription(kind, topic, lambda m, t=topic: got.update({t: m}),
                                               1) for topic, kind in outputs.items()]
    until(lambda: pub.get_subscription_count() == 1 and camera.get_subscription_count() == 1)

    def publish() -> None:
        status.publish(DiagnosticArray(status=[DiagnosticStatus(message="full")]))
        camera.publish(image(100))
        pub.publish(objects(100, (15, 0, 1)))
    until(lambda: len(got) == 3, publish)

    overlay = got["camera/front/overlay"]
    assert (overlay.width, overlay.height, overlay.encoding) == (320, 240, "rgb8")
    assert overlay.header.stamp.sec == 100 and overlay.header.frame_id == "front"
    assert got["bev/image"].header.frame_id == "base_link"
    until(lambda: any(m.text == "full" for m in got["markers"].markers), publish)

    for subscription in subscriptions:
        other.destroy_subscription(subscription)
    until(lambda: pub.get_subscription_count() == 0 and camera.get_subscription_count() == 0)


def test_a_clock_that_goes_back_empties_the_scene(world):
    viz, _, _ = world
    viz.scene.take("front", image(100))
    viz.draw(objects(100, (15, 0, 1)))
    viz.draw(objects(50, (15, 0, 1)))
    boxes, _ = read_detections(objects(100, (15, 0, 1)))
    assert viz.scene.overlay("front", boxes, 100_000_000_000) is None


def test_bad_objects_are_counted(world):
    viz, _, _ = world
    message = objects(5, (np.inf, 0, 0))
    viz.draw(message)
    message.header.stamp.sec = -1
    viz.draw(message)
    assert dict(viz.scene.dropped) == {"objects: not finite": 1, "objects: bad_stamp": 1}


def test_a_wrong_rig_ends_with_exit_code_two():
    done = subprocess.run([sys.executable, "-m", "perception_bev.nodes.viz_node", "--ros-args",
                           "-p", "rig:=/gone/rig.yaml"], capture_output=True, text=True,
                          env={**os.environ, "ROS_DOMAIN_ID": str(1 + os.getpid() % 100)})
    assert done.returncode == 2 and "no such file" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_however_often_it_comes(number, tmp_path):
    path = tmp_path / "rig.yaml"
    path.write_text(RIG)
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from perception_bev.nodes import viz_node as v\n"
         "ready = v.spin.spin\n"
         "v.spin.spin = lambda *a: (print('ready', flush=True), ready(*a))\n"
         "sys.exit(v.main(sys.argv[1:]))", "--ros-args", "-p", f"rig:={path}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "ROS_DOMAIN_ID": str(1 + os.getpid() % 100)})
    assert process.stdout.readline() == "ready\n"
    for _ in range(3):
        process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0 and "Traceback" not in errors


def test_no_rig_is_named(world):
    with pytest.raises(ConfigError, match="no rig"):
        VizNode(context=world[0].context)
