"""`bev eval --dataset astyx`: arguments in, table and JSON out."""

import argparse
import json
import sys
import types

import pytest
from eval_scenes import TwoFrames, found, frame, truth
from rich.console import Console

from perception_bev.commands import eval as command
from perception_bev.commands import eval_astyx
from perception_bev.errors import ConfigError
from perception_bev.eval.astyx_protocol import evaluate_cars


@pytest.fixture
def bev_eval(monkeypatch):
    """Runs the verb on the made-up recording; keeps what the detector was asked for."""
    asked = []

    def detect(model_dir, recording, sensors, indices, progress):
        asked.append((model_dir.name, sensors))
        for sample, x in zip(recording.samples, (20, 30), strict=True):
            yield sample, found([x])

    offline = types.ModuleType("perception_bev.pipeline.offline")
    offline.detect = detect
    monkeypatch.setitem(sys.modules, "perception_bev.pipeline.offline", offline)
    monkeypatch.setattr(eval_astyx, "AstyxRecording", lambda root, frames: TwoFrames())

    def run(*words: str):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        common = ["--dataset", "astyx", "--root", "set", "--model", "models/tiny"]
        return command.run(parser.parse_args([*common, *words])), asked

    return run


def test_all_subsets_and_json(bev_eval, tmp_path, capsys):
    out = tmp_path / "result.json"
    code, asked = bev_eval("--json", str(out), "--bootstrap", "3")
    assert code == 0 and len(asked) == 7 and asked[-1] == ("tiny", ("camera", "lidar", "radar"))
    result = json.loads(out.read_text())
    subset = result["subsets"]["camera+lidar+radar"]
    assert next(iter(result["subsets"])) == "camera" and len(result["subsets"]) == 7
    assert subset["car_ap_3d"] == pytest.approx({"easy": 100, "moderate": 100, "hard": 100})
    assert set(subset["centre_distance_ap"]) == {"0.5", "1", "2", "4"} and subset["frames"] == 2
    assert {"translation", "scale", "yaw", "heading_right"} <= set(subset["errors"])
    assert subset["interval_90"]["car_ap_bev"]["hard"] == pytest.approx([100, 100])
    printed = capsys.readouterr().out
    assert "camera+lidar+radar 100.0 100.0 100.0 100.0 100.0 100.0 100.0 100.0" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_full_runs_once(bev_eval):
    _, asked = bev_eval("--subsets", "full", "--sensors", "radar,lidar")
    assert asked == [("tiny", ("lidar", "radar"))]


def test_nothing_found_prints_no_numbers(capsys):
    report = evaluate_cars([frame(found([]), truth([20]))])
    eval_astyx.show({"lidar": report}, Console())
    printed = capsys.readouterr().out
    assert "nan" not in printed and printed.count("n/a") == 4
    assert "lidar 0.0 0.0 0.0 0.0" in " ".join(printed.split())


def test_frame_names(tmp_path):
    names = tmp_path / "val.txt"
    names.write_text("000001\n\n  000007  # night\n# nothing\n")
    assert eval_astyx.read_names(names) == ["000001", "000007"]
    names.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="no frame names"):
        eval_astyx.read_names(names)
    names.write_text("000001\n000002\n000001\n")
    with pytest.raises(ConfigError, match="more than once: 000001"):
        eval_astyx.read_names(names)
    with pytest.raises(ConfigError, match=r"absent\.txt: not readable"):
        eval_astyx.read_names(tmp_path / "absent.txt")


def test_unwritable_json_is_said(bev_eval, tmp_path):
    with pytest.raises(ConfigError, match=r"--json .*: not writable"):
        bev_eval("--subsets", "full", "--json", str(tmp_path / "no" / "result.json"))


def test_what_astyx_needs_and_does_not_know(bev_eval):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = ["--dataset", "astyx", "--model", "m"]
    with pytest.raises(ConfigError, match="needs --root"):
        command.run(parser.parse_args(words))
    with pytest.raises(ConfigError, match="--seeds belongs to --dataset sim"):
        command.run(parser.parse_args([*words, "--seeds", "3"]))
