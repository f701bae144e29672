"""`bev trace`: the table, the window, and the files it writes."""

from __future__ import annotations

import json

import pytest

from perception_bev.commands import main as bev
from perception_bev.commands.trace import PICTURE_S, figures, window
from perception_bev.latency.trace import Trace
from perception_bev.latency.trace_log import line_of

MS = 1_000_000
START = 5_000 * MS
PNG = b"\x89PNG"


def trace(number: int, fuse_ms: int = 10, plan: str = "full") -> Trace:
    """A frame of 10 Hz: ready after 10 ms, 5 ms of nothing, published after 15 + fuse."""
    t = START + number * 100 * MS
    return Trace(t, t + 10 * MS, [("decode:front", t, t + 4 * MS), ("decode:top", t, t + 5 * MS),
                                  ("queue:fuse", t + 10 * MS, t + 15 * MS),
                                  ("fuse", t + 15 * MS, t + (15 + fuse_ms) * MS)],
                 t + (15 + fuse_ms) * MS, number, plan, "full" if plan == "full" else "degraded")


@pytest.fixture
def log(tmp_path):
    """Two seconds; the last frame is dear and has another plan; one line was torn."""
    made = [trace(i) for i in range(19)] + [trace(19, 50, "no_history")]
    file = tmp_path / "trace.jsonl"
    file.write_text("".join(line_of(t) + "\n" for t in made) + '{"id": 20, "t_r')
    return file


def report_of(log, *words: str) -> dict:
    out = log.with_suffix(".json")
    assert bev.main(["trace", str(log), "--json", str(out), *words]) == 0
    return json.loads(out.read_text())


def test_the_table_of_a_run(log):
    report = report_of(log)
    assert report["frames"] == report["published"] == 20 and report["bad_lines"] == 1
    assert report["plans"] == {"full": 19, "no_history": 1}
    assert report["modes"] == {"full": 19, "degraded": 1}
    spans = report["spans_ms"]
    assert list(spans) == ["wait", "decode", "fuse", "queue", "overhead", "total"]
    assert spans["decode"] == {"frames": 20, "p50": 9, "p95": 9, "p99": 9, "max": 9}
    assert spans["fuse"]["p50"] == 10 and spans["fuse"]["max"] == 50
    assert spans["total"]["p50"] == 25 and spans["total"]["max"] == 65
    assert spans["overhead"]["p50"] == spans["overhead"]["max"] == 5


def test_what_is_printed(log, capsys):
    report_of(log)
    text = capsys.readouterr().out
    assert "20 frames, 20 published" in text and "p99, ms" in text and "50.00" in text
    assert "plans: full 19, no_history 1" in text and "1 lines are no traces" in text


def test_the_window(log):
    assert report_of(log, "--from", "0.5")["frames"] == 15
    assert report_of(log, "--seconds", "0.5")["frames"] == 5
    assert report_of(log, "--from", "1.9", "--seconds", "10")["plans"] == {"no_history": 1}


def test_the_window_holds_its_beginning_and_not_its_end():
    made = [trace(i) for i in range(5)]
    assert [t.id for t in window(made, 0.1, 0.2)] == [1, 2]
    assert window(made, 0.0, None) == made
    assert window([], 0.0, 1.0) == []


def test_a_window_without_frames_says_what_there_is(log, capsys):
    assert bev.main(["trace", str(log), "--from", "100"]) == 2
    assert "20 over 1.90 s" in capsys.readouterr().err


def test_a_file_of_something_else_says_so(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text("hello\nworld\n")
    assert bev.main(["trace", str(tmp_path / "a.jsonl")]) == 2
    assert "none at all (2 lines are something else)" in capsys.readouterr().err
    assert bev.main(["trace", str(tmp_path / "none.jsonl")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_an_error_of_ours(log, capsys):
    for option in ("--chrome", "--json", "--picture"):
        assert bev.main(["trace", str(log), option, str(log.parent / "gone" / "out.png")]) == 2
        assert "No such file" in capsys.readouterr().err


def test_the_timeline(log):
    out = log.with_name("chrome.json")
    report_of(log, "--chrome", str(out), "--from", "1", "--seconds", "0.3")
    events = json.loads(out.read_text())["traceEvents"]
    assert {e["args"]["frame"] for e in events if e["ph"] == "X"} == {10, 11, 12}


def test_the_picture(log):
    out = log.with_name("timeline.png")
    report_of(log, "--picture", str(out), "--seconds", "0.3")
    assert out.read_bytes().startswith(PNG) and out.stat().st_size > 5000


def test_a_picture_is_of_the_first_second_unless_somebody_says(log, monkeypatch):
    from perception_bev.commands import trace_picture

    drawn = []
    monkeypatch.setattr(trace_picture, "draw_timeline", lambda file, traces, *_: drawn.append(
        [t.id for t in traces]))
    report_of(log, "--picture", "x.png")
    report_of(log, "--picture", "x.png", "--seconds", "1.5", "--from", "0.2")
    assert drawn == [list(range(int(10 * PICTURE_S))), list(range(2, 17))]


def test_frames_without_a_publication_have_no_total():
    report = figures([Trace(0, 5 * MS, [("fuse", 5 * MS, 9 * MS)])])
    assert report["published"] == 0 and set(report["spans_ms"]) == {"wait", "fuse"}
    assert report["plans"] == {"n/a": 1}
