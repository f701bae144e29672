"""Training: what the heads are taught. Penalty-reduced focal loss on the heat map (Zhou et al.,
Objects as Points, 2019), L1 on the boxes and velocities round each centre, and the expected IoU of
each box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from perception_bev.manifest import Manifest
from perception_bev.outputs.heads import QUALITY, REGRESSED, VELOCITY, Targets, boxes_at
from perception_bev.outputs.iou import paired_iou_3d

# offset x2, height, log size x3, axis x2, front x2
COLUMN_WEIGHTS = (1.0, 1.0, 1.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.3, 0.3)
BOX_WEIGHT = 1.0
QUALITY_WEIGHT = 0.5
VELOCITY_WEIGHT = 0.5  # of 1 m/s along x or y
VELOCITY_BEND_MPS = 3.0  # below it the loss is a square: most objects stand still, and the median
#                          of all velocities, which an absolute error settles on, is 0
PARTS = ("heat", "boxes", "quality", "velocity")


@dataclass(frozen=True)
class Loss:
    """Parts of one batch's loss; `total` is to be minimised."""

    heat: torch.Tensor
    boxes: torch.Tensor
    quality: torch.Tensor
    velocity: torch.Tensor  # Huber's, along x plus along y [m/s]

    @property
    def total(self) -> torch.Tensor:
        return (self.heat + BOX_WEIGHT * self.boxes + QUALITY_WEIGHT * self.quality
                + VELOCITY_WEIGHT * self.velocity)


def loss_of(logits: torch.Tensor, boxes: torch.Tensor, targets: Sequence[Targets],
            manifest: Manifest) -> Loss:
    """logits (B, classes, X, Y), boxes (B, channels, X, Y), one Targets a sample."""
    heat = torch.from_numpy(np.stack([t.heat for t in targets]))
    valid = torch.from_numpy(np.stack([t.valid for t in targets]))[:, None]
    sample = np.concatenate([np.full(len(t.cells), b) for b, t in enumerate(targets)])
    cells = np.concatenate([t.cells for t in targets])
    wanted = np.concatenate([t.boxes for t in targets])
    weight = torch.from_numpy(np.concatenate([t.weight for t in targets]))
    columns = boxes[sample, :, cells[:, 0], cells[:, 1]]  # (P, channels)
    regressed = (columns[:, :REGRESSED] - torch.from_numpy(wanted)).abs()
    per_box = (regressed * torch.tensor(COLUMN_WEIGHTS)).sum(dim=1)
    normaliser = weight.sum().clamp(min=1.0)
    return Loss(focal(logits, heat, valid), (per_box * weight).sum() / normaliser,
                _quality(columns, cells, wanted, weight, manifest),
                _velocity(columns, np.concatenate([t.velocity for t in targets]), weight))


def _velocity(columns: torch.Tensor, wanted: np.ndarray, weight: torch.Tensor) -> torch.Tensor:
    """L1 where the velocity is known; 0 for a model without a velocity head."""
    known = torch.from_numpy(np.isfinite(wanted).all(axis=1))
    if columns.shape[1] < VELOCITY.stop or not bool(known.any()):
        return columns.sum() * 0.0
    wanted = torch.from_numpy(wanted)[known]
    error = torch.nn.functional.smooth_l1_loss(columns[known][:, VELOCITY], wanted,
                                               reduction="none", beta=VELOCITY_BEND_MPS).sum(dim=1)
    return (error * weight[known]).sum() / weight[known].sum()


def focal(logits: torch.Tensor, heat: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Focal loss with alpha 2, beta 4; normalised by the number of centres."""
    probability = torch.sigmoid(logits)
    is_centre = (heat == 1.0).float()
    hit = -is_centre * (1 - probability) ** 2 * torch.nn.functional.logsigmoid(logits)
    miss = (-(1 - is_centre) * (1 - heat) ** 4 * probability ** 2
            * torch.nn.functional.logsigmoid(-logits))
    return ((hit + miss) * valid).sum() / is_centre.sum().clamp(min=1.0)


def _quality(columns: torch.Tensor, cells: np.ndarray, wanted: np.ndarray, weight: torch.Tensor,
             manifest: Manifest) -> torch.Tensor:
    """Cross entropy of the quality logit against the IoU that the box has just now."""
    if len(cells) == 0:
        return columns.sum() * 0.0
    iou = paired_iou_3d(boxes_at(cells, columns.detach().numpy(), manifest),
                        boxes_at(cells, wanted, manifest))
    goal = torch.from_numpy(np.clip(2.0 * iou - 0.5, 0.0, 1.0).astype(np.float32))
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        columns[:, QUALITY], goal, reduction="none")
    return (each * weight).sum() / weight.sum().clamp(min=1.0)
