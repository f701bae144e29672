"""Pipeline: memory shared with the workers, through iceoryx2 request-response services.

One service an engine: the caller writes tensors straight into a loaned request, the worker computes
on views of it and writes into a loaned response. Nothing is pickled. Who is to wake is said over a
socket (remote.py), which also ends when the process at its other end does.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perception_bev.engines.base import TensorSpec
from perception_bev.errors import EngineUnavailable

ALIGNMENT = 64  # [bytes] of every tensor: a cache line, and what vector instructions like
BASE = Path("/dev/shm")  # where iceoryx2 on Linux has its segments; its lists lie beside them
FAMILY = "perception_bev."
LOCK = ".lock"
SEGMENT = ".data"  # how iceoryx2 ends the names of what holds tensors


class Layout:
    """Where tensors lie in one slice of bytes."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self.specs = tuple(specs)
        self._starts, end = [], 0
        for spec in self.specs:
            self._starts.append(end)
            end += -(-_bytes(spec) // ALIGNMENT) * ALIGNMENT
        self.size = end + ALIGNMENT  # [bytes], wherever the slice begins

    def views(self, slice_) -> dict[str, np.ndarray]:
        """Tensors by name in an iceoryx2 slice; good as long as its sample is held."""
        # Segments are mapped to whole pages, so that this is the same in both processes. Asking
        # iceoryx2 0.10 for the alignment makes every segment as many times larger.
        whole = np.frombuffer(slice_.as_memory_view(), np.uint8)
        whole = whole[-whole.ctypes.data % ALIGNMENT:]
        return {spec.name: whole[start:start + _bytes(spec)].view(spec.dtype).reshape(spec.shape)
                for spec, start in zip(self.specs, self._starts, strict=True)}

    def write(self, slice_, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy arrays of the specs' shapes into a slice."""
        for name, view in self.views(slice_).items():
            np.copyto(view, arrays[name], casting="no")

    def read(self, slice_) -> dict[str, np.ndarray]:
        """Copies, so that the slice can go back."""
        return {name: view.copy() for name, view in self.views(slice_).items()}


class Place(NamedTuple):
    """What a worker needs to find the shared memory."""

    root: str  # folder of iceoryx2's lists
    prefix: str  # of all its names


class SharedFolder:
    """All names of one parent process, locked as long as it lives.

    Segments are `<name>_*`, lists lie in the folder `<name>`. A parent that was killed cannot take
    them away: the next one does, which finds their lock free.
    """

    def __init__(self, base: Path = BASE) -> None:
        sweep(base)
        self._base = base
        self.name, self._lock = _locked_name(base)
        self.path = base / self.name
        self.path.mkdir(mode=0o700)
        self.place = Place(str(self.path), self.name + "_")

    def close(self) -> None:
        """Remove everything of this name."""
        _remove(self._base, self.name)
        os.close(self._lock)


def sweep(base: Path = BASE) -> int:
    """Remove what dead parents left; how many there were. Others' files are left alone."""
    removed = 0
    for lock in base.glob(f"{FAMILY}*{LOCK}"):
        try:
            held = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # gone by now, or another user's
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(base, lock.name.removesuffix(LOCK))
            removed += 1
        except OSError:  # its owner lives
            pass
        finally:
            os.close(held)
    return removed


def _locked_name(base: Path) -> tuple[str, int]:
    """A fresh name and the descriptor that holds its lock, until the process ends."""
    while True:
        name = f"{FAMILY}{os.getpid()}.{secrets.token_hex(4)}"
        lock = os.open(base / (name + LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                       0o600)
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:  # no sweep came between the two calls
                return name, lock
        os.close(lock)


def _remove(base: Path, name: str) -> None:
    for path in [*base.glob(f"{name}_*"), base / name, base / (name + LOCK)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class SharedNode:
    """This process among those that share a place."""

    def __init__(self, place: Place) -> None:
        """Raises EngineUnavailable without iceoryx2."""
        self._iox = iox = _load()
        self._base, self._prefix = Path(place.root).parent, place.prefix
        self.errors = (iox.LoanError, iox.RequestSendError, iox.ReceiveError)
        config = iox.config.default()
        config.global_cfg.root_path = iox.Path.new(place.root)
        config.global_cfg.prefix = iox.FileName.new(place.prefix)
        # The next worker does it, when it is asked to (clean): never the parent, whose threads
        # would wait for it.
        config.global_cfg.node.cleanup_dead_nodes_on_creation = False
        config.global_cfg.node.cleanup_dead_nodes_on_destruction = False
        self._node = (iox.NodeBuilder.new().config(config)
                      .signal_handling_mode(iox.SignalHandlingMode.Disabled)
                      .create(iox.ServiceType.Ipc))

    def clean(self) -> int:
        """Take away what processes that were killed had; how many they were."""
        return self._node.try_cleanup_dead_nodes().cleanups

    def client(self, engine: str, requests: Layout):
        """Makes the service and its one client."""
        return (self._service(engine).create().client_builder()
                .initial_max_slice_len(requests.size).create())

    def server(self, engine: str, responses: Layout):
        """Of a service that is there."""
        return (self._service(engine).open().server_builder()
                .initial_max_slice_len(responses.size).max_loaned_responses_per_request(1)
                .create())

    def reserve(self) -> None:
        """Take all memory of the segments now; EngineUnavailable when there is not enough.

        Else it is taken at the first write, and a full /dev/shm kills the process that writes.
        Segments that others are just making are left to them.
        """
        for segment in self._base.glob(f"{self._prefix}*{SEGMENT}"):
            with suppress(FileNotFoundError, PermissionError), segment.open("rb+") as file:
                size = segment.stat().st_size
                try:
                    if size:
                        os.posix_fallocate(file.fileno(), 0, size)
                except OSError as err:
                    raise EngineUnavailable(
                        f"shared memory: {self._base} has no {size / 1e6:.1f} MB left for one "
                        f"engine: {err.strerror} (containers: --shm-size)") from err

    def close(self) -> None:
        """After the ports are gone."""
        self._node = None

    def _service(self, engine: str):
        """One caller, one worker and dead ones before it; one request at a time. The numbers
        decide how much address space a segment takes, and locked memory, if that is asked for."""
        of_bytes = self._iox.Slice[ctypes.c_uint8]
        return (self._node.service_builder(self._iox.ServiceName.new(engine))
                .request_response(of_bytes, of_bytes)
                .max_clients(1).max_servers(3).max_nodes(8).max_loaned_requests(1)
                .max_active_requests_per_client(1).max_response_buffer_size(1)
                .max_borrowed_responses_per_pending_response(1))


def _load():
    try:
        import iceoryx2
    except ImportError as err:
        raise EngineUnavailable("runner 'processes' needs the package iceoryx2 (pip install "
                                "iceoryx2), or take runner 'threads'") from err
    iceoryx2.set_log_level(iceoryx2.LogLevel.Fatal)  # what matters raises
    return iceoryx2


def _bytes(spec: TensorSpec) -> int:
    return int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
