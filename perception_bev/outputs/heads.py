"""Outputs: the heads' layout in both directions. Law: decode(encode(boxes)) == boxes.

A box is one point of a heat map and a column of the box map: offset x, y [cells] from the cell's
centre, height of the centre over the ground [m], log of length, width, height [m], sine and cosine
of twice the yaw (the axis, precise), sine and cosine of the yaw (which end is the front), quality
(expected 3D IoU as a logit), and velocity x, y [m/s] where the model has one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.manifest import Manifest
from perception_bev.outputs.nms import nms

OFFSET, HEIGHT, SIZE = slice(0, 2), 2, slice(3, 6)
AXIS, FRONT, QUALITY, VELOCITY = slice(6, 8), slice(8, 10), 10, slice(11, 13)
REGRESSED = 10  # channels before the quality
LOG_SIZE = (-3.0, 4.0)  # of 5 cm and 55 m: no box is smaller or larger

PEAK_SIGMA_SHARE = 0.18  # of a box's length and width, for the Gaussian of the heat map
PEAK_SIGMA_MIN_M = 0.4
NEIGHBOURS = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])


def box_channels(manifest: Manifest) -> int:
    return 13 if manifest.heads.velocity else 11


@dataclass(frozen=True, slots=True)
class Targets:
    """What the heads should say about one sample; positives are the 3x3 cells round each centre."""

    heat: np.ndarray  # (classes, X, Y) float32, 1 at the centre cells
    valid: np.ndarray  # (X, Y) float32, 0 where nothing is to be learned
    cells: np.ndarray  # (P, 2) int64: row, column of each positive
    boxes: np.ndarray  # (P, REGRESSED) float32
    weight: np.ndarray  # (P,) float32: 1 at the centre, less beside it
    velocity: np.ndarray  # (P, 2) float32 [m/s] in the grid's frame; NaN: not to be learned


def encode(boxes: Boxes3D, ignored: Boxes3D, manifest: Manifest) -> Targets:
    """Boxes in the grid's frame with z over the ground (View.boxes) -> targets.

    Around `ignored` boxes the heat map is not supervised.
    """
    grid = manifest.output_grid
    heat = np.zeros((len(manifest.classes), *grid.shape), np.float32)
    valid = np.ones(grid.shape, np.float32)
    centres = grid.centres()
    for i in range(len(ignored)):
        window = _window(ignored, i, centres, grid)
        valid[window[0]][_peak(ignored, i, centres[window[0]]) > 0.1] = 0.0
    boxes = boxes[grid.contains(boxes.centre)]
    cells, columns, weights, owners = [], [], [], []
    for i in range(len(boxes)):
        window, cell = _window(boxes, i, centres, grid)
        spot = heat[boxes.label[i]][window]
        np.maximum(spot, _peak(boxes, i, centres[window]), out=spot)
        heat[boxes.label[i], cell[0], cell[1]] = 1.0
        valid[cell[0], cell[1]] = 1.0
        around = cell + NEIGHBOURS
        inside = ((around >= 0) & (around < grid.shape)).all(axis=1)
        cells.append(around[inside])
        columns.append(_columns(boxes, i, around[inside], grid.cell, centres))
        weights.append(np.where((NEIGHBOURS[inside] == 0).all(axis=1), 1.0, 0.4))
        owners.append(np.full(len(cells[-1]), i))
    return Targets(heat, valid, np.concatenate(cells or [np.zeros((0, 2), np.int64)]),
                   np.concatenate(columns or [np.zeros((0, REGRESSED), np.float32)]),
                   np.concatenate(weights or [np.zeros(0)]).astype(np.float32),
                   boxes.velocity[np.concatenate(owners or [np.zeros(0, np.int64)])])


def _window(boxes: Boxes3D, i: int, centres: np.ndarray, grid) -> tuple[tuple, np.ndarray]:
    """The slices that hold a box's peak, and its centre cell (2,) int."""
    cell = np.floor(grid.cell_of(boxes.centre[i:i + 1, :2])[0]).astype(np.int64)
    reach = int(np.ceil(boxes.size[i, :2].max() / grid.cell)) + 2
    low = np.clip(cell - reach, 0, grid.shape)
    high = np.clip(cell + reach + 1, 0, grid.shape)
    return (slice(low[0], high[0]), slice(low[1], high[1])), cell


