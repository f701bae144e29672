"""Sensors: lens and size in one step, from the picture as sent to the pinhole the model sees.

Pixel centres are integers, so a picture reduced n-fold shows at pixel c what the full one shows at
(c + 0.5) n - 0.5, whatever its size: JPEG's scaled decoding keeps that even for sizes that n does
not divide (it rounds them up), an ordinary resize would not.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

import numpy as np

from perception_bev.errors import ConfigError, EngineUnavailable
from perception_bev.geometry import CameraModel

MAX_PIXELS = 100_000_000  # of a picture as sent
MAX_SIDE = 32_766  # [px] fixed-point maps hold int16
REDUCTIONS = (8, 4, 2, 1)  # what JPEG decoding offers


@lru_cache(maxsize=1)
def load_cv2() -> ModuleType:
    """OpenCV without threads of its own: the decode pool has the cores shared out already."""
    try:
        import cv2
    except ImportError as err:
        raise EngineUnavailable("decoding pictures needs OpenCV: apt install python3-opencv, or "
                                "pip install opencv-python-headless") from err
    cv2.setNumThreads(1)
    return cv2


def reduction(model: CameraModel, width: int, height: int) -> int:
    """The largest of 8, 4, 2, 1 that leaves at least width x height pixels."""
    return next((n for n in REDUCTIONS if -(-model.width // n) >= width
                 and -(-model.height // n) >= height), 1)


def has_distortion(model: CameraModel) -> bool:
    """Whether the lens does anything; a fisheye does even with zero coefficients."""
    return model.model == "equidistant" or bool(model.distortion.any())


def source_pixels(model: CameraModel, pinhole: CameraModel, n: int) -> np.ndarray:
    """(H, W, 2) float32: where each pixel of `pinhole` lies in the picture reduced n-fold."""
    column, row = np.meshgrid(np.arange(pinhole.width), np.arange(pinhole.height))
    pixels = np.stack([column, row, np.ones_like(row)], axis=-1).reshape(-1, 3)
    rays = pixels @ np.linalg.inv(pinhole.k).T
    with np.errstate(all="ignore"):  # absurd coefficients: clipped below
        seen = (model.project(rays)[0] + 0.5) / n - 0.5
    seen = np.nan_to_num(seen, nan=-2.0, posinf=-2.0, neginf=-2.0)
    limit = (model.width / n + 2, model.height / n + 2)  # beyond the edge all is black
    return np.clip(seen, -2.0, limit).astype(np.float32).reshape(*row.shape, 2)


class Resampler:
    """Pictures of one camera, as sent or reduced, to its pinhole picture at width x height.

    Immutable after construction: threads may share it.
    """

    def __init__(self, model: CameraModel, width: int, height: int) -> None:
        self._cv2 = load_cv2()
        self.pinhole = model.pinhole_resized(width, height)
        self.reduction = n = reduction(model, width, height)
        self.reduced_size = -(-model.width // n), -(-model.height // n)  # width, height [px]
        longest = max(*self.reduced_size, width, height)
        if model.width * model.height > MAX_PIXELS or longest > MAX_SIDE:
            raise ConfigError(f"pictures of {model.width}x{model.height} for {width}x{height}: "
                              f"more than {MAX_PIXELS} pixels, or {MAX_SIDE} on a side")
        self._straight = not has_distortion(model)
        whole = model.width % n == 0 and model.height % n == 0
        self._maps = None if self._straight and whole else self._fixed_maps(model)

    def _fixed_maps(self, model: CameraModel) -> tuple[np.ndarray, np.ndarray]:
        seen = source_pixels(model, self.pinhole, self.reduction)
        return self._cv2.convertMaps(seen[..., 0], seen[..., 1], self._cv2.CV_16SC2)

    def from_reduced(self, picture: np.ndarray) -> np.ndarray:
        """A picture of `reduced_size`, (h, w[, C]) uint8 -> (H, W[, C])."""
        if self._maps is None:
            return self._resized(picture, (self.pinhole.width, self.pinhole.height))
        return self._cv2.remap(picture, *self._maps, self._cv2.INTER_LINEAR)

    def from_full(self, picture: np.ndarray) -> np.ndarray:
        """A picture as sent, (h, w[, C]) uint8 -> (H, W[, C])."""
        if self._straight:
            return self._resized(picture, (self.pinhole.width, self.pinhole.height))
        return self.from_reduced(self._reduced(picture))

    def _reduced(self, picture: np.ndarray) -> np.ndarray:
        """Means of n x n pixels, as JPEG's scaled decoding gives; edges repeat their last pixel."""
        n, (width, height) = self.reduction, self.reduced_size
        if n == 1:
            return picture
        missing = height * n - picture.shape[0], width * n - picture.shape[1]
        if any(missing):
            picture = self._cv2.copyMakeBorder(picture, 0, missing[0], 0, missing[1],
                                               self._cv2.BORDER_REPLICATE)
        return self._resized(picture, (width, height))

    def _resized(self, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """To (width, height): areas when it shrinks, else between the nearest pixels."""
        shrinks = size[0] <= picture.shape[1] and size[1] <= picture.shape[0]
        how = self._cv2.INTER_AREA if shrinks else self._cv2.INTER_LINEAR
        return self._cv2.resize(picture, size, interpolation=how)
