"""Training on nuScenes: scenes decoded once, one step of the vehicle-size model, its engines.

The step runs with the shipped description at reduced widths: the same pictures, grid, heads and
memory. With PERCEPTION_BEV_VEHICLE_SIZE=1 it runs at full width, and the engines are exported.
"""

import dataclasses
import os

import fake_nuscenes as fake
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from perception_bev import resources  # noqa: E402
from perception_bev.errors import ConfigError  # noqa: E402
from perception_bev.manifest import Widths, load_manifest  # noqa: E402
from perception_bev.network.export import engine_of, export, ports  # noqa: E402
from perception_bev.network.model import Model  # noqa: E402
from perception_bev.outputs.heads import box_channels  # noqa: E402
from perception_bev.recordings.nuscenes import CLASSES  # noqa: E402
from perception_bev.train import nuscenes  # noqa: E402
from perception_bev.train.clips import ClipMaker  # noqa: E402
from perception_bev.train.loop import Recipe, train  # noqa: E402

pytestmark = pytest.mark.torch
FULL = load_manifest(resources.path("config/models/nuscenes.yaml"))
NARROW = dataclasses.replace(
    FULL, fused_channels=8, camera=dataclasses.replace(FULL.camera, channels=8),
    memory=dataclasses.replace(FULL.memory, channels=4),
    widths=Widths((4, 8, 8, 8), 8, 8, (8, 8, 8, 8), 8))
SMALL = dataclasses.replace(
    NARROW, camera=dataclasses.replace(NARROW.camera, width=128, height=72),
    grid=dataclasses.replace(FULL.grid, cell=0.8))
vehicle_size = pytest.mark.skipif(
    not os.environ.get("PERCEPTION_BEV_VEHICLE_SIZE"),
    reason="PERCEPTION_BEV_VEHICLE_SIZE is not set: the full width takes minutes on a CPU")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return fake.write(tmp_path_factory.mktemp("nuscenes"), samples=2)


@pytest.fixture(scope="module")
def key_frames(root, tmp_path_factory):
    source = nuscenes.recording(root, None, "key_frame")
    folder = tmp_path_factory.mktemp("decoded")
    nuscenes.make(folder, source, FULL)
    return nuscenes.Scenes(folder, source, FULL)


def test_scenes_are_decoded_once(root, tmp_path):
    source, made = nuscenes.recording(root, None, "key_frame"), []

    def watched(numbers, total):
        made.append(total)
        return numbers

    nuscenes.make(tmp_path, nuscenes.recording(root, ["scene-0062"], "key_frame"), FULL, watched)
    nuscenes.make(tmp_path, source, FULL, watched)
    nuscenes.make(tmp_path, source, FULL, watched)
    assert made == [1, 1, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "scene-0061.key_frame.safetensors", "scene-0062.key_frame.safetensors"]


