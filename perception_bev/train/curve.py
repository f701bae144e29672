"""Training: the learning curve as a picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from perception_bev.train.loss import PARTS


def draw(history: Path, picture: Path, window: int = 100) -> None:
    """history.json (rows: step, one loss a part, seconds) -> a PNG with running means."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = np.array(json.loads(history.read_text()))
    window = min(window, len(rows))
    figure, axes = pyplot.subplots(figsize=(8, 4.5), constrained_layout=True)
    for column, name in enumerate(PARTS[:rows.shape[1] - 2], start=1):  # the last: seconds
        if not rows[:, column].any():
            continue  # a model without this head
        mean = np.convolve(rows[:, column], np.ones(window) / window, mode="valid")
        axes.plot(rows[window - 1:, 0], mean, label=name)
    axes.set(xlabel="step", ylabel=f"loss, mean of {window} steps", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)
