"""Drives that are generated once, and the recording that they are."""

from pathlib import Path

import numpy as np
import pytest
import sim_stand_in
import tiny

from perception_bev.errors import ConfigError
from perception_bev.eval import drives
from perception_bev.pipeline.ingest import Ingest


class Counted:
    """Makes drives and counts them."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, rig, seed, seconds):
        self.made.append(seed)
        return sim_stand_in.drive(rig, seed, seconds)


@pytest.fixture
def generated(tmp_path):
    make = Counted()

    def run(seeds, seconds=0.5):
        rig = tiny.vehicle().rig
        return drives.generated(tmp_path, rig, seeds, seconds, tiny.manifest(), 1,
                                recording=make), make.made

    return run


def test_drives_are_one_recording(generated):
    recording, _ = generated([4, 2])
    assert len(recording) == 10
    assert [recording[i].sequence for i in range(10)] == [4] * 5 + [2] * 5
    assert recording[7].name == "seed 2, sample 2" and recording[7].raw == {}
    made = sim_stand_in.drive(tiny.vehicle().rig, 2, 0.5)[2]
    np.testing.assert_array_equal(recording[7].truth.boxes.centre, made.truth.boxes.centre)
    np.testing.assert_array_equal(recording[7].truth.seen.pixels, made.truth.seen.pixels)
    np.testing.assert_allclose(recording[7].odom_from_base.matrix, made.odom_from_base.matrix)
    with pytest.raises(IndexError):
        recording[10]


def test_each_sample_has_the_odometry_since_the_one_before(generated):
    recording, _ = generated([1])
    for i in range(5):
        (at,) = recording[i].odometry
        assert at.stamp_ns == recording[i].t_ref_ns and at.linear.tolist() == [5, 0, 0]


def test_bundles_are_what_the_decoders_give(generated):
    """But for the cache's units, which are below what the sensors resolve."""
    recording, _ = generated([3])
    calibration = tiny.vehicle()
    raw = sim_stand_in.drive(calibration.rig, 3, 0.5)[1]
    ours, theirs = recording.bundle_of(1), Ingest(tiny.manifest(), calibration).bundle(raw)
    assert ours.slots.keys() == theirs.slots.keys() and ours.epoch == 3
    np.testing.assert_array_equal(ours.slots["front"].newest.image,
                                  theirs.slots["front"].newest.image)
    np.testing.assert_allclose(ours.slots["top"].newest.points, theirs.slots["top"].newest.points,
                               atol=0.003)
    np.testing.assert_array_equal(ours.slots["front_radar"].newest.points,
                                  theirs.slots["front_radar"].newest.points)


def test_what_is_there_is_not_made_again(generated):
    assert generated([1, 2])[1] == [1, 2]
    assert generated([2, 3, 1])[1] == [1, 2, 3]
    assert generated([1], seconds=0.3)[1] == [1, 2, 3, 1], "another length is another drive"


def test_another_simulator_has_other_drives(monkeypatch, tmp_path):
    rig, manifest = tiny.vehicle().rig, tiny.manifest()
    (tmp_path / "sim").mkdir()
    (tmp_path / "sim" / "world.py").write_text("SIZE = 1\n")
    monkeypatch.setattr(drives.perception_bev, "__file__", str(tmp_path / "__init__.py"))
    one = drives.kind_of(rig, 20, manifest)
    (tmp_path / "sim" / "world.py").write_text("SIZE = 2\n")
    assert drives.kind_of(rig, 20, manifest) != one
    assert drives.kind_of(rig, 20, manifest).startswith("tiny-20s-")


def test_seeds():
    assert drives.parse_seeds("1-3,8") == (1, 2, 3, 8)
    assert drives.parse_seeds(" 7 ") == (7,)
    for wrong in ("", "a", "3-", "-3", "3-1", "1,1", "1-2,2", "1.5"):
        with pytest.raises(ConfigError, match="--seeds"):
            drives.parse_seeds(wrong)


def test_the_cache_is_the_users(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert drives.default_folder() == Path("/somewhere/perception_bev/drives")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert drives.default_folder().parts[-3:] == (".cache", "perception_bev", "drives")
