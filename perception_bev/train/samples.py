"""Training: one augmented sample, made by the same decoders and the same build() as live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from perception_bev.contracts import MODALITIES, Boxes3D, Modality, SensorBundle, Slot
from perception_bev.inputs.build import InputBuilder
from perception_bev.inputs.motion import EgoSource
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
LOST_CAMERA = 0.25  # share of the samples in which one or two of several cameras are missing
PIXELS_SEEN = 40  # of an object in all pictures together: fewer tell nothing at the model's scale
WEAK_SUBSETS: tuple[tuple[Modality, ...], ...] = (
    MODALITIES, ("camera", "radar"), ("camera",), ("lidar", "radar"), ("camera", "lidar"),
    ("lidar",), ("radar",))
WEAK_SHARES = (0.42, 0.14, 0.08, 0.12, 0.16, 0.05, 0.03)


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
    item: Labelled  # what it was made of, and seen in which mirror
    mirrored: bool


@dataclass(frozen=True)
class Labelled:
    """A decoded sample, kept in memory between epochs."""

    name: str
    bundle: SensorBundle
    calibration: Calibration
    truth: Truth
    ego: EgoSource | None = None  # None: no motion is known, nothing is compensated


class SampleMaker:
    """Draws augmentations and builds samples. One caller at a time."""

    def __init__(self, manifest: Manifest, classes: dict[str, str | None],
                 sensors: Sequence[Modality] = MODALITIES, weak: bool = False,
                 turn_deg: float = 180.0) -> None:
        """
        Args:
            classes: the recording's class -> the model's, None for one that is not to be learned.
            sensors: a part of the modalities: only these and always these, no dropout.
            weak: favour the modalities that a lidar outshines.
            turn_deg: how far a grid that is all round is turned, either way. Small, the model
                learns where traffic goes round the vehicle; large, it cannot lean on that.
        """
        self._weak, self._turn_deg = weak, turn_deg
        self._manifest, self._classes, self._sensors = manifest, classes, tuple(sensors)
        self._builders: dict[int, InputBuilder] = {}

    def make(self, item: Labelled, rng: np.random.Generator) -> TrainingSample:
        """One augmented sample with some modalities and cameras dropped."""
        view = _random_view(rng, self._manifest, self._turn_deg)
        present = self._sensors
        if self._sensors == MODALITIES:
            present = _random_modalities(rng, self._weak)
            item = _without_cameras(item, _random_lost_cameras(item, rng))
        return self.build(item, view, present, rng)

    def build(self, item: Labelled, view: View, present: tuple[Modality, ...],
              rng: np.random.Generator, also_seen: np.ndarray | None = None) -> TrainingSample:
        """A sample in this view, of these modalities; brightness of the pictures by chance.

        also_seen: (N,) bool, boxes that are to be found although no sensor sees them now.
        """
        builder = self._builder(item.calibration)
        inputs = builder.build(item.bundle, item.ego, view, present,
                               flipped_pictures=view.mirrored)
        pictures = np.zeros((self._manifest.camera.slots, self._manifest.camera.height,
                             self._manifest.camera.width, 3), np.uint8)
        for name, slot in inputs.camera_slots.items():
            pictures[slot] = _random_picture(item.bundle.slots[name].newest.image, view, rng)
        boxes, ignored = self._boxes(item, present, also_seen)
        targets = encode(view.boxes(boxes, inputs.plane), view.boxes(ignored, inputs.plane),
                         self._manifest)
        rows, columns = self._manifest.grid.shape
        return TrainingSample(
            pictures, inputs.lift_index.copy(), inputs.lift_weight.copy(),
            _copy_or_zeros(inputs.lidar, (self._manifest.lidar.channels, rows, columns)),
            _copy_or_zeros(inputs.radar, (self._manifest.radar.channels, rows, columns)),
            inputs.context[0].copy(), targets, item, view.mirrored)

    def _builder(self, calibration: Calibration) -> InputBuilder:
        key = id(calibration)
        if key not in self._builders:
            self._builders[key] = InputBuilder(self._manifest, calibration)
        return self._builders[key]

    def _boxes(self, item: Labelled, present: tuple[Modality, ...],
               also_seen: np.ndarray | None) -> tuple[Boxes3D, Boxes3D]:
        """What is to be found, and what is to be ignored (other classes, or nothing sees it)."""
        truth = item.truth.boxes
        names = [self._classes[truth.classes[i]] for i in truth.label]
        known = np.array([name is not None for name in names], bool)
        seen = seen_by(item, present)
        if also_seen is not None:
            seen = seen | also_seen
        label = np.array([self._manifest.classes.index(n) if n else 0 for n in names], np.int32)
        mapped = Boxes3D(truth.centre, truth.size, truth.yaw, truth.score, label,
                         self._manifest.classes, truth.velocity)
        return mapped[known & seen], mapped[~(known & seen)]


def seen_by(item: Labelled, present: Sequence[Modality]) -> np.ndarray:
    """(N,) bool: boxes of which at least one of the modalities got something in this sample.

    By the recording's own account; where it has none, by counting points, and a camera is taken
    to see everything.
    """
    seen = item.truth.seen
    if seen is None:
        return (np.ones(len(item.truth.boxes), bool) if "camera" in present
                else points_in_boxes(item, tuple(present)) > 0)
    by = {"lidar": seen.lidar_points >= 1, "radar": seen.radar_returns >= 1,
          "camera": seen.pixels >= PIXELS_SEEN}
    cameras = item.calibration.rig.cameras
    if "camera" in present and len(item.bundle.present(tuple(cameras))) < len(cameras):
        by["camera"] = by["camera"] & _in_some_picture(item)
    return np.logical_or.reduce([by[m] for m in present if _has(item, m)]
                                or [np.zeros(len(item.truth.boxes), bool)])


def _has(item: Labelled, modality: Modality) -> bool:
    rig = item.calibration.rig
    names = tuple(name for name in rig.sensors if rig.modality(name) == modality)
    return bool(item.bundle.present(names))


def _in_some_picture(item: Labelled) -> np.ndarray:
    """(N,) bool: boxes whose centre lies in the picture of a camera that is there."""
    found = np.zeros(len(item.truth.boxes), bool)
    for name in item.bundle.present(tuple(item.calibration.rig.cameras)):
        lens = item.calibration.camera_models[name]
        camera_from_base = item.calibration.base_from_sensor[name].inverse()
        pixel, depth = lens.project(camera_from_base.apply(item.truth.boxes.centre))
        found |= (depth > 0) & (pixel >= 0).all(axis=1) & (pixel < (lens.width, lens.height)
                                                           ).all(axis=1)
    return found


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


def _random_view(rng: np.random.Generator, manifest: Manifest, turn_deg: float = 180.0) -> View:
    """Turned, mirrored, scaled, shifted. Only a grid all round is turned far; the scale stays
    where velocity is learned: Doppler and ego motion would not be scaled with the world."""
    grid = manifest.grid
    is_round = grid.x_min == -grid.x_max and grid.y_min == -grid.y_max
    turn = np.deg2rad(turn_deg) if is_round else TURN_RAD
    stretch = 0.0 if manifest.heads.velocity else SCALE
    return View.augmented(
        turn=rng.uniform(-turn, turn), mirror=bool(rng.random() < 0.5),
        scale=rng.uniform(1 - stretch, 1 + stretch),
        shift=(rng.uniform(-SHIFT_M, SHIFT_M), rng.uniform(-SHIFT_M, SHIFT_M)))


def _random_lost_cameras(item: Labelled, rng: np.random.Generator) -> tuple[str, ...]:
    """In a part of the samples one or two of several cameras."""
    names = item.bundle.present(tuple(item.calibration.rig.cameras))
    if len(names) < 2 or rng.random() >= LOST_CAMERA:
        return ()
    count = min(int(rng.integers(1, 3)), len(names) - 1)
    return tuple(names[i] for i in rng.permutation(len(names))[:count])


def _without_cameras(item: Labelled, names: Sequence[str]) -> Labelled:
    if not names:
        return item
    slots = {**item.bundle.slots, **dict.fromkeys(names, Slot(reason="missing"))}
    return replace(item, bundle=replace(item.bundle, slots=slots))


def _random_modalities(rng: np.random.Generator, weak: bool) -> tuple[Modality, ...]:
    """All in half of the cases, one missing in a quarter, one alone in a quarter. `weak`: the
    lidar, which outshines the others, is missing more often, and they learn more."""
    if weak:
        return WEAK_SUBSETS[int(rng.choice(len(WEAK_SUBSETS), p=WEAK_SHARES))]
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
