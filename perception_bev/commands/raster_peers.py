"""Commands: the rasters of inputs/, written with what NumPy, SciPy and torch offer for it.

The same definition, so that figures can be compared: each takes the same points and writes the
same channels into a buffer that it is given. Used by `bev bench rasters` only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from perception_bev.grid import BevGrid
from perception_bev.inputs.lidar import BELOW_M
from perception_bev.inputs.radar import BELOW_M as RADAR_BELOW_M
from perception_bev.manifest import LidarInputs, RadarInputs

# points, plane (3,), spec, grid, out (C, cells) float32
Peer = Callable[[np.ndarray, np.ndarray, LidarInputs | RadarInputs, BevGrid, np.ndarray], None]


@dataclass(frozen=True)
class Placed:
    """Points that lie on the grid."""

    row: np.ndarray  # (K,) float32 [cells]
    column: np.ndarray  # (K,) float32 [cells]
    cell: np.ndarray  # (K,) int64, row-major
    height: np.ndarray  # (K,) float32 [m] over the ground
    rest: np.ndarray  # (K, ...) float32: the points' other columns


def placed(points: np.ndarray, plane: np.ndarray, grid: BevGrid, low: float,
           high: float) -> Placed:
    x, y = points[:, 0], points[:, 1]
    a, b, c = plane.astype(np.float32)
    height = points[:, 2] - a * x - b * y - c
    row = (x - np.float32(grid.x_min)) / np.float32(grid.cell)
    column = (y - np.float32(grid.y_min)) / np.float32(grid.cell)
    rows, columns = grid.shape
    kept = ((row >= 0) & (row < rows) & (column >= 0) & (column < columns)
            & (height > low) & (height < high))
    row, column = row[kept], column[kept]
    return Placed(row, column, row.astype(np.int64) * columns + column.astype(np.int64),
                  height[kept], points[kept, 3:])


def _lidar_placed(points: np.ndarray, plane: np.ndarray, spec: LidarInputs,
                  grid: BevGrid) -> tuple[Placed, np.ndarray, np.ndarray]:
    """Points on the grid, which of them lie in a height bin, and in which."""
    on_grid = placed(points, plane, grid, BELOW_M, spec.max_height)
    edges = np.asarray(spec.height_bins, np.float32)
    bins = np.searchsorted(edges, on_grid.height, side="right") - 1
    binned = np.flatnonzero((bins >= 0) & (bins < len(edges) - 1))
    return on_grid, binned, bins[binned]


def _write(out: np.ndarray, spec: LidarInputs, cells: np.ndarray, top: np.ndarray,
           bottom: np.ndarray, intensity: np.ndarray, count: np.ndarray) -> None:
    """The channels after the occupancy, of the cells that have points."""
    first = len(spec.height_bins) - 1
    out[first, cells] = top / np.float32(spec.max_height)
    out[first + 1, cells] = bottom / np.float32(spec.max_height)
    out[first + 2, cells] = intensity
    out[first + 3, cells] = np.minimum(1.5, np.log1p(count) / np.log1p(spec.log_points))


def ufunc_at(points: np.ndarray, plane: np.ndarray, spec: LidarInputs, grid: BevGrid,
             out: np.ndarray) -> None:
    """numpy.maximum.at and its kin: unbuffered, one point after the other."""
    at, binned, bins = _lidar_placed(points, plane, spec, grid)
    out.fill(0)
    out[bins, at.cell[binned]] = 1
    top, bottom = np.full((2, out.shape[1]), -np.inf, np.float32)
    bottom.fill(np.inf)
    total, count = np.zeros((2, out.shape[1]), np.float32)
    np.maximum.at(top, at.cell, at.height)
    np.minimum.at(bottom, at.cell, at.height)
    np.add.at(total, at.cell, at.rest[:, 0])
    np.add.at(count, at.cell, 1)
    cells = np.flatnonzero(count)
    _write(out, spec, cells, top[cells], bottom[cells], total[cells] / count[cells], count[cells])


def sort_reduceat(points: np.ndarray, plane: np.ndarray, spec: LidarInputs, grid: BevGrid,
                  out: np.ndarray) -> None:
    """argsort by cell, then numpy's ufunc.reduceat over the runs."""
    at, binned, bins = _lidar_placed(points, plane, spec, grid)
    out.fill(0)
    out[bins, at.cell[binned]] = 1
    if at.cell.size == 0:
        return
    order, starts, cells, count = _runs(at.cell)
    height = at.height[order]
    total = np.add.reduceat(at.rest[order, 0], starts)
    _write(out, spec, cells, np.maximum.reduceat(height, starts),
           np.minimum.reduceat(height, starts), total / count, count)


