"""Messages taken as bytes without the interpreter's lock."""

import ctypes
import gc
import weakref

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytestmark = pytest.mark.ros

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import rclpy  # noqa: E402
from driving import wait_for  # noqa: E402
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from ros_bench import DOMAIN  # noqa: E402
from std_msgs.msg import ByteMultiArray, String  # noqa: E402

from perception_bev.nodes import serialized  # noqa: E402
from perception_bev.nodes.lean_executor import LeanExecutor  # noqa: E402

TOPIC = "bytes"


@pytest.fixture(params=[SingleThreadedExecutor, MultiThreadedExecutor, LeanExecutor])
def world(request):
    """A node, its executor and a talker."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("taker", context=context)
    executor = request.param(context=context)
    executor.add_node(node)
    yield node, executor
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


def subscribe(node, got: list, kind=String):
    def make(**how):
        return node.create_subscription(kind, TOPIC, got.append, 10, **how)

    return serialized.subscribe(node, make, lambda code: got.append(code))


def publish_until(executor, publisher, message, condition):
    def found():
        publisher.publish(message)
        executor.spin_once(timeout_sec=0.05)
        return condition()
    wait_for(found, "the messages")


def test_rcl_can_be_called_here():
    assert serialized.obstacle() is None


def test_the_bytes_are_those_that_were_sent(world):
    node, executor = world
    got, message = [], String(data="some words")
    subscription, taker = subscribe(node, got)
    publish_until(executor, node.create_publisher(String, TOPIC, 10), message,
                  lambda: len(got) >= 3)
    assert taker is not None and subscription.raw
    for taken in got:
        assert isinstance(taken, np.ndarray) and taken.dtype == np.uint8 and taken.flags.writeable
        assert taken.tobytes() == serialize_message(message)


def test_memory_is_freed_with_the_last_view(world):
    node, executor = world
    message, got = ByteMultiArray(data=[b"\0"] * 1_000), []
    subscribe(node, got, ByteMultiArray)
    publish_until(executor, node.create_publisher(ByteMultiArray, TOPIC, 10), message, lambda: got)
    view = got.pop()[500:]
    got.clear()
    block = view.base
    while getattr(block, "base", None) is not None:
        block = block.base
    assert type(block).__name__ == "_Block"
    freed = []
    block._free, free = (lambda buffer: freed.append(1)), block._free
    buffer = block._buffer
    del block
    gc.collect()
    assert not freed and not view.any()
    del view
    gc.collect()
    assert freed == [1]
    free(ctypes.byref(buffer))


def test_large_messages_leave_no_memory_behind(world):
    node, executor = world
    message = String(data="x" * 4_000_000)
    got = []
    subscribe(node, got)
    publisher = node.create_publisher(String, TOPIC, 10)

    def take(count):
        for _ in range(count):
            publish_until(executor, publisher, message, lambda: got)
            got.clear()

    take(5)
    before = own_memory()
    take(40)
    assert own_memory() - before < 80_000_000, "40 messages have 160 MB"


def test_a_destroyed_subscription_is_let_go_of(world):
    node, executor = world
    got = []
    subscription, taker = subscribe(node, got)
    executor.spin_once(timeout_sec=0)
    waitables = len(list(node.waitables))
    node.remove_waitable(taker)
    node.destroy_subscription(subscription)
    executor.spin_once(timeout_sec=0)
    assert len(list(node.waitables)) < waitables and taker.take_data() is None
    gone = weakref.ref(taker)
    del taker, subscription
    gc.collect()
    assert gone() is None


def test_a_waitable_that_outlives_its_subscription_is_harmless(world):
    node, executor = world
    got = []
    subscription, _ = subscribe(node, got)
    node.destroy_subscription(subscription)
    for _ in range(3):
        executor.spin_once(timeout_sec=0)


def test_what_rcl_refuses_is_told(world, monkeypatch):
    node, executor = world
    got = []
    subscribe(node, got)
    rcl = serialized._rcl()
    monkeypatch.setattr(rcl, "_take", lambda *words: 10)
    publish_until(executor, node.create_publisher(String, TOPIC, 10), String(), lambda: got)
    assert got[0] == 10
    monkeypatch.setattr(rcl, "_take", lambda *words: serialized.TAKE_FAILED)
    assert rcl.take(list(node.subscriptions)[0].handle) is None


def test_another_layout_is_an_obstacle(monkeypatch):
    class Other(ctypes.Structure):
        _fields_ = [("length", ctypes.c_size_t), ("capacity", ctypes.c_size_t),
                    ("data", ctypes.c_void_p), ("allocator", serialized._Allocator)]

    monkeypatch.setattr(serialized, "_Buffer", Other)
    serialized._rcl.cache_clear()
    try:
        assert "laid out" in serialized.obstacle()
    finally:
        serialized._rcl.cache_clear()


def own_memory() -> int:
    """Resident bytes without what is shared: the middleware's segment is touched bit by bit."""
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared
