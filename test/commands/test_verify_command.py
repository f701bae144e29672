"""`bev verify`: exit code 0 for a whole model, 1 for one that drifted, 2 where it cannot judge."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from perception_bev.commands.main import main
from perception_bev.engines import golden
from perception_bev.manifest import load_manifest
from perception_bev.network.export import write_manifest

SHIPPED = sorted(file.parent for file in Path(__file__).parents[2].glob("models/*/model.yaml"))


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def with_golden(folder, change) -> None:
    """Store other golden outputs, correctly signed."""
    manifest = load_manifest(folder)
    variant = manifest.variants["fp32"]
    file = folder / variant.golden.file
    stored = load_file(file)
    change(stored)
    save_file(stored, file)
    signed = dataclasses.replace(variant.golden, sha256=golden.sha256(file))
    write_manifest(dataclasses.replace(manifest, variants={
        "fp32": dataclasses.replace(variant, golden=signed)}), folder)


def verify(folder, *words: str) -> int:
    return main(["verify", "--model", str(folder), *words])


def test_a_whole_model_passes(tiny_model, tmp_path, capsys):
    assert verify(tiny_model, "--json", str(tmp_path / "out.json")) == 0
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["good"] is True and len(result["golden"]) == 6
    assert all(value <= result["tolerance"] for value in result["golden"].values())
    printed = capsys.readouterr().out
    assert all(name in printed for name in result["golden"])


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_the_models_of_this_repository_pass(folder):
    assert verify(folder) == 0


def test_drift_is_printed_and_fails(copy, tmp_path):
    with_golden(copy, lambda stored: stored.update(
        {"fuse.fused": stored["fuse.fused"] * np.float32(1.01)}))
    assert verify(copy, "--json", str(tmp_path / "out.json")) == 1
    result = json.loads((tmp_path / "out.json").read_text())
    wrong = [n for n, value in result["golden"].items() if value > result["tolerance"]]
    assert wrong == ["fuse.fused"] and result["good"] is False


def test_golden_values_that_are_not_numbers_fail(copy):
    with_golden(copy, lambda stored: stored["decide.heat"].fill(np.nan))
    assert verify(copy) == 1


def test_a_damaged_golden_file_is_named(copy, capsys):
    file = copy / "golden.fp32.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert verify(copy) == 2
    assert "golden.fp32.safetensors: its SHA-256" in capsys.readouterr().err


def test_without_golden_outputs_it_says_so(copy, capsys):
    manifest = load_manifest(copy)
    bare = dataclasses.replace(manifest.variants["fp32"], golden=None)
    write_manifest(dataclasses.replace(manifest, variants={"fp32": bare}), copy)
    assert verify(copy) == 2
    assert "no golden outputs" in capsys.readouterr().err


@pytest.mark.parametrize("words, said", [
    (("--variant", "int8"), "no variant 'int8'; it has: fp32"),
    (("--root", "/gone"), "/gone: no groundtruth_obj3d/")])
def test_wrong_arguments_are_one_line(tiny_model, capsys, words, said):
    assert verify(tiny_model, *words) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
