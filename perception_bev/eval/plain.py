"""Evaluation: figures as plain values that JSON has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def without_nan(value: Any) -> Any:
    """Nested dicts and lists; what is not finite becomes None, NumPy scalars become Python's."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
