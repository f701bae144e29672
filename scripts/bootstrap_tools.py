"""Set-up tools: a command with its log and cure, a stamp with its hash, a line with its time."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STATE = VENV / ".setup"  # stamps and logs
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"

CURES = {  # what pip, apt and CMake print: what to do about it
    "No space left on device": "free 5 GB on this disk, then start again",
    "Temporary failure in name resolution": "check the network, or set PIP_INDEX_URL to a mirror",
    "Failed to establish a new connection": "check the network, or set PIP_INDEX_URL to a mirror",
    "CERTIFICATE_VERIFY_FAILED": "set PIP_CERT to the certificate of your network's authority",
    "No matching distribution found": "let pip reach a full PyPI index (pip config list)",
    "dpkg was interrupted": "dpkg --configure -a, then start again",
    "Could not get lock": "wait until the other apt has finished, then start again",
}


class SetupError(Exception):
    """What went wrong, and what to do about it."""

    def __init__(self, problem: str, cure: str):
        super().__init__(problem)
        self.cure = cure


class Stamp:
    """A finished step: the hash of everything that it was made from."""

    def __init__(self, name: str, key: str, *inputs: Path):
        self.path = STATE / f"{name}.stamp"
        digest = hashlib.sha256(key.encode())
        for file in inputs:
            digest.update(b"\0" + file.name.encode() + b"\0" + file.read_bytes())
        self._hash = digest.hexdigest()

    @property
    def current(self) -> bool:
        return self.path.exists() and self.path.read_text() == self._hash

    def write(self) -> None:
        STATE.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self._hash)


def run(command: list[str], log: str, env: dict[str, str] | None = None) -> None:
    """Run a command with its output in a log file.

    :raises SetupError: with the last lines of the log and a cure
    """
    STATE.mkdir(parents=True, exist_ok=True)
    path = STATE / f"{log}.log"
    with path.open("w") as output:
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env
        ).returncode
    if code:
        text = path.read_text(errors="replace")
        tail = "\n    ".join(text.splitlines()[-12:])
        cure = next((c for sign, c in CURES.items() if sign in text), f"read {path}")
        raise SetupError(f"`{' '.join(command[:5])} ...` gave {code}:\n    {tail}", cure)


def pip_install(*arguments: str, log: str) -> None:
    """Into .venv, at the pinned versions, from wheels: only empy has none, and is pure Python."""
    options = ["--no-input", "--disable-pip-version-check", "--no-compile"]
    options += ["--only-binary=:all:", "--no-binary=empy", "--constraint", str(CONSTRAINTS)]
    pip = [str(PYTHON), "-m", "pip", "install", *options]
    run([*pip, *arguments], log=log)


def apt_install(packages: list[str], why: str) -> None:
    """:raises SetupError: with the command to hand to an administrator"""
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    problem = f"missing from the system: {', '.join(packages)} ({why})"
    if shutil.which("apt-get") is None:
        raise SetupError(problem, "install them with this system's package manager")
    if os.geteuid() != 0:
        raise SetupError(problem, f"sudo {' '.join(command)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with working(f"system packages {' '.join(packages)}"):
        try:
            run(command, log="apt", env=environment)
        except SetupError:  # an image without package lists, or with old ones
            run(["apt-get", "update"], log="apt-update", env=environment)
            run(command, log="apt", env=environment)


def can_import(module: str) -> bool:
    """Asked of the new environment, in a fresh process as the ROS wheels need."""
    command = [str(PYTHON), "-c", f"import {module}"]
    return subprocess.run(command, capture_output=True, cwd=VENV).returncode == 0


def can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def say(text: str) -> None:
    print(f"[setup] {text}", flush=True)


@contextmanager
def working(what: str) -> Iterator[None]:
    start = time.monotonic()
    say(f"{what} ...")
    yield
    say(f"{what}: {time.monotonic() - start:.0f} s")
