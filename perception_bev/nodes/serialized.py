"""Nodes: messages taken as bytes, by a call that lets Python's other threads run meanwhile.

rclpy takes a message with the interpreter's lock held, and copies it twice or, typed, builds it:
milliseconds for a raw picture, in which no other thread of the process runs, the output guard
among them. Here the executor waits as ever, but takes through rcl's C interface by ctypes, which
releases the lock. Where rcl cannot be called so (`obstacle` says why), rclpy's own `raw=True`
serves: the same bytes, the lock held.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.waitable import NumberOfEntities, Waitable

TAKE_FAILED = 401  # RCL_RET_SUBSCRIPTION_TAKE_FAILED: there was no message after all


class _Allocator(ctypes.Structure):
    """rcutils_allocator_t."""

    _fields_ = [(name, ctypes.c_void_p) for name in
                ("allocate", "deallocate", "reallocate", "zero_allocate", "state")]


class _Buffer(ctypes.Structure):
    """rcutils_uint8_array_t, which is rcl_serialized_message_t."""

    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_size_t),
                ("capacity", ctypes.c_size_t), ("allocator", _Allocator)]


class _Block:
    """Memory of a taken message: NumPy looks at it, and it is freed with the last view."""

    __slots__ = ("__array_interface__", "_buffer", "_free")

    def __init__(self, buffer: _Buffer, free: Callable[[Any], int]) -> None:
        self._buffer, self._free = buffer, free
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (buffer.length,),
                                    "data": (buffer.data, False)}

    def __del__(self) -> None:
        self._free(ctypes.byref(self._buffer))


class _Rcl:
    """The four functions of rcl and rcutils that are called, already loaded by rclpy.

    Raises OSError or AttributeError where they are not there, ValueError where the layout of a
    serialized message is another than the one above.
    """

    def __init__(self) -> None:
        rcl, rcutils = ctypes.CDLL("librcl.so"), ctypes.CDLL("librcutils.so")
        rcutils.rcutils_get_default_allocator.restype = _Allocator
        self._allocator = rcutils.rcutils_get_default_allocator()
        self._take = rcl.rcl_take_serialized_message
        self._take.argtypes = [ctypes.c_void_p] * 4  # subscription, message, info, allocation
        self._free = rcutils.rcutils_uint8_array_fini
        self._free.argtypes = [ctypes.c_void_p]
        self._forget_error = rcutils.rcutils_reset_error
        self._check(rcutils)

    def _check(self, rcutils: ctypes.CDLL) -> None:
        buffer = _Buffer()
        code = rcutils.rcutils_uint8_array_init(
            ctypes.byref(buffer), ctypes.c_size_t(40), ctypes.byref(self._allocator))
        if code or not buffer.data or (buffer.length, buffer.capacity) != (0, 40):
            raise ValueError("rcutils_uint8_array_t is laid out in another way")
        self._free(ctypes.byref(buffer))

    def take(self, subscription: Any) -> np.ndarray | int | None:
        """(n,) uint8, None when there is no message, or rcl's code of what went wrong."""
        buffer = _Buffer(None, 0, 0, self._allocator)
        with subscription:  # not destroyed meanwhile
            code = self._take(subscription.pointer, ctypes.addressof(buffer), None, None)
        block = _Block(buffer, self._free)
        if code == 0:
            return np.asarray(block) if buffer.length else np.zeros(0, np.uint8)
        self._forget_error()
        return None if code == TAKE_FAILED else code


@cache
def _rcl() -> _Rcl | str:
    try:
        return _Rcl()
    except (OSError, AttributeError, ValueError) as err:
        return f"{type(err).__name__}: {err}"


def obstacle() -> str | None:
    """None, or why messages have to be taken by rclpy."""
    rcl = _rcl()
    return rcl if isinstance(rcl, str) else None


class TakenHere(CallbackGroup):
    """A group of which the executor serves the waitables only: `Taker` takes the messages."""

    def can_execute(self, entity: Any) -> bool:
        return isinstance(entity, Waitable)

    def beginning_execution(self, entity: Any) -> bool:
        return True

    def ending_execution(self, entity: Any) -> None:
        return None


class Taker(Waitable):
    """Waits for a subscription's messages in its place and hands their bytes on.

    `failed` gets rcl's code of a message that could not be taken; that message is lost.
    """

    def __init__(self, subscription: Subscription, failed: Callable[[int], None]) -> None:
        super().__init__(subscription.callback_group)
        self.subscription = subscription
        self._failed = failed
        self._handle = subscription.handle
        self._entered = False
        self._index: int | None = None

    def __enter__(self) -> None:
        """Raises rclpy's InvalidHandle once the subscription was destroyed."""
        self._entered = False
        self._handle.__enter__()
        self._entered = True

    def __exit__(self, *error: Any) -> None:
        self._handle.__exit__(*error)

    def get_num_entities(self) -> NumberOfEntities:
        return NumberOfEntities(num_subs=1)

    def add_to_wait_set(self, wait_set: Any) -> None:
        self._index = wait_set.add_subscription(self._handle) if self._entered else None

    def is_ready(self, wait_set: Any) -> bool:
        return self._index is not None and wait_set.is_ready("subscription", self._index)

    def take_data(self) -> np.ndarray | int | None:
        try:
            return _rcl().take(self._handle)
        except InvalidHandle:
            return None

    async def execute(self, taken: np.ndarray | int | None) -> None:
        self._hand_on(taken)

    def serve(self) -> None:
        """Take and hand on, in one call."""
        self._hand_on(self.take_data())

    def _hand_on(self, taken: np.ndarray | int | None) -> None:
        if isinstance(taken, int):
            self._failed(taken)
        elif taken is not None:
            self.subscription.callback(taken)


def subscribe(node: Node, make: Callable[..., Subscription],
              failed: Callable[[int], None]) -> tuple[Subscription, Taker | None]:
    """A subscription whose callback gets bytes. `make` calls `node.create_subscription` with the
    keywords it is given; the Taker is None where rclpy takes."""
    if obstacle() is not None:
        return make(raw=True), None
    subscription = make(raw=True, callback_group=TakenHere())
    taker = Taker(subscription, failed)
    node.add_waitable(taker)
    return subscription, taker
