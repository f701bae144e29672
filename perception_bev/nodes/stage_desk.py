"""Nodes: one engine of a stage node: requests in, answers out, computed in a thread of its own.

Of requests that wait the newest is computed; the others are counted, their callers have given up.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
from rclpy.node import Node

from perception_bev.engines.base import Engine, check_feeds
from perception_bev.errors import BadMessage, PerceptionError
from perception_bev.messages import features
from perception_bev.messages.features import Encoder, Kind, Message, Prefix
from perception_bev.nodes.feature_topics import Inlet, Outlet, answer_topic, request_topic
from perception_bev.pipeline.channel import Channel, Closed


class Desk:
    """Answers the calls of one engine, from activation to close()."""

    def __init__(self, node: Node, name: str, engine: Engine, identity: bytes,
                 say: Callable[[str], None],
                 clock: Callable[[], int] = time.monotonic_ns) -> None:
        """
        Args:
            identity: what requests have to be meant for (features.identity_of).
            say: told of every request that is refused or fails.
        """
        self.name, self._engine, self._identity = name, engine, identity
        self.counts: Counter[str] = Counter()  # answers, refusals and losses, by reason
        self._say, self._clock, self._encoder = say, clock, Encoder()
        self._requests: Channel[tuple[np.ndarray, int]] = Channel()
        self._outlet = Outlet(node, answer_topic(name))
        self._inlet = Inlet(node, request_topic(name), self._take, self._lost)
        self._thread = threading.Thread(target=self._serve, name=f"stage-{name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The engine stays open; a computation is waited for."""
        self._requests.close()
        self._thread.join(timeout=5.0)
        self._inlet.destroy()
        self._outlet.destroy()

    def _take(self, data: np.ndarray) -> None:
        """By the executor."""
        if self._requests.put((data, self._clock())) is not None:
            self.counts["overtaken"] += 1

    def _lost(self, code: int) -> None:
        self.counts["not_taken"] += 1

    def _serve(self) -> None:
        while True:
            try:
                data, since = self._requests.get()
            except Closed:
                return
            try:
                self._answer(data, since)
            except Exception as err:  # the thread outlives any request
                self._count("internal", f"internal error: {type(err).__name__}: {err}")

    def _answer(self, data: np.ndarray, since: int) -> None:
        try:
            prefix = features.prefix_of(data)
        except BadMessage as err:  # nobody's: there is no one to answer
            self._count(err.reason, str(err))
            return
        answer = self._made(data, prefix)
        spent_us = min((self._clock() - since) // 1000, 0xFFFFFFFF)
        message = Message(answer.kind, answer.epoch, answer.sequence, answer.identity, 0, spent_us,
                          answer.tensors)
        if not self._outlet.send(self._encoder.encode(
                message, bool(prefix.flags & features.WANTS_HALF))):
            self.counts["not_sent"] += 1

    def _made(self, data: np.ndarray, prefix: Prefix) -> Message:
        """The answer, whatever the request is."""
        try:
            request = self._checked(data)
        except PerceptionError as err:
            reason = getattr(err, "reason", "bad_layout")
            self._count(reason, str(err))
            return self._reply(Kind.REFUSED, prefix, features.as_text(str(err)))
        try:
            outputs = self._engine.infer(request.tensors)
        except Exception as err:  # the caller hears of it, the next call may be better
            self._count("failed", str(err))
            return self._reply(Kind.FAILED, prefix, features.as_text(str(err)))
        self.counts["answers"] += 1
        return self._reply(Kind.ANSWER, prefix, outputs)

    def _checked(self, data: np.ndarray) -> Message:
        request = features.decode(data)
        if request.kind is not Kind.REQUEST:
            raise BadMessage("bad_layout", f"{request.kind.name} where a request belongs")
        if request.identity != self._identity:
            raise BadMessage("foreign_spec", f"the request is for another file or shapes of "
                                             f"'{self.name}': both hosts need the same model")
        check_feeds(request.tensors, self._engine.inputs)
        return request

    def _reply(self, kind: Kind, prefix: Prefix, tensors) -> Message:
        return Message(kind, prefix.epoch, prefix.sequence, self._identity, 0, 0, tensors)

    def _count(self, reason: str, text: str) -> None:
        self.counts[reason] += 1
        self._say(f"{self.name}: {text}")
