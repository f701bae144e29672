"""Pipeline: what is asked of the operating system for punctuality. What it does not permit is
returned as a text, for `status`, and left out; None: done, or nothing was asked for."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

MCL_CURRENT, MCL_FUTURE = 1, 2  # sys/mman.h
PR_SET_PDEATHSIG = 1  # sys/prctl.h
CAP_IPC_LOCK = 14  # linux/capability.h


def pin(cores: Sequence[int]) -> str | None:
    """Threads that are started from now on, and this one, stay on these CPUs; none: anywhere."""
    if not cores:
        return None
    try:
        os.sched_setaffinity(0, set(cores))
    except (OSError, ValueError) as err:
        return f"cores {', '.join(map(str, cores))}: {err}"
    return None


def first_in_first_out(priority: int) -> str | None:
    """SCHED_FIFO for this thread and those it starts; 0: as before."""
    if priority <= 0:
        return None
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as err:
        return f"SCHED_FIFO {priority}: {err.strerror} (needs CAP_SYS_NICE or an rtprio limit)"
    return None


def be_nice(nice: int) -> str | None:
    """The niceness of all threads of this process, which on Linux is each thread's own; those that
    start later have their parent's. 0: as before."""
    if nice == 0:
        return None
    try:
        for thread in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.setpriority(os.PRIO_PROCESS, int(thread), nice)
    except OSError as err:
        return f"nice {nice}: {err.strerror} (needs CAP_SYS_NICE or a nice limit)"
    return None


def lock_memory(wanted: bool) -> str | None:
    """mlockall: nothing of this process is swapped out, or read again from a file."""
    if not wanted:
        return None
    if not _may_lock_any_amount():  # with a limit, the allocation that reaches it fails
        return "mlockall: limited (needs CAP_IPC_LOCK, or memlock unlimited)"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | MCL_FUTURE):
        return f"mlockall: {os.strerror(ctypes.get_errno())}"
    return None


def _may_lock_any_amount() -> bool:
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return True
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    return bool(int(effective, 16) >> CAP_IPC_LOCK & 1)


def freeze_gc() -> None:
    """What there is now is never looked at again by the garbage collector."""
    gc.collect()
    gc.freeze()


def die_with_parent(signal: int) -> None:
    """The kernel sends this signal when the thread that started this process ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)