def test_samples_are_those_of_the_recording(root, key_frames):
    source = nuscenes.recording(root, None, "key_frame")
    assert len(key_frames) == len(source) == 4
    for index in range(4):
        item, sample = key_frames[index], source[index]
        assert item.bundle.t_ref_ns == sample.t_ref_ns
        assert item.calibration is source.calibration_of(index)
        assert item.bundle.slots["cam_back"].newest.image.shape == (396, 704, 3)
        np.testing.assert_array_equal(item.truth.boxes.centre, sample.truth.boxes.centre)
        np.testing.assert_array_equal(item.truth.seen.pixels, sample.truth.seen.pixels)
        pose = item.ego.at(sample.t_ref_ns - 30_000_000)
        wanted = fake.global_from_base(sample.t_ref_ns // 1000 - 30_000 - (index // 2) * 10**8)
        np.testing.assert_allclose(pose.translation, wanted.translation, atol=0.02)


def test_what_is_none_of_the_classes_is_not_supervised():
    table = nuscenes.classes(FULL)
    assert {name for name, to in table.items() if to} == set(CLASSES) == set(FULL.classes)
    assert table["ignored"] is None
    few = dataclasses.replace(FULL, classes=("car", "pedestrian"))
    assert nuscenes.classes(few)["truck"] is None and nuscenes.classes(few)["car"] == "car"


def test_scene_names_are_read_from_a_file(tmp_path):
    file = tmp_path / "train.txt"
    file.write_text("scene-0061  # first\n\n# none\nscene-0062\n")
    assert nuscenes.scene_names(file) == ["scene-0061", "scene-0062"]
    file.write_text("# none\n")
    with pytest.raises(ConfigError, match="no scene names"):
        nuscenes.scene_names(file)
    with pytest.raises(ConfigError, match="not readable"):
        nuscenes.scene_names(tmp_path / "gone.txt")


def test_clips_of_ten_hertz_samples(tmp_path):
    """The temporal phase: past frames at about the remembered ages, none over a scene's border."""
    source = nuscenes.recording(fake.write(tmp_path / "set", samples=4), None, "period")
    nuscenes.make(tmp_path, source, SMALL)
    scenes = nuscenes.Scenes(tmp_path, source, SMALL)
    maker = ClipMaker(scenes, SMALL, nuscenes.classes(SMALL))
    assert len(scenes) == 32 and maker.starts() == [*range(10, 16), *range(26, 32)]
    clips = [maker.make(26, np.random.default_rng(seed)) for seed in range(6)]
    assert any(sample is not None for clip in clips for sample in clip.past)
    for clip in clips:
        assert clip.warp.shape == (3, 2, 3) and clip.now.targets.heat.shape == (10, 64, 64)
        for slot, (sample, age) in enumerate(zip(clip.past, clip.age, strict=True)):
            if sample is None:
                assert age == 0 and not clip.warp[slot].any()
            else:
                assert abs(age / FULL.memory.ages_s[slot] - 1) <= 0.51
                assert sample.lidar.shape == clip.now.lidar.shape == (13, 128, 128)


def one_step(items, manifest, folder) -> None:
    torch.manual_seed(0)
    before = {name: value.clone() for name, value in Model(manifest).named_parameters()}
    after = train(items, manifest, nuscenes.classes(manifest), Recipe(1, batch=1), folder)
    assert (folder / "checkpoint.safetensors").exists()
    moved = {name for name, value in after.named_parameters()
             if not torch.equal(value, before[name])}
    assert all(torch.isfinite(value).all() for value in after.parameters())
    assert {name.split(".")[0] for name in moved} >= {"fuse", "decide"}


@pytest.mark.timeout(600)
def test_one_step_of_training(key_frames, tmp_path, threads):
    torch.set_num_threads(1)
    one_step(key_frames, NARROW, tmp_path)


def test_engines_fit_each_other_at_full_width():
    """Shapes only: no number is computed on torch's meta device."""
    model, (rows, columns) = Model(FULL).eval().to("meta"), FULL.grid.shape
    outputs = {}
    for name, port in ports(FULL).items():
        inputs = [value.to("meta") for value in port.inputs.values()]
        made = engine_of(model, name)(*inputs)
        made = made if isinstance(made, tuple) else (made,)
        outputs |= dict(zip(port.outputs, (tuple(part.shape) for part in made), strict=True))
    wanted = {key: tuple(value.shape) for key, value in ports(FULL)["fuse"].inputs.items()}
    assert (rows, columns) == (512, 512)
    assert outputs["camera"] == (1, wanted["camera"][1] // 6, wanted["camera"][2])
    assert outputs["lidar"] == wanted["lidar"] and outputs["radar"] == wanted["radar"]
    assert outputs["remember"][1:] == wanted["memory"][2:]
    assert outputs["fused"] == tuple(ports(FULL)["decide"].inputs["fused"].shape)
    assert outputs["heat"] == (1, 10, 256, 256)
    assert outputs["boxes"] == (1, box_channels(FULL), 256, 256)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@vehicle_size
def test_one_step_of_training_at_full_width(key_frames, tmp_path):
    one_step(key_frames, FULL, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@vehicle_size
def test_engines_export_at_full_width(tmp_path):
    """Every file passes ONNX's checker; all run in ONNX Runtime, for the golden outputs."""
    import onnx

    complete = export(Model(FULL), FULL, tmp_path)
    for name, engine in complete.variants["fp32"].engines.items():
        onnx.checker.check_model(str(tmp_path / engine.file), full_check=True)
        operators = {node.domain for node in onnx.load(tmp_path / engine.file).graph.node}
        assert operators <= {"", "ai.onnx"}, name
    assert complete.variants["fp32"].golden is not None


@pytest.mark.timeout(600)
def test_the_command_trains_and_then_remembers(tmp_path, threads):
    """Both phases with a narrow description, one step each."""
    from perception_bev.commands.main import main
    from perception_bev.network.export import write_manifest

    root = fake.write(tmp_path / "set", scenes=2, samples=4)
    write_manifest(dataclasses.replace(SMALL, variants={}), tmp_path)
    (tmp_path / "train.txt").write_text("scene-0061\n")
    words = ["train", "--dataset", "nuscenes", "--root", str(root), "--config",
             str(tmp_path / "model.yaml"), "--scenes", str(tmp_path / "train.txt"), "--cache",
             str(tmp_path / "decoded"), "--steps", "1", "--batch", "1", "--threads", "1"]
    assert main([*words, "--work", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "scenes.txt").read_text() == "scene-0061\n"
    assert main([*words, "--work", str(tmp_path / "run2"), "--phase", "temporal",
                 "--from", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run2" / "curve.png").exists()
    assert sorted(path.name for path in (tmp_path / "decoded").iterdir()) == [
        "scene-0061.key_frame.safetensors", "scene-0061.period.safetensors"]
