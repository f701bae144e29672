"""`bev export`: what goes into model.yaml beside the files, and what it says of bad input."""

import json
import shutil

import pytest

pytest.importorskip("torch")

from perception_bev.commands.main import main
from perception_bev.manifest import load_manifest
from perception_bev.network import export, parity

pytestmark = pytest.mark.torch


@pytest.fixture
def quick(tiny_model, monkeypatch):
    """The slow part left out: the files of the small model are copied."""
    monkeypatch.setattr(export, "_export_one",
                        lambda engine, port, file: shutil.copy(tiny_model / file.name, file))


def test_a_models_folder_is_exported_again(quick, tiny_model, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", "--work", str(tiny_model), "--out", str(out), "--notes", "again"]) == 0
    made, given = load_manifest(out), load_manifest(tiny_model)
    assert made.provenance.notes == "again"
    assert made.variants["fp32"].engines == given.variants["fp32"].engines
    assert (out / parity.WEIGHTS).read_bytes() == (tiny_model / parity.WEIGHTS).read_bytes()
    assert "bev verify" in capsys.readouterr().out


def test_metrics_are_kept_those_of_nothing_are_not(quick, tiny_model, tmp_path):
    report = {"car_ap_3d": {"moderate": 61.234}, "car_ap_bev": {"moderate": 70.06}}
    empty = {"car_ap_3d": {"moderate": None}, "car_ap_bev": {"moderate": 1.0}}
    file = tmp_path / "result.json"
    file.write_text(json.dumps({"subsets": {"lidar": report, "none": empty}}))
    assert main(["export", "--work", str(tiny_model), "--out", str(tmp_path / "out"),
                 "--metrics", str(file)]) == 0
    assert load_manifest(tmp_path / "out").provenance.metrics == {
        "lidar car_ap_3d moderate": 61.2, "lidar car_ap_bev moderate": 70.1,
        "none car_ap_bev moderate": 1.0}


def test_metrics_of_simulated_drives_are_kept_too(quick, tiny_model, tmp_path):
    whole = {"mAP": 0.4567, "NDS": 0.5, "mAVE": 0.4321}
    file = tmp_path / "result.json"
    file.write_text(json.dumps(whole | {
        "without_memory": {"mAP": 0.4, "NDS": 0.4, "mAVE": 0.9},
        "subsets": {"camera": {"mAP": 0.1234}}}))
    assert main(["export", "--work", str(tiny_model), "--out", str(tmp_path / "out"),
                 "--metrics", str(file)]) == 0
    assert load_manifest(tmp_path / "out").provenance.metrics == {
        "mAP": 45.7, "NDS": 50.0, "mAVE": 0.43, "mAP without memory": 40.0,
        "NDS without memory": 40.0, "mAVE without memory": 0.9, "camera mAP": 12.3}


@pytest.mark.parametrize("content", [None, "no JSON", "{}", '{"subsets": {"lidar": {}}}', "[]"])
def test_metrics_that_are_none_are_named(tiny_model, tmp_path, capsys, content):
    file = tmp_path / "result.json"
    if content is not None:
        file.write_text(content)
    assert main(["export", "--work", str(tiny_model), "--out", str(tmp_path / "out"),
                 "--metrics", str(file)]) == 2
    said = capsys.readouterr().err
    assert f"--metrics {file}" in said and len(said.splitlines()) == 1


def test_a_folder_without_a_model_is_named(tmp_path, capsys):
    assert main(["export", "--work", str(tmp_path / "gone"), "--out", str(tmp_path / "out")]) == 2
    assert str(tmp_path / "gone") in capsys.readouterr().err


def test_a_folder_without_weights_is_named(tiny_model, tmp_path, capsys):
    shutil.copy(tiny_model / "model.yaml", tmp_path)
    assert main(["export", "--work", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "weights.safetensors: missing" in capsys.readouterr().err
