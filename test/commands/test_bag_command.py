"""`bev bag`: what it prints and gives, on bags that the test writes."""

import json
import os
import sys

import pytest
from bag_scenes import SmallRecording, write_texts

from perception_bev.commands import bag as command
from perception_bev.commands.main import main
from perception_bev.recordings import bag_write
from perception_bev.recordings.convert import convert

ASTYX = os.environ.get("PERCEPTION_BEV_ASTYX", "")


@pytest.fixture
def small(tmp_path):
    convert(SmallRecording((3, 2)), tmp_path / "small")
    return tmp_path / "small"


def test_info_shows_topics_counts_rates_and_epochs(small, tmp_path, capsys):
    assert main(["bag", "info", str(small), "--json", str(tmp_path / "info.json")]) == 0
    text = capsys.readouterr().out
    assert "/radar/nose/points" in text and "2 epochs" in text and "rig small" in text
    about = json.loads((tmp_path / "info.json").read_text())
    lidar = about["topics"]["/lidar/top/points"]
    assert (lidar["count"], lidar["type"]) == (5, "sensor_msgs/msg/PointCloud2")
    assert lidar["rate_hz"] == pytest.approx(4 / 2.4)
    assert about["epochs"] == 2 and about["error"] is None and about["compression"] == "zstd"
    assert about["topics"]["/tf_static"]["durability"] == "transient_local"
    assert about["topics"]["/tf_static"]["rate_hz"] is None, "one message has no rate"
    assert about["messages"] == sum(topic["count"] for topic in about["topics"].values())


def test_quick_reads_no_messages(small, capsys):
    assert main(["bag", "info", "--quick", str(small)]) == 0
    assert "epochs" not in capsys.readouterr().out


def test_a_damaged_bag_is_shown_as_far_as_it_goes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bag_write, "_CHUNK_BYTES", 1 << 12)
    write_texts(tmp_path / "bag", 100)
    path = tmp_path / "bag" / "bag_0.mcap"
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    assert main(["bag", "info", str(path), "--json", str(tmp_path / "info.json")]) == 1
    assert "damaged" in capsys.readouterr().out
    about = json.loads((tmp_path / "info.json").read_text())
    assert 10 < about["messages"] < 100 and "messages before it were readable" in about["error"]


def test_no_bag_is_one_line(tmp_path, capsys):
    assert main(["bag", "info", str(tmp_path / "absent")]) == 2
    assert "no such bag" in capsys.readouterr().err


def test_sizes_are_read_at_a_glance():
    assert [command._size(n) for n in (0, 999, 1000, 12_345_678, 5 * 10**12)] == [
        "0 B", "999 B", "1.0 kB", "12.3 MB", "5000.0 GB"]


def test_play_starts_the_node_with_what_was_asked_for(small, monkeypatch, tmp_path):
    started = []

    class Process:
        def __init__(self, words, env):
            started.append((words, env))

        def wait(self):
            return 7

        def terminate(self):
            """Asked for by SIGTERM."""

    monkeypatch.setattr(command.subprocess, "Popen", Process)
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    assert main(["bag", "play", "small", "--rate", "2", "--loop", "--stamps", "fresh",
                 "--topics", "/odometry", "lidar/top/points"]) == 7
    (words, environment), = started
    text = " ".join(words)
    assert words[:3] == [sys.executable, "-m", "perception_bev.nodes.replay_node"]
    assert f"bag:='{small}'" in text and "rate:=2.0" in text and "loop:=true" in text
    assert "stamps:='fresh'" in text and 'topics:=["/odometry", "lidar/top/points"]' in text
    assert any("PROFILES" in name for name in environment)


def test_convert_names_what_is_missing(tmp_path, capsys):
    words = ["bag", "convert", "astyx", "--root", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "groundtruth_obj3d" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*words, "--frames", str(tmp_path / "absent.txt")]) == 2
    assert "absent.txt" in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.skipif(not ASTYX, reason="PERCEPTION_BEV_ASTYX does not name the unpacked data set")
def test_astyx_becomes_a_bag(tmp_path, capsys):
    assert main(["bag", "convert", "astyx", "--root", ASTYX, "--out", str(tmp_path / "bag"),
                 "--first", "4", "--spacing", "period", "--json", str(tmp_path / "done.json")]) == 0
    done, = json.loads((tmp_path / "done.json").read_text())
    assert done["rig"] == "astyx_a" and done["samples"] == 4
    assert main(["bag", "info", str(tmp_path / "bag")]) == 0
    assert "/ground_truth/objects" in capsys.readouterr().out
