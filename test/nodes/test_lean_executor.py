"""The executor that gathers its entities when they change, through DDS in one process."""

import gc
import threading
import time
import weakref

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytestmark = pytest.mark.ros

import rclpy  # noqa: E402
from driving import wait_for  # noqa: E402
from rcl_interfaces.srv import GetParameters  # noqa: E402
from rclpy.clock import ClockType  # noqa: E402
from rclpy.event_handler import SubscriptionEventCallbacks  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from rclpy.task import Future  # noqa: E402
from ros_bench import DOMAIN  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from perception_bev.nodes import lean_executor, serialized, spin  # noqa: E402
from perception_bev.nodes.lean_executor import LeanExecutor  # noqa: E402

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class World:
    """A node under the executor, and another that talks to it."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node("lean", context=self.context)
        self.peer = rclpy.create_node("peer", context=self.context)
        self.executor = LeanExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def until(self, condition, what="it", before=lambda: None):
        def found():
            before()
            self.executor.spin_once(timeout_sec=0.05)
            return condition()
        return wait_for(found, what)

    def spin(self) -> threading.Thread:
        """In a thread, as long as the executor lives."""
        return self.beside(self.executor.spin)

    def spin_peer(self) -> None:
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(self.peer)

        def run():
            while not self._over.is_set():
                executor.spin_once(timeout_sec=0.05)
            executor.shutdown()
        self.beside(run)

    def flood(self, publisher) -> None:
        """Messages as fast as they go."""
        def run():
            while not self._over.wait(0.0002):
                publisher.publish(String(data="flood"))
        self.beside(run)

    def beside(self, work) -> threading.Thread:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def close(self) -> None:
        self._over.set()
        self.executor.shutdown()
        for thread in self._threads:
            thread.join(5.0)
            assert not thread.is_alive()
        for node in (self.node, self.peer):
            node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def world():
    made = World()
    yield made
    made.close()


def subscribed(node, topic, got, **how):
    return node.create_subscription(String, topic, lambda m: got.append(m.data), 10, **how)


def taken(node, topic, got):
    return serialized.subscribe(
        node, lambda **how: node.create_subscription(String, topic, got.append, 10, **how),
        got.append)


def test_services_answer_while_messages_flood(world):
    got, answers = [], []
    taken(world.node, "flood", got)
    subscribed(world.node, "flood", got)
    world.node.declare_parameter("depth", 7)
    world.node.create_service(Trigger, "act", lambda request, reply: Trigger.Response(
        success=True, message="done"))
    act = world.peer.create_client(Trigger, "act")
    ask = world.peer.create_client(GetParameters, "lean/get_parameters")
    world.spin_peer()
    world.flood(world.peer.create_publisher(String, "flood", 10))
    world.spin()
    assert act.wait_for_service(10.0) and ask.wait_for_service(10.0)
    wait_for(lambda: len(got) > 50, "the flood")
    for client, request in ((act, Trigger.Request()), (ask, GetParameters.Request(
            names=["depth"]))):
        client.call_async(request).add_done_callback(lambda f: answers.append(f.result()))
    wait_for(lambda: len(answers) == 2, "answers")
    by_kind = {type(answer): answer for answer in answers}
    assert by_kind[Trigger.Response].message == "done"
    assert by_kind[GetParameters.Response].values[0].integer_value == 7


def test_who_can_wait_is_looked_at_seldom_and_always_again(world, monkeypatch):
    """Of many waits in which a message was ready, few were for everything."""
    waits = []
    plain = lean_executor.WaitList.wait

    def wait(self, timeout_ns):
        waits.append(self is world.executor._all)
        plain(self, timeout_ns)

    monkeypatch.setattr(lean_executor.WaitList, "wait", wait)
    monkeypatch.setattr(lean_executor, "LOOK_NS", 10_000_000_000)
    got, events = [], []
    taken(world.node, "few", got)
    world.node.create_subscription(
        String, "strict", got.append, LATCHED,
        event_callbacks=SubscriptionEventCallbacks(incompatible_qos=events.append))
    talker = world.peer.create_publisher(String, "few", 10)
    world.until(lambda: len(got) > 20, "messages", lambda: talker.publish(String()))
    world.peer.create_publisher(String, "strict", BEST_EFFORT)
    before = len(got)
    world.until(lambda: len(got) > before + 20, "messages", lambda: talker.publish(String()))
    assert sum(waits) <= 3 and not events
    world.executor._look_ns = 0
    world.until(lambda: events, "the event")


def test_events_are_told(world):
    """That nobody can be heard, and who lives."""
    incompatible, matched, got = [], [], []
    world.node.create_subscription(
        String, "strict", got.append, LATCHED, event_callbacks=SubscriptionEventCallbacks(
            incompatible_qos=incompatible.append, matched=matched.append))
    world.peer.create_publisher(String, "strict", BEST_EFFORT)
    world.until(lambda: incompatible, "an event")
    good = world.peer.create_publisher(String, "strict", LATCHED)
    world.until(lambda: matched and matched[-1].current_count == 1, "a match")
    world.peer.destroy_publisher(good)
    world.until(lambda: matched[-1].current_count == 0, "a loss")


def test_timers_of_both_clocks(world):
    """Steady time goes on while /clock stands still."""
    steady, ros = [], []
    clock = world.peer.create_publisher(Clock, "/clock", 10)
    world.node.set_parameters([Parameter("use_sim_time", value=True)])
    world.node.create_timer(0.01, lambda: steady.append(1),
                            clock=rclpy.clock.Clock(clock_type=ClockType.STEADY_TIME))
    timer = world.node.create_timer(1.0, lambda: ros.append(world.node.get_clock().now()))
    now = Clock()

    def tick(to_sec):
        """/clock says so, and the node has heard it."""
        now.clock.sec = to_sec
        world.until(lambda: world.node.get_clock().now().nanoseconds == to_sec * 10**9, "/clock",
                    lambda: clock.publish(now))

    def steady_ticks():
        steady.clear()
        world.until(lambda: len(steady) > 5, "the steady timer")

    tick(100)  # a jump: rcl takes the timer's next call from here
    steady_ticks()
    before = len(ros)
    steady_ticks()
    assert len(ros) == before, "/clock stands still"
    for sec in (102, 104, 106):
        tick(sec)
        steady_ticks()
    assert len(ros) == before + 3
    timer.cancel()
    tick(120)
    steady_ticks()
    assert len(ros) == before + 3, "it was cancelled"


def test_entities_come_and_go_while_it_spins(world):
    """Made and destroyed by another thread, and by callbacks of their own."""
    talker = world.peer.create_publisher(String, "turns", 10)
    world.flood(talker)
    world.spin()
    for _ in range(5):
        got, bytes_got, ticks = [], [], []
        typed = subscribed(world.node, "turns", got)
        subscription, taker = taken(world.node, "turns", bytes_got)
        timer = world.node.create_timer(0.001, lambda ticks=ticks: ticks.append(1))
        wait_for(lambda: got and bytes_got and ticks, "all three")  # noqa: B023
        world.node.remove_waitable(taker)
        for destroy, entity in ((world.node.destroy_subscription, typed),
                                (world.node.destroy_subscription, subscription),
                                (world.node.destroy_timer, timer)):
            assert destroy(entity)
    own = []

    def last(message):
        own.append(world.node.destroy_subscription(made))

    made = world.node.create_subscription(String, "turns", last, 10)
    wait_for(lambda: own, "its last message")
    got = []
    subscribed(world.node, "turns", got)
    wait_for(lambda: len(got) > 5, "others")
    assert own == [True]


def test_whom_a_callback_destroys_is_not_called_any_more(world):
    """Both are ready in one wait; whoever comes first is the only one."""
    got, made = [], {}

    def first(name):
        def take(message):
            got.append(name)
            for other in set(made) - {name}:
                world.node.destroy_subscription(made.pop(other))
        return take

    for name in ("a", "b"):
        made[name] = world.node.create_subscription(String, "same", first(name), LATCHED)
    world.peer.create_publisher(String, "same", LATCHED).publish(String())
    time.sleep(0.3)  # both have it
    for _ in range(5):
        world.executor.spin_once(timeout_sec=0.02)
    assert len(got) == 1 and set(made) == set(got)


def test_what_was_destroyed_is_let_go_of(world):
    got = []
    subscription, taker = taken(world.node, "gone", got)
    world.executor.spin_once(timeout_sec=0)
    gone = weakref.ref(taker), weakref.ref(subscription)
    world.node.remove_waitable(taker)
    world.node.destroy_subscription(subscription)
    del subscription, taker
    world.executor.spin_once(timeout_sec=0)
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_nobody_is_gathered_anew_for_messages(world, monkeypatch):
    gathered, got = [], []
    plain = LeanExecutor._gather
    monkeypatch.setattr(LeanExecutor, "_gather", lambda self: gathered.append(1) or plain(self))
    taken(world.node, "steady", got)
    talker = world.peer.create_publisher(String, "steady", 10)
    world.until(lambda: len(got) > 30, "messages", lambda: talker.publish(String()))
    assert len(gathered) == 1
    subscribed(world.node, "more", got)
    world.executor.spin_once(timeout_sec=0)
    assert len(gathered) == 2


def test_coroutines_wait_for_each_other(world):
    """A service whose callback awaits what a later message brings."""
    future, answers = Future(executor=world.executor), []

    async def serve(request, reply):
        reply.message = await future
        return reply

    world.node.create_service(Trigger, "slow", serve)
    client = world.node.create_client(Trigger, "slow")
    assert client.wait_for_service(10.0)
    client.call_async(Trigger.Request()).add_done_callback(
        lambda done: answers.append(done.result().message))
    for _ in range(5):
        world.executor.spin_once(timeout_sec=0.02)
    assert not answers
    future.set_result("late")
    world.until(lambda: answers == ["late"], "the answer")


def test_futures_can_be_spun_for(world):
    world.node.create_service(Trigger, "quick", lambda request, reply: reply)
    client = world.node.create_client(Trigger, "quick")
    assert client.wait_for_service(10.0)
    future = client.call_async(Trigger.Request())
    rclpy.spin_until_future_complete(world.node, future, world.executor, timeout_sec=10.0)
    assert future.done()
    never = Future()
    rclpy.spin_until_future_complete(world.node, never, world.executor, timeout_sec=0.05)
    assert not never.done()


def test_tasks_run_and_their_errors_come_out(world):
    world.executor.create_task(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        world.executor.spin_once(timeout_sec=0)
    done = world.executor.create_task(lambda: 5)
    world.until(done.done)
    assert done.result() == 5 and not world.executor._tasks


def test_an_error_comes_out_and_the_others_are_served_afterwards(world):
    got = []

    def fail(message):
        raise ValueError("callback")

    world.node.create_subscription(String, "both", fail, LATCHED)
    world.node.create_subscription(String, "both", got.append, LATCHED)
    world.peer.create_publisher(String, "both", LATCHED).publish(String())
    with pytest.raises(ValueError, match="callback"):
        world.until(lambda: False)
    world.until(lambda: got, "the other one")


def test_guard_conditions_are_served(world):
    got = []
    guard = world.node.create_guard_condition(lambda: got.append(1))
    world.spin()
    for count in (1, 2):
        guard.trigger()
        wait_for(lambda: len(got) == count, "the guard condition")  # noqa: B023


def test_shutdown_ends_a_wait_without_end(world):
    thread = world.spin()
    time.sleep(0.1)
    assert world.executor.shutdown()
    thread.join(2.0)
    assert not thread.is_alive()
    world.executor.spin_once(timeout_sec=0)
    world.executor.wake()


def test_the_end_of_the_context_ends_it(world):
    thread = world.spin()
    time.sleep(0.1)
    rclpy.shutdown(context=world.context)
    thread.join(2.0)
    assert not thread.is_alive()


def test_it_does_not_spin_within_itself(world):
    errors = []

    def again(message):
        try:
            world.executor.spin_once(timeout_sec=0)
        except RuntimeError as err:
            errors.append(str(err))

    world.node.create_subscription(String, "again", again, LATCHED)
    world.peer.create_publisher(String, "again", LATCHED).publish(String())
    world.until(lambda: errors, "the error")


def test_spin_ends_soon_after_the_signal(monkeypatch):
    """`stopping` is set while nothing comes; the signal's handler wakes nobody."""
    rclpy.init(domain_id=DOMAIN)
    try:
        waits, stopping = [], threading.Event()
        plain = LeanExecutor.spin_once

        def spin_once(self, timeout_sec=None):
            waits.append(timeout_sec)
            stopping.set()
            plain(self, timeout_sec)

        monkeypatch.setattr(LeanExecutor, "spin_once", spin_once)
        spin.spin(rclpy.create_node("ending"), stopping)
        assert waits == [spin.LOOK_S]
    finally:
        rclpy.shutdown()
