"""The log of traces: what was put in comes out, and no disk holds up or ends anything."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_bev.errors import ConfigError
from perception_bev.latency import trace_log
from perception_bev.latency.trace import Trace
from perception_bev.latency.trace_log import TraceLog, line_of, older, read, trace_of

times = st.integers(-2**62, 2**62)
traces = st.builds(
    Trace, times, times, st.lists(st.tuples(st.text(max_size=12), times, times), max_size=6),
    st.none() | times, st.integers(0, 2**40), st.text(max_size=12), st.text(max_size=12), times)
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def trace(number: int = 0) -> Trace:
    return Trace(10, 20, [("fuse", 20, 30)], 40, number, "full", "full", 99)


def written(path: Path, *numbers: int, **options) -> TraceLog:
    log = TraceLog(path, **options)
    for number in numbers:
        log.put(trace(number))
    log.close()
    return log


def ids(path: Path) -> list[int]:
    return [found.id for found in read(path)[0]]


@given(made=traces)
def test_a_line_says_all_of_a_trace(made):
    line = line_of(made)
    assert trace_of(line) == made and trace_of(line.encode()) == made
    assert "\n" not in line


def test_the_fields_of_a_line():
    assert json.loads(line_of(trace(7))) == {
        "id": 7, "t_ref_ns": 99, "mono_t_ref": 10, "ready": 20, "published": 40, "plan": "full",
        "mode": "full", "spans": [["fuse", 20, 30]]}


def test_numpys_numbers_are_numbers():
    made = Trace(np.int64(10), 20, [("fuse", np.int64(20), np.int32(30))])
    assert trace_of(line_of(made)) == Trace(10, 20, [("fuse", 20, 30)])


def test_what_was_put_in_comes_out_in_its_order(tmp_path):
    log = written(tmp_path / "a.jsonl", *range(200))
    assert ids(log.path) == list(range(200))
    assert log.written == 200 and not log.lost


def test_a_second_run_is_appended(tmp_path):
    written(tmp_path / "a.jsonl", 1, 2)
    written(tmp_path / "a.jsonl", 3)
    assert ids(tmp_path / "a.jsonl") == [1, 2, 3]


def test_after_the_end_it_is_counted(tmp_path):
    log = written(tmp_path / "a.jsonl", 1)
    log.put(trace(2))
    log.close()
    assert ids(log.path) == [1] and log.lost == {"closed": 1}


@needs_full
def test_a_full_disk_is_counted_and_the_log_goes_on_when_there_is_room(tmp_path):
    link = tmp_path / "a.jsonl"
    link.symlink_to(FULL)
    log = TraceLog(link)
    for number in range(3):
        log.put(trace(number))
    wait_until(lambda: log.lost["write_failed"] == 3)
    assert "No space left" in log.last_error
    link.unlink()
    log.put(trace(3))
    log.close()
    assert ids(link) == [3] and log.written == 1 and log.lost == {"write_failed": 3}


def test_a_folder_that_is_not_there_is_counted(tmp_path):
    log = written(tmp_path / "gone" / "a.jsonl", 1, 2)
    assert log.lost == {"write_failed": 2} and "No such file" in log.last_error


def test_a_piece_of_a_line_spoils_no_other(tmp_path, monkeypatch):
    """A disk that becomes full takes the beginning of a line."""
    write, calls = os.write, []

    def short(file: int, content: bytes) -> int:
        calls.append(content)
        if len(calls) == 2:
            return write(file, content[:9])
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, content)

    monkeypatch.setattr(trace_log.os, "write", short)
    log = written(tmp_path / "a.jsonl", 1, 2, 3)
    assert read(log.path) == ([trace(1), trace(3)], 1)
    assert log.written == 2 and log.lost == {"write_failed": 1}


def test_a_line_that_a_killed_process_began_spoils_no_other(tmp_path):
    (tmp_path / "a.jsonl").write_text(line_of(trace(1)) + "\n" + line_of(trace(2))[:30])
    written(tmp_path / "a.jsonl", 3)
    assert read(tmp_path / "a.jsonl") == ([trace(1), trace(3)], 1)


def test_a_disk_that_hangs_holds_nothing_up(tmp_path):
    """A pipe that nobody reads: open() waits. The newest traces are kept."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    log = TraceLog(pipe, capacity=5)
    log.put(trace(0))
    wait_until(lambda: not log._waiting.qsize())  # the thread has it, and hangs
    for number in range(1, 21):
        log.put(trace(number))
    assert log.lost == {"queue_full": 15}
    content: list[bytes] = []
    reader = threading.Thread(target=lambda: content.append(pipe.read_bytes()))
    reader.start()
    log.close(timeout_s=5.0)
    reader.join(5.0)
    assert [trace_of(line).id for line in content[0].splitlines()] == [0, 16, 17, 18, 19, 20]


def test_the_end_does_not_wait_for_a_disk_that_hangs(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    log = TraceLog(pipe)
    for number in range(4):
        log.put(trace(number))
    wait_until(lambda: log._waiting.qsize() == 3)
    log.close(timeout_s=0.01)
    assert log.lost == {"queue_full": 3}
    with open(pipe, "rb"):  # let go of its thread
        log._thread.join(5.0)
    assert not log._thread.is_alive()


def test_what_is_no_trace_ends_nothing(tmp_path):
    log = TraceLog(tmp_path / "a.jsonl")
    log.put(Trace(0, 0, [("fuse", 0.5, float("nan"))]))
    log.put("a text")
    log.put(trace(1))
    log.close()
    assert ids(log.path) == [1] and log.lost == {"not_plain": 2}


def test_a_long_run_keeps_two_files(tmp_path):
    size = len(line_of(trace(1))) + 1
    log = written(tmp_path / "a.jsonl", *range(1, 10), max_bytes=3 * size)
    assert ids(log.path) == [7, 8, 9] and ids(older(log.path)) == [4, 5, 6]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.jsonl.1"]


# -- reading ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("line", [
    b"{", b"[]", b"3", b"null", b"\xff\xfe", b"{}", b'{"id": 1}',
    line_of(trace()).replace('"id":0', '"id":"a"').encode(),
    line_of(trace()).replace('"id":0', '"id":true').encode(),
    line_of(trace()).replace('"ready":20', '"ready":2.5').encode(),
    line_of(trace()).replace('"ready":20', '"ready":null').encode(),
    line_of(trace()).replace('"ready":20', '"ready":NaN').encode(),
    line_of(trace()).replace('[["fuse",20,30]]', '[["fuse",20]]').encode(),
    line_of(trace()).replace('[["fuse",20,30]]', "7").encode()])
def test_lines_that_are_no_traces_are_counted(tmp_path, line):
    file = tmp_path / "a.jsonl"
    file.write_bytes(line_of(trace(1)).encode() + b"\n\n" + line + b"\n")
    assert read(file) == ([trace(1)], 1)


@given(garbage=st.binary(max_size=80))
def test_garbage_is_never_more_than_bad_lines(garbage):
    found, bad = trace_log._read([garbage])
    assert not found and bad <= 1


def test_no_file_is_an_error_of_ours(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(ConfigError):
        read(tmp_path)


def wait_until(condition, seconds: float = 10.0) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come to pass")
