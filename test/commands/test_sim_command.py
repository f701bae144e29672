"""`bev sim`: a bag with the rig's topics; the same seed, the same messages; clear errors."""

from argparse import ArgumentParser

import pytest
import sim_worlds

from perception_bev.commands import sim
from perception_bev.errors import ConfigError
from perception_bev.recordings.bag_reader import BagReader
from perception_bev.recordings.convert import topics_of

pytest.importorskip("open3d", reason="the simulator needs Open3D")


def arguments(*words: str):
    parser = ArgumentParser()
    sim.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """One drive twice, under two names."""
    root = tmp_path_factory.mktemp("sim")
    for name, threads in (("one", 1), ("two", 2)):
        sim.generate(root / name, sim_worlds.small_rig(), 3, 0.4, threads=threads)
    return root / "one", root / "two"


def test_the_same_seed_gives_the_same_messages_under_any_name(bags):
    assert sim.bag_hash(bags[0]) == sim.bag_hash(bags[1])


def test_another_seed_gives_other_messages(bags, tmp_path):
    sim.generate(tmp_path / "other", sim_worlds.small_rig(), 4, 0.4)
    assert sim.bag_hash(tmp_path / "other") != sim.bag_hash(bags[0])


def test_the_bag_has_the_rigs_topics(bags):
    with BagReader(bags[0]) as reader:
        assert set(reader.topics) == set(topics_of(sim_worlds.small_rig()))
        assert reader.topics["/lidar/lidar_top/points"].count == 4


def test_a_scenarios_faults_are_in_the_bag(tmp_path):
    off = tmp_path / "off.yaml"
    off.write_text("name: dark\nwhat: a.\nfaults: [{kind: off, sensor: cam_front}]\n")
    sim.generate(tmp_path / "bag", sim_worlds.small_rig(), 3, 0.4, off)
    with BagReader(tmp_path / "bag") as reader:
        assert "/lidar/lidar_top/points" in reader.topics
        image = reader.topics.get("/camera/cam_front/image/compressed")
        assert image is None or image.count == 0
    assert not (tmp_path / "bag_clean").exists()


def test_the_command_prints_what_it_wrote(tmp_path, capsys, monkeypatch):
    from perception_bev import rig as rigs

    monkeypatch.setattr(rigs, "load_rig", lambda path: sim_worlds.small_rig())
    out = tmp_path / "bag"
    assert sim.run(arguments(str(out), "--seconds", "0.3", "--seed", "5", "--hash")) == 0
    printed = capsys.readouterr().out
    assert "seed 5, 3" in printed and f"sha256 {sim.bag_hash(out)}" in printed


def test_a_folder_that_exists_is_not_touched(tmp_path):
    with pytest.raises(ConfigError, match="is there already"):
        sim.run(arguments(str(tmp_path)))


def test_no_threads_are_an_error(tmp_path):
    with pytest.raises(ConfigError, match="--threads 0"):
        sim.run(arguments(str(tmp_path / "bag"), "--threads", "0"))
