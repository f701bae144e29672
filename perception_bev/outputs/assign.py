"""Outputs: which detection is which track: the pairs that are worth the most together."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Solver = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Pairs(NamedTuple):
    """Row i of both belongs together."""

    tracks: np.ndarray  # (K,) int64
    boxes: np.ndarray  # (K,) int64


def solver() -> Solver:
    """SciPy's solver of the linear sum assignment; half a second to import, so ask once."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment


def assign(worth: np.ndarray, solve: Solver) -> Pairs:
    """Pairs with the greatest sum of `worth` (N, M), each row and column once at most.

    What is not worth more than 0 stays alone. So two poor pairs do not break up a good one, as
    they would where as many pairs as possible are made.
    """
    allowed = worth > 0
    rows, columns = np.nonzero(allowed.any(axis=1))[0], np.nonzero(allowed.any(axis=0))[0]
    if not len(rows):
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))
    block = np.ix_(rows, columns)
    tracks, boxes = solve(-np.where(allowed[block], worth[block], 0.0))
    kept = allowed[block][tracks, boxes]
    return Pairs(rows[tracks[kept]], columns[boxes[kept]])
