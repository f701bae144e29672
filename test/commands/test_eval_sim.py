"""`bev eval --dataset sim`: arguments in, tables and JSON out; on made-up drives."""

import argparse
import json
import sys
import types

import pytest
import sim_stand_in
import tiny
import yaml

from perception_bev.commands import eval as command
from perception_bev.commands import eval_sim
from perception_bev.errors import ConfigError, PerceptionError
from perception_bev.eval import drives
from perception_bev.manifest import MANIFEST

pytest.importorskip("motrics", reason="tracking figures need motrics")


@pytest.fixture
def bev_eval(monkeypatch, tmp_path):
    """Runs the verb on drives of the small vehicle, kept in tmp_path."""
    monkeypatch.setattr(eval_sim, "load_rig", lambda path: tiny.vehicle().rig)
    real = drives.generated
    monkeypatch.setattr(drives, "generated", lambda *args, **options: real(
        *args, **options, processes=1, recording=sim_stand_in.drive))

    def run(model, *words: str) -> int:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        common = ["--dataset", "sim", "--model", str(model), "--cache", str(tmp_path / "drives"),
                  "--seconds", "0.6"]
        return command.run(parser.parse_args([*common, *words]))

    return run


@pytest.fixture
def described(tmp_path):
    """A model's folder with nothing but its description; with memory when asked."""
    def make(name: str = "model", **changes):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text(yaml.safe_dump(tiny.MODEL | changes))
        return tmp_path / name
    return make


@pytest.fixture
def asked(monkeypatch):
    """In place of the engines: the truth comes back; what was asked for is kept."""
    passes = []

    def detect(model, recording, sensors, memory, lost):
        passes.append((model.name, sensors, memory, lost))
        for index in range(len(recording)):
            sample = recording[index]
            yield sample, sample.truth.boxes

    offline = types.ModuleType("perception_bev.pipeline.offline")
    offline.detect = detect
    monkeypatch.setitem(sys.modules, "perception_bev.pipeline.offline", offline)
    return passes


MEMORY = {"memory": {"ages_s": [0.2, 0.5], "channels": 4}}


def test_every_pass_and_json(bev_eval, described, asked, tmp_path, capsys):
    out = tmp_path / "result.json"
    model = described(**MEMORY)
    assert bev_eval(model, "--seeds", "3,5", "--json", str(out), "--baseline",
                    str(described("plain"))) == 0
    everything = ("camera", "lidar", "radar")
    assert asked[0] == ("model", everything, True, ())
    assert asked[1] == ("model", everything, False, ())
    assert asked[-3:] == [("model", everything, True, ("front",)),
                          ("model", everything, True, ("left",)), ("plain", ("lidar",), True, ())]
    assert len(asked) == 2 + 6 + 2 + 1
    result = json.loads(out.read_text())
    assert result["seeds"] == [3, 5] and result["seconds"] == 0.6 and result["samples"] == 12
    assert result["dataset"] == "sim" and result["seeds_trained_on"] == []
    assert result["baseline"]["mAP"] == result["mAP"] and result["baseline"]["ratio"] == 1
    assert set(result["cameras_lost"]) == {"front", "left"}
    assert result["without_memory"]["mAVE"] == result["subsets"]["camera"]["mAVE"]
    assert result["tracking"]["all"]["objects"] > 0 and result["hidden"]["objects"] > 0
    printed = capsys.readouterr().out
    for said in ("without memory", "without front", "baseline", "camera+lidar+radar", "pedestrian",
                 "hidden now", "HOTA", "NDS is at most 0.9"):
        assert said in printed
    assert "nan" not in printed and "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_full_is_two_passes_or_one(bev_eval, described, asked):
    bev_eval(described(**MEMORY), "--subsets", "full", "--seeds", "1")
    assert [each[2] for each in asked] == [True, False]
    asked.clear()
    bev_eval(described("plain"), "--subsets", "full", "--seeds", "1", "--sensors", "radar,lidar")
    assert asked == [("plain", ("lidar", "radar"), True, ())]


def test_seeds_that_were_trained_on_are_said(bev_eval, described, asked, tmp_path, capsys):
    model, out = described(), tmp_path / "r.json"
    (model / "drives.json").write_text(json.dumps({"first_seed": 2, "drives": 10}))
    bev_eval(model, "--subsets", "full", "--seeds", "1-3", "--json", str(out))
    assert json.loads(out.read_text())["seeds_trained_on"] == [2, 3]
    assert "trained on seeds 2, 3." in " ".join(capsys.readouterr().out.split())
    (model / "drives.json").write_text("[]")
    bev_eval(model, "--subsets", "full", "--seeds", "1-3", "--json", str(out))
    assert json.loads(out.read_text())["seeds_trained_on"] == []


def test_what_cannot_be_done_is_said_first(bev_eval, described, asked, tmp_path, monkeypatch):
    model = described()
    with pytest.raises(ConfigError, match=r"--json .*: not writable"):
        bev_eval(model, "--json", str(tmp_path / "no" / "result.json"))
    with pytest.raises(ConfigError, match="--seeds"):
        bev_eval(model, "--seeds", "some")
    with pytest.raises(ConfigError, match="--root belongs to --dataset astyx"):
        bev_eval(model, "--root", "set")
    with pytest.raises(ConfigError, match="none of the classes lorry"):
        bev_eval(described("lorries", classes=["lorry"]))
    monkeypatch.setitem(sys.modules, "motrics", None)
    with pytest.raises(PerceptionError, match="need motrics"):
        bev_eval(model)
    assert asked == [] and not (tmp_path / "drives").exists()


@pytest.mark.torch
def test_the_small_model_runs(bev_eval, tiny_model, tmp_path):
    """Engines, cached drives, lost sensors and all the figures together."""
    out = tmp_path / "result.json"
    bev_eval(tiny_model, "--seeds", "1,2", "--json", str(out))
    result = json.loads(out.read_text())
    assert result["samples"] == 12 and set(result["cameras_lost"]) == {"front", "left"}
    predictions = {name: sum(each["predictions"] for each in of["per_class"].values())
                   for name, of in result["subsets"].items()}
    assert predictions["camera+lidar+radar"] > 0
    assert len(set(predictions.values())) > 1, "every subset finds something else"
