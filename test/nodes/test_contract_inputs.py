"""What the watchdog makes of bytes on `tracks` and `status`, and of what the middleware says."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.event_handler import UnsupportedEventTypeError
from rclpy.serialization import serialize_message
from vision_msgs.msg import Detection3D, Detection3DArray

from perception_bev.latency.level import Level
from perception_bev.nodes.contract_inputs import ContractInputs
from perception_bev.sync.clock import Now

S = 1_000_000_000
NOW = Now(50 * S, 1_000 * S)


class Fake:
    """A node and a clock; what was taken, and the callbacks of each topic."""

    def __init__(self, supported: bool = True, live: bool = True) -> None:
        self.taken, self.takers, self.events, self.asked = [], {}, {}, []
        self.publishers, self._supported, self.live = 1, supported, live
        self.inputs = ContractInputs(self, self, S // 10, lambda *a: self.taken.append(a),
                                     lambda *a: self.taken.append(a))

    def now(self):
        return NOW

    def create_subscription(self, kind, topic, take, qos, event_callbacks, raw):
        assert raw
        if event_callbacks.deadline is not None and not self._supported:
            raise UnsupportedEventTypeError("none here")
        self.takers[topic], self.events[topic] = take, event_callbacks
        self.asked.append((topic, qos.deadline.nanoseconds))
        return object()

    def destroy_subscription(self, subscription):
        pass

    def count_publishers(self, topic):
        return self.publishers

    def get_logger(self):
        return SimpleNamespace(warning=lambda text: None)

    def alive(self, count):
        for events in self.events.values():
            events.liveliness(SimpleNamespace(alive_count=count))

    def refuse(self, topic):
        from rclpy.qos import QoSPolicyKind
        self.events[topic].incompatible_qos(
            SimpleNamespace(last_policy_kind=QoSPolicyKind.DEADLINE))


def tracks(sec=7, nanosec=5) -> bytes:
    message = Detection3DArray(detections=[Detection3D()])
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    return serialize_message(message)


def test_a_stamp_is_read_from_the_bytes():
    fake = Fake()
    fake.takers["tracks"](tracks(), {})
    assert fake.taken == [(NOW, 7 * S + 5)]


def test_a_status_comes_with_all_its_values():
    fake = Fake()
    status = DiagnosticStatus(message="full", values=[KeyValue(key="plan", value="full")])
    message = DiagnosticArray(status=[status])
    message.header.stamp.sec = 7
    fake.takers["status"](serialize_message(message), {})
    assert fake.taken == [(NOW, 7 * S, "full", {"plan": "full"})]


@pytest.mark.parametrize("topic, data", [
    ("tracks", b""), ("tracks", b"\0\1\0\0\1\2"), ("status", b""), ("status", b"\0\1\0\0\7"),
    ("status", serialize_message(DiagnosticArray()))])
def test_what_cannot_be_read_is_counted(topic, data):
    fake = Fake()
    fake.takers[topic](data, {})
    assert not fake.taken and fake.inputs.unreadable == 1


@pytest.mark.parametrize("live, received_s, earlier_s", [
    (True, 999.9, 0.1), (True, 0, 0), (True, 1001, 0), (False, 999.9, 0)])
def test_receipt_is_when_the_middleware_had_it(live, received_s, earlier_s):
    fake = Fake(live=live)
    fake.takers["tracks"](tracks(), {"received_timestamp": round(received_s * S)})
    receipt, _ = fake.taken[0]
    assert (NOW.ros_ns - receipt.ros_ns) == (NOW.mono_ns - receipt.mono_ns) == earlier_s * S


def test_life_and_death_are_said():
    fake = Fake()
    assert fake.inputs.row().level == Level.STALE
    fake.alive(1)
    assert fake.inputs.row().level == Level.OK
    fake.alive(0)
    assert fake.inputs.row().level == Level.ERROR


def test_a_publisher_that_offers_less_is_heard_and_ours_asked_again_when_it_has_left():
    fake = Fake()
    strict = fake.asked[0][1]
    for topic in ("tracks", "status"):
        fake.refuse(topic)
    fake.inputs.repair()
    plain = dict(fake.asked[-2:])
    assert all(deadline != strict for deadline in plain.values()), "none is asked for"
    assert "without deadline" in fake.inputs.row().message
    fake.inputs.repair()
    assert len(fake.asked) == 4, "repaired once"
    fake.publishers = 0
    fake.inputs.repair()
    assert dict(fake.asked[-2:]) == {"tracks": strict, "status": strict}


def test_a_middleware_without_events_is_enough():
    fake = Fake(supported=False)
    fake.takers["tracks"](tracks(), {})
    assert fake.taken
