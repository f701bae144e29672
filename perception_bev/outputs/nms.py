"""Outputs: greedy non-maximum suppression of oriented boxes, class by class."""

from __future__ import annotations

import numpy as np
from numba import njit

from perception_bev.contracts import Boxes3D
from perception_bev.outputs.iou import MAX_CORNERS, bev_rows, overlap_area, overlap_ratio


def nms(boxes: Boxes3D, iou_threshold: float, max_boxes: int) -> np.ndarray:
    """Indices (K,) int64 of the boxes to keep, K <= max_boxes, highest score first.

    A box goes when its bird's-eye-view IoU with a kept box of its own class is above
    `iou_threshold`. Equal scores keep their order of input; a NaN score comes last.
    """
    order = np.argsort(-boxes.score, kind="stable")
    return _greedy(bev_rows(boxes).astype(np.float64), boxes.label, order,
                   float(iou_threshold), int(max_boxes))


# Numba's disk cache sees changes of this file only: after editing iou.py in place, touch this one.
@njit(nogil=True, cache=True)
def _greedy(rows: np.ndarray, label: np.ndarray, order: np.ndarray, threshold: float,
            max_boxes: int) -> np.ndarray:
    kept = np.empty(max(0, min(len(order), max_boxes)), np.int64)
    work = np.empty((2, MAX_CORNERS, 2))
    count = 0
    for i in order:
        if count == len(kept):
            break
        if not _is_covered(i, kept[:count], rows, label, threshold, work):
            kept[count] = i
            count += 1
    return kept[:count]


@njit(nogil=True, cache=True)
def _is_covered(i, kept, rows, label, threshold, work) -> bool:
    """Is box i the same object as one that was kept already?"""
    for k in kept:
        if label[k] != label[i]:
            continue
        overlap = overlap_area(rows[k], rows[i], work)
        if overlap_ratio(overlap, rows[k, 2] * rows[k, 3], rows[i, 2] * rows[i, 3]) > threshold:
            return True
    return False
