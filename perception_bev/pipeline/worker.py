"""Pipeline: a worker process, engines and nothing else: no ROS, no state that a death would lose.

`python -m perception_bev.pipeline.worker FD NAME`: FD is one end of a socket pair whose other end
is the supervisor's; the job comes over it, and when it ends the worker does.
"""

from __future__ import annotations

import array
import dataclasses
import json
import mmap
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from perception_bev import config
from perception_bev.deployment import Deployment
from perception_bev.engines import golden
from perception_bev.engines.base import Engine, TensorSpec, open_engine
from perception_bev.errors import PerceptionError
from perception_bev.pipeline import job, realtime, slow
from perception_bev.pipeline.remote import COMPUTED, DONE, LONGEST
from perception_bev.pipeline.shared import Layout, SharedNode
from perception_bev.pipeline.vitals import BEAT_S

LONGEST_JOB = 1 << 17  # [bytes]
MOST_ENGINES = 64


class Echo:
    """Gives back what it gets: what is left is the way there and back."""

    def __init__(self, count: int) -> None:
        self.inputs = (TensorSpec("bytes", (count,), np.dtype(np.uint8)),)
        self.outputs = self.inputs

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(feeds)

    def close(self) -> None:
        pass


def main(args: list[str] | None = None) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the supervisor too, which decides
    realtime.die_with_parent(signal.SIGKILL)
    control = socket.socket(fileno=int((args or sys.argv[1:])[0]))
    told, descriptors = _receive(control)
    if not told:  # the supervisor is gone already
        return 0
    page, *lines = descriptors
    threading.Thread(target=_beat, args=(page,), daemon=True).start()
    try:
        _serve(control, *job.job_of(told), [socket.socket(fileno=line) for line in lines])
    except Exception as err:  # whatever it is, the supervisor has to know the reason
        if not isinstance(err, PerceptionError):
            traceback.print_exc()
        _say(control, failed=type(err).__name__, text=str(err))
        return 1
    control.recv(1)  # ends with the supervisor
    os._exit(0)  # engines may be computing; there is nothing to save


def _serve(control: socket.socket, work: job.Job, place, lines: list[socket.socket]) -> None:
    """Open the engines and answer on their lines, each in a thread of its own."""
    notes = _prepare(work)
    node = SharedNode(place)
    node.clean()
    engines = {name: _opened(name, engine, work) for name, engine in work.engines.items()}
    _say(control, specs={name: [job.specs_to_json(engine.inputs), job.specs_to_json(engine.outputs)]
                         for name, engine in engines.items()})
    control.recv(1)  # the services are there
    for (name, engine), line in zip(engines.items(), lines, strict=True):
        responses = Layout(engine.outputs)
        desk = _Desk(engine, node.server(name, responses), responses, line,
                     slow.Switch(Path(place.root), name))
        threading.Thread(target=desk.serve, name=name, daemon=True).start()
    node.reserve()
    realtime.freeze_gc()
    _say(control, serving=[note for note in notes if note])


def _prepare(work: job.Job) -> list[str | None]:
    """Before any thread of an engine is made, because they inherit it."""
    asked = work.deployment.get("realtime", {})
    return [realtime.pin(work.cores), realtime.be_nice(asked.get("worker_nice", 0)),
            realtime.lock_memory(asked.get("lock_memory", False))]


def _opened(name: str, wanted: job.EngineJob, work: job.Job) -> Engine:
    """An engine that has computed once: it is proved, and its first real call is not its first."""
    if wanted.echo_bytes:
        return Echo(wanted.echo_bytes)
    deployment = dataclasses.replace(
        config.build(Deployment, work.deployment, "deployment"), threads=wanted.threads)
    engine = open_engine(Path(wanted.file), deployment)
    proof = work.golden
    if proof is not None:
        golden.check(name, engine, proof.feature_rows, Path(proof.file), proof.tolerance)
    else:
        engine.infer(golden.inputs_of(name, engine.inputs, 1))
    return engine


class _Desk:
    """Answers the calls of one engine."""

    def __init__(self, engine: Engine, server, responses: Layout, line: socket.socket,
                 switch: slow.Switch) -> None:
        self._engine, self._server, self._line, self._switch = engine, server, line, switch
        self._requests, self._responses = Layout(engine.inputs), responses

    def serve(self) -> None:
        """Until the line ends."""
        while self._line.recv(1):
            try:
                reply = DONE + COMPUTED.pack(self._answer())
            except PerceptionError as err:
                reply = str(err).encode()[:LONGEST]
            except Exception as err:  # the caller hears of it, the next call may be better
                traceback.print_exc()
                reply = f"{type(err).__name__}: {err}".encode()[:LONGEST]
            self._line.send(reply)

    def _answer(self) -> int:
        """How long its engine computed [ns]."""
        request = self._server.receive()
        if request is None:
            raise PerceptionError("the worker was asked, but there is no request")
        try:
            began = time.monotonic_ns()
            self._switch.wait()
            outputs = self._engine.infer(self._requests.views(request.payload()))
            computed = time.monotonic_ns() - began
            response = request.loan_slice_uninit(self._responses.size)
            self._responses.write(response.payload(), outputs)
            response.assume_init().send()
        finally:
            request.delete()
        return computed


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """The job and the descriptors that come with it; nothing when the socket ended."""
    size = array.array("i").itemsize * (MOST_ENGINES + 1)
    told, ancillary, _, _ = control.recvmsg(LONGEST_JOB, socket.CMSG_SPACE(size))
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data)
    return told, list(descriptors)


def _beat(page: int) -> None:
    """Write the time, and how often it was written, into a page that the parent reads."""
    newest = np.frombuffer(mmap.mmap(page, mmap.PAGESIZE), np.int64)
    while True:
        newest[0] = time.monotonic_ns()
        newest[1] += 1
        time.sleep(BEAT_S)


def _say(control: socket.socket, **what) -> None:
    control.send(json.dumps(what).encode())


if __name__ == "__main__":
    sys.exit(main())
