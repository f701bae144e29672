"""Laws of the loss: least where all is right, silent where nothing is to be learned."""

import numpy as np
import pytest
from tiny import manifest, truth

torch = pytest.importorskip("torch")

from perception_bev.contracts import Boxes3D  # noqa: E402
from perception_bev.inputs.view import IDENTITY  # noqa: E402
from perception_bev.outputs.heads import (  # noqa: E402
    QUALITY,
    REGRESSED,
    VELOCITY,
    box_channels,
    encode,
)
from perception_bev.train.loss import VELOCITY_BEND_MPS, loss_of  # noqa: E402

pytestmark = pytest.mark.torch

MODEL = manifest()
SHAPE = MODEL.output_grid.shape
NONE = Boxes3D.empty(MODEL.classes)


def targets(seed: int = 0, ignored: Boxes3D = NONE):
    boxes = truth(MODEL.classes, seed, 3).boxes
    return encode(IDENTITY.boxes(boxes, np.zeros(3)), ignored, MODEL)


def right(wanted, sure: float = 12.0) -> tuple[torch.Tensor, torch.Tensor]:
    """What a network that knows would say, before the sigmoid."""
    logits = torch.full((1, len(MODEL.classes), *SHAPE), -sure)
    logits[0][torch.from_numpy(wanted.heat == 1)] = sure
    boxes = torch.zeros(1, box_channels(MODEL), *SHAPE)
    boxes[0, :REGRESSED, wanted.cells[:, 0], wanted.cells[:, 1]] = torch.from_numpy(wanted.boxes.T)
    boxes[0, QUALITY] = sure
    return logits, boxes


def test_what_is_right_costs_nothing():
    loss = loss_of(*right(targets()), [targets()], MODEL)
    assert loss.heat < 1e-3
    assert loss.boxes < 1e-5
    assert loss.quality < 1e-3
    assert loss.total < 1e-2


@pytest.mark.parametrize("channel", range(REGRESSED))
def test_every_wrong_column_costs(channel):
    logits, boxes = right(targets())
    boxes[0, channel] += 0.5
    assert loss_of(logits, boxes, [targets()], MODEL).boxes > 0.1


def test_a_missed_centre_and_a_false_peak_cost():
    wanted = targets()
    logits, boxes = right(wanted)
    fine = loss_of(logits, boxes, [wanted], MODEL).heat
    assert loss_of(-logits.abs(), boxes, [wanted], MODEL).heat > fine + 1
    row, column = np.unravel_index(wanted.heat[0].argmin(), SHAPE)
    logits[0, 0, row, column] = 12.0
    assert loss_of(logits, boxes, [wanted], MODEL).heat > fine + 1


def test_boxes_that_are_off_are_taught_a_lower_quality():
    wanted = targets()
    logits, boxes = right(wanted)
    boxes[0, 0] += 8.0  # cells: nowhere near
    boxes.requires_grad_()
    sure = loss_of(logits, boxes, [wanted], MODEL)
    sure.quality.backward()
    cells = wanted.cells.T
    assert sure.quality > 3
    assert (boxes.grad[0, QUALITY, cells[0], cells[1]] > 0).all()
    assert not boxes.grad[0, :QUALITY].any()  # the boxes do not learn from their own quality


def test_what_is_ignored_costs_nothing_and_teaches_nothing():
    ignored = truth(MODEL.classes, 9, 2).boxes
    wanted = encode(NONE, IDENTITY.boxes(ignored, np.zeros(3)), MODEL)
    logits, boxes = right(wanted)
    logits[0, :, torch.from_numpy(wanted.valid == 0)] = 12.0
    logits.requires_grad_()
    loss = loss_of(logits, boxes, [wanted], MODEL)
    loss.total.backward()
    assert (wanted.valid == 0).any()
    assert loss.heat < 1e-3
    assert not logits.grad[0, :, torch.from_numpy(wanted.valid == 0)].any()


