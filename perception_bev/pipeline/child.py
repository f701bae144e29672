"""Pipeline: one worker process from its start to its end, as its parent sees it."""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

import perception_bev
from perception_bev.pipeline.job import Job
from perception_bev.pipeline.shared import Place

LONGEST = 1 << 16  # [bytes] of what a worker says
ENTRY = "perception_bev.pipeline.worker"


class Child:
    """Spawned, never forked. Nothing of it has a name that could outlive it.

    It dies with the thread that made this object (the kernel sees to it), so that thread has to
    live as long as the child is wanted.
    """

    def __init__(self, job: Job, place: Place) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", ENTRY, str(theirs.fileno())], env=_environment(),
                stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        self.pid = self._process.pid
        self.ended = os.pidfd_open(self.pid)  # readable when the process has ended
        self.control = ours
        self.control.setblocking(False)
        self.speechless = False  # it has closed its end: it is dead, or almost
        self.lines: dict[str, socket.socket] = {}
        page = os.memfd_create("heartbeat")
        os.ftruncate(page, mmap.PAGESIZE)
        self._page = mmap.mmap(page, mmap.PAGESIZE, prot=mmap.PROT_READ)
        self._hand_over(job.to_json(place), job, page)
        os.close(page)

    def _hand_over(self, told: bytes, job: Job, page: int) -> None:
        """The job, the heartbeat's page, and a line an engine."""
        ends = {name: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                for name in job.engines}
        self.lines = {name: ours for name, (ours, _) in ends.items()}
        with suppress(OSError):  # it is dead already, which `ended` says
            socket.send_fds(self.control, [told],
                            [page, *(theirs.fileno() for _, theirs in ends.values())])
        for _, theirs in ends.values():
            theirs.close()

    @property
    def beat_ns(self) -> int:
        """Monotonic time of its newest heartbeat; 0: none yet."""
        return int(np.frombuffer(self._page, np.int64, 1)[0])

    def stopped(self) -> bool:
        """Whether a signal or a debugger holds it (proc(5), state T or t)."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_bytes()
        except OSError:
            return False
        return stat[stat.rindex(b")") + 2:][:1] in b"Tt"

    def said(self) -> dict | None:
        """The next thing that it said, if there is one."""
        try:
            text = self.control.recv(LONGEST)
        except OSError:  # nothing new, or it is dead
            return None
        self.speechless = not text
        return json.loads(text) if text else None

    def go_on(self) -> None:
        """The services are there: the worker may attach to them."""
        with suppress(OSError):  # it is dead, which `ended` says
            self.control.send(b"+")

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    def reap(self) -> str:
        """How it ended; call when `ended` is readable."""
        code = self._process.wait()
        if code >= 0:
            return f"exit code {code}"
        return f"killed by {signal.Signals(-code).name}"

    def close(self) -> None:
        """Give back what belongs to it; lines that were given away are not in `lines`."""
        os.close(self.ended)
        self.control.close()
        self._page.close()
        for line in self.lines.values():
            line.close()


def _environment() -> dict[str, str]:
    """Ours; this very package is found, wherever the parent has it from."""
    package = str(Path(perception_bev.__file__).resolve().parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
