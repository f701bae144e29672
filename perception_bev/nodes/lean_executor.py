"""Nodes: an executor that takes little of the interpreter's lock for a message.

rclpy's SingleThreadedExecutor gathers the entities of all nodes, enters each of them and makes a
new wait set for every single callback: in a node with a dozen sensors about a millisecond of Python
a message, in which no other thread runs. Here they are gathered when they have changed, one wait
set serves again and again, and all that one wait has found is served, as rclcpp's
StaticSingleThreadedExecutor did it. While messages come, those who can wait (services, clients,
events: most entities of a node) are looked at every LOOK_NS only.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial, partialmethod
from typing import Any

from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import Executor, TimeoutObject
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.task import Future
from rclpy.timer import Timer
from rclpy.utilities import timeout_sec_to_nsec
from rclpy.waitable import Waitable

from perception_bev.nodes.serialized import Taker

Serve = Callable[[], None]
LOOK_NS = 50_000_000  # so long may a service's request have to wait while messages come
# In the order in which they are served; events are asked for one by one.
KINDS = ("guard_condition", "subscription", "timer", "client", "service")
HOT = frozenset(KINDS[:3])
SIZES = ("subscription", "guard_condition", "timer", "client", "service", "event")  # rcl's order


class WaitList:
    """A wait set that is filled with the same handles, in the same order, every time.

    It has the `add_...` of rcl's wait set, so that waitables note their places. What is in it is
    entered: who is destroyed meanwhile is there until the list is let go of.
    """

    def __init__(self) -> None:
        self._handles: dict[str, list[Any]] = {kind: [] for kind in SIZES}
        self._by_address: dict[int, Serve] = {}
        self._events: list[Serve] = []
        self._adding: Serve
        self._entered = contextlib.ExitStack()

    def add(self, kind: str, entity: Any, serve: Serve) -> None:
        if self._enter(entity.handle):
            self._adding = serve
            self._note(kind, entity.handle)

    def add_waitable(self, waitable: Waitable, serve: Serve) -> None:
        """Raises TypeError for those that add themselves in C++ (actions)."""
        if self._enter(waitable):
            self._adding = serve
            waitable.add_to_wait_set(self)

    def _note(self, kind: str, handle: Any) -> int:
        place = len(self._handles[kind])
        self._handles[kind].append(handle)
        if kind == "event":
            self._events.append(self._adding)
        else:
            self._by_address[handle.pointer] = self._adding
        return place

    add_guard_condition = partialmethod(_note, "guard_condition")
    add_subscription = partialmethod(_note, "subscription")
    add_timer = partialmethod(_note, "timer")
    add_client = partialmethod(_note, "client")
    add_service = partialmethod(_note, "service")
    add_event = partialmethod(_note, "event")

    def _enter(self, entity: Any) -> bool:
        """False when it is destroyed already."""
        try:
            self._entered.enter_context(entity)
        except InvalidHandle:
            return False
        return True

    def complete(self, context: Context) -> None:
        """Make the wait set for all that was added."""
        self.wait_set = rclpy_implementation.WaitSet(
            *(len(self._handles[kind]) for kind in SIZES), context.handle)
        self._adds = [(getattr(self.wait_set, f"add_{kind}"), handle)
                      for kind, handles in self._handles.items() for handle in handles]
        self._kinds = [kind for kind in KINDS if self._handles[kind]]

    def wait(self, timeout_ns: int) -> None:
        """Until one is ready; -1: without end."""
        self.wait_set.clear_entities()
        for add, handle in self._adds:
            add(handle)
        self.wait_set.wait(timeout_ns)

    def ready(self) -> list[Serve]:
        found = [self._by_address[address] for kind in self._kinds
                 for address in self.wait_set.get_ready_entities(kind)]
        is_ready = self.wait_set.is_ready
        return found + [serve for place, serve in enumerate(self._events)
                        if is_ready("event", place)]

    def let_go(self) -> None:
        self._entered.close()


class LeanExecutor(Executor):
    """One thread; `spin_once` is one wait and all callbacks that it found ready.

    A callback group is asked once, when entities are gathered, whether an entity is for the
    executor. Coroutines of a group do not exclude each other while they wait. Actions are not
    served. An exception of a callback leaves `spin_once`; whoever was ready with it still is.
    """

    def __init__(self, *, context: Context | None = None) -> None:
        self._changed = True  # since entities were gathered
        self._all, self._hot = WaitList(), WaitList()  # everything; who is waited for always
        self._look_ns = 0  # when to wait for everything next, of the monotonic clock
        self._spinning = threading.Lock()
        super().__init__(context=context)

    def wake(self) -> None:
        """Something was made or destroyed, or the context ends; from any thread."""
        self._changed = True
        with contextlib.suppress(InvalidHandle):  # shut down meanwhile
            super().wake()

    def add_node(self, node: Node) -> bool:
        added = super().add_node(node)
        self.wake()
        return added

    def remove_node(self, node: Node) -> None:
        super().remove_node(node)
        self.wake()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """May come back before `timeout_sec` with nothing done."""
        if not self._spinning.acquire(blocking=False):
            raise RuntimeError("this executor is spinning already")
        try:
            self._run_tasks()
            if self._changed:
                self._gather()
            if self._open():
                self._round(timeout_sec_to_nsec(timeout_sec))
        finally:
            self._spinning.release()
            if self._is_shutdown:
                self._let_go()

    def spin_once_until_future_complete(
            self, future: Future, timeout_sec: float | TimeoutObject | None = None) -> None:
        future.add_done_callback(lambda done: self.wake())
        self.spin_once(timeout_sec.timeout if isinstance(timeout_sec, TimeoutObject)
                       else timeout_sec)

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """From any thread; a callback that runs is not waited for."""
        done = super().shutdown(timeout_sec)
        self._let_go()
        return done

    def _open(self) -> bool:
        return not self._is_shutdown and self._context.ok()

    def _let_go(self) -> None:
        """After the shutdown; who spins meanwhile does it when it comes back."""
        if self._spinning.acquire(blocking=False):
            try:
                self._all.let_go()
                self._hot.let_go()
            finally:
                self._spinning.release()

    def _round(self, timeout_ns: int) -> None:
        """Wait for whoever is due to be waited for, and serve them."""
        left_ns = self._look_ns - time.monotonic_ns()
        if left_ns <= 0:
            waiting = self._all
        else:
            waiting = self._hot
            timeout_ns = left_ns if timeout_ns < 0 else min(timeout_ns, left_ns)
        waiting.wait(timeout_ns)
        if left_ns <= 0:
            self._look_ns = time.monotonic_ns() + LOOK_NS
        if self._open():
            for serve in waiting.ready():
                serve()

    # -- who is waited for ---------------------------------------------------------------------

    def _gather(self) -> None:
        """Nothing once the executor was shut down."""
        self._changed = False  # before it is looked at: what changes now is looked at once more
        self._look_ns = 0
        self._all.let_go()
        self._hot.let_go()
        self._all, self._hot = WaitList(), WaitList()
        with self._shutdown_lock:
            if not self._open():
                return
            for guard in (self._guard, self._sigint_gc):
                self._add("guard_condition", guard, _nothing)
        for node in self.get_nodes():
            self._gather_node(node)
        self._all.complete(self._context)
        self._hot.complete(self._context)

    def _gather_node(self, node: Node) -> None:
        for kind, entities, take in (("guard_condition", node.guards, self._take_guard_condition),
                                     ("subscription", node.subscriptions, self._take_subscription),
                                     ("timer", node.timers, self._take_timer),
                                     ("client", node.clients, self._take_client),
                                     ("service", node.services, self._take_service)):
            for entity in filter(self.can_execute, entities):
                self._add(kind, entity, partial(self._serve, take, entity))
        for waitable in filter(self.can_execute, node.waitables):
            if isinstance(waitable, Taker):
                self._all.add_waitable(waitable, waitable.serve)
                self._hot.add_waitable(waitable, waitable.serve)
            else:
                self._all.add_waitable(waitable, partial(self._serve_waitable, waitable))

    def _add(self, kind: str, entity: Any, serve: Serve) -> None:
        self._all.add(kind, entity, serve)
        if kind in HOT:
            self._hot.add(kind, entity, serve)

    # -- serving -------------------------------------------------------------------------------

    def _serve(self, take: Callable[[Any], Callable[[], Coroutine] | None], entity: Any) -> None:
        """rclpy's `take` gives None where there was nothing, or it was destroyed meanwhile."""
        call = take(entity)
        if call is not None:
            self._begin(call())

    def _take_timer(self, timer: Timer) -> Callable[[], Coroutine] | None:
        """A cancelled timer, or one that an earlier callback has reset, is not ready."""
        return super()._take_timer(timer) if timer.handle.is_timer_ready() else None

    def _serve_waitable(self, waitable: Waitable) -> None:
        try:
            with waitable:
                if not waitable.is_ready(self._all.wait_set):
                    return
                call = self._take_waitable(waitable)
        except InvalidHandle:  # an earlier callback of this round has destroyed it
            return
        self._begin(call())

    def _begin(self, work: Coroutine) -> None:
        """Plain callbacks end at once; what awaits something becomes a task."""
        try:
            work.send(None)
        except StopIteration:
            return
        self.create_task(work)

    def _run_tasks(self) -> None:
        if not self._tasks:
            return
        with self._tasks_lock:
            tasks = [task for task, _, _ in self._tasks]
        try:
            for task in tasks:
                task()
                if task.done() and not task.cancelled():
                    task.result()  # raises what the callback raised
        finally:
            with self._tasks_lock:
                self._tasks = [row for row in self._tasks
                               if not (row[0].done() or row[0].cancelled())]


def _nothing() -> None:
    """Of the guard conditions that only end a wait."""
