"""Figures as JSON has them."""

import json

import numpy as np

from perception_bev.eval.plain import without_nan


def test_nan_becomes_none_and_numpy_python():
    mixed = {"a": float("nan"), "b": [np.float32(1.5), np.int64(2), (np.inf, "x")], "c": None}
    assert without_nan(mixed) == {"a": None, "b": [1.5, 2, [None, "x"]], "c": None}
    json.dumps(without_nan(mixed), allow_nan=False)
