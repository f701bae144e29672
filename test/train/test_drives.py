"""Laws of a set of drives: what is there is kept, what is missing is made, and all is one list."""

import pytest
from safetensors.numpy import load_file
from small_car import rig
from small_drives import SmallDrive, made_in_another_process
from tiny import manifest

pytest.importorskip("torch", reason="train/ is for machines with torch")

from perception_bev.errors import ConfigError
from perception_bev.train import drives
from perception_bev.train.drives import Drives, DriveSet, file_of

MODEL = manifest()


def wanted(count: int, seconds: float = 0.3, first: int = 5) -> DriveSet:
    return DriveSet(rig(), count, seconds, first)


def test_only_what_is_missing_is_made(tmp_path):
    made = []

    def one(rig, seed, seconds):
        made.append(seed)
        return SmallDrive(rig, seed, seconds)

    drives.make(tmp_path, wanted(2), MODEL, 1, recording=one)
    first = file_of(tmp_path, 5).read_bytes()
    drives.make(tmp_path, wanted(3), MODEL, 1, recording=one)
    drives.make(tmp_path, wanted(3), MODEL, 1, recording=one)
    assert made == [5, 6, 7]
    assert file_of(tmp_path, 5).read_bytes() == first


def test_the_same_seed_gives_the_same_file_in_any_process(tmp_path):
    shown = []

    def progress(done, total):
        shown.append(total)
        return done

    drives.make(tmp_path / "a", wanted(1), MODEL, 1, progress, made_in_another_process)
    drives.make(tmp_path / "b", wanted(2), MODEL, 2, progress, made_in_another_process)
    one, other = (load_file(file_of(tmp_path / name, 5)) for name in "ab")
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)
    assert shown == [1, 2]


def test_drives_of_another_length_do_not_get_into_the_set(tmp_path):
    drives.make(tmp_path, wanted(1), MODEL, 1, recording=SmallDrive)
    with pytest.raises(ConfigError, match="holds drives of"):
        drives.make(tmp_path, wanted(1, seconds=0.5), MODEL, 1, recording=SmallDrive)


def test_samples_of_all_drives_are_one_list(tmp_path):
    drives.make(tmp_path, wanted(2), MODEL, 1, recording=SmallDrive)
    items = Drives(tmp_path, wanted(2), MODEL)
    assert len(items) == 6
    assert [items.place(i)[1] for i in range(6)] == [0, 1, 2, 0, 1, 2]
    assert [item.bundle.epoch for item in items] == [5, 5, 5, 6, 6, 6]
    assert items[4].name == "drive_000006/1"
    for index in (-1, 6):
        with pytest.raises(IndexError):
            items[index]


def test_the_model_s_classes_are_the_simulator_s():
    assert drives.classes(MODEL) == {"car": "car", "pedestrian": "pedestrian"}
