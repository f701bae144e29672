"""`bev rig`: from a bag to a file and back, and how mistakes are told."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from perception_bev.commands import main as bev
from perception_bev.geometry import SE3, CameraModel
from perception_bev.messages.write import MessageWriter
from perception_bev.raw import EncodedImage, RawCloud
from perception_bev.recordings.bag_types import message_class
from perception_bev.recordings.bag_write import BagWriter
from perception_bev.rig import load_rig

WRITER = MessageWriter(message_class, np.ascontiguousarray)
START, STEP = 1_700_000_000_000_000_000, 100_000_000
LENS = CameraModel(64, 48, np.array([[50, 0, 32], [0, 50, 24], [0, 0, 1.0]]))
POINT = np.dtype([(name, "<f4") for name in ("x", "y", "z", "intensity")])
OPTICAL = SE3.from_rpy((1.0, 0.0, 1.5), np.deg2rad((-90.0, 0.0, -90.0)))


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """Two seconds of a camera, a lidar and what places them; then ten more of the lidar at 5 Hz."""
    path = tmp_path_factory.mktemp("bags") / "drive"
    with BagWriter(path) as out:
        out.write("/tf_static", "tf2_msgs/msg/TFMessage", WRITER.transforms([
            ("base_link", "front", OPTICAL, START),
            ("base_link", "top", SE3.from_rpy((0, 0, 2), (0, 0, 0)), START)]), START)
        for i in range(20):
            stamp = START + i * STEP
            out.write("/cam/front/camera_info", "sensor_msgs/msg/CameraInfo",
                      WRITER.camera_info(LENS, stamp, "front"), stamp)
            out.write("/cam/front/image/compressed", "sensor_msgs/msg/CompressedImage",
                      WRITER.compressed_image(EncodedImage(stamp, "front", b"\xff\xd8")), stamp)
            out.write("/points", "sensor_msgs/msg/PointCloud2",
                      WRITER.cloud(RawCloud(stamp, "top", np.ones(9, POINT))), stamp)
        for i in range(10, 60):
            stamp = START + 2 * i * STEP
            out.write("/points", "sensor_msgs/msg/PointCloud2",
                      WRITER.cloud(RawCloud(stamp, "top", np.ones(9, POINT))), stamp)
    return path


def rig_file(bag, path, *words) -> None:
    assert bev.main(["rig", "init", "--bag", str(bag), "--seconds", "2", "--out", str(path),
                     *words]) == 0


def test_a_bag_becomes_a_file_that_its_own_check_accepts(bag, tmp_path, capsys):
    path = tmp_path / "new" / "rig.yaml"
    rig_file(bag, path)
    said = capsys.readouterr().out
    assert "TODO" in said and f"bev rig check {path}" in said
    rig = load_rig(path)
    assert list(rig.cameras) == ["front"] and rig.reference.sensor == "lidar"
    picture = tmp_path / "rig.png"
    assert bev.main(["rig", "check", str(path), "--bag", str(bag), "--seconds", "2",
                     "--picture", str(picture)]) == 0
    assert "lidar (ref)" in capsys.readouterr().out
    assert cv2.imread(str(picture)).std() > 0


def test_only_the_seconds_asked_for_are_looked_at(bag, tmp_path):
    path = tmp_path / "rig.yaml"
    rig_file(bag, path)
    assert load_rig(path).lidars["lidar"].period_ms == 100


def test_a_file_is_not_overwritten_unawares(bag, tmp_path, capsys):
    path = tmp_path / "rig.yaml"
    path.write_text("mine")
    assert bev.main(["rig", "init", "--bag", str(bag), "--out", str(path)]) == 2
    assert "--force" in capsys.readouterr().err and path.read_text() == "mine"
    rig_file(bag, path, "--force")


def test_a_wrong_rig_is_found_and_the_exit_code_says_so(bag, tmp_path, capsys):
    path = tmp_path / "rig.yaml"
    rig_file(bag, path)
    path.write_text(path.read_text().replace("frame_id: top", "frame_id: roof"))
    assert bev.main(["rig", "check", str(path), "--bag", str(bag)]) == 1
    assert "frame_id is roof in the file and top" in capsys.readouterr().out


def test_check_without_a_bag_reads_the_file_alone(bag, tmp_path, capsys):
    path = tmp_path / "rig.yaml"
    rig_file(bag, path)
    assert bev.main(["rig", "check", str(path)]) == 0
    assert "from TF" in capsys.readouterr().out


@pytest.mark.parametrize("words, needle", [
    (["init", "--bag", "/gone", "--out", "x.yaml"], "/gone"),
    (["check", "/gone.yaml"], "no such file"),
    (["init", "--bag", "/gone", "--out", "x.yaml", "--seconds", "0"], "--seconds")])
def test_mistakes_are_one_line(words, needle, capsys):
    assert bev.main(["rig", *words]) == 2
    said = capsys.readouterr().err
    assert needle in said and said.count("\n") == 1


def test_a_picture_needs_places(bag, tmp_path, capsys):
    path = tmp_path / "rig.yaml"
    rig_file(bag, path)
    assert bev.main(["rig", "check", str(path), "--picture", str(tmp_path / "p.png")]) == 2
    assert "places are missing" in capsys.readouterr().err
