"""The perception node from the inside: what it says when something fails, and what it leaves."""

import threading

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytestmark = pytest.mark.ros

import rclpy  # noqa: E402
import yaml  # noqa: E402
from driving import counted, wait_for  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from ros_bench import DOMAIN, messages  # noqa: E402
from small_car import description  # noqa: E402

from perception_bev.errors import EngineFailed  # noqa: E402
from perception_bev.nodes.perception_node import PerceptionNode  # noqa: E402

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
WARN, ERROR = b"\x01", b"\x02"


@pytest.fixture
def make(tiny_model, tmp_path):
    """A node of its own context, which nobody spins: callbacks are called by hand."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    nodes = []

    def made(**parameters) -> PerceptionNode:
        (tmp_path / "rig.yaml").write_text(yaml.safe_dump(description()))
        values = {"rig": str(tmp_path / "rig.yaml"), "model": str(tiny_model)} | parameters
        nodes.append(PerceptionNode(context=context, parameter_overrides=[
            Parameter(name, value=value) for name, value in values.items()]))
        return nodes[-1]

    yield made
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


def heard(node: PerceptionNode) -> list[tuple]:
    """What the node says in `status`, as it says it: (stamp, level, message, values)."""
    said: list[tuple] = []
    node._publications.status = lambda *words: said.append(words)
    return said


def feed(node: PerceptionNode) -> None:
    """One cycle of messages, straight into the subscriptions' callbacks."""
    now = node.get_clock().now().nanoseconds
    by_topic = {s.topic_name.strip("/"): s for s in node._sensor_inputs._made}
    sent = messages(now)
    for name, topic in (("front", "camera/front/image/compressed"),
                        ("nose", "radar/nose/points"), ("top", "lidar/top/points")):
        by_topic[topic].callback(serialize_message(sent[name]))


def active(make) -> PerceptionNode:
    node = make()
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    return node


def until(node: PerceptionNode, said: list, level: bytes) -> tuple:
    def found():
        feed(node)
        return next((words for words in said if words[1] == level), None)
    return wait_for(found, "such a status")


@pytest.mark.parametrize("error, text", [
    (EngineFailed("fuse: out of memory"), "(fuse: out of memory)"),
    (ZeroDivisionError("oops"), "(internal error in fuse: ZeroDivisionError: oops)")])
def test_a_cycle_that_fails_has_a_status_too(make, error, text):
    node = active(make)
    said = heard(node)
    engines = counted(node._perception)
    until(node, said, b"\x00")
    engines["fuse"].error = error
    wait_for(lambda: (feed(node), any(words[2].endswith(text) for words in said))[1], "the reason")
    engines["fuse"].error = None
    said.clear()
    assert until(node, said, b"\x00")[2].startswith("full")


def test_an_error_of_ours_makes_no_second_status_while_outputs_go_out(make):
    node = active(make)
    said = heard(node)
    until(node, said, b"\x00")
    node._fault(ZeroDivisionError("oops"))
    text = "internal error: ZeroDivisionError: oops"
    wait_for(lambda: (feed(node), any(text in value for *_, values in said
                                      for value in values.values()))[1], "the error in status")
    assert not any("oops" in message for _, _, message, _ in said)
    stamps = [stamp for stamp, *_ in said]
    assert stamps == sorted(stamps)


def test_a_model_that_is_loaded_too_late_is_not_started(make):
    """Deactivated while it is being loaded: nothing begins, and the next activation does."""
    node = make()
    assert node.trigger_configure() == SUCCESS
    perception, node._perception = node._perception, None
    loading, go_on = threading.Event(), threading.Event()

    def complete() -> bool:
        loading.set()
        assert go_on.wait(30)
        node._perception = perception
        return True

    node._complete_calibration = complete
    assert node.trigger_activate() == SUCCESS
    assert loading.wait(30)
    stopping = threading.Thread(target=node.trigger_deactivate)
    stopping.start()
    wait_for(node._stopping.is_set, "the order to stop")
    go_on.set()
    stopping.join(30)
    assert not stopping.is_alive() and node._live is None
    assert node.trigger_activate() == SUCCESS
    wait_for(lambda: node._live is not None, "the runner")


def test_cycles_of_the_life_leave_nothing_behind(make):
    node = make()
    before = (len(list(node.publishers)), len(list(node.subscriptions)),
              len(node._managed_entities))
    for _ in range(2):
        assert node.trigger_configure() == SUCCESS
        assert node.trigger_activate() == SUCCESS
        assert len(list(node.subscriptions)) > before[1]
        assert node.trigger_deactivate() == SUCCESS
        assert len(list(node.subscriptions)) == before[1]
        assert node.trigger_cleanup() == SUCCESS
        assert (len(list(node.publishers)), len(list(node.subscriptions)),
                len(node._managed_entities)) == before


def test_shutting_down_while_active_stops_everything(make):
    node = active(make)
    assert node.trigger_shutdown() == SUCCESS
    assert node._perception is None and node._sensor_inputs is None and node._live is None


def test_a_configuration_that_fails_can_be_mended(make, tmp_path):
    node = make(rig="/gone.yaml")
    before = len(list(node.publishers))
    assert node.trigger_configure() == FAILURE
    crowd = description()
    crowd["cameras"] = dict.fromkeys("abc", crowd["cameras"]["front"])
    (tmp_path / "crowd.yaml").write_text(yaml.safe_dump(crowd))
    node.set_parameters([Parameter("rig", value=str(tmp_path / "crowd.yaml"))])
    assert node.trigger_configure() == FAILURE, "more cameras than the model has slots"
    assert len(list(node.publishers)) == before
    node.set_parameters([Parameter("rig", value=str(tmp_path / "rig.yaml"))])
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS


def test_every_output_has_its_tracks_and_a_failed_one_those_of_before(make):
    node = active(make)
    tracks = []
    node._publications.tracks = tracks.append
    said = heard(node)
    until(node, said, b"\x00")
    wait_for(lambda: tracks, "tracks")
    assert tracks[0].stamp_ns == said[0][0] and not tracks[0].predicted
    counted(node._perception)["fuse"].error = EngineFailed("fuse: out of memory")
    until(node, said, ERROR)
    predicted = {t.stamp_ns for t in tracks if t is not None and t.predicted}
    assert predicted <= {stamp for stamp, level, *_ in said if level == WARN}
    assert predicted
