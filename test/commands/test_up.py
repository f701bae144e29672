"""`bev up`: starts, restarts, ends and reports its processes. Tiny scripts stand for nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from perception_bev.commands import main as bev
from perception_bev.commands import up
from perception_bev.commands.up import Child, Team
from perception_bev.nodes import endings
from perception_bev.nodes.table import Entry

PATIENCE_S = 20.0


def script(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", textwrap.dedent(code)]


WAITS = script("import time\nprint('ready', flush=True)\ntime.sleep(60)")
STUBBORN = script("""
    import signal, time
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print('ready', flush=True)
    time.sleep(60)""")


def node(command: list[str], name="node", **meaning) -> Child:
    return Child(Entry("some_node", name, lambda chosen: {}, **meaning), command)


class Lines:
    """Collects output and waits for a piece of it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def wait_for(self, text: str, times: int = 1) -> None:
        with self._changed:
            assert self._changed.wait_for(
                lambda: sum(text in line for line in self.lines) >= times, PATIENCE_S), self.lines


def start(*children: Child) -> tuple[Team, Lines, threading.Thread, list[int]]:
    """A team in a thread (without its signal handlers, which need the main thread)."""
    lines, codes = Lines(), []
    team = Team(children, dict(os.environ), out=lines)
    thread = threading.Thread(target=lambda: codes.append(team.run()))
    thread.start()
    return team, lines, thread, codes


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(endings, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(up, "GRACE_S", ((signal.SIGINT, 2.0), (signal.SIGTERM, 0.2),
                                        (signal.SIGKILL, 2.0)))
    if threading.current_thread() is threading.main_thread():
        monkeypatch.setattr(up.signal, "signal", lambda *_: None)


def test_output_carries_the_name_and_stop_ends_all_with_zero():
    children = [node(WAITS, name) for name in ("one", "two")]
    team, lines, thread, codes = start(*children)
    lines.wait_for("[one] ready")
    lines.wait_for("[two] ready")
    team.stop()
    thread.join(PATIENCE_S)
    assert codes == [0] and not any(child.alive for child in children)


def test_a_child_that_dies_is_started_again():
    child = node(script("print('life', flush=True)\nraise SystemExit(1)"))
    team, lines, thread, codes = start(child)
    lines.wait_for("[node] life", times=3)
    team.stop()
    thread.join(PATIENCE_S)
    assert any("exit code 1; starting again" in line for line in lines.lines)
    assert codes == [0]


def test_a_killed_child_is_reported_by_its_signal():
    child = node(WAITS)
    team, lines, thread, _ = start(child)
    lines.wait_for("ready")
    child.process.kill()
    lines.wait_for("SIGKILL")
    lines.wait_for("ready", times=2)
    team.stop()
    thread.join(PATIENCE_S)


@pytest.mark.parametrize("code", [0, 3])
def test_the_end_of_a_replay_ends_all_with_its_code(code):
    stays = node(WAITS)
    replay = node(script(f"raise SystemExit({code})"), "replay", respawn=False, ends_all=True)
    _, _, thread, codes = start(stays, replay)
    thread.join(PATIENCE_S)
    assert codes == [code] and not stays.alive


def test_a_wrong_configuration_is_not_tried_again():
    wrong = node(script("print('rig.yaml: no', flush=True)\nraise SystemExit(2)"))
    _, lines, thread, codes = start(wrong)
    thread.join(PATIENCE_S)
    assert codes == [2]
    assert sum("rig.yaml: no" in line for line in lines.lines) == 1


def test_a_child_that_ignores_signals_is_killed():
    child = node(STUBBORN)
    team, lines, thread, codes = start(child)
    lines.wait_for("ready")
    team.stop()
    team.stop()  # a second Ctrl-C: do not wait for it
    thread.join(PATIENCE_S)
    assert codes == [0] and not child.alive


def test_signal_to_bev_up_reaches_the_children(tmp_path):
    """The real thing: SIGTERM to the parent; the child sees SIGINT and says goodbye."""
    code = f"""
        import sys
        sys.path.insert(0, {str(bev.__file__.rsplit('perception_bev', 1)[0])!r})
        from perception_bev.commands.up import Child, Team
        from perception_bev.nodes.table import Entry
        child = "import time\\ntry: print('ready', flush=True); time.sleep(60)\\n" \\
                "except KeyboardInterrupt: print('goodbye', flush=True)"
        entry = Entry('some_node', 'node', lambda chosen: {{}})
        sys.exit(Team([Child(entry, [sys.executable, '-S', '-c', child])], {{}}).run())
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], text=True,
                              stdout=subprocess.PIPE)
    timer = threading.Timer(PATIENCE_S, parent.kill)
    timer.start()
    for line in parent.stdout:
        if "ready" in line:
            break
    parent.send_signal(signal.SIGTERM)
    with parent.stdout:
        rest = parent.stdout.read()
    assert parent.wait() == 0 and "[node] goodbye" in rest
    timer.cancel()


def test_dry_run_shows_commands_and_starts_nothing(tmp_path, capsys):
    rig = tmp_path / "rig.yaml"
    rig.write_text("")
    assert bev.main(["up", "--rig", str(rig), "--viz", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "perception_bev.nodes.perception_node" in shown and "nodes.viz_node" in shown
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" in shown and "nodes.watchdog_node" in shown


def test_the_watchdog_can_be_left_out(tmp_path, capsys):
    rig = tmp_path / "rig.yaml"
    rig.write_text("")
    assert bev.main(["up", "--rig", str(rig), "--no-watchdog", "--dry-run"]) == 0
    assert "watchdog_node" not in capsys.readouterr().out


@pytest.mark.parametrize("words, needle", [([], "no rig"), (["--rig", "gone.yaml"], "gone.yaml")])
def test_missing_files_are_named_before_anything_starts(words, needle, capsys):
    assert bev.main(["up", *words]) == 2
    assert needle in capsys.readouterr().err


def test_time_is_left_alone():
    """The supervisor sleeps in small steps: a stop is seen within a poll, not a pause."""
    assert up.POLL_S < 0.2
    child = node(script("raise SystemExit(1)"))
    child.due_s = time.monotonic() + 3600
    team, _, thread, codes = start(child)
    team.stop()
    thread.join(PATIENCE_S)
    assert codes == [0] and child.process is None
