"""Which processes `bev fault` may touch: by `status`, by command line, never another's."""

import subprocess
import sys

import pytest

from perception_bev.commands import fault_processes as module
from perception_bev.errors import ConfigError

PYTHON = "/usr/bin/python3"


@pytest.mark.parametrize("words, name", [
    ([PYTHON, "-m", "perception_bev.nodes.perception_node", "--ros-args"], "perception"),
    ([PYTHON, "-u", "-m", "perception_bev.nodes.watchdog_node"], "watchdog"),
    ([PYTHON, "-m", "perception_bev.nodes.contract_monitor"], "contract_monitor"),
    ([PYTHON, "-m", "perception_bev.pipeline.worker", "7"], "worker"),
    ([PYTHON, "/opt/ws/lib/perception_bev/replay_node", "--ros-args"], "replay"),
    ([sys.executable, str(module.Path(sys.executable).parent / "viz_node")], "viz"),
    ([PYTHON, "-m", "other_stack.nodes.perception_node"], None),
    ([PYTHON, "/opt/other/lib/other_stack/perception_node"], None),
    (["vim", "perception_bev/nodes/perception_node.py"], None),
    ([PYTHON, "-m", "perception_bev.commands.main", "up"], None),
    ([PYTHON, "-c", "perception_bev.nodes.perception_node"], None),
    ([PYTHON, "-m"], None), ([], None)])
def test_a_name_comes_from_a_command_line_of_ours_only(words, name):
    assert module.name_of(words) == name


def test_the_youngest_of_a_name_is_taken():
    node = [PYTHON, "-m", "perception_bev.nodes.perception_node"]
    assert module.from_command_lines([(900, node), (12, node), (5, ["sh"])]) == {"perception": 900}


def test_status_names_workers_and_what_is_no_number_is_passed_over():
    values = {"pid.io": "41", "pid.fuse": "42", "pid.decide": "n/a", "worker.fuse": "running"}
    assert module.from_status(values) == {"perception": 41, "fuse": 42}


def test_a_process_id_that_status_gives_is_believed_only_if_it_is_ours(monkeypatch):
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert not module.is_ours(other.pid)
        monkeypatch.setattr(module, "_here", lambda: [])
        assert module.found({"pid.io": str(other.pid)}) == {}
        other.communicate(b"\n")
    assert not module.is_ours(other.pid)


def test_who_is_not_there_is_said_with_who_is():
    with pytest.raises(ConfigError, match="perception, watchdog.*runner: processes"):
        module.pid_of("fuse", {"perception": 1, "watchdog": 2})
    with pytest.raises(ConfigError, match="none of this package"):
        module.pid_of("fuse", {})
