"""Network: extract, one engine a modality, so that one that is not wanted is not run."""

from __future__ import annotations

import torch
from torch import nn

from perception_bev.manifest import Manifest
from perception_bev.network.blocks import Residual, conv, upsampled_like

CAMERA_STRIDE = 4  # of the camera's features to the picture
RASTER_STRIDE = 2  # of the lidar's and radar's features to the grid


class ExtractLidar(nn.Module):
    """Raster (B, C, X, Y) -> features (B, widths.lidar, X/2, Y/2)."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        width = manifest.widths.lidar
        self.layers = nn.Sequential(conv(manifest.lidar.channels, width, stride=2),
                                    conv(width, width))

    def forward(self, raster: torch.Tensor) -> torch.Tensor:
        return self.layers(raster)


class ExtractRadar(nn.Module):
    """Raster (B, C, X, Y) -> features (B, widths.radar, X/2, Y/2)."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        width = manifest.widths.radar
        self.layers = nn.Sequential(conv(manifest.radar.channels, width, stride=2),
                                    conv(width, width))

    def forward(self, raster: torch.Tensor) -> torch.Tensor:
        return self.layers(raster)


class ExtractCamera(nn.Module):
    """One picture (B, H, W, 3) uint8 RGB -> features (B, H/4 * W/4, C), pixels row by row.

    A small residual pyramid down to stride 16 and back up to 4. Normalisation is its first step,
    so a picture travels as bytes.
    """

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = manifest.widths.camera
        self.stem = nn.Sequential(conv(3, half, stride=2), conv(half, quarter, stride=2))
        self.quarter = Residual(quarter)
        self.eighth = nn.Sequential(conv(quarter, eighth, stride=2), Residual(eighth))
        self.sixteenth = nn.Sequential(conv(eighth, sixteenth, stride=2), Residual(sixteenth))
        self.from_sixteenth = conv(sixteenth, eighth, kernel=1)
        self.from_eighth = conv(eighth, quarter, kernel=1)
        self.out = conv(quarter, manifest.camera.channels)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        x = (picture.permute(0, 3, 1, 2).float() - 110.0) / 60.0
        quarter = self.quarter(self.stem(x))
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        eighth = eighth + upsampled_like(self.from_sixteenth(sixteenth), eighth)
        quarter = quarter + upsampled_like(self.from_eighth(eighth), quarter)
        return self.out(quarter).flatten(2).permute(0, 2, 1)
