"""Cases that our figures and those of nuscenes-devkit are compared on; made from seeds alone.

Only `Generator.random` is drawn from, and the oracle holds a digest of what came out: another
stream is then seen as such.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.eval.nuscenes_protocol import CLASSES, SampleResult
from perception_bev.recordings.base import Truth, Visibility

SIZES = np.array([[4.6, 1.9, 1.7], [7, 2.5, 2.8], [11, 2.9, 3.5], [12, 2.9, 3.9], [6.5, 2.8, 3.2],
                  [0.7, 0.7, 1.8], [2.1, 0.8, 1.5], [1.7, 0.6, 1.3], [0.4, 0.4, 1.1],
                  [0.5, 2.5, 1.0]])


class Chance:
    """Draws from one seed."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def uniform(self, low, high, *shape) -> np.ndarray:
        return low + (np.asarray(high) - low) * self._rng.random(shape)

    def below(self, n: int, *shape) -> np.ndarray:
        return (self._rng.random(shape) * n).astype(np.int32)

    def chosen(self, share: float, n: int) -> np.ndarray:
        return self._rng.random(n) < share


def boxes(chance: Chance, label: np.ndarray, centre: np.ndarray, yaw: np.ndarray,
          score: np.ndarray, velocity: np.ndarray, size: np.ndarray | None = None) -> Boxes3D:
    f32 = np.float32
    size = SIZES[label] if size is None else size
    return Boxes3D(centre.astype(f32), size.astype(f32), yaw.astype(f32), score.astype(f32),
                   label.astype(np.int32), CLASSES, velocity.astype(f32))


def scene(chance: Chance, objects: int, inventions: int, found: float = 0.8, reach: float = 60.0,
          noise: float = 0.8) -> SampleResult:
    """Objects all round, some without a point; most of them found, some twice, and inventions."""
    label = chance.below(len(CLASSES), objects)
    centre = chance.uniform([-reach, -reach, 0], [reach, reach, 2], objects, 3)
    velocity = chance.uniform(-8, 8, objects, 2)
    yaw = chance.uniform(-np.pi, np.pi, objects)
    points = np.where(chance.chosen(0.85, objects), chance.below(20, objects), 0)
    returns = np.where(chance.chosen(0.3, objects), chance.below(4, objects), 0)
    truth = Truth(boxes(chance, label, centre, yaw, np.ones(objects), velocity),
                  np.zeros(objects, np.int32), np.ones(objects, bool), np.arange(objects),
                  Visibility(points.astype(np.int32), returns.astype(np.int32), points * 0))
    again = np.concatenate([np.flatnonzero(chance.chosen(found, objects)),
                            np.flatnonzero(chance.chosen(0.15, objects))])
    n = len(again)
    offset = chance.uniform(-1, 1, n, 3) * chance.uniform(0, 2 * noise, n, 1)
    near = boxes(chance, label[again], centre[again] + offset,
                 yaw[again] + chance.uniform(-0.5, 0.5, n) + np.pi * chance.chosen(0.2, n),
                 chance.uniform(0.2, 1, n), velocity[again] + chance.uniform(-2, 2, n, 2),
                 SIZES[label[again]] * chance.uniform(0.7, 1.4, n, 3))
    wrong = boxes(chance, chance.below(len(CLASSES), inventions),
                  chance.uniform([-reach, -reach, 0], [reach, reach, 2], inventions, 3),
                  chance.uniform(-4, 4, inventions), chance.uniform(0, 0.7, inventions),
                  chance.uniform(-9, 9, inventions, 2))
    return SampleResult(joined(near, wrong), truth)


def joined(*parts: Boxes3D) -> Boxes3D:
    fields = ("centre", "size", "yaw", "score", "label")
    arrays = [np.concatenate([getattr(part, name) for part in parts]) for name in fields]
    return Boxes3D(*arrays, CLASSES, np.concatenate([part.velocity for part in parts]))


def with_boxes(result: SampleResult, predictions: Boxes3D | None = None,
               truth: Boxes3D | np.ndarray | None = None) -> SampleResult:
    """Other predictions; other truth boxes, or those that an index or mask chooses."""
    old = result.truth
    if isinstance(truth, np.ndarray):
        seen = Visibility(*(getattr(old.seen, name)[truth]
                            for name in ("lidar_points", "radar_returns", "pixels")))
        old = Truth(old.boxes[truth], old.occlusion[truth], old.counted[truth], old.track[truth],
                    seen)
    elif truth is not None:
        old = Truth(truth, old.occlusion, old.counted, old.track, old.seen)
    return SampleResult(result.predictions if predictions is None else predictions, old)


def changed(of: Boxes3D, **fields) -> Boxes3D:
    names = ("centre", "size", "yaw", "score", "label", "classes", "velocity")
    return Boxes3D(**{name: getattr(of, name) for name in names} | fields)


# -- the cases -------------------------------------------------------------------------------------

def ordinary(chance: Chance) -> list[SampleResult]:
    return [scene(chance, 25, 15) for _ in range(30)]


def equal_scores(chance: Chance) -> list[SampleResult]:
    """Eleven different scores, 0 among them."""
    made = [scene(chance, 20, 15) for _ in range(20)]
    return [with_boxes(s, changed(s.predictions, score=np.round(s.predictions.score, 1)))
            for s in made]


