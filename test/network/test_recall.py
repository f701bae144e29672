"""Laws of the memory inside fuse: nothing remembered adds nothing, the warp is the ego motion, what
is invalid has no influence, and the exported file computes the same."""

import numpy as np
import pytest
from tiny import manifest

torch = pytest.importorskip("torch")

from perception_bev.deployment import Deployment  # noqa: E402
from perception_bev.engines.base import open_engine  # noqa: E402
from perception_bev.errors import ConfigError  # noqa: E402
from perception_bev.network import export  # noqa: E402
from perception_bev.network.model import Model  # noqa: E402
from perception_bev.network.recall import Recall  # noqa: E402

pytestmark = pytest.mark.torch

SLOTS, KEPT, CHANNELS = 3, 5, 48
MODEL = manifest(grid={"x_min": -8, "x_max": 8, "y_min": -16, "y_max": 16, "cell": 0.5},
                 memory={"ages_s": [0.2, 0.5, 1.0], "channels": KEPT})
ROWS, COLUMNS = MODEL.grid.coarser(4).shape
STAY = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(1, SLOTS, 2, 3)


@pytest.fixture
def recall() -> Recall:
    """Weights by chance: the aggregation, which starts at zero, made to matter."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    made = Recall(MODEL, CHANNELS)
    torch.nn.init.normal_(made.aggregate.weight, std=0.1)
    return made


def some_memory(seed: int = 0) -> torch.Tensor:
    memory = torch.rand(1, SLOTS, KEPT + 1, ROWS, COLUMNS,
                        generator=torch.Generator().manual_seed(seed))
    memory[:, :, -1] = 1.0
    return memory


def ages(*seconds: float) -> torch.Tensor:
    return torch.tensor([seconds or (0.2, 0.5, 1.0)])


def shifted(rows: int, columns: int) -> torch.Tensor:
    """A warp that looks so many cells further in the map of then."""
    warp = STAY.clone()
    warp[..., 0, 2], warp[..., 1, 2] = 2 * columns / COLUMNS, 2 * rows / ROWS
    return warp


def test_no_memory_adds_exactly_nothing_whatever_the_warp(recall):
    nothing = torch.zeros(1, SLOTS, KEPT + 1, ROWS, COLUMNS)
    assert not recall(nothing, torch.zeros(1, SLOTS, 2, 3), torch.zeros(1, SLOTS)).any()
    assert not recall(nothing, torch.rand(1, SLOTS, 2, 3), torch.zeros(1, SLOTS)).any()
    assert recall(some_memory(), STAY, ages()).any()


def test_a_new_model_does_not_look_back_but_learns_to():
    fresh = Recall(MODEL, CHANNELS)
    added = fresh(some_memory(), STAY, ages())
    assert not added.any()
    added.sum().backward()
    assert fresh.aggregate.weight.grad.abs().sum() > 0


def test_an_empty_slot_is_as_if_the_others_were_alone(recall):
    memory = some_memory()
    one = memory.clone()
    one[:, 1:] = 0
    warp = torch.cat([STAY[:, :1], torch.rand(1, SLOTS - 1, 2, 3)], dim=1)
    assert torch.equal(recall(one, STAY, ages(0.2, 0, 0)), recall(one, warp, ages(0.2, 0, 0)))
    assert not torch.allclose(recall(one, STAY, ages(0.2, 0, 0)), recall(memory, STAY, ages()))


@pytest.mark.parametrize(("rows", "columns"), [(1, 0), (0, 3), (-2, 1)])
def test_a_warp_by_whole_cells_is_a_shift_of_the_map(recall, rows, columns):
    """Columns run along y, rows along x, as the grid's own."""
    memory = some_memory()
    moved = torch.zeros_like(memory)
    for row in range(ROWS):
        for column in range(COLUMNS):
            if 0 <= row + rows < ROWS and 0 <= column + columns < COLUMNS:
                moved[..., row, column] = memory[..., row + rows, column + columns]
    assert torch.allclose(recall(memory, shifted(rows, columns), ages()),
                          recall(moved, STAY, ages()), atol=1e-5)


def test_the_age_is_told_where_there_is_memory_only(recall):
    memory = some_memory()
    assert not torch.allclose(recall(memory, STAY, ages()), recall(memory, STAY, ages(0.3, 0.5, 1)))
    memory[:, 0] = 0
    assert torch.equal(recall(memory, STAY, ages()), recall(memory, STAY, ages(9.0, 0.5, 1.0)))


def test_features_without_validity_have_no_influence(recall):
    memory, other = some_memory(0), some_memory(1)
    memory[:, :, -1], other[:, :, -1] = 0, 0
    assert torch.equal(recall(memory, STAY, ages()), recall(other, STAY, ages()))


@pytest.mark.parametrize(("context", "valid"), [
    ((1, 1, 1, 1), 1), ((0, 1, 0, -1), 1), ((0, 0, 1, 1), 1), ((0, 0, 0, 1), 0)])
