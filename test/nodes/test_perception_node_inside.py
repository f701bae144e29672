"""The perception node from the inside: what it says when something fails, and what it leaves."""

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
ERROR = b"\x02"


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
    (EngineFailed("fuse: out of memory"), "no output: fuse: out of memory"),
    (ZeroDivisionError("oops"), "no output: internal error: ZeroDivisionError: oops")])
def test_a_cycle_that_fails_has_a_status_too(make, error, text):
    node = active(make)
    said = heard(node)
    engines = counted(node._perception)
    until(node, said, b"\x00")
    engines["fuse"].error = error
    assert until(node, said, ERROR)[2] == text
    engines["fuse"].error = None
    said.clear()
    assert until(node, said, b"\x00")[2].startswith("full")
    assert node._runner.is_alive()


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
    assert node._perception is None and node._sensor_inputs is None and node._runner is None


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
    stamp = until(node, said, ERROR)[0]
    wait_for(lambda: any(t is not None and t.predicted for t in tracks), "predicted tracks")
    assert next(t for t in tracks if t.predicted).stamp_ns == stamp
