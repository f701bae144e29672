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