def test_what_is_remembered_is_valid_when_any_modality_is_there(recall, context, valid):
    entry = torch.rand(1, CHANNELS, ROWS, COLUMNS)
    kept = recall.remember(entry, torch.tensor([context], dtype=torch.float32))
    assert kept.shape == (1, KEPT + 1, ROWS, COLUMNS)
    assert (kept[:, -1] == valid).all()
    assert bool(kept[:, :-1].any()) == bool(valid)


def test_samples_of_a_batch_do_not_touch_each_other(recall):
    memory = torch.cat([some_memory(0), some_memory(1)])
    warp = torch.cat([shifted(1, 0), shifted(0, -2)])
    age = torch.cat([ages(), ages(0.1, 0.6, 0.9)])
    both = recall(memory, warp, age)
    for i in range(2):
        alone = recall(memory[i:i + 1], warp[i:i + 1], age[i:i + 1])
        assert torch.allclose(both[i:i + 1], alone, atol=1e-5)


def test_a_model_without_memory_has_none():
    with pytest.raises(ConfigError, match="has no memory"):
        Recall(manifest(), CHANNELS)
    assert Model(manifest()).fuse.recall is None


# -- inside the model ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    made = Model(MODEL)
    torch.nn.init.normal_(made.fuse.recall.aggregate.weight, std=0.1)
    return made.eval()


def fuse_inputs(seed: int = 0) -> dict[str, torch.Tensor]:
    """Noise in the shapes of the ports."""
    generator = torch.Generator().manual_seed(seed)
    rows = MODEL.feature_rows
    made = {name: torch.randint(0, rows, tensor.shape, generator=generator, dtype=tensor.dtype)
            if tensor.dtype == torch.int32 else torch.rand(tensor.shape, generator=generator)
            for name, tensor in export.ports(MODEL)["fuse"].inputs.items()}
    return made | {"memory": some_memory(seed), "memory_warp": shifted(1, 1)}


def test_the_remembered_map_does_not_depend_on_the_memory(model):
    """Not recurrent: memory reaches its oldest age and no further."""
    feeds = fuse_inputs()
    with torch.no_grad():
        fused, kept = model.fuse(**feeds)
        other_fused, other_kept = model.fuse(**(feeds | {"memory": some_memory(7)}))
    assert torch.equal(kept, other_kept)
    assert not torch.allclose(fused, other_fused)


def test_all_zeros_are_the_model_without_memory(model):
    feeds = fuse_inputs()
    without = {k: v for k, v in feeds.items() if not k.startswith("memory")}
    with torch.no_grad():
        fused, _ = model.fuse(**(feeds | {"memory": torch.zeros_like(feeds["memory"])}))
        assert torch.equal(fused, model.fuse(**without))


def test_fuse_alone_is_fuse_with_an_empty_memory(model, tmp_path):
    """What it gives to be remembered too: looking away must not lose the frame."""
    port = export.ports(MODEL)["fuse_alone"]
    export._export_one(export.engine_of(model, "fuse_alone"), port, tmp_path / "alone.onnx")
    engine = open_engine(tmp_path / "alone.onnx", Deployment(threads=1))
    assert not [s.name for s in engine.inputs if s.name.startswith("memory")]
    feeds = fuse_inputs(1)
    feeds["memory"] = torch.zeros_like(feeds["memory"])
    with torch.no_grad():
        wanted = model.fuse(**feeds)
    made = engine.infer({spec.name: feeds[spec.name].numpy() for spec in engine.inputs})
    for name, tensor in zip(("fused", "remember"), wanted, strict=True):
        assert np.allclose(made[name], tensor.numpy(), atol=1e-5), name


def test_the_exported_fuse_computes_what_torch_computes(model, tmp_path):
    port = export.ports(MODEL)["fuse"]
    export._export_one(model.fuse, port, tmp_path / "fuse.onnx")
    engine = open_engine(tmp_path / "fuse.onnx", Deployment(threads=1))
    assert [s.name for s in engine.inputs][-3:] == ["memory", "memory_warp", "memory_age"]
    assert {s.name: s.shape for s in engine.outputs} == {
        "fused": (1, MODEL.fused_channels, 2 * ROWS, 2 * COLUMNS),
        "remember": (1, KEPT + 1, ROWS, COLUMNS)}
    for seed in range(3):
        feeds = fuse_inputs(seed)
        made = engine.infer({name: tensor.numpy() for name, tensor in feeds.items()})
        with torch.no_grad():
            fused, kept = model.fuse(**feeds)
        assert np.abs(made["fused"] - fused.numpy()).max() < 1e-4
        assert np.abs(made["remember"] - kept.numpy()).max() < 1e-4
    used = {node.op_type for node in _graph(tmp_path / "fuse.onnx").node}
    assert "GridSample" in used
    assert used <= {"Add", "And", "Cast", "Clip", "Concat", "Constant", "Conv", "Div", "Equal",
                    "Expand", "Gather", "Gemm", "GridSample", "Identity", "MatMul", "Mul",
                    "ReduceSum", "Relu", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Sub",
                    "Transpose", "Unsqueeze"}, used


def _graph(file):
    import onnx
    return onnx.load(file).graph
