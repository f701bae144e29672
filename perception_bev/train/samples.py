"""Training: one augmented sample, made by the same decoders and the same build() as live."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from perception_bev.contracts import MODALITIES, Boxes3D, Modality, SensorBundle
from perception_bev.inputs.build import InputBuilder
from perception_bev.inputs.view import View
from perception_bev.manifest import Manifest
from perception_bev.outputs.heads import Targets, encode
from perception_bev.recordings.base import Truth
from perception_bev.rig import Calibration

TURN_RAD = np.deg2rad(10.0)
SCALE = 0.05
SHIFT_M = 1.0
BRIGHTNESS = 30.0
CONTRAST = 0.25


@dataclass(frozen=True)
class TrainingSample:
    """Arrays of one sample; absent modalities are zeros and 0 in the context."""

    pictures: np.ndarray  # (slots, H, W, 3) uint8
    lift_index: np.ndarray  # (4, heights * cells) int32
    lift_weight: np.ndarray  # (4, heights * cells) float32
    lidar: np.ndarray  # (C, X, Y) float32
    radar: np.ndarray  # (C, X, Y) float32
    context: np.ndarray  # (4,) float32
    targets: Targets


@dataclass(frozen=True)
class Labelled:
    """A decoded sample, kept in memory between epochs."""

    name: str
    bundle: SensorBundle
    calibration: Calibration
    truth: Truth


class SampleMaker:
    """Draws augmentations and builds samples. One caller at a time."""

    def __init__(self, manifest: Manifest, classes: dict[str, str | None]) -> None:
        """classes: the recording's class -> the model's, None for one that is not to be learned."""
        self._manifest, self._classes = manifest, classes
        self._builders: dict[int, InputBuilder] = {}

    def make(self, item: Labelled, rng: np.random.Generator) -> TrainingSample:
        """One augmented sample with some modalities dropped."""
        view = _random_view(rng)
        present = _random_modalities(rng)
        builder = self._builder(item.calibration)
        inputs = builder.build(item.bundle, None, view, present, flipped_pictures=view.mirrored)
        pictures = np.zeros((self._manifest.camera.slots, self._manifest.camera.height,
                             self._manifest.camera.width, 3), np.uint8)
        for name, slot in inputs.camera_slots.items():
            pictures[slot] = _random_picture(item.bundle.slots[name].newest.image, view, rng)
        boxes, ignored = self._boxes(item, present)
        targets = encode(view.boxes(boxes, inputs.plane), view.boxes(ignored, inputs.plane),
                         self._manifest)
        rows, columns = self._manifest.grid.shape
        return TrainingSample(
            pictures, inputs.lift_index.copy(), inputs.lift_weight.copy(),
            _copy_or_zeros(inputs.lidar, (self._manifest.lidar.channels, rows, columns)),
            _copy_or_zeros(inputs.radar, (self._manifest.radar.channels, rows, columns)),
            inputs.context[0].copy(), targets)

    def _builder(self, calibration: Calibration) -> InputBuilder:
        key = id(calibration)
        if key not in self._builders:
            self._builders[key] = InputBuilder(self._manifest, calibration)
        return self._builders[key]

    def _boxes(self, item: Labelled, present: tuple[Modality, ...]) -> tuple[Boxes3D, Boxes3D]:
        """What is to be found, and what is to be ignored (other classes, or nothing sees it)."""
        truth = item.truth.boxes
        names = [self._classes[truth.classes[i]] for i in truth.label]
        known = np.array([name is not None for name in names], bool)
        seen = np.ones(len(truth), bool)
        if "camera" not in present:
            seen = points_in_boxes(item, present) > 0
        label = np.array([self._manifest.classes.index(n) if n else 0 for n in names], np.int32)
        mapped = Boxes3D(truth.centre, truth.size, truth.yaw, truth.score, label,
                         self._manifest.classes, truth.velocity)
        return mapped[known & seen], mapped[~(known & seen)]


def points_in_boxes(item: Labelled, modalities: tuple[Modality, ...]) -> np.ndarray:
    """(N,) int: lidar and radar points inside each box, a hand's breadth around it included."""
    rig, boxes = item.calibration.rig, item.truth.boxes
    names = [n for n in rig.sensors if rig.modality(n) in modalities
             and rig.modality(n) != "camera"]
    counts = np.zeros(len(boxes), np.int64)
    for name in names:
        place = item.calibration.base_from_sensor[name]
        for frame in item.bundle.slots[name].frames:
            points = place.apply(frame.points[:, :3])
            for i in range(len(boxes)):
                delta = points - boxes.centre[i]
                cos, sin = np.cos(boxes.yaw[i]), np.sin(boxes.yaw[i])
                along = np.abs(delta[:, 0] * cos + delta[:, 1] * sin)
                across = np.abs(delta[:, 1] * cos - delta[:, 0] * sin)
                half = boxes.size[i] / 2 + 0.1
                counts[i] += np.sum((along < half[0]) & (across < half[1])
                                    & (np.abs(delta[:, 2]) < half[2] + 0.2))
    return counts


def _random_view(rng: np.random.Generator) -> View:
    return View.augmented(
        turn=rng.uniform(-TURN_RAD, TURN_RAD), mirror=bool(rng.random() < 0.5),
        scale=rng.uniform(1 - SCALE, 1 + SCALE),
        shift=(rng.uniform(-SHIFT_M, SHIFT_M), rng.uniform(-SHIFT_M, SHIFT_M)))


def _random_modalities(rng: np.random.Generator) -> tuple[Modality, ...]:
    """All in half of the cases, one missing in a quarter, one alone in a quarter."""
    case, which = rng.random(), int(rng.integers(len(MODALITIES)))
    if case < 0.5:
        return MODALITIES
    if case < 0.75:
        return tuple(m for i, m in enumerate(MODALITIES) if i != which)
    return (MODALITIES[which],)


def _random_picture(image: np.ndarray, view: View, rng: np.random.Generator) -> np.ndarray:
    image = image[:, ::-1] if view.mirrored else image
    gain = rng.uniform(1 - CONTRAST, 1 + CONTRAST)
    lift = rng.uniform(-BRIGHTNESS, BRIGHTNESS) + 110.0 * (1 - gain)
    return np.clip(cv2.addWeighted(image, gain, image, 0.0, lift), 0, 255)


def _copy_or_zeros(raster: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.float32) if raster is None else raster[0].copy()
