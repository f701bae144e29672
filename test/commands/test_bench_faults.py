"""`bev bench faults`: what is chosen and shown, and a whole run of a small stack."""

from __future__ import annotations

import io
import json
import os

import message_stream
import pytest
import small_car
import yaml
from rich.console import Console

from perception_bev.commands import bench_faults, fault_stage
from perception_bev.commands import main as bev
from perception_bev.commands.fault_cases import cases
from perception_bev.commands.fault_score import Diagnostics, skipped
from perception_bev.errors import ConfigError
from perception_bev.recordings.bag_write import BagWriter

CASES = cases(small_car.rig())


def shown(show, what) -> str:
    console = Console(file=io.StringIO(), width=160)
    show(what, console)
    return console.file.getvalue()


def test_only_chooses_in_the_order_of_the_table():
    names = [case.name for case in bench_faults.choose(CASES, ["kill_fuse", "slow_fuse"])]
    assert names == ["slow_fuse", "kill_fuse"]
    assert bench_faults.choose(CASES, []) == list(CASES)


def test_a_wrong_name_is_said_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'camera_off'"):
        bench_faults.choose(CASES, ["camera_of"])


def test_the_list_starts_nothing(capsys):
    assert bev.main(["bench", "faults", "--list", "--only", "hang_fuse", "stall_core"]) == 0
    text = capsys.readouterr().out
    assert "hang_fuse" in text and "≤ 200" in text and "camera_off" not in text
    assert bev.main(["bench", "faults", "--only", "nothing"]) == 2


def test_what_was_not_done_is_a_row_with_its_reason():
    row = skipped(CASES[0], "no workers")
    assert row["skipped"] == "no workers" and row["without_output"] is None
    assert "not done: no workers" in shown(bench_faults.show, [row])


def test_lines_of_diagnostics_are_read_and_a_torn_one_is_left_out(tmp_path):
    file = tmp_path / "diagnostics.jsonl"
    assert fault_stage.read_diagnostics(file) == []
    file.write_text('{"mono_ns":5,"items":{"perception/x":[1,"text"]}}\n{"mono_ns":6,"ite')
    assert fault_stage.read_diagnostics(file) == [Diagnostics(5, {"perception/x": [1, "text"]})]


@pytest.fixture
def small_stack(tmp_path):
    """Rig, bag and deployment of a car with three sensors."""
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(small_car.description()))
    (tmp_path / "here.yaml").write_text("runner: processes\nthreads: 1\n")
    with BagWriter(tmp_path / "bag") as bag:
        for raw in message_stream.drive(50):
            bag.write(raw.topic, raw.type, raw.data, raw.stamp_ns)
    return tmp_path


@pytest.mark.ros
def test_a_small_stack_is_broken_and_comes_back(small_stack, tiny_model, monkeypatch):
    """The whole of it, without limits of time: a busy machine keeps none."""
    pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
    pytest.importorskip("iceoryx2", reason="no shared memory between processes here")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(20 + os.getpid() % 80))
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(fault_stage, "CALM_S", 1.0)
    folder = small_stack
    assert bev.main(["bench", "faults", "--only", "kill_fuse", "camera_off", "--rig",
                     str(folder / "rig.yaml"), "--model", str(tiny_model), "--deployment",
                     str(folder / "here.yaml"), "--bag", str(folder / "bag"), "--out",
                     str(folder), "--json", str(folder / "out.json")]) == 0
    kill, off = json.loads((folder / "out.json").read_text())
    assert (kill["fault"], off["fault"]) == ("kill_fuse", "camera_off")
    assert kill["periods"] > 10 and kill["detected_ms"] is not None
    assert "front" in off["detected_by"] and off["lasted_s"] == pytest.approx(3.0)
    assert any(text.startswith("degraded (front") for text in off["marking"])
    assert kill["back_to_full_s"] is not None and off["back_to_full_s"] is not None
