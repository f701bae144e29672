"""What this computer does: the files that are shipped, and what a file may not say."""

from pathlib import Path

import pytest

from perception_bev.deployment import Deployment, Remote, load_deployment
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


def test_what_runs_on_another_host_is_named_by_stage_or_by_engine(tmp_path):
    (tmp_path / "d.yaml").write_text(
        "remote: {extract: {namespace: box}, extract_lidar: {half: true}, fuse: {}}")
    deployment = load_deployment(tmp_path / "d.yaml")
    assert deployment.remote_of("extract_camera") == Remote("box")
    assert deployment.remote_of("extract_lidar") == Remote("", half=True), "the engine's own wins"
    assert deployment.remote_of("fuse_alone") == deployment.remote_of("fuse") == Remote()
    assert deployment.remote_of("decide") is None and Deployment().remote_of("fuse") is None


def test_only_stages_and_engines_can_be_remote():
    with pytest.raises(ConfigError, match="remote: io is none of extract, fuse, decide"):
        Deployment(remote={"io": Remote()})
