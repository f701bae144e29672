"""Training: hold-outs by groups: no held-out sample is a neighbour in time of a trained one."""

from __future__ import annotations

import numpy as np


def hold_out(groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """(N,) group numbers -> (N,) bool, True for held-out samples.

    Whole groups in a seeded random order until `share` of the samples is reached.
    """
    order = np.random.default_rng(seed).permutation(np.unique(groups))
    held = np.zeros(len(groups), bool)
    for group in order:
        members = groups == group
        if held.sum() + members.sum() <= share * len(groups):
            held |= members
    return held
