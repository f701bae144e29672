"""Commands: datagrams that get lost on their way into a process, as on a bad network.

A filter of classic BPF with the kernel's random numbers (SKF_AD_RANDOM) is attached to the UDP
sockets that the process has open; they are reached by pidfd_getfd(2). Nothing has to be installed,
no queueing discipline and no interface is touched, and only this process loses anything. The same
user may do so unless ptrace is restricted (kernel.yama.ptrace_scope). What comes by shared memory
does not come by sockets.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from perception_bev.commands.fault_processes import is_ours
from perception_bev.errors import ConfigError

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
PIDFD_GETFD = 438  # the same on all architectures
RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
LOAD_WORD, JUMP_IF_GREATER_OR_EQUAL, RETURN = 0x20, 0x35, 0x06  # BPF_LD|W|ABS, JMP|JGE|K, RET|K
WHOLE = 0xFFFFFFFF


@dataclass
class Loss:
    """Each datagram is lost by chance, until the end."""

    pid: int
    percent: float

    def begin(self) -> str:
        if not is_ours(self.pid):
            raise ConfigError(f"process {self.pid} is none of this package's, or is gone")
        if not 0 < self.percent <= 100:
            raise ConfigError(f"--percent {self.percent:g}: above 0, at most 100")
        count = 0
        for sock in udp_sockets(self.pid):
            attach(sock, self.percent / 100)
            count += 1
        if not count:
            raise ConfigError(f"process {self.pid} has no UDP sockets")
        return (f"{self.percent:g} % of the datagrams to {count} UDP sockets of process {self.pid} "
                "are lost; what comes by shared memory is not (docs/faults.md)")

    def end(self) -> None:
        try:
            for sock in udp_sockets(self.pid):
                detach(sock)
        except ConfigError:  # it is gone, and its sockets with it
            pass


def attach(sock: socket.socket, share: float) -> None:
    """What arrives at a socket is dropped with this probability."""
    code = [(LOAD_WORD, 0, 0, RANDOM),
            (JUMP_IF_GREATER_OR_EQUAL, 0, 1, min(round(share * 2**32), WHOLE)),
            (RETURN, 0, 0, WHOLE), (RETURN, 0, 0, 0)]
    if share >= 1.0:
        code = [(RETURN, 0, 0, 0)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                    struct.pack("@HP", len(code), ctypes.addressof(program)))


def detach(sock: socket.socket) -> None:
    """As before; a socket without a filter stays as it is."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    except FileNotFoundError:
        pass


def udp_sockets(pid: int) -> Iterator[socket.socket]:
    """The UDP sockets of a process, one after the other; each is good until the next."""
    with _pidfd(pid) as pidfd:
        for number in _socket_numbers(pid):
            sock = _copy(pid, pidfd, number)
            if sock is None:
                continue
            with closing(sock):
                if sock.type == socket.SOCK_DGRAM and sock.family in (socket.AF_INET,
                                                                      socket.AF_INET6):
                    yield sock


@contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise ConfigError(f"process {pid} is gone") from None
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def _socket_numbers(pid: int) -> list[int]:
    found = []
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if os.readlink(entry).startswith("socket:"):
                    found.append(int(entry.name))
            except FileNotFoundError:  # closed meanwhile
                continue
    except (PermissionError, FileNotFoundError) as err:
        raise ConfigError(f"process {pid} is another user's or gone") from err
    return found


def _copy(pid: int, pidfd: int, number: int) -> socket.socket | None:
    """Our own descriptor of another process's socket; None when it was closed meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    got = libc.syscall(PIDFD_GETFD, pidfd, number, 0)
    if got >= 0:
        return socket.socket(fileno=got)
    error = ctypes.get_errno()
    if error == 9:  # EBADF
        return None
    raise ConfigError(f"process {pid} does not share its sockets: {os.strerror(error)}; needs a "
                      "kernel of 5.6 or later and ptrace permission (kernel.yama.ptrace_scope=0, "
                      "or root)")
