"""Commands: two hosts on one computer, for benchmarks of what crosses between them.

Two network namespaces with a pair of virtual interfaces between them: own addresses, own loopback,
nothing else shared but the kernel, so that DDS has UDP only. Needs root on Linux. Where that is
not permitted: two processes and UDP over the loopback, which is said in every report.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perception_bev import resources
from perception_bev.errors import PerceptionError
from perception_bev.nodes.table import FASTDDS_VARIABLES, HOSTS_PROFILE

SHARED_MEMORY = re.compile(r"(<userTransports>\s*)<transport_id>perception_shm</transport_id>")
UDP = re.compile("(<type>UDPv4</type>)")
ONLY_LOOPBACK = "<interfaceWhiteList><address>127.0.0.1</address></interfaceWhiteList>"
DISCOVERY = "ROS_AUTOMATIC_DISCOVERY_RANGE"
BURST = "256kb"  # of the limited link


@dataclass(frozen=True)
class Place:
    """Where the two run. Words to put before their commands, and variables of both."""

    kind: str  # "two network namespaces" or "two processes, UDP over loopback"
    here: tuple[str, ...] = ()  # the vehicle's computer
    there: tuple[str, ...] = ()  # the other one
    why: str = ""  # not two namespaces
    device: str = "lo"  # whose bytes are counted, here
    variables: dict[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        return {"kind": self.kind, **({"why": self.why} if self.why else {})}


class TwoHosts:
    """`with TwoHosts(folder) as place`. What was made is taken away again."""

    def __init__(self, folder: Path, mbit: float = 0.0, loopback: bool = False) -> None:
        """
        Args:
            folder: for the DDS profile of the other host.
            mbit: speed of the link each way [Mbit/s]; 0: as fast as the kernel is.
            loopback: do without namespaces.
        """
        self._folder, self._mbit, self._loopback = folder, mbit, loopback
        self._names = [f"bev{os.getpid()}{side}" for side in "ab"]
        self._made: list[str] = []

    def __enter__(self) -> Place:
        if self._loopback:
            return self._on_loopback("asked for")
        try:
            self._make()
        except PerceptionError as err:
            self.__exit__()
            return self._on_loopback(str(err))
        here, other = (("ip", "netns", "exec", name) for name in self._names)
        # Nothing of the outside is in these networks: all that is there may be discovered.
        return Place("two network namespaces", here, (*other, *self._there(False)), "",
                     self._names[0], self._here(False, "SUBNET"))

    def __exit__(self, *_: object) -> None:
        for name in self._made:
            with suppress(PerceptionError):
                _ip("netns", "delete", name)
        self._made = []

    def _here(self, loopback: bool, discovery: str) -> dict[str, str]:
        file = profile(self._folder, "here", True, loopback)
        return {**dict.fromkeys(FASTDDS_VARIABLES, str(file)), DISCOVERY: discovery}

    def _there(self, loopback: bool) -> tuple[str, ...]:
        file = profile(self._folder, "there", False, loopback)
        return ("env", *(f"{name}={file}" for name in FASTDDS_VARIABLES))

    def _on_loopback(self, why: str) -> Place:
        if self._mbit:
            raise PerceptionError(f"a link of {self._mbit:g} Mbit/s needs two network namespaces: "
                                  f"{why}")
        # Not LOCALHOST: with that, rmw_fastrtps takes transports of its own, shared memory too.
        return Place("two processes, UDP over loopback", (), self._there(True), why, "lo",
                     self._here(True, "SYSTEM_DEFAULT"))

    def _make(self) -> None:
        """Two namespaces, and interfaces that have the names of theirs."""
        if shutil.which("ip") is None:
            raise PerceptionError("there is no `ip` here (apt-get install iproute2)")
        for name in self._names:
            _ip("netns", "add", name)
            self._made.append(name)
        first, second = self._names
        _ip("-n", first, "link", "add", first, "type", "veth", "peer", "name", second, "netns",
            second)
        for number, name in enumerate(self._names, 1):
            _ip("-n", name, "address", "add", f"10.213.7.{number}/30", "dev", name)
            for device in ("lo", name):
                _ip("-n", name, "link", "set", device, "up")
            _ip("-n", name, "route", "add", "default", "dev", name)  # discovery's multicast, too
            if self._mbit:
                _run("tc", "-n", name, "qdisc", "add", "dev", name, "root", "tbf", "rate",
                     f"{self._mbit}mbit", "burst", BURST, "latency", "100ms")


def profile(folder: Path, name: str, shared_memory: bool, loopback: bool) -> Path:
    """Our profile for hosts, changed. loopback: UDP has no other interface."""
    text = resources.path(HOSTS_PROFILE).read_text()
    if not shared_memory:
        text = _replaced(SHARED_MEMORY, r"\1", text)
    if loopback:
        text = _replaced(UDP, r"\1" + ONLY_LOOPBACK, text)
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / f"fastdds_{name}.xml").resolve()
    file.write_text(text)
    return file


def _replaced(pattern: re.Pattern, by: str, text: str) -> str:
    text, found = pattern.subn(by, text)
    if found != 1:
        raise PerceptionError(f"{HOSTS_PROFILE}: '{pattern.pattern}' is there {found} times")
    return text


def received_and_sent(device: str) -> tuple[int, int]:
    """Bytes of a network device of this process's namespace since it is there."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == device:
            numbers = [int(word) for word in counts.split()]
            return numbers[0], numbers[8]
    raise PerceptionError(f"no network device '{device}'")


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: Any) -> None:
    done: subprocess.CompletedProcess = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise PerceptionError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
