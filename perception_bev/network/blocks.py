"""Network: the few layers that all stages are made of. Plain convolutions, no plugins."""

from __future__ import annotations

import torch
from torch import nn

# Small batches: the running statistics must move slowly to be those of the data.
BATCH_NORM_MOMENTUM = 0.03


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; (B, inputs, X, Y) -> (B, outputs, X / stride, Y / stride)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs, momentum=BATCH_NORM_MOMENTUM), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Basic block (He et al., 2016): two 3x3 convolutions round a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels, momentum=BATCH_NORM_MOMENTUM))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(self.first(x)))


def upsampled_like(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Nearest neighbour, twice the size, less the odd row or column that `like` does not have."""
    x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
    return x[:, :, :like.shape[2], :like.shape[3]]
