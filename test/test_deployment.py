"""What this computer does: the files that are shipped, and what a file may not say."""

from pathlib import Path

import pytest

from perception_bev.deployment import Deployment, load_deployment
from perception_bev.errors import ConfigError

SHIPPED = sorted((Path(__file__).resolve().parents[1] / "config" / "deployments").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_are_read(path):
    assert load_deployment(path).threads >= 1


def test_an_empty_choice_is_the_default(tmp_path):
    (tmp_path / "d.yaml").write_text("{}")
    assert load_deployment(tmp_path / "d.yaml") == Deployment()


@pytest.mark.parametrize("text, said", [
    ("thread: 2", "unknown key 'thread' (did you mean 'threads'?)"),
    ("threads: 0", "0 is outside 1 .. 256"),
    ("engine: abacus", "'abacus' is none of onnxruntime"),
    ("collector: none", "'none' is none of deadline, message_filters"),
    ("providers: CPUExecutionProvider", "expected a list"),
    ("check_golden: 1", "expected bool")])
def test_what_does_not_fit_is_named_with_its_place(tmp_path, text, said):
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_deployment(tmp_path / "d.yaml")
    assert said in str(error.value) and str(tmp_path / "d.yaml") in str(error.value)
