"""The perception node among real topics and signals, as a process of its own."""

import signal

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytestmark = pytest.mark.ros

import numpy as np  # noqa: E402
import yaml  # noqa: E402
from driving import wait_for  # noqa: E402
from rclpy.qos import (  # noqa: E402
    DurabilityPolicy,
    QoSProfile,
    qos_profile_sensor_data,
)
from ros_bench import (  # noqa: E402
    DOMAIN,
    WRITER,
    NodeProcess,
    Vehicle,
    after,
    message_class,
    newest,
    stamp_of,
    status_of,
)
from small_car import calibration, description, with_holes  # noqa: E402

from perception_bev.geometry import SE3  # noqa: E402
from perception_bev.manifest import load_manifest  # noqa: E402
from perception_bev.nodes import table  # noqa: E402

OK, WARN, ERROR = 0, 1, 2
ALL = {"front", "top", "nose"}
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
UNHURRIED = QoSProfile(depth=50)


@pytest.fixture(scope="module", autouse=True)
def profile():
    """The test's own end of the topics uses the same Fast DDS profile."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in table.environment().items():
            patch.setenv(name, value)
        patch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
        yield


def rig_file(folder, rig: dict):
    file = folder / "rig.yaml"
    file.write_text(yaml.safe_dump(rig))
    return file


@pytest.fixture(scope="module")
def vehicle():
    made = Vehicle(UNHURRIED)
    yield made
    made.close()


@pytest.fixture(scope="module")
def running(tiny_model, vehicle, tmp_path_factory):
    """A node on a complete rig, and what it says."""
    folder = tmp_path_factory.mktemp("node")
    # A busy machine may be slow; the tests are about what is said, not about how fast.
    lenient = {name: {"max_age_ms": 1000} for name in ALL}
    rig = description(**lenient)
    rig["reference"]["wait_ms"] = 60
    made = NodeProcess(folder / "log", rig=rig_file(folder, rig), model=tiny_model)
    objects = vehicle.subscribe("objects", "vision_msgs/msg/Detection3DArray")
    status = vehicle.subscribe("status", "diagnostic_msgs/msg/DiagnosticArray")
    try:
        wait_for(lambda: made.says("ready") and vehicle.connected(), "start")
        vehicle.active = set(ALL)
        wait_for(lambda: newest(status).get("level") == OK, f"an output: {made.output}")
        yield made, objects, status
    finally:
        made.kill()


def test_every_output_has_objects_and_a_status_of_the_same_time(running):
    _, objects, status = running
    begin = len(status)
    wait_for(lambda: len(status) >= begin + 8 and len(objects) >= begin + 8, "outputs")
    said = [status_of(m) for m in status[begin:begin + 8]]
    numbers = [int(s["sequence"]) for s in said]
    assert numbers == list(range(numbers[0], numbers[0] + 8)), "none was lost on the way"
    stamps = [stamp_of(m) for m in status[begin:begin + 8]]
    assert stamps == sorted(set(stamps))
    assert set(stamps) <= {stamp_of(m) for m in objects}
    found = objects[-1]
    assert found.header.frame_id == "base_link" and len(found.detections) > 0
    assert found.detections[0].results[0].hypothesis.class_id in ("car", "pedestrian")


def test_status_has_figures_and_reasons(running):
    said = after(running[2], lambda s: s["level"] == OK, "a full output")
    assert said["message"] == "full (no_ego_motion)"
    assert {"latency.total_ms", "latency.fuse_ms", "latency.overhead_ms", "age.front_ms",
            "sensor.top", "received.nose", "epoch", "sequence", "closed_by"} <= set(said)
    assert said["latency.claimed"] == "yes" and float(said["latency.total_ms"]) > 0


def test_odometry_is_heard(running, vehicle):
    vehicle.active = ALL | {"odometry"}
    after(running[2], lambda s: s["message"] == "full", "an output with ego motion")
    vehicle.active = set(ALL)


def test_the_lidar_stops_and_comes_back(running, vehicle):
    _, objects, status = running
    vehicle.active = ALL - {"top"}
    said = after(status, lambda s: "top: missing" in s["message"], "the loss")
    assert said["level"] == WARN and said["message"].startswith("degraded (")
    count = len(objects)
    wait_for(lambda: len(objects) > count + 3, "objects without the lidar")
    vehicle.active = set(ALL)
    after(status, lambda s: s["level"] == OK, "recovery")


def test_garbage_is_counted_and_survived(running, vehicle):
    node, _, status = running

    def cut(message):
        message.data = message.data[:len(message.data) // 2]

    def shrink(message):
        message.row_step = 7

    def antedate(message):
        message.header.stamp.sec = -5

    vehicle.spoil = {"front": cut, "top": shrink, "nose": antedate}
    after(status, lambda s: "truncated" in s.get("drops.front", "")
          and "bad_size" in s.get("drops.top", "") and "bad_stamp" in s.get("drops.nose", ""),
          "the drops")
    vehicle.spoil = {}
    after(status, lambda s: s["level"] == OK, "recovery")
    assert node.alive() and "Traceback" not in node.output


def test_occupancy_is_for_those_who_watch(running, vehicle, tiny_model):
    grids = vehicle.subscribe("bev/occupancy", "nav_msgs/msg/OccupancyGrid")
    grid = wait_for(lambda: next((g for g in grids if max(g.data) == 100), None),
                    "an occupancy grid with a lidar in it")
    output = load_manifest(tiny_model).output_grid
    assert grid.header.frame_id == "base_link"
    assert (grid.info.width, grid.info.height) == output.shape, "width counts cells along x"
    assert len(grid.data) == grid.info.width * grid.info.height
    assert set(grid.data) == {-1, 0, 100}
    origin = grid.info.origin
    assert (origin.position.x, origin.position.y) == (output.x_min, output.y_min)
    assert origin.orientation.w == 1.0 and grid.info.resolution == output.cell
    hit = np.array(grid.data).reshape(grid.info.height, grid.info.width) == 100
    assert hit.any(axis=0)[4:].any(), "things stand ahead, along x"


def test_autowares_objects_where_its_messages_are_installed(running, vehicle):
    pytest.importorskip("autoware_perception_msgs.msg", reason="not installed")
    got = vehicle.subscribe("objects_autoware", "autoware_perception_msgs/msg/DetectedObjects")
    objects = running[1]
    wait_for(lambda: got, "Autoware's objects")
    same, = wait_for(lambda: [m for m in list(objects) if stamp_of(m) == stamp_of(got[0])],
                     "objects of the same time")
    assert len(same.detections) == len(got[0].objects) > 0


def test_a_sensor_that_publishes_best_effort_is_heard_too(running):
    second = Vehicle(qos_profile_sensor_data)
    wait_for(second.connected, "a connection for every input")
    second.close()


def test_sigterm_ends_it_cleanly(running):
    """The last test with this node."""
    node = running[0]
    code, seconds = node.end(signal.SIGTERM)
    assert code == 0 and "Traceback" not in node.output
    assert seconds < 10, "a hang; the bound is generous for busy machines"


def test_holes_are_named_until_topics_fill_them_and_followed_then(tiny_model, vehicle, tmp_path):
    vehicle.active = set(ALL)
    status = vehicle.subscribe("status", "diagnostic_msgs/msg/DiagnosticArray")
    node = NodeProcess(tmp_path / "log", rig=rig_file(tmp_path, with_holes()), model=tiny_model)
    try:
        said = after(status, lambda s: s["level"] == ERROR, "a status")
        assert said["message"].startswith("no output: ")
        for wanted in ("front: no transform base_link <- front_optical",
                       "front: no CameraInfo on camera/front/camera_info",
                       "top: no transform", "nose: no transform"):
            assert wanted in said["message"]
        vehicle.active = ALL | {"info"}
        after(status, lambda s: s["level"] == ERROR and "CameraInfo" not in s["message"], "a lens")
        publish_places(vehicle)
        after(status, lambda s: s["level"] < ERROR, "outputs")
        publish_places(vehicle, {"top": SE3.from_rpy(np.array([0, 0, 1.8]), np.zeros(3))})
        wait_for(lambda: node.says("the calibration changed"), "the new calibration")
        after(status, lambda s: s["level"] < ERROR, "outputs with it")
        code, _ = node.end(signal.SIGINT)
        assert code == 0 and "Traceback" not in node.output
    finally:
        node.kill()


def publish_places(vehicle: Vehicle, moved: dict[str, SE3] | None = None) -> None:
    """/tf_static, latched; kept by the vehicle's node."""
    car = calibration()
    places = {**car.base_from_sensor, **(moved or {})}
    tf = vehicle.node.create_publisher(message_class("tf2_msgs/msg/TFMessage"), "/tf_static",
                                       LATCHED)
    tf.publish(WRITER.transforms(("base_link", car.rig.sensors[name].frame_id, place, 0)
                                 for name, place in places.items()))


