"""Laws of clips: one view, true ages and motions, and what the memory shows is to be found."""

from dataclasses import replace

import numpy as np
import pytest
from small_car import rig
from small_drives import OBJECTS, SmallDrive
from tiny import manifest

torch = pytest.importorskip("torch")

from perception_bev.contracts import MODALITIES  # noqa: E402
from perception_bev.errors import ConfigError  # noqa: E402
from perception_bev.inputs.view import IDENTITY, View  # noqa: E402
from perception_bev.temporal.warp import warp_theta  # noqa: E402
from perception_bev.train import clips, drives, samples  # noqa: E402
from perception_bev.train.clips import ClipMaker, seen_before  # noqa: E402
from perception_bev.train.drives import Drives, DriveSet  # noqa: E402

AGES = (0.2, 0.4, 0.6)
MODEL = manifest(grid={"x_min": -8, "x_max": 16, "y_min": -8, "y_max": 8, "cell": 0.5},
                 memory={"ages_s": AGES, "channels": 4}, heads={"stride": 2, "velocity": True})
CLASSES = {"car": "car", "pedestrian": "pedestrian"}
LENGTH = 10


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> Drives:
    folder, wanted = tmp_path_factory.mktemp("drives"), DriveSet(rig(), 2, LENGTH / 10, 0)
    drives.make(folder, wanted, MODEL, 1, recording=SmallDrive)
    return Drives(folder, wanted, MODEL)


@pytest.fixture
def maker(items) -> ClipMaker:
    return ClipMaker(items, MODEL, CLASSES)


def many(maker: ClipMaker, count: int = 60, index: int = 9):
    return [maker.make(index, np.random.default_rng(seed)) for seed in range(count)]


def test_clips_begin_where_every_slot_could_be_filled(maker):
    assert maker.starts() == [6, 7, 8, 9, 16, 17, 18, 19]


def test_a_seed_gives_a_clip(maker):
    one, again = (maker.make(9, np.random.default_rng(3)) for _ in range(2))
    assert (one.age == again.age).all()
    assert (one.now.lidar == again.now.lidar).all()


def test_ages_are_whole_steps_about_the_wanted_ones_newest_first(maker):
    ages = np.array([clip.age for clip in many(maker)])
    assert np.allclose(ages * 10, np.round(ages * 10), atol=1e-4)
    for slot, wanted in enumerate(AGES):
        filled = ages[:, slot][ages[:, slot] > 0]
        assert np.abs(filled - wanted).max() <= clips.AGE_SPREAD * wanted + 0.05 + 1e-5
        assert len(np.unique(filled.round(3))) > 1
    whole = ages[(ages > 0).all(axis=1)]
    assert (np.diff(whole, axis=1) > 0).all()
    empty = (ages == 0).mean()
    assert 0.2 < empty < 0.45
    assert 0.1 < (ages == 0).all(axis=1).mean() < 0.35


def test_an_empty_slot_is_all_zeros(maker):
    for clip in many(maker, 20):
        for frame, warp, age in zip(clip.past, clip.warp, clip.age, strict=True):
            assert (frame is None) == (age == 0) == (not warp.any())


def test_the_warp_is_the_drive_s_motion_in_the_clip_s_view(maker, items, monkeypatch):
    view = View.augmented(0.7, mirror=True, shift=(0.5, -0.3))
    monkeypatch.setattr(samples, "_random_view", lambda *_: view)
    now = items[9].bundle.odom_from_base
    for clip in many(maker, 8):
        for age, warp in zip(clip.age, clip.warp, strict=True):
            if age > 0:
                then = items[9 - round(float(age) * 10)].bundle.odom_from_base
                expected = warp_theta(MODEL.grid, then.inverse() @ now, view.linear, view.shift)
                assert np.allclose(warp, expected, atol=1e-6)


def test_all_frames_of_a_clip_lie_in_one_view(maker, monkeypatch):
    drawn = []
    build = samples.SampleMaker.build

    def watched(self, item, view, *others):
        drawn.append(view)
        return build(self, item, view, *others)

    monkeypatch.setattr(samples.SampleMaker, "build", watched)
    clip = maker.make(9, np.random.default_rng(0))
    assert sum(p is not None for p in clip.past) > 0
    assert all(view is drawn[0] for view in drawn)


def test_the_past_has_mostly_the_same_sensors_and_sometimes_others(maker):
    alike = [tuple(p.context[:3]) == tuple(clip.now.context[:3])
             for clip in many(maker) for p in clip.past[:1] if p is not None]
    assert 0.6 < np.mean(alike) < 0.98


def test_past_frames_have_no_targets(maker):
    clip = next(c for c in many(maker) if c.past[0] is not None)
    assert len(clip.past[0].targets.cells) == 0
    assert clip.targets is clip.now.targets


def test_what_a_memory_showed_is_to_be_found_though_nothing_shows_it_now(items):
    """Object k has a lidar point in every (k + 1)th sample: in sample 7 only object 0."""
    now, past = items[7], [items[6], None, items[4]]
    assert samples.seen_by(now, ("lidar",)).tolist() == [True] + [False] * (OBJECTS - 1)
    assert seen_before(now, past, ("lidar",)).tolist() == [
        any(k % (n + 1) == 0 for k in (6, 4)) for n in range(OBJECTS)]
    assert not seen_before(now, past, ("radar", "camera")).any()
    assert not seen_before(now, [None] * 3, MODALITIES).any()
    untold = replace(now, truth=replace(now.truth, track=None))
    assert not seen_before(untold, past, ("lidar",)).any()


def test_targets_of_a_clip_hold_what_the_memory_showed(maker, monkeypatch):
    monkeypatch.setattr(samples, "_random_view", lambda *_: IDENTITY)
    monkeypatch.setattr(samples, "_random_modalities", lambda rng, weak: ("lidar",))
    monkeypatch.setattr(ClipMaker, "_past", lambda self, last, rng: [6, None, 4])
    with_memory = maker.make(7, np.random.default_rng(0)).targets
    monkeypatch.setattr(ClipMaker, "_past", lambda self, last, rng: [None] * 3)
    without = maker.make(7, np.random.default_rng(0)).targets
    assert (with_memory.heat == 1).sum() > (without.heat == 1).sum() >= 1
    assert (with_memory.valid == 0).sum() < (without.valid == 0).sum()


def test_a_past_without_known_motion_is_no_memory(items, monkeypatch):
    lost = replace(items[9].bundle, odom_from_base=None)

    class Lost(type(items)):
        def __init__(self):
            pass

        def __len__(self):
            return 10

        def place(self, index):
            whole = [items[i] for i in range(10)]
            whole[9] = replace(whole[9], bundle=lost)
            return whole, index

    for clip in many(ClipMaker(Lost(), MODEL, CLASSES), 10):
        assert not clip.age.any()
        assert clip.past == (None,) * 3


def test_a_model_without_memory_is_refused(items):
    with pytest.raises(ConfigError, match="no memory to be trained"):
        ClipMaker(items, manifest(), CLASSES)
