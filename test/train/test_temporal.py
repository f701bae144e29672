"""Laws of the temporal phase: what extracts stays as it was, the memory learns, and a clip through
training is the same frames through the engines one after the other."""

import numpy as np
import pytest
from small_car import rig
from small_drives import SmallDrive
from tiny import manifest

torch = pytest.importorskip("torch")

from perception_bev.errors import ConfigError  # noqa: E402
from perception_bev.network.model import Model  # noqa: E402
from perception_bev.train import checkpoint, drives, loop, temporal  # noqa: E402
from perception_bev.train.clips import ClipMaker  # noqa: E402
from perception_bev.train.drives import Drives, DriveSet  # noqa: E402
from perception_bev.train.loop import Recipe  # noqa: E402
from perception_bev.train.temporal import FROZEN, Clips, clip_logits  # noqa: E402

pytestmark = pytest.mark.torch

MODEL = manifest(grid={"x_min": -8, "x_max": 8, "y_min": -8, "y_max": 8, "cell": 0.5},
                 memory={"ages_s": [0.1, 0.3], "channels": 4},
                 heads={"stride": 2, "velocity": True},
                 widths={"camera": [4, 8, 8, 8], "lidar": 8, "radar": 8, "fuse": [8, 8, 12, 16],
                         "decide": 8})
CLASSES = {"car": "car", "pedestrian": "pedestrian"}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> Drives:
    folder, wanted = tmp_path_factory.mktemp("drives"), DriveSet(rig(), 1, 0.8, 0)
    drives.make(folder, wanted, MODEL, 1, recording=SmallDrive)
    return Drives(folder, wanted, MODEL)


@pytest.fixture
def task(items) -> Clips:
    return Clips(items, MODEL, CLASSES)


def fresh(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    model = Model(MODEL)
    torch.nn.init.normal_(model.fuse.recall.aggregate.weight, std=0.2)
    torch.nn.init.normal_(model.fuse.lift.weight, std=0.3)
    return model


def weights(model) -> dict:
    return {name: value.clone() for name, value in model.state_dict().items()}


def clips_of(items, monkeypatch, pasts) -> list:
    """Clips that end with sample 6, with these past samples."""
    maker, made = ClipMaker(items, MODEL, CLASSES), []
    for seed, past in enumerate(pasts):
        monkeypatch.setattr(ClipMaker, "_past", lambda self, last, rng, past=past: past)
        made.append(maker.make(6, np.random.default_rng(seed)))
    return made


def test_a_clip_is_its_frames_through_the_engines_one_after_the_other(items, monkeypatch):
    batch = clips_of(items, monkeypatch, [[5, 3], [None, 2], [None, None]])
    model = fresh().eval()
    with torch.no_grad():
        logits, boxes = clip_logits(model, batch)
        for i, clip in enumerate(batch):
            memory = torch.zeros(1, 2, 5, *MODEL.grid.coarser(4).shape)
            for k, frame in enumerate(clip.past):
                if frame is not None:
                    memory[:, k] = alone(model, frame, None)[1]
            arguments = (memory, torch.from_numpy(clip.warp)[None],
                         torch.from_numpy(clip.age)[None])
            fused, _ = alone(model, clip.now, arguments)
            heat, box = model.decide.logits(fused)
            assert torch.allclose(logits[i], heat[0], atol=1e-4)
            assert torch.allclose(boxes[i], box[0], atol=1e-4)


def alone(model: Model, frame, memory):
    """One frame as the vehicle runs it: fused, and what is to be remembered."""
    pictures, index, weight, lidar, radar, context = loop.tensors([frame])
    features = model.extract(pictures, lidar, radar, context)
    shape = MODEL.grid.coarser(4).shape
    nothing = (torch.zeros(1, 2, 5, *shape), torch.zeros(1, 2, 2, 3), torch.zeros(1, 2))
    return model.fuse(features[0], index, weight, *features[1:], context, *(memory or nothing))


def test_only_what_remembers_learns_statistics_included(task, tmp_path):
    start = weights(fresh())
    after = weights(loop.run(task, MODEL, Recipe(steps=3, batch=2, peak_rate=1e-2),
                             tmp_path / "run", start))
    for name, value in after.items():
        if name.split(".")[0] in FROZEN:
            assert torch.equal(value, start[name]), name
    for name in ("fuse.recall.keep.weight", "fuse.recall.aggregate.weight",
                 "fuse.level1.first.0.weight", "fuse.down.1.running_mean", "decide.heat.weight"):
        assert not torch.equal(after[name], start[name]), name


def test_gradients_reach_what_is_remembered_once_it_is_looked_at(items, monkeypatch):
    batch = clips_of(items, monkeypatch, [[5, 3]])
    new, looking = Model(MODEL), fresh()
    for model, reached in ((new, False), (looking, True)):
        logits, _ = clip_logits(model.train(), batch)
        logits.sum().backward()
        assert model.fuse.recall.aggregate.weight.grad.any()
        assert bool(model.fuse.recall.keep.weight.grad.any()) == reached


def test_a_batch_without_any_memory_is_the_model_without_it(items, monkeypatch):
    batch = clips_of(items, monkeypatch, [[None, None], [None, None]])
    model = fresh().eval()
    with torch.no_grad():
        logits, boxes = clip_logits(model, batch)
        single = model.logits(*loop.tensors([clip.now for clip in batch]))
    assert torch.allclose(logits, single[0], atol=1e-5)
    assert torch.allclose(boxes, single[1], atol=1e-5)


def test_cut_off_and_resumed_is_bit_for_bit_the_uncut_run(task, monkeypatch, tmp_path):
    start, recipe = weights(fresh()), Recipe(steps=4, batch=2)
    monkeypatch.setattr(loop, "SAVE_EVERY", 2)
    whole = weights(loop.run(task, MODEL, recipe, tmp_path / "whole", start))
    step, done = loop._step, []

    def failing(*arguments):
        done.append(1)
        if len(done) == 4:
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as power:
        power.setattr(loop, "_step", failing)
        with pytest.raises(KeyboardInterrupt):
            loop.run(task, MODEL, recipe, tmp_path / "cut", start)
    resumed = weights(loop.run(task, MODEL, recipe, tmp_path / "cut", start))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_weights_to_start_from_are_the_averaged_ones_of_a_run(task, tmp_path):
    trained = loop.run(task, MODEL, Recipe(steps=1, batch=1), tmp_path, weights(fresh()))
    start = checkpoint.averaged(tmp_path)
    assert all(torch.equal(start[name], value) for name, value in trained.state_dict().items())
    assert checkpoint.digest(start) == checkpoint.digest(dict(reversed(start.items())))
    start["fuse.skip.0.weight"] = start["fuse.skip.0.weight"] + 1e-3
    assert checkpoint.digest(start) != checkpoint.digest(checkpoint.averaged(tmp_path))
    with pytest.raises(ConfigError, match="a folder of `bev train` is wanted"):
        checkpoint.averaged(tmp_path / "nothing")


def test_a_task_says_how_many_clips_there_are(task, items):
    assert len(task) == len(items) - 3
    assert temporal.FROZEN == ("extract_camera", "extract_lidar")
