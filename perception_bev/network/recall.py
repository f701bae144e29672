"""Network: the memory of fuse. What is kept of a frame, and past maps brought to the grid of now.

A remembered map lies in the grid of its own time; a warp per map, an input of the network, carries
the ego motion since (as BEVDet4D, Huang and Huang 2022, aligns past features). Memory is of fixed
ages and not recurrent: what is older than the oldest has no influence, nothing drifts, and a
dropped frame only changes an age.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from perception_bev.errors import ConfigError
from perception_bev.manifest import Manifest


class Recall(nn.Module):
    """Past maps -> what they add to the entry of fuse's widest level.

    No memory is all zeros and adds exactly nothing. The aggregation starts at zero, so that a
    model that was trained on single frames is the same model until it learns to look back.
    """

    def __init__(self, manifest: Manifest, channels: int) -> None:
        """channels: of fuse at 4 cells of the grid, to which the memory is added."""
        super().__init__()
        if manifest.memory is None:
            raise ConfigError(f"model '{manifest.name}' has no memory")
        slots, kept = len(manifest.memory.ages_s), manifest.memory.channels
        self.keep = nn.Conv2d(channels, kept, 1)
        self.aggregate = nn.Conv2d(slots * (kept + 2), channels, 3, padding=1, bias=False)
        nn.init.zeros_(self.aggregate.weight)
        self._shape = manifest.grid.coarser(4).shape
        self.register_buffer("base_grid", base_grid(self._shape), persistent=False)

    def remember(self, entry: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Entry features (B, channels, X/4, Y/4), context (B, 4) -> (B, C + 1, X/4, Y/4).

        The last channel is the map's validity: 1 where any modality is present, else all is 0.
        """
        any_present = context[:, :3].sum(dim=1).clamp(0.0, 1.0)[:, None, None, None]
        kept = self.keep(entry)
        valid = torch.ones_like(kept[:, :1])
        return torch.cat([kept, valid], dim=1) * any_present

    def forward(self, memory: torch.Tensor, warp: torch.Tensor, age: torch.Tensor) -> torch.Tensor:
        """memory (B, K, C + 1, X/4, Y/4), warp (B, K, 2, 3), age (B, K) [s] -> (B, channels, X/4,
        Y/4). The warp takes normalised (column, row, 1) of now to (column, row) of then."""
        batch, slots, channels, rows, columns = memory.shape
        places = torch.matmul(warp.reshape(batch * slots, 2, 3), self.base_grid)
        places = places.permute(0, 2, 1).reshape(batch * slots, rows, columns, 2)
        warped = nn.functional.grid_sample(
            memory.reshape(batch * slots, channels, rows, columns), places,
            mode="bilinear", padding_mode="zeros", align_corners=False)
        features, valid = warped[:, :-1], warped[:, -1:]
        ages = valid * age.reshape(batch * slots, 1, 1, 1)
        past = torch.cat([features * valid, valid, ages], dim=1)
        return self.aggregate(past.reshape(batch, slots * (channels + 1), rows, columns))


def base_grid(shape: tuple[int, int]) -> torch.Tensor:
    """(3, rows * columns) float32: normalised column, row and 1 of every cell's centre.

    As torch's affine_grid with align_corners=False: -1 and 1 are the outer edges of the map.
    """
    rows, columns = shape
    row = (2 * np.arange(rows) + 1) / rows - 1
    column = (2 * np.arange(columns) + 1) / columns - 1
    row, column = np.meshgrid(row, column, indexing="ij")
    places = np.stack([column.ravel(), row.ravel(), np.ones(rows * columns)])
    return torch.from_numpy(places.astype(np.float32))