def _runs(cell: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Order by cell, where each run starts, its cell and its length."""
    order = np.argsort(cell, kind="stable")
    ordered = cell[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
    return order, starts, ordered[starts], np.diff(starts, append=len(ordered))


def binned_statistic(points: np.ndarray, plane: np.ndarray, spec: LidarInputs, grid: BevGrid,
                     out: np.ndarray) -> None:
    """scipy.stats.binned_statistic_2d and _dd, made for exactly this."""
    from scipy import stats

    at, binned, _ = _lidar_placed(points, plane, spec, grid)
    rows, columns = grid.shape
    edges = [np.arange(rows + 1), np.arange(columns + 1)]
    sample = [at.row[binned], at.column[binned], at.height[binned]]
    out.fill(0)
    if binned.size == 0:  # SciPy takes no empty sample
        return
    hits = stats.binned_statistic_dd(sample, None, "count", [*edges, np.array(spec.height_bins)])
    out[:len(spec.height_bins) - 1] = (hits.statistic > 0).reshape(rows * columns, -1).T

    def reduced(values: np.ndarray, statistic: str) -> np.ndarray:
        return stats.binned_statistic_2d(at.row, at.column, values, statistic,
                                         edges).statistic.ravel()

    count = reduced(at.height, "count")
    cells = np.flatnonzero(count)
    _write(out, spec, cells, reduced(at.height, "max")[cells], reduced(at.height, "min")[cells],
           reduced(at.rest[:, 0], "mean")[cells], count[cells])


def ndimage(points: np.ndarray, plane: np.ndarray, spec: LidarInputs, grid: BevGrid,
            out: np.ndarray) -> None:
    """scipy.ndimage.maximum, minimum and mean of labelled values."""
    from scipy import ndimage as labelled

    at, binned, bins = _lidar_placed(points, plane, spec, grid)
    out.fill(0)
    out[bins, at.cell[binned]] = 1
    count = np.bincount(at.cell, minlength=out.shape[1])
    cells = np.flatnonzero(count)
    if cells.size:
        _write(out, spec, cells, labelled.maximum(at.height, at.cell, cells),
               labelled.minimum(at.height, at.cell, cells),
               labelled.mean(at.rest[:, 0], at.cell, cells), count[cells])


def scatter_reduce(torch: ModuleType) -> Peer:
    """torch.Tensor.scatter_reduce_ on the CPU, placing included."""

    def draw(points: np.ndarray, plane: np.ndarray, spec: LidarInputs, grid: BevGrid,
             out: np.ndarray) -> None:
        cloud, made = torch.from_numpy(points), torch.from_numpy(out)
        (rows, columns), first = grid.shape, len(spec.height_bins) - 1
        height = cloud[:, 2] - cloud[:, :2] @ torch.tensor(plane[:2], dtype=torch.float32)
        height -= float(plane[2])
        corner = torch.tensor([grid.x_min, grid.y_min])
        place = (cloud[:, :2] - corner) / grid.cell
        kept = ((place >= 0) & (place < torch.tensor([rows, columns]))).all(1)
        kept &= (height > BELOW_M) & (height < spec.max_height)
        whole, height = place[kept].long(), height[kept]
        cell, intensity = whole[:, 0] * columns + whole[:, 1], cloud[kept, 3]
        bins = torch.bucketize(height, torch.tensor(spec.height_bins), right=True) - 1
        binned = (bins >= 0) & (bins < first)
        made.zero_()
        made[bins[binned], cell[binned]] = 1.0
        count = torch.bincount(cell, minlength=made.shape[1])
        made[first].scatter_reduce_(0, cell, height / spec.max_height, "amax", include_self=False)
        made[first + 1].scatter_reduce_(0, cell, height / spec.max_height, "amin",
                                        include_self=False)
        made[first + 2].scatter_reduce_(0, cell, intensity, "mean", include_self=False)
        made[first + 3] = (torch.log1p(count) / np.log1p(spec.log_points)).clamp(max=1.5)

    return draw


# -- radar -----------------------------------------------------------------------------------------


def _radar_values(rest: np.ndarray, spec: RadarInputs) -> tuple[np.ndarray, ...]:
    """Strength, |residual| (0 where unknown), signed where it cannot wrap, ambiguous 0/1."""
    strength = np.clip((rest[:, 0] - np.float32(spec.intensity_offset))
                       / np.float32(spec.intensity_scale), 0.05, 2.0)
    known, wraps = ~np.isnan(rest[:, 1]), rest[:, 2] > 0
    scaled = np.where(known, np.clip(rest[:, 1] / np.float32(spec.doppler_scale), -2, 2),
                      np.float32(0))
    return (strength, np.abs(scaled), np.where(wraps, np.float32(0), scaled),
            (~known | wraps).astype(np.float32))


def _write_radar(out: np.ndarray, spec: RadarInputs, cells: np.ndarray, count: np.ndarray,
                 strongest: np.ndarray, fastest: np.ndarray, sums: tuple[np.ndarray, ...]) -> None:
    """sums: of height, |residual|, signed residual, ambiguity."""
    height, size, signed, ambiguous = (total / count for total in sums)
    out[0, cells] = np.minimum(1.5, np.log1p(count) / np.log1p(spec.log_points))
    out[1, cells], out[2, cells] = strongest, height / np.float32(spec.max_height)
    out[3, cells], out[4, cells], out[5, cells], out[6, cells] = size, fastest, signed, ambiguous


def radar_ufunc_at(points: np.ndarray, plane: np.ndarray, spec: RadarInputs, grid: BevGrid,
                   out: np.ndarray) -> None:
    at = placed(points, plane, grid, RADAR_BELOW_M, 2 * spec.max_height)
    strength, size, signed, ambiguous = _radar_values(at.rest, spec)
    out.fill(0)
    made = np.zeros((7, out.shape[1]), np.float32)
    np.add.at(made[0], at.cell, 1)
    for channel, values in ((1, strength), (2, size)):
        np.maximum.at(made[channel], at.cell, values)
    for channel, values in ((3, at.height), (4, size), (5, signed), (6, ambiguous)):
        np.add.at(made[channel], at.cell, values)
    cells = np.flatnonzero(made[0])
    count, strongest, fastest, *sums = made[:, cells]
    _write_radar(out, spec, cells, count, strongest, fastest, tuple(sums))


def radar_sort_reduceat(points: np.ndarray, plane: np.ndarray, spec: RadarInputs, grid: BevGrid,
                        out: np.ndarray) -> None:
    at = placed(points, plane, grid, RADAR_BELOW_M, 2 * spec.max_height)
    strength, size, signed, ambiguous = _radar_values(at.rest, spec)
    out.fill(0)
    if at.cell.size == 0:
        return
    order, starts, cells, count = _runs(at.cell)
    sums = tuple(np.add.reduceat(values[order], starts)
                 for values in (at.height, size, signed, ambiguous))
    _write_radar(out, spec, cells, count, np.maximum.reduceat(strength[order], starts),
                 np.maximum.reduceat(size[order], starts), sums)


RADAR_PEERS: dict[str, Peer] = {"numpy ufunc.at": radar_ufunc_at,
                                "numpy sort + reduceat": radar_sort_reduceat}


def lidar_peers() -> tuple[dict[str, Peer], list[str]]:
    """Those that can be had on this computer, and the names of those that cannot."""
    peers: dict[str, Peer] = {"numpy ufunc.at": ufunc_at, "numpy sort + reduceat": sort_reduceat}
    absent = []
    try:
        import scipy  # noqa: F401

        peers |= {"scipy.stats.binned_statistic": binned_statistic, "scipy.ndimage": ndimage}
    except ImportError:
        absent.append("scipy")
    try:
        import torch

        torch.set_num_threads(1)  # like all others here
        peers["torch scatter_reduce"] = scatter_reduce(torch)
    except ImportError:
        absent.append("torch")
    return peers, absent
