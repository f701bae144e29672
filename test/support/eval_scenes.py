"""Small scenes for the tests of evaluation."""

import numpy as np

from perception_bev import resources
from perception_bev.contracts import Boxes3D
from perception_bev.eval.astyx_protocol import FrameResult
from perception_bev.recordings.base import Sample, Truth
from perception_bev.rig import load_rig, resolve

TRUTH_CLASSES = ("Car", "Truck", "Person")
MODEL_CLASSES = ("truck", "car")


def boxes(x, classes, names=None, score=None, yaw=0.0, y=0.0, z=0.0) -> Boxes3D:
    """Boxes of 4 x 2 x 1.5 m at x [m]; names: class of each (default: car)."""
    n = len(x)
    lower = [name.lower() for name in classes]
    return Boxes3D(
        centre=np.column_stack([x, np.full(n, y), np.full(n, z)]).astype(np.float32),
        size=np.tile(np.array([4, 2, 1.5], np.float32), (n, 1)),
        yaw=np.full(n, yaw, np.float32),
        score=np.asarray(np.ones(n) if score is None else score, np.float32),
        label=np.array([lower.index(c.lower()) for c in names or ["car"] * n], np.int32),
        classes=classes)


def truth(x, names=None, occlusion=None, counted=None) -> Truth:
    n = len(x)
    return Truth(boxes(x, TRUTH_CLASSES, names),
                 np.asarray(np.zeros(n) if occlusion is None else occlusion, np.int32),
                 np.asarray(np.ones(n) if counted is None else counted, bool))


def frame(predicted: Boxes3D, true: Truth, in_view=None) -> FrameResult:
    n = len(predicted)
    return FrameResult(predicted, true, np.asarray(np.ones(n) if in_view is None else in_view,
                                                   bool))


def found(x, **options) -> Boxes3D:
    return boxes(x, MODEL_CLASSES, **options)


class TwoFrames:
    """A recording with one car each, 20 and 30 m ahead."""

    def __init__(self) -> None:
        self.calibration = resolve(load_rig(resources.path("config/rigs/astyx_a.yaml")))
        self.samples = [Sample(str(x), 0, x, {}, truth([x])) for x in (20, 30)]

    def __len__(self) -> int:
        return len(self.samples)

    def calibration_of(self, index):
        return self.calibration

    def groups(self):
        return np.arange(len(self))