def one_score(chance: Chance) -> list[SampleResult]:
    return [with_boxes(s, changed(s.predictions, score=np.full_like(s.predictions.score, 0.5)))
            for s in (scene(chance, 20, 15) for _ in range(10))]


def missing_classes(chance: Chance) -> list[SampleResult]:
    """No bus and no cone is true, no truck and no pedestrian was found."""
    made = []
    for s in (scene(chance, 25, 20) for _ in range(15)):
        found = s.predictions[~np.isin(s.predictions.label, [1, 5])]
        made.append(with_boxes(s, found, ~np.isin(s.truth.boxes.label, [2, 8])))
    return made


def empty_frames(chance: Chance) -> list[SampleResult]:
    """Nothing found, nothing true, neither; at the ends and between."""
    made = []
    for i in range(18):
        s = scene(chance, 20, 10)
        found = s.predictions[:0] if i % 3 != 1 else s.predictions
        made.append(with_boxes(s, found, np.arange(0 if i % 4 in (0, 3) else 20)))
    return made


def unknown_velocities(chance: Chance) -> list[SampleResult]:
    """Some of the truth and of the predictions; every bicycle; the best-scored cars."""
    made = []
    for s in (scene(chance, 25, 10) for _ in range(20)):
        true, found = s.truth.boxes, s.predictions
        no_truth = chance.chosen(0.3, len(true)) | (true.label == 7)
        none = chance.chosen(0.2, len(found)) | ((found.label == 0) & (found.score > 0.9))
        made.append(with_boxes(
            s, changed(found, velocity=np.where(none[:, None], np.nan, found.velocity)),
            changed(true, velocity=np.where(no_truth[:, None], np.nan, true.velocity))))
    return made


def crowd(chance: Chance) -> list[SampleResult]:
    """500 predictions a sample around objects 1 m apart, many at equal distances, many twice."""
    made = []
    for _ in range(4):
        grid = np.stack(np.meshgrid(np.arange(-5, 5), np.arange(-5, 5), [0.5]), -1).reshape(-1, 3)
        n, label = len(grid), chance.below(3, len(grid)) * 4  # cars, construction vehicles, cones
        points = np.ones(n, np.int32)
        truth = Truth(boxes(chance, label, grid * 1.0, chance.uniform(-3, 3, n), np.ones(n),
                            chance.uniform(-1, 1, n, 2)), points * 0, points > 0,
                      np.arange(n), Visibility(points, points, points))
        near = grid[chance.below(n, 500)] + 0.5 * (chance.below(5, 500, 3) - 2)
        found = boxes(chance, chance.below(3, 500) * 4, near, chance.uniform(-3, 3, 500),
                      np.round(chance.uniform(0, 1, 500), 2), chance.uniform(-1, 1, 500, 2))
        made.append(SampleResult(found, truth))
    return made


def hardly_any_hit(chance: Chance) -> list[SampleResult]:
    """Recalls around 0.1, where the averages begin."""
    return [scene(chance, 40, 5, found=0.03) for _ in range(12)]


def edges_of_range(chance: Chance) -> list[SampleResult]:
    """Centres within a metre of 30, 40 and 50 m, and just on them."""
    made = []
    for _ in range(15):
        s = scene(chance, 30, 20)
        ring = np.array([30, 40, 50])[chance.below(3, 30)] + np.round(chance.uniform(-1, 1, 30))
        angle = chance.uniform(-np.pi, np.pi, 30)
        centre = np.column_stack([ring * np.cos(angle), ring * np.sin(angle), np.ones(30)])
        true = changed(s.truth.boxes, centre=centre.astype(np.float32))
        near = changed(true, centre=true.centre + np.float32(0.3),
                       score=chance.uniform(0, 1, 30).astype(np.float32))
        made.append(with_boxes(s, joined(near, s.predictions), true))
    return made


def perfect(chance: Chance) -> list[SampleResult]:
    return [with_boxes(s, s.truth.boxes) for s in (scene(chance, 20, 0) for _ in range(10))]


def nothing_found(chance: Chance) -> list[SampleResult]:
    return [with_boxes(s, s.predictions[:0]) for s in (scene(chance, 20, 0) for _ in range(3))]


MAKERS: tuple[Callable[[Chance], list[SampleResult]], ...] = (
    ordinary, equal_scores, one_score, missing_classes, empty_frames, unknown_velocities, crowd,
    hardly_any_hit, edges_of_range, perfect, nothing_found)


def cases() -> dict[str, list[SampleResult]]:
    return {make.__name__: make(Chance(seed)) for seed, make in enumerate(MAKERS)}


def digest(samples: list[SampleResult]) -> str:
    """SHA-256 of everything that a case consists of."""
    total = hashlib.sha256()
    for sample in samples:
        seen = sample.truth.seen
        total.update((seen.lidar_points + seen.radar_returns).astype("<i4").tobytes())
        for of in (sample.predictions, sample.truth.boxes):
            for array in (of.centre, of.size, of.yaw, of.score, np.nan_to_num(of.velocity, nan=99)):
                total.update(array.astype("<f4").tobytes())
            total.update(of.label.astype("<i4").tobytes())
    return total.hexdigest()
