"""Network: extract, one engine a modality, so that one that is not wanted is not run."""

from __future__ import annotations

import torch
from torch import nn

from perception_bev.manifest import Manifest
from perception_bev.network.blocks import Residual, conv, upsampled_like

LIDAR_CHANNELS = 24
RADAR_CHANNELS = 16
CAMERA_STRIDE = 4  # of the camera's features to the picture
RASTER_STRIDE = 2  # of the lidar's and radar's features to the grid


class ExtractLidar(nn.Module):
    """Raster (B, C, X, Y) -> features (B, 24, X/2, Y/2)."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(manifest.lidar.channels, LIDAR_CHANNELS, stride=2),
                                    conv(LIDAR_CHANNELS, LIDAR_CHANNELS))

    def forward(self, raster: torch.Tensor) -> torch.Tensor:
        return self.layers(raster)


class ExtractRadar(nn.Module):
    """Raster (B, C, X, Y) -> features (B, 16, X/2, Y/2)."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(manifest.radar.channels, RADAR_CHANNELS, stride=2),
                                    conv(RADAR_CHANNELS, RADAR_CHANNELS))

    def forward(self, raster: torch.Tensor) -> torch.Tensor:
        return self.layers(raster)


class ExtractCamera(nn.Module):
    """One picture (B, H, W, 3) uint8 RGB -> features (B, H/4 * W/4, C), pixels row by row.

    A small residual pyramid down to stride 16 and back up to 4. Normalisation is its first step,
    so a picture travels as bytes.
    """

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        channels = manifest.camera.channels
        self.stem = nn.Sequential(conv(3, 16, stride=2), conv(16, 32, stride=2))
        self.quarter = Residual(32)
        self.eighth = nn.Sequential(conv(32, 64, stride=2), Residual(64))
        self.sixteenth = nn.Sequential(conv(64, 96, stride=2), Residual(96))
        self.from_sixteenth = conv(96, 64, kernel=1)
        self.from_eighth = conv(64, 32, kernel=1)
        self.out = conv(32, channels)
        self._rows, self._columns = manifest.camera.feature_shape

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        x = (picture.permute(0, 3, 1, 2).float() - 110.0) / 60.0
        quarter = self.quarter(self.stem(x))
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        eighth = eighth + upsampled_like(self.from_sixteenth(sixteenth), eighth)
        quarter = quarter + upsampled_like(self.from_eighth(eighth), quarter)
        return self.out(quarter).flatten(2).permute(0, 2, 1)

