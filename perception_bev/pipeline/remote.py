"""Pipeline: an engine that lives in a worker process, behind the protocol of engines.

A call writes its tensors into shared memory, says so over a socket and waits for the answer there.
The socket ends with the worker, so that a death is known at once and nobody has to look for it.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np

from perception_bev.engines.base import TensorSpec, check_feeds
from perception_bev.errors import EngineFailed, WorkerLost
from perception_bev.pipeline.shared import Layout, SharedNode
from perception_bev.pipeline.vitals import BEAT_S

PATIENCE = 4  # time limits that a call may take when its worker got no time to run
ASK = b"?"
DONE = b"."  # an answer, mostly with COMPUTED behind it; any other is the text of an error
COMPUTED = struct.Struct("<q")  # how long the engine computed [ns]
LONGEST = 4096  # [bytes] of such a text


class RemoteEngine:
    """One engine of one worker, over all its restarts. One caller at a time."""

    def __init__(self, name: str, worker: str, timeout_s: float,
                 hangs: Callable[[str], None]) -> None:
        """
        Args:
            timeout_s: how long one call may take of a worker whose heart beats meanwhile. With the
                whole machine standing still, it may take some times as long.
            hangs: called with the reason when it took longer; the worker is to be killed then.
        """
        self.name, self._worker, self._timeout_s, self._hangs = name, worker, timeout_s, hangs
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()
        self.computed_ns: int | None = None  # of the last call, without copies and socket
        self._client = None
        self._line: socket.socket | None = None
        self._beats: Callable[[], int] = _none
        self._why = f"worker '{worker}' is starting"
        self._calls = threading.Lock()

    def describe(self, node: SharedNode, inputs: tuple[TensorSpec, ...],
                 outputs: tuple[TensorSpec, ...]) -> None:
        """Take the specs that the worker found; EngineFailed when a restart changed them."""
        if self._client is None:
            self.inputs, self.outputs = inputs, outputs
            self._requests, self._responses = Layout(inputs), Layout(outputs)
            self._client, self._errors = node.client(self.name, self._requests), node.errors
            node.reserve()
        elif (inputs, outputs) != (self.inputs, self.outputs):
            raise EngineFailed(f"engine {self.name}: its file changed while the worker was away")

    def connect(self, line: socket.socket, beats: Callable[[], int]) -> None:
        """Calls go over this line from now on. beats: number of the worker's heartbeats."""
        line.settimeout(self._timeout_s)
        self._beats = beats
        self._line = line

    def disconnect(self, why: str) -> None:
        """The call that waits now and all later ones raise WorkerLost with this reason."""
        self._why = why
        self._beats = _none  # they kept a worker's page open
        line, self._line = self._line, None
        if line is None:
            return
        with suppress(OSError):  # its other end is gone already
            line.shutdown(socket.SHUT_RDWR)  # wakes who waits
        with self._calls:
            line.close()

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        check_feeds(feeds, self.inputs)
        with self._calls:
            line = self._line
            if line is None:
                raise WorkerLost(f"engine {self.name}: {self._why}")
            try:
                return self._exchange(line, feeds)
            except self._errors as err:
                raise EngineFailed(f"engine {self.name}: iceoryx2: {err}") from err

    def close(self) -> None:
        """Give back the shared memory; the supervisor ends the worker."""
        self.disconnect("the supervisor is closed")
        with self._calls:
            self._client = None

    def _exchange(self, line: socket.socket, feeds: Mapping[str, np.ndarray]) -> dict:
        request = self._client.loan_slice_uninit(self._requests.size)
        self._requests.write(request.payload(), feeds)
        pending = request.assume_init().send()
        # An error that somebody keeps would keep them too, and there is room for one request.
        try:
            self._ask(line)
            return self._answer(pending)
        finally:
            pending.delete()

    def _ask(self, line: socket.socket) -> None:
        """Wake the worker and wait until it is done."""
        try:
            line.send(ASK)
            reply = self._reply(line)
        except TimeoutError:
            why = f"worker '{self._worker}' hangs: no answer in {self._timeout_s * 1e3:.0f} ms"
            if self._line is line:  # else the supervisor was faster
                self._why, self._line = why, None  # an answer that comes now is nobody's
                line.close()
                self._hangs(why)
            raise WorkerLost(f"engine {self.name}: {why}") from None
        except OSError:  # the line broke
            reply = b""
        if not reply:
            raise WorkerLost(f"engine {self.name}: {self._end()}")
        if reply[:1] != DONE or len(reply) not in (1, 1 + COMPUTED.size):
            raise EngineFailed(reply.decode(errors="replace"))
        self.computed_ns = COMPUTED.unpack(reply[1:])[0] if reply[1:] else None

    def _reply(self, line: socket.socket) -> bytes:
        """TimeoutError when the worker has lived for a time limit and does not answer."""
        for _ in range(PATIENCE - 1):
            before = self._beats()
            try:
                return line.recv(LONGEST)
            except TimeoutError:
                if (self._beats() - before) * BEAT_S > self._timeout_s / 2:
                    raise
        return line.recv(LONGEST)

    def _answer(self, pending) -> dict[str, np.ndarray]:
        response = pending.receive()
        if response is None:
            raise EngineFailed(f"engine {self.name}: worker '{self._worker}' answered with nothing")
        try:
            return self._responses.read(response.payload())
        finally:
            response.delete()

    def _end(self) -> str:
        """Why the line ended: the supervisor's reason, or none is known yet."""
        return (self._why if self._line is None
                else f"worker '{self._worker}' died while it computed")


def _none() -> int:
    """Heartbeats of no worker."""
    return 0
