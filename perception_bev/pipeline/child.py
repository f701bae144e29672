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

    def __init__(self, name: str, job: Job, place: Place) -> None:
        """name: for who lists processes."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", ENTRY, str(theirs.fileno()), name], env=_environment(),
                stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        self.pid = self._process.pid
        self.control = ours
        self.control.setblocking(False)
        self.speechless = False  # it has closed its end: it is dead, or almost
        try:
            self.ended = os.pidfd_open(self.pid)  # readable when the process has ended
            self._page, self.lines = self._hand_over(job.to_json(place), job)
        except OSError:  # no descriptors left
            self.kill()
            self.reap()
            raise

    def _hand_over(self, told: bytes, job: Job) -> tuple[mmap.mmap, dict[str, socket.socket]]:
        """Send the job, the heartbeat's page, and a line an engine; give our ends."""
        page = os.memfd_create("heartbeat")
        os.ftruncate(page, mmap.PAGESIZE)
        ends = {name: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                for name in job.engines}
        with suppress(BrokenPipeError, ConnectionResetError):  # dead already, as `ended` says
            socket.send_fds(self.control, [told],
                            [page, *(theirs.fileno() for _, theirs in ends.values())])
        for _, theirs in ends.values():
            theirs.close()
        seen = mmap.mmap(page, mmap.PAGESIZE, prot=mmap.PROT_READ)
        os.close(page)
        return seen, {name: ours for name, (ours, _) in ends.items()}

    @property
    def beat_ns(self) -> int:
        """Monotonic time of its newest heartbeat; 0: none yet."""
        return int(np.frombuffer(self._page, np.int64, 1)[0])

    def beats(self) -> int:
        """How many heartbeats there were."""
        return int(np.frombuffer(self._page, np.int64, 2)[1])

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
        for line in self.lines.values():
            line.close()


def _environment() -> dict[str, str]:
    """Ours; this very package is found, wherever the parent has it from."""
    package = str(Path(perception_bev.__file__).resolve().parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
