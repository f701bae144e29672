"""Commands: faults of processes and of the machine, each an act that begins and ends. `bev fault`
does one by hand, `bev bench faults` many in turn.

`begin` raises ConfigError, with the cure, where this computer does not permit the fault; `end` puts
everything back and may be called at any time.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from perception_bev.commands.fault_loss import Loss
from perception_bev.commands.fault_processes import is_ours
from perception_bev.errors import ConfigError

SMALL_DISK = 64 << 20  # [bytes] a larger file system is never filled
FILL = ".full_on_purpose"
CHUNK = 1 << 16
SPINNERS = 8  # busy processes on a core where the real-time class is not permitted
RT_PRIORITY = 40
SPIN = """
import os, sys
core, priority = int(sys.argv[1]), int(sys.argv[2])
os.sched_setaffinity(0, {core})
if priority:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
print("", flush=True)
while os.getppid() == int(sys.argv[3]):
    for _ in range(100_000):
        pass
"""


class Act(Protocol):
    """One fault."""

    def begin(self) -> str:
        """Do it; one sentence that says what was done."""

    def end(self) -> None:
        """Undo it, as far as it can be."""


@dataclass
class Kill:
    """SIGKILL, as of the out-of-memory killer."""

    pid: int

    def begin(self) -> str:
        _send(self.pid, signal.SIGKILL)
        return f"process {self.pid} was killed"

    def end(self) -> None:
        pass


@dataclass
class Hang:
    """SIGSTOP: the process stays and does nothing. Who came in its place is not touched."""

    pid: int
    _process: psutil.Process | None = None

    def begin(self) -> str:
        self._process = psutil.Process(self.pid) if psutil.pid_exists(self.pid) else None
        _send(self.pid, signal.SIGSTOP)
        return f"process {self.pid} is stopped"

    def end(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            if self._process is not None:
                self._process.resume()  # psutil compares the time of creation first


@dataclass
class Slow:
    """Engines of a worker compute so much longer."""

    pid: int  # of the perception node
    engines: tuple[str, ...]
    ms: float

    def begin(self) -> str:
        self._set(self.ms)
        return f"every {' and '.join(self.engines)} takes {self.ms:g} ms longer"

    def end(self) -> None:
        with contextlib.suppress(ConfigError):  # the node is gone, and with it the switch
            self._set(0.0)

    def _set(self, ms: float) -> None:
        from perception_bev.pipeline.slow import folder_of, slow_down

        folder = folder_of(self.pid)
        for engine in self.engines:
            slow_down(folder, engine, ms)


def engines_of(stage: str) -> tuple[str, ...]:
    """The engines of a stage, or the one of this name. ConfigError lists what there is."""
    from perception_bev.pipeline.groups import GROUPS

    if stage in GROUPS:
        return tuple(GROUPS[stage])
    engines = [engine for group in GROUPS.values() for engine in group]
    if stage in engines:
        return (stage,)
    raise ConfigError(f"there is no stage or engine '{stage}': {', '.join([*GROUPS, *engines])}")


@dataclass
class Stall:
    """A core of the machine does something else: with the real-time class all of it (but for what
    the kernel keeps back, 5 % by default), else it is shared with SPINNERS busy processes."""

    core: int
    _spinners: list[subprocess.Popen] = field(default_factory=list)

    def begin(self) -> str:
        cores = os.sched_getaffinity(0)
        if self.core not in cores:
            raise ConfigError(f"core {self.core} is none of this process's: {sorted(cores)}")
        if self._spin(RT_PRIORITY):
            return f"core {self.core} is busy with SCHED_FIFO {RT_PRIORITY}"
        for _ in range(SPINNERS):
            self._spin(0)
        return (f"core {self.core} is shared with {SPINNERS} busy processes: SCHED_FIFO is not "
                "permitted here (ulimit -r, or CAP_SYS_NICE)")

    def _spin(self, priority: int) -> bool:
        """Start one; False when it may not."""
        spinner = subprocess.Popen(
            [sys.executable, "-S", "-c", SPIN, str(self.core), str(priority), str(os.getpid())],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if not spinner.stdout.readline():
            spinner.wait()
            return False
        self._spinners.append(spinner)
        return True

    def end(self) -> None:
        for spinner in self._spinners:
            spinner.kill()
            spinner.wait()
            spinner.stdout.close()
        self._spinners.clear()


@dataclass
class FullDisk:
    """A file system without room: ENOSPC for whoever writes. Only small ones are filled."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / FILL

    def begin(self) -> str:
        space = os.statvfs(self.folder)
        size = space.f_blocks * space.f_frsize
        if size > SMALL_DISK:
            raise ConfigError(
                f"{self.folder} is on a file system of {size >> 20} MiB, too much to fill on "
                f"purpose: put the logs on a small one (mount -t tmpfs -o size=4m tmpfs DIR), or "
                "take --process, which needs no other disk")
        written = self._fill()
        return f"{self.folder} is full: {written >> 10} KiB written"

    def _fill(self) -> int:
        written = 0
        with self.file.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for chunk in (CHUNK, 1):  # to the last byte
                with contextlib.suppress(OSError):
                    while True:
                        written += file.write(bytes(chunk))
        return written

    def end(self) -> None:
        self.file.unlink(missing_ok=True)


@dataclass
class NoMoreFiles:
    """No file of a process grows any more: its writes fail with EFBIG. Needs no privileges. It
    holds for shared memory that is made meanwhile, too, so a process with workers had better not
    lose one at the same time."""

    pid: int
    _before: tuple[int, int] | None = None

    def begin(self) -> str:
        _require_ours(self.pid)
        hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)[1]
        try:
            self._before = resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (0, hard))
        except PermissionError as err:
            raise ConfigError(f"process {self.pid} is another user's") from err
        return f"no file of process {self.pid} grows any more (RLIMIT_FSIZE)"

    def end(self) -> None:
        if self._before is not None:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(self.pid, resource.RLIMIT_FSIZE, self._before)
            self._before = None


def _send(pid: int, number: signal.Signals) -> None:
    _require_ours(pid)
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        raise ConfigError(f"process {pid} has just ended") from None
    except PermissionError as err:
        raise ConfigError(f"process {pid} is another user's") from err


def _require_ours(pid: int) -> None:
    if not is_ours(pid):
        raise ConfigError(f"process {pid} is none of this package's, or is gone; it is left alone")


__all__ = ["Act", "FullDisk", "Hang", "Kill", "Loss", "NoMoreFiles", "Slow", "Stall", "engines_of"]
