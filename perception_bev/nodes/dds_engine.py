"""Nodes: engines that a stage node runs on another host, behind the protocol of engines.

`DdsLink` belongs to the perception node: a node and a thread of its own, so that no answer waits
behind a picture. A call that is not answered in time, or whose stage node is gone, raises
WorkerLost; the output guard speaks for that frame. A stage node that comes back is used again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from perception_bev.deployment import Deployment, Remote
from perception_bev.engines.base import Engine, TensorSpec, check_feeds, open_engine
from perception_bev.errors import (
    BadMessage,
    EngineFailed,
    EngineMismatch,
    PerceptionError,
    WorkerLost,
)
from perception_bev.manifest import load_manifest
from perception_bev.messages import features
from perception_bev.messages.features import Encoder, Kind, Message
from perception_bev.nodes.feature_topics import Inlet, Outlet, advice, answer_topic, request_topic
from perception_bev.pipeline.stages import engine_files

LOOK_S = 0.2
PATIENCE_S, TRIES = 3.0, 4  # with one call while a model is loaded and proved


class DdsEngine:
    """One engine of a stage node. One caller at a time.

    Attributes:
        half: float32 tensors cross as float16 from now on.
        patient: a call may take long and is repeated. The first ones find a network that does not
            know all its ends yet, so that an answer may go to nobody.
        counts: answers that came, and what went wrong, by its reason.
        hop_ms: of the newest call: all of it but what the stage node took.
    """

    def __init__(self, node: Node, name: str, remote: Remote, identity: bytes,
                 inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...],
                 clock: Callable[[], int] = time.monotonic_ns) -> None:
        """
        Args:
            identity: what the stage node's engine has to be (features.identity_of).
            clock: monotonic ns, to measure the hop.
        """
        self.name, self.inputs, self.outputs = name, inputs, outputs
        self.half, self.patient = False, False
        self.counts: Counter[str] = Counter()
        self.hop_ms = float("nan")
        self._timeout_s, self._identity, self._clock = remote.timeout_ms / 1e3, identity, clock
        self._topic = request_topic(name, remote.namespace)
        self._epoch, self._sequence = time.time_ns(), 0
        self._encoder, self._calls = Encoder(), threading.Lock()
        self._changed = threading.Condition()
        self._answer: np.ndarray | None = None  # of the call that waits
        self._waiting = False
        self._closed = False
        self._inlet = Inlet(node, answer_topic(name, remote.namespace), self._take,
                            self._lost, self._alive_changed)
        self._outlet = Outlet(node, self._topic)

    @property
    def present(self) -> bool:
        """Somebody listens and lives, as far as the middleware knows."""
        return self._inlet.alive > 0 and self._outlet.listeners > 0

    @property
    def bytes_each_way(self) -> tuple[int, int]:
        """Of the tensors, to the stage node and back."""
        return tuple(sum(_bytes(spec, self.half) for spec in specs)
                     for specs in (self.inputs, self.outputs))

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises WorkerLost without an answer, EngineMismatch when the stage node refuses,
        EngineFailed for what its engine raised."""
        check_feeds(feeds, self.inputs)
        for _ in range(TRIES - 1 if self.patient else 0):
            with contextlib.suppress(WorkerLost):
                return self._call(feeds)
        return self._call(feeds)

    def _call(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with self._calls:
            start = self._clock()
            self._ask(feeds)
            message = self._read(self._await())
            self.hop_ms = (self._clock() - start) / 1e6 - message.spent_us / 1e3
            self.counts["answers"] += 1
            return dict(message.tensors)

    def describe(self) -> str:
        """For `status`."""
        wrong = "".join(f", {why} {n}" for why, n in sorted(self.counts.copy().items())
                        if why != "answers")
        return f"{'present' if self.present else 'absent'}, {self.counts['answers']} answers{wrong}"

    def close(self) -> None:
        """The link closes the topics: the engine may be used again until then."""

    def release(self) -> None:
        """The call that waits and all later ones raise WorkerLost."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def destroy(self) -> None:
        """After release(), when the link's thread has ended."""
        with self._calls:
            self._inlet.destroy()
            self._outlet.destroy()

    # -- a call --------------------------------------------------------------------------------

    def _ask(self, feeds: Mapping[str, np.ndarray]) -> None:
        if self._closed:
            raise self._is_lost("closed", "the link is closed")
        if not self.present:
            raise self._is_lost("absent", f"no stage node serves {self._topic}")
        self._sequence += 1
        with self._changed:
            self._answer, self._waiting = None, True
        request = Message(Kind.REQUEST, self._epoch, self._sequence, self._identity,
                          features.WANTS_HALF if self.half else 0, 0, feeds)
        if not self._outlet.send(self._encoder.encode(request, self.half)):
            raise self._is_lost("not_sent", "the middleware did not take the request")

    def _await(self) -> np.ndarray:
        timeout_s = max(self._timeout_s, PATIENCE_S if self.patient else 0.0)
        with self._changed:
            in_time = self._changed.wait_for(
                lambda: self._answer is not None or self._closed or not self._inlet.alive,
                timeout_s)
            answer, self._answer, self._waiting = self._answer, None, False
        if answer is not None:
            return answer
        if not in_time:
            raise self._is_lost("timeout", f"no answer on {self._topic} in "
                                           f"{timeout_s * 1e3:g} ms")
        raise self._is_lost("gone", f"the stage node of {self._topic} went away while it computed")

    def _read(self, answer: np.ndarray) -> Message:
        try:
            message = features.decode(answer)
        except BadMessage as err:
            self.counts[err.reason] += 1
            raise EngineFailed(f"engine {self.name}: answer of the stage node: {err}") from err
        if message.kind is Kind.REFUSED:
            self.counts["refused"] += 1
            raise EngineMismatch(f"engine {self.name}: the stage node refuses: {message.text}")
        if message.kind is Kind.FAILED:
            self.counts["failed"] += 1
            raise EngineFailed(f"engine {self.name}: {message.text}")
        self._check(message)
        return message

    def _check(self, message: Message) -> None:
        """EngineMismatch unless the answer is of this engine."""
        if message.identity != self._identity:
            self.counts["foreign_spec"] += 1
            raise EngineMismatch(f"engine {self.name}: the stage node has another model")
        try:
            check_feeds(message.tensors, self.outputs)
        except PerceptionError as err:
            self.counts["bad_layout"] += 1
            raise EngineMismatch(f"engine {self.name}: the stage node's answer: {err}") from err

    def _is_lost(self, reason: str, text: str) -> WorkerLost:
        self.counts[reason] += 1
        return WorkerLost(f"engine {self.name}: {text}")

    # -- the link's thread ---------------------------------------------------------------------

    def _take(self, data: np.ndarray) -> None:
        """An answer: for the call that waits, or nobody's."""
        try:
            prefix = features.prefix_of(data)
        except BadMessage as err:
            self.counts[err.reason] += 1
            return
        with self._changed:
            if (prefix.epoch, prefix.sequence) == (self._epoch, self._sequence) and self._waiting:
                self._answer = data
                self._changed.notify_all()
            elif prefix.epoch == self._epoch:  # else another perception node's
                self.counts["late"] += 1

    def _lost(self, code: int) -> None:
        self.counts["not_taken"] += 1

    def _alive_changed(self) -> None:
        with self._changed:
            self._changed.notify_all()


class DdsLink:
    """All engines that a deployment has on other hosts, until close()."""

    engines: dict[str, DdsEngine]

    def __init__(self, owner: Node, model: Path, deployment: Deployment) -> None:
        """
        Args:
            owner: its context and namespace are used; its executor is not.
            model: folder of the same model that the stage nodes have.
        """
        self._deployment = deployment
        if (text := advice(os.environ)) is not None:
            owner.get_logger().warning(text)
        self._node = rclpy.create_node(f"{owner.get_name()}_features", context=owner.context,
                                       namespace=owner.get_namespace(), use_global_arguments=False,
                                       start_parameter_services=False)
        try:
            self.engines = {
                name: DdsEngine(self._node, name, deployment.remote_of(name), *known)
                for name, known in identities(Path(model), deployment, self._is_remote).items()}
        except Exception:
            self._node.destroy_node()
            raise
        self._over = threading.Event()
        self._executor = SingleThreadedExecutor(context=owner.context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="features", daemon=True)
        self._thread.start()

    @property
    def absent(self) -> list[str]:
        """Engines that nobody serves now."""
        return [name for name, engine in self.engines.items() if not engine.present]

    def prove(self) -> None:
        """Patience, and all tensors as they are, which a proof by golden values needs."""
        for engine in self.engines.values():
            engine.half, engine.patient = False, True

    def compress(self) -> None:
        """Tensors of the deployment's choice cross as float16 from now on."""
        for name, engine in self.engines.items():
            engine.half = self._deployment.remote_of(name).half

    def serve(self) -> None:
        """The deployment's time limits hold from now on, and nothing is repeated."""
        for engine in self.engines.values():
            engine.patient = False

    def notes(self) -> dict[str, str]:
        """For `status`."""
        said = {f"remote.{name}": engine.describe() for name, engine in self.engines.items()}
        return said | {f"remote.{name}.hop_ms": f"{engine.hop_ms:.2f}"
                       for name, engine in self.engines.items() if engine.counts["answers"]}

    def close(self) -> None:
        """Let go of the topics; calls raise WorkerLost from now on."""
        for engine in self.engines.values():
            engine.release()
        self._over.set()
        self._thread.join(timeout=5.0)
        self._executor.shutdown()
        for engine in self.engines.values():
            engine.destroy()
        self._node.destroy_node()

    def _is_remote(self, name: str) -> bool:
        return self._deployment.remote_of(name) is not None

    def _spin(self) -> None:
        try:
            while not self._over.is_set():
                self._executor.spin_once(timeout_sec=LOOK_S)
        except ExternalShutdownException:
            return


Known = tuple[bytes, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]  # identity, inputs, outputs


def identities(folder: Path, deployment: Deployment,
               wanted: Callable[[str], bool]) -> dict[str, Known]:
    """What the wanted engines of a model are, from their files."""
    variant = load_manifest(folder).variant(deployment.variant)
    found = {}
    for name, file in engine_files(Path(folder), variant, deployment.variant).items():
        if wanted(name):
            engine = open_engine(file, deployment)
            found[name] = identity(name, variant.engines[name].sha256, engine)
            engine.close()
    return found


def identity(name: str, sha256: str, engine: Engine) -> Known:
    """Of an engine that was opened."""
    specs = (engine.inputs, engine.outputs)
    return features.identity_of(name, sha256, specs), *specs


def _bytes(spec: TensorSpec, half: bool) -> int:
    size = 2 if half and spec.dtype == np.float32 else spec.dtype.itemsize
    return size * int(np.prod(spec.shape, dtype=np.int64))
