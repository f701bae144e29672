"""Training: what the cameras' features should show by themselves: a heat map of every picture, with
a peak at each visible object's middle. It teaches the extractor what things look like long before
the bird's-eye view asks for it, and is not exported (an auxiliary loss, as in many camera BEV
networks: BEVDepth, StreamPETR)."""

from __future__ import annotations

import numpy as np
import torch

from perception_bev.geometry import SE3
from perception_bev.inputs.motion import NoEgo, now_from_then
from perception_bev.manifest import Manifest
from perception_bev.train.loss import focal
from perception_bev.train.samples import PIXELS_SEEN, Labelled

WEIGHT = 0.3
NEAR_M = 0.5
SIGMA_SHARE, SIGMA_MIN = 0.2, 0.6  # of an object's size in the picture; feature pixels


def picture_heat(item: Labelled, manifest: Manifest, classes: dict[str, str | None],
                 mirrored: bool) -> np.ndarray:
    """(slots, classes, rows, columns) float32: Gaussians of the objects that pixels show.

    Pictures that are missing have no peaks.
    """
    camera = manifest.camera
    rows, columns = camera.feature_shape
    heat = np.zeros((camera.slots, len(manifest.classes), rows, columns), np.float32)
    truth = item.truth
    names = [classes[truth.boxes.classes[k]] for k in truth.boxes.label]
    shown = np.array([name is not None for name in names], bool)
    if truth.seen is not None:
        shown &= truth.seen.pixels >= PIXELS_SEEN
    corners = truth.boxes.corners()
    for slot, name in enumerate(item.calibration.rig.cameras):
        if not item.bundle.slots[name].present:
            continue
        lens = item.calibration.camera_models[name].pinhole_resized(camera.width, camera.height)
        rectangles = _rectangles(corners, _camera_from_base(item, name), lens.k)
        if mirrored:
            rectangles[:, [0, 2]] = camera.width - 1 - rectangles[:, [2, 0]]
        rectangles = (rectangles + 0.5) / camera.stride - 0.5
        for i in np.nonzero(shown & np.isfinite(rectangles[:, 0]))[0]:
            _add_peak(heat[slot, manifest.classes.index(names[i])], rectangles[i])
    return heat


def _camera_from_base(item: Labelled, name: str) -> SE3:
    """Optical frame at the picture's time from base_link at t_ref."""
    taken_ns = item.bundle.slots[name].newest.stamp_ns
    now_from_taken = now_from_then(item.ego or NoEgo(), item.bundle.t_ref_ns, taken_ns)
    return (now_from_taken @ item.calibration.base_from_sensor[name]).inverse()


def _rectangles(corners: np.ndarray, camera_from_base: SE3, k: np.ndarray) -> np.ndarray:
    """Corners (N, 8, 3) -> rectangles round them (N, 4) left, upper, right, lower [px]; NaN for
    what is not wholly before the camera."""
    points = camera_from_base.apply(corners.reshape(-1, 3)).reshape(corners.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = points @ k.T
        pixels = pixels[..., :2] / pixels[..., 2:]
    found = np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=1)
    found[points[..., 2].min(axis=1) < NEAR_M] = np.nan
    return found


def _add_peak(heat: np.ndarray, rectangle: np.ndarray) -> None:
    """A Gaussian in the rectangle's middle, where the picture (rows, columns) holds it."""
    middle, size = (rectangle[:2] + rectangle[2:]) / 2, rectangle[2:] - rectangle[:2]
    column, row = np.round(middle).astype(int)
    if not (0 <= row < heat.shape[0] and 0 <= column < heat.shape[1]):
        return
    sigma = np.maximum(SIGMA_SHARE * size, SIGMA_MIN)
    x = np.exp(-0.5 * ((np.arange(heat.shape[1]) - column) / sigma[0]) ** 2)
    y = np.exp(-0.5 * ((np.arange(heat.shape[0]) - row) / sigma[1]) ** 2)
    np.maximum(heat, np.outer(y, x).astype(np.float32), out=heat)


def picture_loss(logits: torch.Tensor, heat: np.ndarray) -> torch.Tensor:
    """logits (P, classes, rows, columns) of pictures, heat of the same shape."""
    wanted = torch.from_numpy(heat)
    return WEIGHT * focal(logits, wanted, torch.ones_like(wanted[:, :1]))
