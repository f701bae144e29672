"""Laws of the network's stages: shapes that fit together, masks that hide, cameras anywhere."""

import numpy as np
import pytest
from tiny import bundle, manifest, vehicle, without

torch = pytest.importorskip("torch")

from perception_bev.errors import ConfigError  # noqa: E402
from perception_bev.inputs.build import InputBuilder  # noqa: E402
from perception_bev.network.blocks import Residual, upsampled_like  # noqa: E402
from perception_bev.network.model import Model  # noqa: E402
from perception_bev.outputs.heads import box_channels  # noqa: E402

pytestmark = pytest.mark.torch

MODEL, CAR = manifest(), vehicle()
ROWS, COLUMNS = MODEL.grid.shape
PIXELS = MODEL.camera.feature_shape[0] * MODEL.camera.feature_shape[1]
HALF = (ROWS // 2, COLUMNS // 2)
CAMERA, LIDAR, RADAR, SIDE = range(4)


@pytest.fixture(scope="module")
def model() -> Model:
    """Random weights; the camera's branch, which starts at zero, made to matter."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    made = Model(MODEL)
    torch.nn.init.normal_(made.fuse.lift.weight, std=0.3)
    with torch.no_grad():  # statistics of something, so that eval() is not a plain pass
        for buffer in (m for m in made.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            buffer.running_mean.normal_(std=0.1)
    return made.eval()


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    """What fuse gets for a whole bundle: noise for features, true tables."""
    generator = torch.Generator().manual_seed(1)
    inputs = InputBuilder(MODEL, CAR).build(bundle(CAR))

    def noise(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    return {"camera": noise(1, MODEL.camera.slots * PIXELS, MODEL.camera.channels),
            "lift_index": torch.from_numpy(inputs.lift_index.copy())[None],
            "lift_weight": torch.from_numpy(inputs.lift_weight.copy())[None],
            "lidar": noise(1, MODEL.widths.lidar, *HALF),
            "radar": noise(1, MODEL.widths.radar, *HALF),
            "context": torch.tensor([[1.0, 1, 1, 1]])}


def fused(model: Model, tensors: dict, **changes) -> torch.Tensor:
    with torch.no_grad():
        return model.fuse(**(tensors | changes))


def masked(*absent: int) -> torch.Tensor:
    context = torch.ones(1, 4)
    context[0, list(absent)] = 0
    return context


def test_every_stage_gives_the_shape_that_the_next_one_wants(model, tensors):
    with torch.no_grad():
        picture = torch.zeros(2, MODEL.camera.height, MODEL.camera.width, 3, dtype=torch.uint8)
        assert model.extract_camera(picture).shape == (2, PIXELS, MODEL.camera.channels)
        lidar = model.extract_lidar(torch.zeros(1, MODEL.lidar.channels, ROWS, COLUMNS))
        radar = model.extract_radar(torch.zeros(1, MODEL.radar.channels, ROWS, COLUMNS))
        assert lidar.shape == (1, MODEL.widths.lidar, *HALF)
        assert radar.shape == (1, MODEL.widths.radar, *HALF)
        made = model.fuse(**(tensors | {"lidar": lidar, "radar": radar}))
        assert made.shape == (1, MODEL.fused_channels, *HALF)
        heat, boxes = model.decide(made)
    assert heat.shape == (1, len(MODEL.classes), *MODEL.output_grid.shape)
    assert boxes.shape == (1, box_channels(MODEL), *MODEL.output_grid.shape)


@pytest.mark.parametrize(("modality", "name"), [
    (CAMERA, "camera"), (LIDAR, "lidar"), (RADAR, "radar")])
def test_features_of_an_absent_modality_have_no_influence(model, tensors, modality, name):
    other = {name: torch.rand(tensors[name].shape) * 100}
    hidden = fused(model, tensors, context=masked(modality))
    assert torch.equal(hidden, fused(model, tensors, context=masked(modality), **other))
    # and they do have one where it is present: this law can fail
    assert not torch.allclose(fused(model, tensors), fused(model, tensors, **other))


def test_tables_of_absent_cameras_have_no_influence(model, tensors):
    hidden = fused(model, tensors, context=masked(CAMERA))
    no_tables = {"lift_weight": torch.zeros_like(tensors["lift_weight"])}
    assert torch.equal(hidden, fused(model, tensors, context=masked(CAMERA), **no_tables))


def test_each_mask_is_a_case_of_its_own(model, tensors):
    """That a sensor is absent is told, not only blanked."""
    blank = {name: torch.zeros_like(tensors[name]) for name in ("camera", "lidar", "radar")}
    cases = [fused(model, tensors, context=masked(*absent), **blank)
             for absent in ((), (CAMERA,), (LIDAR,), (RADAR,), (LIDAR, RADAR))]
    for i, one in enumerate(cases):
        assert not any(torch.allclose(one, other) for other in cases[:i])


def test_samples_of_a_batch_do_not_touch_each_other(model, tensors):
    other = {name: torch.rand(t.shape) if t.dtype == torch.float32 else t
             for name, t in tensors.items()}
    both = {name: torch.cat([tensors[name], other[name]]) for name in tensors}
    made = fused(model, both)
    assert torch.allclose(made[:1], fused(model, tensors), atol=1e-5)
    assert torch.allclose(made[1:], fused(model, other), atol=1e-5)


def test_the_driving_side_mirrors_the_coordinates(model, tensors):
    """Mirrored features on the other side of the road: the mirrored map, but for the kernels."""
    along, across = model.fuse.coordinates
    assert torch.equal(across.flip(1), -across)
    assert torch.equal(along.flip(1), along)
    assert along.min() >= -1
    assert along.max() <= 1
    right = fused(model, tensors)
    left = fused(model, tensors, context=tensors["context"] * torch.tensor([1, 1, 1, -1.0]))
    assert not torch.allclose(right, left)


def test_a_mirrored_scene_on_the_other_side_of_the_road_is_the_mirrored_input(model, tensors):
    """All that the layers see: nothing but the side's sign tells left from right."""
    seen = []
    hook = model.fuse.skip.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        fused(model, tensors)
        fused(model, tensors, lidar=tensors["lidar"].flip(3), radar=tensors["radar"].flip(3),
              context=torch.tensor([[1.0, 1, 1, -1]]))
    finally:
        hook.remove()
    assert torch.equal(seen[0].flip(3), seen[1])


def test_a_camera_feature_reaches_only_the_cells_that_read_it(model, tensors):
    """The gather: one pixel of one camera, changed, changes exactly the cells whose taps it is."""
    changed = tensors["camera"].clone()
    seen = tensors["lift_weight"][0] > 0.3
    pixel = int(tensors["lift_index"][0][seen][0])
    changed[0, pixel] += 1.0
    with torch.no_grad():
        before, after = (model.fuse._lifted(c, tensors["lift_index"], tensors["lift_weight"])
                         for c in (tensors["camera"], changed))
    cells = MODEL.lift_grid.shape
    reads = ((tensors["lift_index"][0] == pixel) & (tensors["lift_weight"][0] > 0)).any(0)
    reads = reads.reshape(len(MODEL.camera.lift_heights), *cells)
    touched = (before != after)[0].reshape(len(MODEL.camera.lift_heights), -1, *cells).any(1)
    assert torch.equal(touched, reads)


def test_lifted_features_are_the_blend_that_the_tables_say(model, tensors):
    with torch.no_grad():
        lifted = model.fuse._lifted(tensors["camera"], tensors["lift_index"],
                                    tensors["lift_weight"])[0]
    camera, index, weight = (tensors[n][0].numpy() for n in ("camera", "lift_index", "lift_weight"))
    expected = (camera[index] * weight[..., None]).sum(axis=0)  # (heights * cells, C)
    heights, channels = len(MODEL.camera.lift_heights), MODEL.camera.channels
    expected = expected.reshape(heights, *MODEL.lift_grid.shape, channels).transpose(0, 3, 1, 2)
    assert np.allclose(lifted.numpy(), expected.reshape(lifted.shape), atol=1e-6)


# -- the model as training sees it -----------------------------------------------------------------


def arguments(context: torch.Tensor) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(5)
    batch = len(context)
    inputs = InputBuilder(MODEL, CAR).build(without(bundle(CAR), "left"))
    pictures = torch.randint(0, 256, (batch, 2, MODEL.camera.height, MODEL.camera.width, 3),
                             generator=generator, dtype=torch.uint8)
    tables = [torch.from_numpy(np.repeat(t[None], batch, 0))
              for t in (inputs.lift_index, inputs.lift_weight)]
    rasters = [torch.rand(batch, spec.channels, ROWS, COLUMNS, generator=generator)
               for spec in (MODEL.lidar, MODEL.radar)]
    return pictures, *tables, *rasters, context


def test_the_whole_model_is_its_engines_one_after_the_other(model):
    pictures, index, weight, lidar, radar, context = arguments(torch.ones(1, 4))
    with torch.no_grad():
        logits, boxes = model.logits(pictures, index, weight, lidar, radar, context)
        camera = model.extract_camera(pictures[0]).reshape(1, -1, MODEL.camera.channels)
        alone = model.fuse(camera, index, weight, model.extract_lidar(lidar),
                           model.extract_radar(radar), context)
        heat, engine_boxes = model.decide(alone)
    assert torch.allclose(boxes, engine_boxes, atol=1e-5)
    peaks = heat > 0
    assert torch.allclose(torch.sigmoid(logits)[peaks], heat[peaks], atol=1e-6)


def test_absent_samples_do_not_shift_the_batch_statistics():
    """On the vehicle an engine never runs on what is absent; so it must not in training."""
    torch.manual_seed(0)
    context = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 1], [1, 0, 1, 1]])
    with_zeros, alone = Model(MODEL).train(), Model(MODEL).train()
    alone.load_state_dict(with_zeros.state_dict())
    many = arguments(context)
    with torch.no_grad():
        with_zeros.logits(*many)
        alone.extract_lidar(many[3][:1])
    for a, b in zip(with_zeros.extract_lidar.buffers(), alone.extract_lidar.buffers(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-6)


def test_a_batch_without_any_lidar_leaves_its_engine_as_it_was():
    torch.manual_seed(0)
    model = Model(MODEL).train()
    before = {k: v.clone() for k, v in model.extract_lidar.state_dict().items()}
    logits, boxes = model.logits(*arguments(torch.tensor([[1.0, 0, 1, 1], [1, 0, 0, 1]])))
    (logits.sum() + boxes.sum()).backward()
    assert all(torch.equal(v, before[k]) for k, v in model.extract_lidar.state_dict().items())
    assert model.training
    assert model.extract_lidar.training
    assert all(p.grad is None or not p.grad.any() for p in model.extract_lidar.parameters())


def test_peaks_are_the_largest_of_their_neighbours_and_all_else_is_zero(model):
    generator = torch.Generator().manual_seed(2)
    some = torch.randn(1, MODEL.fused_channels, *HALF, generator=generator)
    with torch.no_grad():
        heat, boxes = model.decide(some)
        logits, same_boxes = model.decide.logits(some)
    probability = torch.sigmoid(logits)
    around = torch.nn.functional.unfold(
        torch.nn.functional.pad(probability, (1, 1, 1, 1)).transpose(0, 1), 3)
    highest = around.max(dim=1).values.reshape(probability.shape)
    assert torch.equal(heat > 0, probability == highest)
    assert torch.equal(heat[heat > 0], probability[heat > 0])
    assert torch.equal(boxes, same_boxes)
    assert 0 < (heat > 0).float().mean() < 0.3


@pytest.mark.parametrize(("small", "large"), [((4, 4), (8, 8)), ((4, 4), (7, 8)), ((2, 3), (3, 5))])
def test_upsampling_drops_the_odd_row_or_column(small, large):
    x = torch.arange(small[0] * small[1], dtype=torch.float32).reshape(1, 1, *small)
    made = upsampled_like(x, torch.zeros(1, 1, *large))
    assert made.shape[2:] == large
    assert torch.equal(made[0, 0, ::2, ::2], x[0, 0, :-(-large[0] // 2), :-(-large[1] // 2)])


def test_a_residual_block_of_zeros_is_a_relu():
    block = Residual(4).eval()
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(block(x), torch.relu(x))


@pytest.mark.parametrize(("part", "change"), [
    ("camera", {"stride": 8}), ("camera", {"lift_factor": 8}), ("heads", {"stride": 4})])
def test_strides_that_these_stages_do_not_have_are_refused_before_the_first_frame(part, change):
    from tiny import MODEL as DESCRIPTION
    with pytest.raises(ConfigError, match=r"stride|lift_factor"):
        Model(manifest(**{part: DESCRIPTION[part] | change}))


def test_a_camera_that_is_not_there_does_not_shift_the_batch_statistics():
    torch.manual_seed(0)
    with_a_gap, alone = Model(MODEL).train(), Model(MODEL).train()
    alone.load_state_dict(with_a_gap.state_dict())
    pictures, *others = arguments(torch.ones(2, 4))
    pictures[0, 1], pictures[1, 0] = 0, 0
    with torch.no_grad():
        with_a_gap.logits(pictures, *others)
        features = alone.extract_camera(torch.stack([pictures[0, 0], pictures[1, 1]]))
        taken = with_a_gap.eval().extract(pictures, *others[2:])[0]
    for a, b in zip(with_a_gap.extract_camera.buffers(), alone.extract_camera.buffers(),
                    strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-6)
    assert features.any()
    assert not taken[0, PIXELS:].any()
    assert taken[0, :PIXELS].any()


@pytest.mark.parametrize("part", ["lidar", "radar", "decide"])
def test_widths_are_the_manifest_s(part):
    wide = manifest(widths={part: 20, "camera": [8, 8, 12, 12], "fuse": [8, 12, 16, 20]})
    made, usual = Model(wide), Model(MODEL)
    layer = {"lidar": "extract_lidar.layers.0.0.weight", "radar": "extract_radar.layers.0.0.weight",
             "decide": "decide.shared.0.weight"}[part]
    assert made.state_dict()[layer].shape[0] == 20
    assert usual.state_dict()[layer].shape[0] == getattr(MODEL.widths, part)
    assert made.extract_camera.stem[0][0].out_channels == 8
    assert made.fuse.level4[0][0].out_channels == 20
