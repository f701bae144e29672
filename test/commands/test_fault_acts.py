"""Acts of `bev fault` on small processes and file systems: each is done, and undone."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap

import psutil
import pytest

from perception_bev.commands import fault_acts as acts
from perception_bev.commands import fault_loss
from perception_bev.commands import fault_processes as processes
from perception_bev.errors import ConfigError


@pytest.fixture
def ours(monkeypatch):
    """Every process counts as one of this package's."""
    for module in (acts, fault_loss, processes):
        monkeypatch.setattr(module, "is_ours", psutil.pid_exists)


@pytest.fixture
def child():
    """Answers every line that it gets, after having run it."""
    code = """
        import socket, sys
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        print(udp.getsockname()[1], flush=True)
        for line in sys.stdin:
            try:
                print(eval(line), flush=True)
            except OSError as err:
                print("errno", err.errno, flush=True)
        """
    with subprocess.Popen([sys.executable, "-S", "-c", textwrap.dedent(code)], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.port = int(process.stdout.readline())
        yield process
        process.kill()


def ask(process, line: str) -> str:
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_hang_stops_and_goes_on(ours, child):
    act = acts.Hang(child.pid)
    act.begin()
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    assert psutil.Process(child.pid).status() == psutil.STATUS_STOPPED
    act.end()
    assert ask(child, "1 + 1") == "2"


def test_who_came_in_a_hung_ones_place_is_not_touched(ours, child):
    act = acts.Hang(child.pid)
    act.begin()
    child.kill()
    child.wait()
    act.end()  # the supervisor was faster: nothing to continue


def test_kill_is_sigkill(ours, child):
    acts.Kill(child.pid).begin()
    assert child.wait() == -signal.SIGKILL


@pytest.mark.parametrize("make", (acts.Kill, acts.Hang, acts.NoMoreFiles,
                                  lambda pid: acts.Loss(pid, 10.0)))
def test_another_program_is_left_alone(child, make):
    act = make(child.pid)
    with pytest.raises(ConfigError, match="none of this package"):
        act.begin()
    act.end()
    assert ask(child, "2 + 2") == "4"


def test_files_of_a_process_grow_again_afterwards(ours, child, tmp_path):
    write = f"open({str(tmp_path / 'log')!r}, 'ab', 0).write(b'x' * 10)"
    limit = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
    act = acts.NoMoreFiles(child.pid)
    act.begin()
    assert ask(child, write) == f"errno {errno.EFBIG}"
    act.end()
    act.end()
    assert ask(child, write) == "10"
    assert resource.prlimit(child.pid, resource.RLIMIT_FSIZE) == limit


def test_a_large_disk_is_never_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(acts, "SMALL_DISK", 1)
    with pytest.raises(ConfigError, match="too much to fill"):
        acts.FullDisk(tmp_path).begin()
    assert not list(tmp_path.iterdir())


def test_a_small_disk_is_filled_to_the_last_byte_and_emptied(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk],
                          capture_output=True)
    if made.returncode:
        pytest.skip(f"no right to mount: {made.stderr.decode().strip()}")
    try:
        act, log = acts.FullDisk(disk), (disk / "log").open("ab", buffering=0)
        with log:
            act.begin()
            with pytest.raises(OSError) as full:
                log.write(b"x" * 5000)
            act.end()
            assert full.value.errno == errno.ENOSPC and log.write(b"x" * 5000) == 5000
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_core_is_kept_busy_until_the_end():
    core = max(os.sched_getaffinity(0))
    act = acts.Stall(core)
    text = act.begin()
    busy = [psutil.Process(one.pid) for one in act._spinners]
    assert f"core {core}" in text and all(one.cpu_affinity() == [core] for one in busy)
    act.end()
    assert not any(one.is_running() for one in busy)


def test_a_core_that_is_not_there():
    with pytest.raises(ConfigError, match="core 9999"):
        acts.Stall(9999).begin()


def arrived(child, count: int = 300) -> int:
    """Of so many datagrams to the child."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        got = 0
        for _ in range(count):
            sender.sendto(b"x" * 100, ("127.0.0.1", child.port))
            got += ask(child, "len(udp.recv(200))") == "100"
    return got


def test_datagrams_are_lost_by_chance_and_come_again(ours, child):
    act = acts.Loss(child.pid, 30.0)
    try:
        act.begin()
    except ConfigError as err:
        if "ptrace" in str(err):
            pytest.skip(str(err))
        raise
    assert 150 < arrived(child) < 270
    act.end()
    assert arrived(child, 50) == 50


def test_a_loss_of_everything(ours, child):
    act = acts.Loss(child.pid, 100.0)
    act.begin()
    assert arrived(child, 20) == 0
    act.end()
    act.end()


@pytest.mark.parametrize("percent", (0.0, -1.0, 101.0))
def test_a_share_that_is_none(ours, child, percent):
    with pytest.raises(ConfigError, match="percent"):
        acts.Loss(child.pid, percent).begin()


def test_slow_sets_the_switch_of_every_engine_and_takes_it_back(tmp_path, monkeypatch):
    slow = pytest.importorskip("perception_bev.pipeline.slow")
    monkeypatch.setattr(slow, "folder_of", lambda pid: tmp_path)
    act = acts.Slow(1, acts.engines_of("fuse"), 60.0)
    act.begin()
    assert {file.name.partition(".")[0] for file in tmp_path.iterdir()} == {"fuse", "fuse_alone"}
    assert {float(file.read_text()) for file in tmp_path.iterdir()} == {60.0}
    act.end()
    assert not list(tmp_path.iterdir())


def test_stages_and_engines_have_names():
    assert acts.engines_of("extract_camera") == ("extract_camera",)
    with pytest.raises(ConfigError, match="fuse, decide"):
        acts.engines_of("fusion")
