"""Network: fuse, all modalities into one BEV map. What is absent is masked by the context."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from perception_bev.inputs.lift import TAPS
from perception_bev.manifest import Manifest
from perception_bev.network.blocks import Residual, conv, upsampled_like
from perception_bev.network.extract import RASTER_STRIDE
from perception_bev.network.recall import Recall

COORDINATES = 2


class Fuse(nn.Module):
    """Features of all modalities -> fused BEV map (B, fused_channels, X/2, Y/2).

    With a memory (manifest.memory) past maps are added at the entry of the widest level, so that
    the whole pyramid is their learned aggregation, and this frame's map comes out beside.

    Coordinates enter with the driving side's sign, so that a model knows where oncoming traffic
    is, in both kinds of country, although it was trained with mirrored scenes.
    """

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        half, full, double, quad = manifest.widths.fuse
        lift_channels = manifest.camera.channels * len(manifest.camera.lift_heights)
        first = manifest.widths.lidar + manifest.widths.radar + COORDINATES
        self.context = nn.Linear(4, full)
        self.skip = conv(first, half, kernel=1)
        self.down = conv(first, full, stride=2)
        self.lift = nn.Conv2d(lift_channels, full, 1)
        nn.init.zeros_(self.lift.weight)
        nn.init.zeros_(self.lift.bias)
        self.level1 = Residual(full)
        self.level2 = nn.Sequential(conv(full, double, stride=2), Residual(double))
        self.level4 = nn.Sequential(conv(double, quad, stride=2), Residual(quad))
        self.from4 = conv(quad, double, kernel=1)
        self.mix2 = conv(double, double)
        self.from2 = conv(double, full, kernel=1)
        self.mix1 = conv(full, full)
        self.from1 = conv(full, half, kernel=1)
        self.mix_half = conv(half, manifest.fused_channels)
        self.recall = None if manifest.memory is None else Recall(manifest, full)
        self._lift_shape = manifest.lift_grid.shape
        self._heights = len(manifest.camera.lift_heights)
        self.register_buffer("coordinates", _coordinates(manifest), persistent=False)

    def forward(self, camera: torch.Tensor, lift_index: torch.Tensor, lift_weight: torch.Tensor,
                lidar: torch.Tensor, radar: torch.Tensor, context: torch.Tensor,
                memory: torch.Tensor | None = None, memory_warp: torch.Tensor | None = None,
                memory_age: torch.Tensor | None = None,
                ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """camera: (B, slots * pixels, C); index, weight: (B, 4, heights * cells); lidar, radar:
        (B, C, X/2, Y/2); context: (B, 4) camera, lidar, radar present, traffic side; the memory
        as for Recall. -> fused, and with a memory what is to be remembered."""
        first, entry = self.entry(camera, lift_index, lift_weight, lidar, radar, context)
        if memory is None:
            return self.pyramid(first, entry)
        recalled = self.recall(memory, memory_warp, memory_age)
        return self.pyramid(first, entry + recalled), self.recall.remember(entry, context)

    def entry(self, camera: torch.Tensor, lift_index: torch.Tensor, lift_weight: torch.Tensor,
              lidar: torch.Tensor, radar: torch.Tensor, context: torch.Tensor,
              ) -> tuple[torch.Tensor, torch.Tensor]:
        """All modalities of one frame at 2 cells of the grid (B, ., X/2, Y/2) and, with the
        cameras, at 4 (B, ., X/4, Y/4)."""
        mask = context[:, :, None, None]
        along, across = self.coordinates
        coordinates = torch.stack([along.expand(len(context), -1, -1),
                                   across * mask[:, 3]], dim=1)
        first = torch.cat([lidar * mask[:, 1:2], radar * mask[:, 2:3], coordinates], dim=1)
        lifted = self.lift(self._lifted(camera, lift_index, lift_weight)) * mask[:, 0:1]
        return first, self.down(first) + lifted + self.context(context)[:, :, None, None]

    def pyramid(self, first: torch.Tensor, entry: torch.Tensor) -> torch.Tensor:
        """Down to 16 cells of the grid and back up to 2."""
        level1 = self.level1(entry)
        level2 = self.level2(level1)
        level4 = self.level4(level2)
        level2 = self.mix2(level2 + upsampled_like(self.from4(level4), level2))
        level1 = self.mix1(level1 + upsampled_like(self.from2(level2), level1))
        return self.mix_half(self.skip(first) + upsampled_like(self.from1(level1), first))

    def _lifted(self, camera: torch.Tensor, index: torch.Tensor,
                weight: torch.Tensor) -> torch.Tensor:
        """Gather and blend: (B, slots * pixels, C) -> (B, heights * C, X, Y) of the lift grid."""
        batch, _, channels = camera.shape
        total = None
        for tap in range(TAPS):
            rows = torch.stack([camera[b].index_select(0, index[b, tap]) for b in range(batch)])
            part = rows * weight[:, tap, :, None]
            total = part if total is None else total + part
        cells = total.reshape(batch, self._heights, -1, channels).permute(0, 1, 3, 2)
        return cells.reshape(batch, self._heights * channels, *self._lift_shape)


class FuseAlone(nn.Module):
    """A Fuse that has a memory, without looking at it: for less time than with it. What comes of a
    frame is remembered all the same."""

    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self.fuse = fuse

    def forward(self, camera: torch.Tensor, lift_index: torch.Tensor, lift_weight: torch.Tensor,
                lidar: torch.Tensor, radar: torch.Tensor, context: torch.Tensor,
                ) -> tuple[torch.Tensor, torch.Tensor]:
        """As Fuse with a memory that is empty."""
        first, entry = self.fuse.entry(camera, lift_index, lift_weight, lidar, radar, context)
        return self.fuse.pyramid(first, entry), self.fuse.recall.remember(entry, context)


def _coordinates(manifest: Manifest) -> torch.Tensor:
    """(2, X/2, Y/2) float32: x and y of the cell centres over the grid's reach."""
    grid = manifest.grid
    centres = grid.coarser(RASTER_STRIDE).centres()
    reach = np.array([max(abs(grid.x_min), abs(grid.x_max)), max(abs(grid.y_min), abs(grid.y_max))])
    return torch.from_numpy((centres / reach).astype(np.float32)).permute(2, 0, 1).contiguous()
