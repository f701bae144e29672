"""Latency: traces as JSON lines on disk, written where nothing waits for it.

A line: {"id", "t_ref_ns" (ROS time), "mono_t_ref", "ready", "published" (null: it was not),
"plan", "mode", "spans": [[name, start, end], ...]}; all but t_ref_ns in monotonic ns.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from perception_bev.errors import ConfigError
from perception_bev.latency.trace import Trace

CAPACITY = 256  # traces that may wait for the disk
MAX_BYTES = 100_000_000  # of a file; it and the one before it are kept
CLOSE_S = 1.0  # for what still waits at the end

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False,
                           default=operator.index).encode  # default: NumPy's whole numbers


class TraceLog:
    """Appends finished traces to a file in a thread of its own.

    put() never blocks and never raises. What could not be written is counted in `lost` by reason:
    "queue_full" (the disk is too slow; the oldest goes), "write_failed" (full or gone; the next
    trace is tried again), "not_plain" (something that JSON does not know), "closed". A file of
    `max_bytes` is renamed to NAME.1, in place of the one that was there.
    """

    def __init__(self, path: str | Path, capacity: int = CAPACITY,
                 max_bytes: int = MAX_BYTES) -> None:
        self.path, self._capacity, self._max_bytes = Path(path), capacity, max_bytes
        self.written = 0
        self.lost: Counter[str] = Counter()
        self.last_error = ""
        self._waiting: SimpleQueue[Trace | None] = SimpleQueue()  # None: the end
        self._lock = threading.Lock()  # of the counts
        self._closing = False
        self._file: int | None = None  # descriptor
        self._size = 0  # of the file [bytes]
        self._torn = False  # the file ends inside a line
        self._thread = threading.Thread(target=self._run, name="trace_log", daemon=True)
        self._thread.start()

    def put(self, trace: Trace) -> None:
        """Queue a trace that nobody changes any more."""
        if self._closing:
            self._lose("closed")
            return
        if self._waiting.qsize() >= self._capacity:
            with contextlib.suppress(Empty):
                self._waiting.get_nowait()
                self._lose("queue_full")
        self._waiting.put(trace)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what waits, but do not wait longer for a disk than this."""
        if not self._closing:
            self._closing = True
            self._waiting.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():  # it ends with the process
            with contextlib.suppress(Empty):
                while self._waiting.get_nowait() is not None:
                    self._lose("queue_full")
            self._waiting.put(None)

    def _run(self) -> None:
        while (trace := self._waiting.get()) is not None:
            try:
                self._write((line_of(trace) + "\n").encode())
            except OSError as err:
                self._lose("write_failed", err)
                self._release()
            except Exception as err:  # whatever it was: the thread goes on
                self._lose("not_plain", err)
        self._release()

    def _write(self, line: bytes) -> None:
        """One line, whole; a piece of one that a full disk took is closed off before it."""
        file = self._open_file()
        if self._torn:
            _write_all(file, b"\n")
        self._torn = True
        _write_all(file, line)
        self._torn = False
        self._size += len(line)
        self.written += 1

    def _open_file(self) -> int:
        if self._file is not None and self._size >= self._max_bytes:
            self._release()
            os.replace(self.path, older(self.path))
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._size = os.fstat(self._file).st_size
            self._torn = self._size > 0  # by whoever wrote before, perhaps
        return self._file

    def _lose(self, reason: str, err: Exception | None = None) -> None:
        with self._lock:
            self.lost[reason] += 1
        if err is not None:
            self.last_error = str(err)

    def _release(self) -> None:
        """Let go of the file: the next line opens it anew, on a disk that is back perhaps."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what it says now was said by write()
                os.close(self._file)
            self._file = None


def _write_all(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content):]


def older(path: Path) -> Path:
    """Where a full file goes."""
    return path.with_name(path.name + ".1")


def line_of(trace: Trace) -> str:
    """A trace as one line of JSON."""
    return _encode({
        "id": trace.id, "t_ref_ns": trace.stamp_ns, "mono_t_ref": trace.t_ref,
        "ready": trace.ready, "published": trace.published, "plan": trace.plan,
        "mode": trace.mode, "spans": trace.spans})


def trace_of(line: str | bytes) -> Trace:
    """A trace from its line; ValueError when it is none."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    try:
        return Trace(_whole(fields["mono_t_ref"]), _whole(fields["ready"]),
                     [(str(name), _whole(start), _whole(end))
                      for name, start, end in fields["spans"]],
                     None if fields["published"] is None else _whole(fields["published"]),
                     _whole(fields["id"]), str(fields["plan"]), str(fields["mode"]),
                     _whole(fields["t_ref_ns"]))
    except (KeyError, TypeError) as err:
        raise ValueError(f"not a trace: {err}") from err


def read(path: str | Path) -> tuple[list[Trace], int]:
    """All traces of a file, in its order, and the number of lines that are none (a process that
    was killed while it wrote leaves one); ConfigError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return _read(file)
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror or err}") from err


def _read(lines: Iterable[bytes]) -> tuple[list[Trace], int]:
    traces, bad = [], 0
    for line in lines:
        if not line.strip():
            continue
        try:
            traces.append(trace_of(line))
        except ValueError:  # also of an encoding
            bad += 1
    return traces, bad


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"not a whole number: {value!r}")
    return value
