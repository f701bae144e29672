"""Laws of training: a run that was cut off goes on as if it had not been; errors come out."""

import json

import numpy as np
import pytest
from tiny import bundle, manifest, truth, vehicle

torch = pytest.importorskip("torch")

from perception_bev.errors import PerceptionError  # noqa: E402
from perception_bev.train import checkpoint, curve, loop  # noqa: E402
from perception_bev.train.loop import Recipe, train  # noqa: E402
from perception_bev.train.samples import Labelled  # noqa: E402

pytestmark = pytest.mark.torch

MODEL = manifest(grid={"x_min": 0, "x_max": 16, "y_min": -8, "y_max": 8, "cell": 0.5})
CLASSES = {"car": "car", "pedestrian": None}


class Cut(Exception):
    """As if the power had gone."""


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def items() -> list[Labelled]:
    car = vehicle()
    return [Labelled(str(i), bundle(car, i, points=200, returns=20), car,
                     truth(tuple(CLASSES), i)) for i in range(3)]


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def cut_after(monkeypatch, steps: int) -> None:
    """The loop's step fails after so many."""
    step, done = loop._step, []

    def failing(*arguments):
        if len(done) == steps:
            raise Cut
        done.append(1)
        return step(*arguments)

    monkeypatch.setattr(loop, "_step", failing)


def test_cut_off_and_resumed_is_bit_for_bit_the_uncut_run(items, monkeypatch, tmp_path):
    recipe = Recipe(steps=4, batch=2)
    monkeypatch.setattr(loop, "SAVE_EVERY", 2)
    whole = weights(train(items, MODEL, CLASSES, recipe, tmp_path / "whole"))
    with monkeypatch.context() as power:
        cut_after(power, 3)  # one step is lost: it was not saved
        with pytest.raises(Cut):
            train(items, MODEL, CLASSES, recipe, tmp_path / "cut")
    resumed = weights(train(items, MODEL, CLASSES, recipe, tmp_path / "cut"))
    assert same(whole, resumed)
    rows = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("whole", "cut")]
    assert [row[:4] for row in rows[0]] == [row[:4] for row in rows[1]]
    assert [row[0] for row in rows[1]] == [0, 1, 2, 3]


def test_a_finished_run_is_not_trained_on_and_another_recipe_is_refused(items, monkeypatch,
                                                                        tmp_path):
    first = weights(train(items, MODEL, CLASSES, Recipe(steps=1, batch=1), tmp_path))
    with monkeypatch.context() as power:
        cut_after(power, 0)
        assert same(first, weights(train(items, MODEL, CLASSES, Recipe(1, 1), tmp_path)))
    with pytest.raises(PerceptionError, match="another recipe"):
        train(items, MODEL, CLASSES, Recipe(steps=1, batch=1, seed=1), tmp_path)


def test_an_error_while_making_samples_comes_out_of_the_loop(items, monkeypatch, tmp_path):
    def broken(*_):
        raise PerceptionError("no such picture")

    monkeypatch.setattr(loop.SampleMaker, "make", broken)
    with pytest.raises(PerceptionError, match="no such picture"):
        train(items, MODEL, CLASSES, Recipe(steps=2), tmp_path)


def test_every_sample_is_used_once_an_epoch_in_another_order():
    recipe = Recipe(steps=10, batch=2)
    taken = [i for step in range(15) for i in loop._order(5, recipe, step)]
    epochs = [taken[k:k + 5] for k in range(0, 30, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert loop._order(5, recipe, 7) == loop._order(5, recipe, 7)


def test_the_rate_warms_up_and_falls():
    recipe = Recipe(steps=1000, peak_rate=1.0)
    rates = np.array([recipe.rate(step) for step in range(1000)])
    peak = rates.argmax()
    assert peak == 100
    assert rates[peak] == pytest.approx(1.0, abs=0.01)
    assert (np.diff(rates[:peak]) > 0).all()
    assert (np.diff(rates[peak:]) <= 0).all()
    assert rates[-1] >= 1e-3
    assert rates[0] > 0


def test_weights_decay_but_biases_and_normalisation_do_not():
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    kernels, others = loop._groups(model, Recipe(steps=1, weight_decay=0.02))
    assert kernels["weight_decay"] == 0.02
    assert [p.ndim for p in kernels["params"]] == [4]
    assert others["weight_decay"] == 0
    assert [p.ndim for p in others["params"]] == [1, 1, 1]


def test_the_average_follows_the_weights():
    average, model = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    before = weights(average)
    loop._follow(average, model, 0.75)
    for name, value in average.state_dict().items():
        expected = 0.75 * before[name] + 0.25 * model.state_dict()[name]
        assert torch.allclose(value, expected)
    loop._follow(average, model, 0.0)
    assert same(weights(average), weights(model))


# -- checkpoints -----------------------------------------------------------------------------------


def trained(steps: int, seed: int):
    """A small network some steps into its training."""
    torch.manual_seed(seed)
    model, average = (torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
                      for _ in range(2))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        model(torch.randn(2, 1, 5, 5)).square().sum().backward()
        optimiser.step()
    return model, average, optimiser


def flat(state: dict) -> dict[str, torch.Tensor]:
    return {f"{i}.{name}": torch.as_tensor(value) for i, moments in state["state"].items()
            for name, value in moments.items()}


def test_a_checkpoint_comes_back_whole(tmp_path):
    one, other = trained(3, 0), trained(0, 1)
    checkpoint.save(tmp_path, *one, {"step": 3, "history": [[0, 0.5]]})
    assert checkpoint.load(tmp_path, *other) == {"step": 3, "history": [[0, 0.5]]}
    assert same(weights(one[0]), weights(other[0]))
    assert same(weights(one[1]), weights(other[1]))
    assert same(flat(one[2].state_dict()), flat(other[2].state_dict()))
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.TENSORS]


def test_without_a_checkpoint_nothing_is_touched(tmp_path):
    some = trained(1, 0)
    before = weights(some[0])
    assert checkpoint.load(tmp_path, *some) is None
    assert same(before, weights(some[0]))


def test_a_checkpoint_that_was_cut_while_it_was_written_leaves_the_one_before(
        tmp_path, monkeypatch):
    early, late = trained(1, 0), trained(5, 0)
    checkpoint.save(tmp_path, *early, {"step": 1})

    def half(tensors, path, metadata):
        path.write_bytes(b"half")
        raise Cut

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(Cut):
        checkpoint.save(tmp_path, *late, {"step": 5})
    other = trained(0, 2)
    assert checkpoint.load(tmp_path, *other) == {"step": 1}
    assert same(weights(early[0]), weights(other[0]))


def test_a_run_of_before_with_its_state_in_a_file_of_its_own_goes_on(tmp_path):
    one, other = trained(2, 0), trained(0, 1)
    checkpoint.save(tmp_path, *one, {"step": 2})
    tensors = checkpoint.load_file(tmp_path / checkpoint.TENSORS)
    checkpoint.save_file(tensors, tmp_path / checkpoint.TENSORS)
    assert checkpoint.load(tmp_path, *other) is None
    (tmp_path / checkpoint.STATE).write_text('{"step": 2}')
    assert checkpoint.load(tmp_path, *other) == {"step": 2}


@pytest.mark.parametrize("steps", [1, 250])
def test_the_learning_curve_is_a_picture(tmp_path, steps):
    rows = [[step, 1.0 / (step + 1), 0.5, 0.7, 0.1] for step in range(steps)]
    (tmp_path / "history.json").write_text(json.dumps(rows))
    curve.draw(tmp_path / "history.json", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
