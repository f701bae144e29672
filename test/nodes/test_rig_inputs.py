"""Every input of a rig, through DDS in one process: whom it connects to and what arrives."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytestmark = pytest.mark.ros

import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from driving import wait_for  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import QoSProfile, qos_profile_sensor_data  # noqa: E402
from ros_bench import DOMAIN, WRITER  # noqa: E402
from small_car import calibration, description, frames  # noqa: E402

from perception_bev import config  # noqa: E402
from perception_bev.geometry import SE3  # noqa: E402
from perception_bev.nodes import serialized  # noqa: E402
from perception_bev.nodes.clock import ClockReader  # noqa: E402
from perception_bev.nodes.subscriptions import Subscriptions  # noqa: E402
from perception_bev.raw import RawCloud, RawImage  # noqa: E402
from perception_bev.rig import Rig  # noqa: E402
from perception_bev.tf import TransformTree  # noqa: E402

QOS = {"default": QoSProfile(depth=10), "sensor data": qos_profile_sensor_data}
STAMP_NS = 5_000_000_007
RAWS = frames(STAMP_NS, seed=3)
PICTURE = RawImage(STAMP_NS, "back_optical", "rgb8", 4, 3,
                   np.arange(36, dtype=np.uint8).reshape(3, 12))


def everything() -> Rig:
    """A rig that needs every kind of input."""
    made = description(front={"extrinsics": "from_tf", "intrinsics": "from_camera_info"})
    made["cameras"]["back"] = made["cameras"]["front"] | {
        "topic": "camera/back/image_raw", "frame_id": "back_optical", "transport": "raw"}
    made["radars"]["tail"] = made["radars"]["nose"] | {
        "topic": "radar/tail/scan", "frame_id": "tail", "message": "radar_scan"}
    return config.build(Rig, made, "everything")


def from_tf() -> Rig:
    return config.build(Rig, description() | {"odometry": "from_tf"}, "from_tf")


def sensor_messages() -> dict:
    """Topic -> a message of what it carries."""
    scan = pytest.importorskip("radar_msgs.msg").RadarScan()
    scan.header = WRITER.header(STAMP_NS, "tail")
    return {"camera/front/image/compressed": WRITER.compressed_image(RAWS["front"]),
            "camera/back/image_raw": WRITER.image(PICTURE),
            "lidar/top/points": WRITER.cloud(RAWS["top"]),
            "radar/nose/points": WRITER.cloud(RAWS["nose"]), "radar/tail/scan": scan}


def other_messages() -> dict:
    lens, still = calibration().camera_models["front"], np.zeros(3)
    return {"odometry": WRITER.odometry(STAMP_NS, SE3.identity(), still, still),
            "camera/front/camera_info": WRITER.camera_info(lens, STAMP_NS, "front_optical"),
            "camera/back/camera_info": WRITER.camera_info(lens, STAMP_NS, "back_optical"),
            "/tf_static": transform("base_link", "front_optical"),
            "/tf": transform("odom", "base_link")}


def transform(parent: str, child: str):
    from geometry_msgs.msg import TransformStamped
    from tf2_msgs.msg import TFMessage

    edge = TransformStamped(header=WRITER.header(STAMP_NS, parent), child_frame_id=child)
    edge.transform.rotation.w = 1.0
    return TFMessage(transforms=[edge])


class Listener:
    """Subscriptions of a node that spins only in `until`, and what reaches the pipeline."""

    def __init__(self, rig: Rig, raw="unlocked") -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node("listener", context=self.context)
        self.talker = rclpy.create_node("talker", context=self.context)
        self.frames, self.refused, self.odometry, self.infos = {}, [], [], {}
        self.tf = TransformTree()
        self.inputs = Subscriptions(self.node, rig, ClockReader(self.node), self.tf, self.infos,
                                    raw)
        self.inputs.perception = SimpleNamespace(
            push=lambda name, frame, now: self.frames.update({name: frame}),
            refuse=lambda name, reason, now: self.refused.append((name, reason)),
            push_odometry=lambda *reading: self.odometry.append(reading))
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def until(self, condition, what: str, before=lambda: None):
        def found():
            before()
            self.executor.spin_once(timeout_sec=0.05)
            return condition()
        return wait_for(found, what)

    def send(self, publishers: dict) -> None:
        for publisher, message in publishers.items():
            publisher.publish(message)

    def publisher(self, topic: str, message, qos):
        return self.talker.create_publisher(type(message), topic, qos)

    def close(self) -> None:
        self.inputs.destroy()
        self.executor.shutdown()
        self.node.destroy_node()
        self.talker.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def listen():
    made = []

    def make(*words):
        made.append(Listener(*words))
        return made[-1]

    yield make
    for listener in made:
        listener.close()


@pytest.mark.parametrize("qos", QOS.values(), ids=list(QOS))
def test_every_input_hears_publishers_of(listen, qos):
    listener = listen(everything())
    outputs = {listener.publisher(topic, message, qos): message
               for topic, message in (sensor_messages() | other_messages()).items()
               if topic != "/tf"}

    def all_came():
        return (set(listener.frames) == {"front", "back", "top", "nose", "tail"}
                and set(listener.infos) == {"front", "back"} and listener.odometry
                and listener.tf.lookup("base_link", "front_optical") is not None)

    listener.until(all_came, "a message on every topic", lambda: listener.send(outputs))
    assert not listener.refused
    assert listener.frames["back"].rows.tobytes() == PICTURE.rows.tobytes()
    np.testing.assert_array_equal(listener.frames["top"].points, RAWS["top"].points)


@pytest.mark.parametrize("qos", QOS.values(), ids=list(QOS))
def test_ego_motion_of_tf_hears_publishers_of(listen, qos):
    listener = listen(from_tf())
    output = listener.publisher("/tf", other_messages()["/tf"], qos)
    listener.until(lambda: listener.odometry, "ego motion",
                   lambda: output.publish(other_messages()["/tf"]))


@pytest.mark.parametrize("raw", ["unlocked", "rclpy", None])
def test_frames_and_refusals_are_the_same_however_they_are_taken(listen, raw):
    listener = listen(everything(), raw)
    wrong = sensor_messages()
    wrong["camera/back/image_raw"].step += 1
    wrong["lidar/top/points"].row_step += 1
    wrong["camera/front/image/compressed"].header.stamp.sec = -1
    outputs = {listener.publisher(topic, message, 10): message for topic, message in wrong.items()}
    listener.until(lambda: len(set(listener.refused)) == 3 and len(listener.frames) == 2,
                   "a verdict on every topic", lambda: listener.send(outputs))
    assert set(listener.refused) == {("back", "bad_size"), ("top", "bad_size"),
                                     ("front", "bad_stamp")}
    assert isinstance(listener.frames["nose"], RawCloud)
    np.testing.assert_array_equal(listener.frames["nose"].points, RAWS["nose"].points)


def test_an_obstacle_to_taking_unlocked_leaves_the_rest_working(listen, monkeypatch):
    monkeypatch.setattr(serialized, "_rcl", lambda: "OSError: no librcl")
    listener = listen(everything())
    message = sensor_messages()["camera/back/image_raw"]
    output = listener.publisher("camera/back/image_raw", message, 10)
    listener.until(lambda: "back" in listener.frames, "a picture", lambda: output.publish(message))
    assert not list(listener.node.waitables) or not any(
        isinstance(w, serialized.Taker) for w in listener.node.waitables)
