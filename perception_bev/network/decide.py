"""Network: decide, centre-point heads over the fused map (Yin et al., CenterPoint, CVPR 2021)."""

from __future__ import annotations

import math

import torch
from torch import nn

from perception_bev.manifest import Manifest
from perception_bev.network.blocks import conv
from perception_bev.outputs.heads import box_channels

PRIOR_HEAT = 0.02  # of a cell at the start of training (Lin et al., focal loss, ICCV 2017)


def peaks(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer of heat maps, which begins by expecting few peaks."""
    nn.init.constant_(layer.bias, math.log(PRIOR_HEAT / (1 - PRIOR_HEAT)))
    return layer


class Decide(nn.Module):
    """Fused map (B, C, X/2, Y/2) -> heat (B, classes, X/2, Y/2) in [0..1], zero off its peaks;
    boxes (B, box_channels, X/2, Y/2) as `outputs.heads` lays them out."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        width = manifest.widths.decide
        self.shared = conv(manifest.fused_channels, width)
        self.heat = peaks(nn.Conv2d(width, len(manifest.classes), 1))
        self.boxes = nn.Conv2d(width, box_channels(manifest), 1)

    def logits(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Heat before the sigmoid, and boxes: what the loss wants."""
        x = self.shared(fused)
        return self.heat(x), self.boxes(x)

    def forward(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, boxes = self.logits(fused)
        heat = torch.sigmoid(logits)
        highest = nn.functional.max_pool2d(heat, 3, stride=1, padding=1)
        return heat * (heat == highest).float(), boxes
