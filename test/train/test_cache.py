"""Laws of a kept drive: what comes out is what a decoder made, to less than a sensor resolves."""

from dataclasses import replace

import numpy as np
import pytest
from small_car import MS, calibration
from small_drives import CLASSES, START_NS, pose, samples
from tiny import manifest

pytest.importorskip("torch", reason="train/ is for machines with torch")

from perception_bev.errors import RecordingError
from perception_bev.inputs.build import InputBuilder
from perception_bev.pipeline.ingest import Ingest
from perception_bev.recordings.base import Truth
from perception_bev.train import cache
from perception_bev.train.cache import Drive

MODEL, CAR = manifest(), calibration()
COUNT = 3


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("drives") / "one.safetensors"
    cache.write(path, samples(COUNT), MODEL, CAR)
    return path


@pytest.fixture
def drive(file) -> Drive:
    return Drive(file, MODEL, CAR)


def test_frames_come_back(drive):
    ingest = Ingest(MODEL, CAR)
    for index, sample in enumerate(samples(COUNT)):
        kept, live = drive[index].bundle, ingest.bundle(sample)
        assert kept.t_ref_ns == live.t_ref_ns
        assert {n: s.reason for n, s in kept.slots.items()} == {
            n: s.reason for n, s in live.slots.items()}
        assert {n: s.age_ns for n, s in kept.slots.items()} == {
            n: s.age_ns for n, s in live.slots.items()}
        for name in CAR.rig.sensors:
            for one, other in zip(kept.slots[name].frames, live.slots[name].frames, strict=True):
                same_frame(one, other)


def same_frame(kept, live) -> None:
    assert type(kept) is type(live)
    assert kept.stamp_ns == live.stamp_ns
    if kept.modality == "camera":
        assert (kept.image == live.image).all()
    elif kept.modality == "radar":
        for part in ("points", "doppler", "intensity"):
            assert (getattr(kept, part) == getattr(live, part)).all()
    else:
        assert np.abs(kept.points[:, :3] - live.points[:, :3]).max() <= 0.5 / 256 + 1e-6
        assert np.abs(kept.points[:, 3] - live.points[:, 3]).max() <= 0.5 / 255 + 1e-6
        assert np.abs(kept.time_offset - live.time_offset).max() <= 2.1e-6


def test_the_lost_picture_is_missing_in_its_sample_only(drive):
    assert [drive[i].bundle.slots["front"].present for i in range(COUNT)] == [True, False, True]


def test_truth_comes_back_exactly(drive):
    for index, sample in enumerate(samples(COUNT)):
        kept = drive[index].truth
        for name in ("centre", "size", "yaw", "label", "velocity"):
            assert (getattr(kept.boxes, name) == getattr(sample.truth.boxes, name)).all()
        assert kept.boxes.classes == CLASSES
        assert (kept.track == sample.truth.track).all()
        assert (kept.seen.lidar_points == sample.truth.seen.lidar_points).all()


def test_the_motion_is_known_at_every_sweep_s_beginning(drive):
    ego = drive[0].ego
    assert drive[2].ego is ego
    for seconds in (-0.1, 0.0, 0.05, 0.15, 0.2):
        at = ego.at(START_NS + round(seconds * 1e9))
        assert np.allclose(at.matrix, pose(seconds).matrix, atol=2e-3)
    assert np.allclose(drive.pose(2).matrix, pose(0.2).matrix)
    assert np.allclose(drive[2].bundle.odom_from_base.matrix, pose(0.2).matrix)


def test_rasters_of_a_kept_drive_are_those_of_live_frames(drive):
    """Points that lie on a cell's border may fall to the other side."""
    live = Ingest(MODEL, CAR).bundle(samples(COUNT)[2])
    item = drive[2]
    builder = InputBuilder(MODEL, CAR)
    expected = builder.build(live, item.ego).lidar.copy()
    made = builder.build(item.bundle, item.ego).lidar.copy()
    assert (np.abs(made - expected) > 0.02).mean() < 0.01
    assert (builder.build(item.bundle).lidar != made).any()  # the motion matters


def test_what_is_not_known_stays_unknown(tmp_path):
    one = samples(1)[0]
    plain = Truth(one.truth.boxes, one.truth.occlusion, one.truth.counted)
    cache.write(tmp_path / "d", [replace(one, truth=plain, odom_from_base=None, odometry=())],
                MODEL, CAR)
    item = Drive(tmp_path / "d", MODEL, CAR)[0]
    assert item.truth.seen is None
    assert item.bundle.odom_from_base is None
    assert item.ego.at(item.bundle.t_ref_ns) is None


def test_points_beyond_the_unit_s_reach_are_left_out(tmp_path):
    one = samples(1)[0]
    one.raw["top"][0].points["x"][:7] = 128.5
    cache.write(tmp_path / "d", [one], MODEL, CAR)
    sweep = Drive(tmp_path / "d", MODEL, CAR)[0].bundle.slots["top"].newest
    assert len(sweep.points) == len(one.raw["top"][0].points) - 7
    assert np.abs(sweep.points[:, :3]).max() < 128


def test_a_drive_of_another_vehicle_or_picture_size_is_refused(file):
    other = replace(MODEL.camera, width=128)
    with pytest.raises(RecordingError, match="another rig, picture size"):
        Drive(file, replace(MODEL, camera=other), CAR)
    with pytest.raises(RecordingError, match="another rig, picture size"):
        Drive(file, MODEL, calibration(top={"min_range_m": 2.0}))


def test_a_damaged_file_is_named_and_a_cut_one_never_takes_its_place(file, tmp_path):
    (tmp_path / "half").write_bytes(file.read_bytes()[:5000])
    with pytest.raises(RecordingError, match="half: not a drive"):
        Drive(tmp_path / "half", MODEL, CAR)

    def breaks():
        yield samples(1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.write(tmp_path / "cut", breaks(), MODEL, CAR)
    assert not (tmp_path / "cut").exists()


def test_samples_out_of_range_are_an_error(drive):
    assert len(drive) == COUNT
    assert drive.t_ref_ns(1) == START_NS + 100 * MS
    for index in (-1, COUNT):
        with pytest.raises(IndexError):
            drive[index]


def test_a_sample_without_truth_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="no truth"):
        cache.write(tmp_path / "d", [replace(samples(1)[0], truth=None)], MODEL, CAR)