def _peak(boxes: Boxes3D, i: int, xy: np.ndarray) -> np.ndarray:
    """Oriented Gaussian of box i at points (..., 2) -> (...)."""
    delta = xy - boxes.centre[i, :2]
    cos, sin = np.cos(boxes.yaw[i]), np.sin(boxes.yaw[i])
    along, across = delta @ np.array([cos, sin]), delta @ np.array([-sin, cos])
    sigma = np.maximum(PEAK_SIGMA_SHARE * boxes.size[i, :2], PEAK_SIGMA_MIN_M)
    return np.exp(-0.5 * ((along / sigma[0]) ** 2 + (across / sigma[1]) ** 2)).astype(np.float32)


def _columns(boxes: Boxes3D, i: int, cells: np.ndarray, cell_m: float,
             centres: np.ndarray) -> np.ndarray:
    out = np.empty((len(cells), REGRESSED), np.float32)
    out[:, OFFSET] = (boxes.centre[i, :2] - centres[cells[:, 0], cells[:, 1]]) / cell_m
    out[:, HEIGHT] = boxes.centre[i, 2]
    out[:, SIZE] = np.clip(np.log(np.maximum(boxes.size[i], 1e-6)), *LOG_SIZE)
    out[:, AXIS] = np.sin(2 * boxes.yaw[i]), np.cos(2 * boxes.yaw[i])
    out[:, FRONT] = np.sin(boxes.yaw[i]), np.cos(boxes.yaw[i])
    return out


def boxes_at(cells: np.ndarray, columns: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Cells (P, 2) and columns (P, >=10) -> (P, 7) float32 x y z l w h yaw, z over the ground."""
    grid = manifest.output_grid
    corner = np.array([grid.x_min, grid.y_min], np.float32)
    out = np.empty((len(cells), 7), np.float32)
    out[:, :2] = corner + (cells + 0.5 + columns[:, OFFSET]) * grid.cell
    out[:, 2] = columns[:, HEIGHT]
    out[:, 3:6] = np.exp(np.clip(columns[:, SIZE], *LOG_SIZE))
    axis = 0.5 * np.arctan2(columns[:, 6], columns[:, 7])
    front = np.arctan2(columns[:, 8], columns[:, 9])
    out[:, 6] = np.where(np.cos(axis - front) >= 0, axis, axis + np.pi)
    out[:, 6] = (out[:, 6] + np.pi) % (2 * np.pi) - np.pi
    return out


def decode(heat: np.ndarray, boxes: np.ndarray, plane: np.ndarray, manifest: Manifest,
           score_threshold: float | None = None) -> Boxes3D:
    """Maps of one sample -> boxes in base_link, best first.

    Args:
        heat: (classes, X, Y) float32, zero off its peaks.
        boxes: (box_channels, X, Y) float32.
        plane: (3,) the ground that heights were counted from.
        score_threshold: default: the manifest's.
    """
    heads = manifest.heads
    threshold = heads.score_threshold if score_threshold is None else score_threshold
    # A quality below 1 can only lower the score, so this bound loses nothing above the threshold.
    bound = threshold ** (1.0 / max(1.0 - heads.quality_weight, 1e-3))
    label, row, column = np.nonzero(heat > max(bound, 1e-4))
    columns = boxes[:, row, column].T
    quality = 1.0 / (1.0 + np.exp(-np.clip(columns[:, QUALITY], -30, 30)))
    score = (heat[label, row, column] ** (1 - heads.quality_weight)
             * quality ** heads.quality_weight)
    best = np.argsort(-score, kind="stable")[:4 * heads.max_boxes]
    # A column that is not finite (an overflow in float16) is no box, and must not spoil others.
    best = best[(score[best] > threshold) & np.isfinite(columns[best]).all(axis=1)]
    made = boxes_at(np.column_stack([row, column])[best], columns[best], manifest)
    made[:, 2] += (made[:, :2] @ plane[:2] + plane[2]).astype(np.float32)
    velocity = columns[best][:, VELOCITY] if heads.velocity else None
    found = Boxes3D(made[:, :3], made[:, 3:6], made[:, 6].copy(), score[best].astype(np.float32),
                    label[best].astype(np.int32), manifest.classes, velocity)
    return found[nms(found, heads.nms_iou, heads.max_boxes)]