def test_an_empty_scene_has_a_finite_loss_and_gradient():
    empty = encode(NONE, NONE, MODEL)
    logits = torch.zeros(1, len(MODEL.classes), *SHAPE, requires_grad=True)
    boxes = torch.zeros(1, box_channels(MODEL), *SHAPE, requires_grad=True)
    loss = loss_of(logits, boxes, [empty], MODEL)
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert torch.isfinite(logits.grad).all()
    assert loss.boxes == 0
    assert loss.quality == 0


def test_a_batch_is_its_samples_whatever_their_order():
    wanted = [targets(0), targets(1)]
    logits, boxes = (torch.randn(2, n, *SHAPE, generator=torch.Generator().manual_seed(0))
                     for n in (len(MODEL.classes), box_channels(MODEL)))
    there = loss_of(logits, boxes, wanted, MODEL)
    back = loss_of(logits.flip(0), boxes.flip(0), wanted[::-1], MODEL)
    for name in ("heat", "boxes", "quality"):
        assert torch.isclose(getattr(there, name), getattr(back, name), rtol=1e-4)


# -- velocity --------------------------------------------------------------------------------------

FAST = manifest(heads={"stride": 2, "velocity": True})


def moving(speed: tuple[float, float]):
    """Two boxes that stand still and one that moves so; what knows it, and the targets."""
    boxes = truth(FAST.classes, 0, 3).boxes
    boxes.velocity[:] = 0.0
    boxes.velocity[2] = speed
    wanted = encode(IDENTITY.boxes(boxes, np.zeros(3)), NONE, FAST)
    logits, _ = right(wanted)
    maps = torch.zeros(1, box_channels(FAST), *SHAPE)
    maps[0, VELOCITY, wanted.cells[:, 0], wanted.cells[:, 1]] = torch.from_numpy(
        np.nan_to_num(wanted.velocity).T.copy())
    return logits, maps, wanted


def test_a_right_velocity_costs_nothing_and_a_wrong_one_its_error():
    logits, maps, wanted = moving((8.0, -3.0))
    assert loss_of(logits, maps, [wanted], FAST).velocity == 0
    maps[0, VELOCITY] += 0.6
    cost = torch.tensor(2 * 0.5 * 0.6**2 / VELOCITY_BEND_MPS)  # a square, along x and along y
    assert torch.isclose(loss_of(logits, maps, [wanted], FAST).velocity, cost)
    maps[0, VELOCITY] += 99.4
    cost = torch.tensor(2 * (100 - 0.5 * VELOCITY_BEND_MPS))  # far off, the error itself
    assert torch.isclose(loss_of(logits, maps, [wanted], FAST).velocity, cost)


def test_one_that_moves_is_heard_among_many_that_stand():
    """With an absolute error two that stand outvote one that moves, and all velocities become 0."""
    logits, maps, wanted = moving((6.0, 0.0))
    guess = torch.full_like(maps, 0.3).requires_grad_()
    loss_of(logits, guess, [wanted], FAST).velocity.backward()
    assert guess.grad[0, VELOCITY.start].sum() < 0  # a step downhill makes them faster


def test_an_unknown_velocity_teaches_nothing_and_spoils_nothing():
    logits, maps, wanted = moving((np.nan, np.nan))
    maps.requires_grad_()
    loss = loss_of(logits, maps + 1.0, [wanted], FAST)
    loss.total.backward()
    assert torch.isclose(loss.velocity, torch.tensor(1 / VELOCITY_BEND_MPS))  # of the known
    assert torch.isfinite(maps.grad).all()
    unknown = wanted.cells[np.isnan(wanted.velocity).any(axis=1)]
    known = {tuple(c) for c in wanted.cells[np.isfinite(wanted.velocity).all(axis=1)]}
    only = [c for c in unknown if tuple(c) not in known]
    assert only
    assert not any(maps.grad[0, VELOCITY, r, c].any() for r, c in only)


def test_where_no_velocity_is_known_or_learned_it_costs_nothing():
    wanted = targets()
    assert np.isnan(wanted.velocity).all()
    assert loss_of(*right(wanted), [wanted], MODEL).velocity == 0
    logits, maps, _ = moving((1.0, 1.0))
    assert loss_of(logits, maps, [wanted], FAST).velocity == 0
