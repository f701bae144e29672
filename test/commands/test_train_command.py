"""`bev train`: bad input is one line; the training itself is tested where it is."""

import pytest

torch = pytest.importorskip("torch")

from perception_bev.commands import train  # noqa: E402
from perception_bev.commands.main import main  # noqa: E402
from perception_bev.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("words, said", [
    ((), "no groundtruth_obj3d/"),
    (("--config", "/gone.yaml"), "/gone.yaml: no such file")])
def test_wrong_arguments_are_one_line(tmp_path, capsys, words, said):
    code = main(["train", "--dataset", "astyx", "--root", str(tmp_path), "--work",
                 str(tmp_path / "run"), *words])
    error = capsys.readouterr().err
    assert code == 2 and said in error and len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists(), "nothing was begun"


def test_a_run_that_goes_on_must_be_made_of_the_same(tmp_path):
    """Else frames that were held out would be trained on, and the record would deny it."""
    work = tmp_path / "run"
    first = {"held_out.txt": "a\n", "split.json": "{}"}
    train._record(work, first)
    train._record(work, {**first, "held_out.txt": "b\n"})  # nothing was trained yet
    train._record(work, first)
    (work / "checkpoint.safetensors").touch()
    train._record(work, first)
    with pytest.raises(ConfigError, match=r"held_out\.txt is of another run"):
        train._record(work, {**first, "held_out.txt": "b\n"})
    assert (work / "held_out.txt").read_text() == "a\n", "the old record stands"


# -- simulated drives ------------------------------------------------------------------------------

TINY = """
name: tiny
grid: {x_min: -8, x_max: 8, y_min: -8, y_max: 8, cell: 0.5}
classes: [car, pedestrian]
camera: {slots: 1, width: 32, height: 16, stride: 4, channels: 4, lift_heights: [0.5],
         lift_factor: 4}
lidar: {height_bins: [0, 1, 2], max_height: 5.0, log_points: 16}
radar: {intensity_offset: 45, intensity_scale: 30, max_height: 4, doppler_scale: 3, log_points: 8}
heads: {stride: 2, velocity: true}
fused_channels: 8
widths: {camera: [4, 4, 8, 8], lidar: 4, radar: 4, fuse: [8, 8, 8, 8], decide: 8}
memory: {ages_s: [0.1, 0.2], channels: 4}
provenance: {data: made up, licence: Apache-2.0, commercial_use: true}
"""


@pytest.fixture
def sim(tmp_path, monkeypatch):
    """`bev train` on small drives: words -> exit code."""
    import yaml
    from small_car import RIG
    from small_drives import SmallDrive

    from perception_bev.train import drives

    monkeypatch.setattr(drives, "simulated", SmallDrive)
    (tmp_path / "model.yaml").write_text(TINY)
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(RIG))

    def call(work: str, *words: str) -> int:
        return main(["train", "--dataset", "sim", "--root", str(tmp_path / "drives"),
                     "--config", str(tmp_path / "model.yaml"), "--rig", str(tmp_path / "rig.yaml"),
                     "--work", str(tmp_path / work), "--drives", "1", "--seconds", "0.5",
                     "--processes", "1", "--threads", "1", "--steps", "1", *words])

    return call


def test_both_phases_from_nothing_to_weights(sim, tmp_path, capsys):
    assert sim("one") == 0
    assert sim("two", "--phase", "temporal", "--from", str(tmp_path / "one")) == 0
    assert "5 samples of 1 simulated drives" in capsys.readouterr().out
    for work in ("one", "two"):
        assert {"checkpoint.safetensors", "curve.png", "drives.json", "history.json",
                "model.yaml"} <= {file.name for file in (tmp_path / work).iterdir()}
    assert len((tmp_path / "two" / "from.txt").read_text().strip()) == 64


def test_a_temporal_run_that_goes_on_must_have_begun_with_the_same_weights(sim, tmp_path, capsys):
    assert sim("one") == sim("other", "--seed", "1") == 0
    assert sim("two", "--phase", "temporal", "--from", str(tmp_path / "one")) == 0
    assert sim("two", "--phase", "temporal", "--from", str(tmp_path / "other")) == 2
    assert "from.txt is of another run" in capsys.readouterr().err


@pytest.mark.parametrize("words, said", [
    (("--phase", "temporal"), "give --from WORK"),
    (("--phase", "temporal", "--from", "/gone"), "/gone: no checkpoint.safetensors"),
    (("--phase", "temporal", "--from", "/gone", "--sensors", "lidar"), "with all sensors"),
    (("--sensors", "sonar"), "there is no sonar")])
def test_wrong_words_are_one_line_and_nothing_is_made(sim, tmp_path, capsys, words, said):
    assert sim("run", *words) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists() and not (tmp_path / "drives").exists()


def test_single_frames_have_no_temporal_phase(tmp_path, capsys):
    assert main(["train", "--dataset", "astyx", "--root", str(tmp_path), "--work",
                 str(tmp_path / "run"), "--phase", "temporal", "--from", str(tmp_path)]) == 2
    assert "needs drives with ego motion" in capsys.readouterr().err
