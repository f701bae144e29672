"""The topic `degrade`: who holds the floor, and who releases it. The node is a stand-in."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.event_handler import UnsupportedEventTypeError
from rclpy.qos import LivelinessPolicy

from perception_bev.nodes.degrade import QOS, DegradePublisher, DegradeReceiver


class FakeNode:
    """Keeps what was made of it and what was published."""

    def __init__(self, supported: bool = True) -> None:
        self.sent, self.warnings, self._supported = [], [], supported

    def create_publisher(self, kind, topic, qos):
        return SimpleNamespace(publish=self.sent.append)

    def create_subscription(self, kind, topic, take, qos, callback_group, event_callbacks):
        if event_callbacks.liveliness is not None and not self._supported:
            raise UnsupportedEventTypeError("no liveliness here")
        self.take, self.alive = take, event_callbacks.liveliness
        return object()

    def get_logger(self):
        return SimpleNamespace(warning=lambda text, **_: self.warnings.append(text))


class Ends:
    """A publisher and a receiver, and what the receiver said."""

    def __init__(self, **fake) -> None:
        self.said = []
        self.out, self.node = FakeNode(), FakeNode(**fake)
        self.publisher = DegradePublisher(self.out)
        self.receiver = DegradeReceiver(self.node, lambda *new: self.said.append(new),
                                        lambda: self.said.append("gone"))

    def deliver(self) -> None:
        self.node.take(self.out.sent[-1])

    def alive(self, count: int) -> None:
        self.node.alive(SimpleNamespace(alive_count=count))


def test_nothing_is_forbidden_before_a_watchdog_was_seen():
    receiver = Ends().receiver
    assert (receiver.watchdog, receiver.floor, receiver.reason) == ("never seen", None, "")


def test_a_floor_comes_with_its_reason_and_is_released():
    ends = Ends()
    ends.publisher.set("no_cameras", "102 °C")
    ends.deliver()
    assert ends.receiver.watchdog == "present"
    ends.publisher.set(None)
    ends.deliver()
    assert ends.said == [("no_cameras", "102 °C"), (None, "")]


def test_what_holds_is_repeated_and_reported_once():
    ends = Ends()
    ends.publisher.set("no_history", "hot")
    ends.publisher.set("no_history", "hot")
    assert len(ends.out.sent) == 2, "the first says that nothing is forbidden"
    for _ in range(3):
        ends.publisher.beat()
        ends.deliver()
    assert len(ends.out.sent) == 5 and ends.said == [("no_history", "hot")]


def test_the_floor_is_released_when_the_watchdog_is_gone_and_stands_again_when_it_returns():
    ends = Ends()
    ends.publisher.set("no_history", "hot")
    ends.deliver()
    ends.alive(0)
    assert ends.said[1:] == [(None, ""), "gone"] and ends.receiver.watchdog == "gone"
    ends.alive(0)
    assert len(ends.said) == 3, "gone is said once"
    ends.alive(1)
    ends.publisher.beat()
    ends.deliver()
    assert ends.said[-1] == ("no_history", "hot") and ends.receiver.watchdog == "present"


def test_the_last_message_of_one_that_left_does_not_bring_it_back():
    ends = Ends()
    ends.deliver()
    ends.alive(0)
    ends.publisher.set("no_history", "hot")
    ends.deliver()
    assert (ends.receiver.watchdog, ends.receiver.floor) == ("gone", None)


def test_while_one_of_two_lives_nobody_is_gone():
    ends = Ends()
    ends.deliver()
    ends.alive(2)
    ends.alive(1)
    assert ends.receiver.watchdog == "present" and ends.said == []


def test_other_messages_on_the_topic_are_no_orders():
    ends = Ends()
    ends.node.take(DiagnosticStatus(name="battery", message="low"))
    assert ends.receiver.watchdog == "never seen" and "battery" in ends.node.warnings[0]


def test_a_middleware_without_liveliness_is_named_and_the_rest_works():
    ends = Ends(supported=False)
    ends.publisher.set("no_history", "hot")
    ends.deliver()
    assert ends.receiver.floor == "no_history" and "middleware" in ends.node.warnings[0]


def test_liveliness_is_the_nodes_not_its_middlewares():
    assert QOS.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC
