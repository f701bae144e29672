"""Vocabulary: the bird's-eye-view grid, the one source of cell sizes and shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_bev.errors import ConfigError


@dataclass(frozen=True, slots=True)
class BevGrid:
    """A rectangle of square cells in base_link: rows along x (forward), columns along y (left)."""

    x_min: float  # [m]
    x_max: float  # [m]
    y_min: float  # [m]
    y_max: float  # [m]
    cell: float  # [m]

    def __post_init__(self) -> None:
        bounds = (self.x_min, self.x_max, self.y_min, self.y_max, self.cell)
        if not np.isfinite(bounds).all():
            raise ConfigError(f"grid has no bounds: {self}")
        if self.cell <= 0 or self.x_max <= self.x_min or self.y_max <= self.y_min:
            raise ConfigError(f"grid is empty: {self}")
        for name, extent in (("x", self.x_max - self.x_min), ("y", self.y_max - self.y_min)):
            if abs(extent / self.cell - round(extent / self.cell)) > 1e-6:
                raise ConfigError(f"grid: {name} extent {extent} m is not whole cells of "
                                  f"{self.cell} m")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows along x, columns along y)."""
        return (round((self.x_max - self.x_min) / self.cell),
                round((self.y_max - self.y_min) / self.cell))

    def coarser(self, factor: int) -> BevGrid:
        """The same rectangle with cells `factor` times as large."""
        return BevGrid(self.x_min, self.x_max, self.y_min, self.y_max, self.cell * factor)

    def centres(self) -> np.ndarray:
        """(rows, columns, 2) float32: x, y of the cell centres [m] in base_link."""
        rows, columns = self.shape
        x = self.x_min + (np.arange(rows) + 0.5) * self.cell
        y = self.y_min + (np.arange(columns) + 0.5) * self.cell
        return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).astype(np.float32)

    def cell_of(self, xy: np.ndarray) -> np.ndarray:
        """(N, 2) [m] -> (N, 2) float: row and column, cell i covers [i, i + 1)."""
        return (xy - np.array([self.x_min, self.y_min])) / self.cell

    def contains(self, xy: np.ndarray) -> np.ndarray:
        """(N, 2) [m] -> (N,) bool: those that have a cell."""
        xy = np.asarray(xy, np.float64)  # as in cell_of: a bound may be no float32
        return ((xy[:, 0] >= self.x_min) & (xy[:, 0] < self.x_max)
                & (xy[:, 1] >= self.y_min) & (xy[:, 1] < self.y_max))
