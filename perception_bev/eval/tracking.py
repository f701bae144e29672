"""Evaluation: tracks against annotated tracks: HOTA and IDF1 by the library motrics, MOTA and id
switches by clear_mot.py.

Luiten et al., "HOTA: a higher order metric for evaluating multi-object tracking", IJCV 2021;
Bernardin and Stiefelhagen, "Evaluating multiple object tracking performance", 2008; Ristani et al.,
"Performance measures and a data set for multi-target, multi-camera tracking", 2016.

Classes and ranges are those of nuScenes' tracking task. Similarity is 1 - d / 4 m with d the
distance of the centres in bird's-eye view, within a class, so that the usual threshold of 0.5 is
2 m. An object that no sensor sees now is neither to be found nor is a track on it wrong: only the
id that it has when it comes back is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from perception_bev.contracts import Boxes3D, check_array
from perception_bev.errors import PerceptionError, RecordingError
from perception_bev.eval.clear_mot import clear_mot
from perception_bev.eval.matching import IGNORED, closer_than, match, nearness
from perception_bev.eval.nuscenes_protocol import counted, of_class
from perception_bev.eval.plain import without_nan
from perception_bev.outputs.track import Tracker, TrackSettings
from perception_bev.recordings.base import Sample, Truth

TRACKED = ("car", "truck", "bus", "trailer", "pedestrian", "motorcycle", "bicycle")
MATCHED_M = 2.0
THRESHOLD = 0.5  # similarity at MATCHED_M


@dataclass(frozen=True, slots=True)
class TrackedSample:
    """What a tracker said about one sample, and what is true."""

    sequence: int  # ids mean something within it only
    boxes: Boxes3D  # in base_link at the sample's time
    id: np.ndarray  # (N,) int64
    truth: Truth

    def __post_init__(self) -> None:
        check_array("TrackedSample.id", self.id, (len(self.boxes),), np.int64)
        if self.truth.track is None:
            raise RecordingError("the recording's truth has no tracks, so there is nothing to "
                                 "compare tracks with")


@dataclass(frozen=True, slots=True)
class TrackingFigures:
    """Of one class, or of all; shares in 0..1."""

    HOTA: float
    DetA: float
    AssA: float
    MOTA: float
    IDF1: float
    id_switches: int
    fragmentations: int
    mostly_tracked: int  # objects that have a track in more than 80 % of their samples
    mostly_lost: int  # in less than 20 %
    objects: int
    tracks: int


def track(results: Sequence[tuple[Sample, Boxes3D]],
          settings: TrackSettings | None = None) -> list[TrackedSample]:
    """The product's tracker over detections in time order, drive after drive."""
    samples: list[TrackedSample] = []
    tracker = Tracker(results[0][1].classes, settings) if results else None
    for sample, boxes in results:
        tracks = tracker.update(boxes, sample.odom_from_base, sample.t_ref_ns, sample.sequence)
        samples.append(TrackedSample(sample.sequence, tracks.boxes, tracks.id, sample.truth))
    return samples


def evaluate_tracks(samples: Sequence[TrackedSample]) -> dict[str, Any]:
    """Figures of all classes together ("all") and of each that occurs; plain values for JSON."""
    parts = {name: [_compared(name, sample) for sample in samples] for name in TRACKED}
    figures = {"all": _figures([_joined(each) for each in zip(*parts.values(),
                                                                       strict=True)])}
    figures |= {name: _figures(compared) for name, compared in parts.items()
                if any(len(each.true_id) for each in compared)}
    return without_nan({name: asdict(each) for name, each in figures.items()})


def figures_of(objects: Sequence[Sequence[int]], tracks: Sequence[Sequence[int]],
               similarity: Sequence[np.ndarray]) -> TrackingFigures:
    """A list of ids a sample each, and the similarity (objects, tracks) in 0..1 of each sample."""
    motrics = library()
    plain = [each.tolist() for each in similarity]
    hota = motrics.compute_hota_from_similarity(objects, tracks, plain)
    identity = motrics.compute_identity_from_similarity(objects, tracks, plain, THRESHOLD)
    clear = clear_mot(objects, tracks, similarity, THRESHOLD)
    return TrackingFigures(
        hota.hota, hota.deta, hota.assa, clear.mota, identity.idf1, clear.switches,
        clear.fragmentations, clear.mostly_tracked, clear.mostly_lost,
        len(set().union(*objects)), len(set().union(*tracks)))


def library():
    """motrics, or PerceptionError with the cure."""
    try:
        import motrics
    except ImportError as err:
        raise PerceptionError("tracking figures need motrics: make setup, or pip install -r "
                              "requirements/cpu.txt") from err
    return motrics


@dataclass(frozen=True, slots=True)
class _Compared:
    """Objects and tracks of one sample that count."""

    true_id: np.ndarray  # (M, 3) int64: class, sequence, track
    found_id: np.ndarray  # (N, 3) int64
    similarity: np.ndarray  # (M, N) float64 in 0..1


def _compared(name: str, sample: TrackedSample) -> _Compared:
    chosen, wanted = of_class(sample.boxes, name), of_class(sample.truth.boxes, name)
    found, found_id = sample.boxes[chosen], sample.id[chosen]
    true, true_id = sample.truth.boxes[wanted], sample.truth.track[wanted]
    seen = counted(sample.truth)[wanted]
    outcome = match(nearness(found, true), closer_than(MATCHED_M), found.score, seen, ~seen,
                    np.ones(len(found), bool))
    kept = outcome != IGNORED
    far = -nearness(true[seen], found[kept])
    return _Compared(_named(name, sample.sequence, true_id[seen]),
                     _named(name, sample.sequence, found_id[kept]),
                     np.maximum(1.0 - (1.0 - THRESHOLD) * far / MATCHED_M, 0.0))


def _named(name: str, sequence: int, of: np.ndarray) -> np.ndarray:
    """An id that no other class and no other drive has."""
    return np.column_stack([np.full_like(of, TRACKED.index(name)), np.full_like(of, sequence), of])


def _joined(parts: Sequence[_Compared]) -> _Compared:
    """All classes of one sample; across them nothing is similar."""
    rows, columns = (np.cumsum([0, *(part.similarity.shape[axis] for part in parts)])
                     for axis in (0, 1))
    similarity = np.zeros((rows[-1], columns[-1]))
    for i, part in enumerate(parts):
        similarity[rows[i]:rows[i + 1], columns[i]:columns[i + 1]] = part.similarity
    return _Compared(np.concatenate([part.true_id for part in parts]),
                     np.concatenate([part.found_id for part in parts]), similarity)


def _figures(compared: Sequence[_Compared]) -> TrackingFigures:
    return figures_of(_numbered([each.true_id for each in compared]),
                      _numbered([each.found_id for each in compared]),
                      [each.similarity for each in compared])


def _numbered(ids: Sequence[np.ndarray]) -> list[list[int]]:
    """Each sample's ids as numbers from 0 on."""
    every = np.concatenate([np.zeros((0, 3), np.int64), *ids])
    number = np.unique(every, axis=0, return_inverse=True)[1].reshape(-1)
    starts = np.cumsum([0, *map(len, ids)])
    return [number[start:start + len(each)].tolist()
            for start, each in zip(starts, ids, strict=False)]