def heard(vehicle: Vehicle) -> bool:
    return any(p.get_subscription_count() for p in vehicle.publishers.values())


class Simulated:
    """/clock beside the vehicle: a time of its own, at the pace of the messages."""

    def __init__(self, vehicle: Vehicle) -> None:
        from rosgraph_msgs.msg import Clock
        self._kind, self._ns, self._vehicle = Clock, 500_000_000_000, vehicle
        self._out = vehicle.node.create_publisher(Clock, "/clock", 10)
        self._timer = vehicle.node.create_timer(0.02, self._step)
        vehicle.clock_ns = lambda: self._ns

    def _step(self) -> None:
        self._ns += 20_000_000
        message = self._kind()
        message.clock.sec, message.clock.nanosec = divmod(self._ns, 1_000_000_000)
        self._out.publish(message)

    def close(self) -> None:
        import time
        self._vehicle.clock_ns = time.time_ns
        self._vehicle.node.destroy_timer(self._timer)
        self._vehicle.node.destroy_publisher(self._out)


def test_lifecycle_by_services_in_simulated_time(tiny_model, vehicle, tmp_path):
    from lifecycle_msgs.msg import State, Transition
    from lifecycle_msgs.srv import ChangeState, GetState
    simulated = Simulated(vehicle)
    vehicle.active = set(ALL)
    status = vehicle.subscribe("status", "diagnostic_msgs/msg/DiagnosticArray")
    node = NodeProcess(tmp_path / "log", rig=rig_file(tmp_path, description()), model=tiny_model,
                       autostart=False, use_sim_time=True)
    change = vehicle.node.create_client(ChangeState, f"/{node.name}/change_state")
    look = vehicle.node.create_client(GetState, f"/{node.name}/get_state")

    def call(client, request):
        future = client.call_async(request)
        return wait_for(lambda: future.done() and future.result(), "an answer")

    def go(transition: int, state: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        assert call(client=change, request=request).success, node.output
        assert call(look, GetState.Request()).current_state.id == state

    try:
        wait_for(lambda: change.service_is_ready() and look.service_is_ready(), "services")
        for _ in range(2):
            go(Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE)
            wait_for(lambda: not heard(vehicle), "silence before it is active")
            go(Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE)
            said = after(status, lambda s: s["level"] == OK, "an output")
            assert said["latency.claimed"] == "n/a", "this clock is not the computer's"
            assert 500 <= status[-1].header.stamp.sec < 5000, "stamped in simulated time"
            go(Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE)
            wait_for(lambda: not heard(vehicle), "silence")
            go(Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED)
            wait_for(lambda: vehicle.node.count_publishers("status") == 0, "no publishers")
        go(Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE)
        go(Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE)
        go(Transition.TRANSITION_ACTIVE_SHUTDOWN, State.PRIMARY_STATE_FINALIZED)
        assert node.end(signal.SIGINT)[0] == 0
        assert "Traceback" not in node.output and "internal error" not in node.output
    finally:
        simulated.close()
        node.kill()


@pytest.mark.parametrize("wrong, said", [
    ({"rig": "/gone/rig.yaml"}, "/gone/rig.yaml: no such file"),
    ({"autostart": 5}, "autostart"),
    ({"qos_overrides./lidar/top/points.subscription.reliability": "perhaps"}, "perhaps")])
def test_a_wrong_parameter_is_one_line_and_exit_code_two(tiny_model, tmp_path, wrong, said):
    parameters = {"rig": rig_file(tmp_path, description()), "model": tiny_model} | wrong
    node = NodeProcess(tmp_path / "log", **parameters)
    try:
        code = node.wait()
    finally:
        node.kill()
    lines = [line for line in node.output.splitlines() if said in line]
    assert code == 2 and len(lines) == 1, node.output
    assert "Traceback" not in node.output


def test_a_signal_while_it_loads_ends_it_cleanly(tiny_model, vehicle, tmp_path):
    node = NodeProcess(tmp_path / "log", rig=rig_file(tmp_path, description()), model=tiny_model)
    try:
        wait_for(lambda: node.name in vehicle.node.get_node_names(), "the node")
        code, _ = node.end(signal.SIGTERM)
    finally:
        node.kill()
    assert code == 0 and "Traceback" not in node.output, node.output
