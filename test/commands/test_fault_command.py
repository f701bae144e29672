"""`bev fault`: what is said becomes an act on the right process, and always ends."""

from __future__ import annotations

import argparse
import signal
import threading

import pytest

from perception_bev.commands import fault
from perception_bev.commands import main as bev


class Recorder:
    """Stands for every act: notes how it was made, begun and ended."""

    def __init__(self, calls: list, name: str, *arguments) -> None:
        self.calls, self.name = calls, name
        calls.append((name, *arguments))

    def begin(self) -> str:
        self.calls.append("begin")
        return "done"

    def end(self) -> None:
        self.calls.append("end")


@pytest.fixture
def calls(monkeypatch):
    made: list = []
    for name in ("Kill", "Hang", "Slow", "Stall", "FullDisk", "NoMoreFiles", "Loss"):
        monkeypatch.setattr(fault.acts, name,
                            lambda *words, name=name: Recorder(made, name, *words))
    monkeypatch.setattr(fault.acts, "engines_of", lambda stage: (stage, stage + "_alone"))
    monkeypatch.setattr(fault, "_processes", lambda args: {
        "perception": 10, "fuse": 11, "watchdog": 12})
    return made


@pytest.mark.parametrize("words, act", [
    (["slow", "fuse", "--ms", "40"], ("Slow", 10, ("fuse", "fuse_alone"), 40.0)),
    (["hang", "fuse"], ("Hang", 11)), (["stall", "--core", "0"], ("Stall", 0)),
    (["disk"], ("NoMoreFiles", 10)), (["disk", "--process", "watchdog"], ("NoMoreFiles", 12)),
    (["loss", "watchdog", "--percent", "5"], ("Loss", 12, 5.0)), (["loss"], ("Loss", 10, 20.0))])
def test_a_fault_is_begun_and_ended(calls, words, act):
    assert bev.main(["fault", *words, "--seconds", "0.01"]) == 0
    assert calls == [act, "begin", "end"]


def test_a_kill_has_no_length(calls):
    assert bev.main(["fault", "kill", "watchdog"]) == 0
    assert calls == [("Kill", 12), "begin", "end"]
    with pytest.raises(SystemExit):
        bev.main(["fault", "kill", "watchdog", "--seconds", "3"])


def test_a_folder_is_filled_where_one_is_given(calls, tmp_path, capsys):
    assert bev.main(["fault", "disk", str(tmp_path), "--seconds", "0.01"]) == 0
    assert calls[0] == ("FullDisk", tmp_path)
    assert bev.main(["fault", "disk", str(tmp_path / "gone")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_ctrl_c_ends_a_fault_early_and_puts_it_back(calls):
    timer = threading.Timer(
        0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    assert bev.main(["fault", "hang", "fuse", "--seconds", "3600"]) == 0
    assert calls == [("Hang", 11), "begin", "end"]


def test_an_act_that_fails_is_ended_too(calls, monkeypatch):
    monkeypatch.setattr(Recorder, "begin", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bev.main(["fault", "hang", "fuse"])
    assert calls == [("Hang", 11), "end"]


@pytest.mark.parametrize("words, needle", [
    (["hang", "decide"], "no process 'decide'"), (["hang", "fuse", "--seconds", "0"], "--seconds")])
def test_what_cannot_be_done_is_said(calls, capsys, words, needle):
    assert bev.main(["fault", *words]) == 2
    assert needle in capsys.readouterr().err and not calls


@pytest.mark.parametrize("words, order", [
    (["off", "--sensor", "cam_front"], {"kind": "off", "sensor": "cam_front", "for_s": 3.0}),
    (["late", "--sensor", "*", "--with", "delay_ms=60", "jitter_ms=5.5", "--seconds", "1"],
     {"kind": "late", "sensor": "*", "for_s": 1.0, "delay_ms": 60, "jitter_ms": 5.5}),
    (["nan", "--sensor", "lidar_top", "--with", "fields=[x]"],
     {"kind": "nan", "sensor": "lidar_top", "for_s": 3.0, "fields": ["x"]}),
    (["time_jump", "--with", "by_s=-2"], {"kind": "time_jump", "for_s": 3.0, "by_s": -2})])
def test_words_become_an_order_that_the_player_takes(words, order):
    parser = argparse.ArgumentParser()
    fault.add_arguments(parser)
    made = fault.words_of(parser.parse_args(["message", *words]))
    assert made == order


def test_help_names_every_fault(capsys):
    with pytest.raises(SystemExit):
        bev.main(["fault", "--help"])
    text = capsys.readouterr().out
    for verb in ("processes", "slow", "hang", "kill", "stall", "disk", "loss", "message"):
        assert f"bev fault {verb}" in text
