"""Evaluation: a model over drives with memory, tracks and full visibility: which passes it takes
and what is reported of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from perception_bev.contracts import Boxes3D
from perception_bev.errors import RecordingError
from perception_bev.eval import hidden, tracking
from perception_bev.eval.nuscenes_protocol import NuscenesReport, SampleResult, evaluate
from perception_bev.eval.plain import without_nan
from perception_bev.eval.subsets import Subset, subset_name, subsets_of
from perception_bev.outputs.track import TrackSettings
from perception_bev.recordings.base import Sample

Results = list[tuple[Sample, Boxes3D]]


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of the model over all drives."""

    name: str
    sensors: Subset
    memory: bool = True
    lost: tuple[str, ...] = ()  # names of cameras


Detect = Callable[[Pass], Iterable[tuple[Sample, Boxes3D]]]


@dataclass(frozen=True, slots=True)
class DriveReport:
    """Figures of all passes; `full` is the one with everything."""

    full: str  # name of that subset
    subsets: Mapping[str, NuscenesReport]  # by subset name, `full` among them
    cameras_lost: Mapping[str, NuscenesReport] = field(default_factory=dict)  # by camera
    without_memory: NuscenesReport | None = None  # None: the model has none
    hidden: Mapping[str, Any] = field(default_factory=dict)
    tracking: Mapping[str, Any] = field(default_factory=dict)
    baseline: NuscenesReport | None = None  # of another model

    @property
    def whole(self) -> NuscenesReport:
        return self.subsets[self.full]

    @property
    def shares(self) -> dict[str, float]:
        """mAP kept when a modality, or one camera, is lost; 1 is that of all sensors."""
        kept = {f"{modality}_lost": self.subsets[rest].mean_ap
                for modality, rest in self._rests().items()}
        kept |= {f"{name}_lost": report.mean_ap for name, report in self.cameras_lost.items()}
        return {name: _ratio(value, self.whole.mean_ap) for name, value in kept.items()}

    @property
    def adds(self) -> dict[str, dict[str, float]]:
        """What each modality adds to all the others: the differences of the means."""
        ours = _means(self.whole)
        return {modality: {name: value - theirs[name] for name, value in ours.items()}
                for modality, rest in self._rests().items()
                for theirs in [_means(self.subsets[rest])]}

    @property
    def memory_adds(self) -> dict[str, float] | None:
        """Differences as in `adds`, and the share by which memory lowers mAVE."""
        if self.without_memory is None:
            return None
        ours, theirs = _means(self.whole), _means(self.without_memory)
        return {**{name: value - theirs[name] for name, value in ours.items()},
                "mAVE_lower_by": 1.0 - _ratio(ours["mAVE"], theirs["mAVE"])}

    def as_json(self) -> dict[str, Any]:
        """Plain values: the figures of `full` at the top, everything else beside them."""
        return without_nan({
            **self.whole.as_json(),
            "without_memory": self.without_memory and self.without_memory.as_json(),
            "subsets": {name: report.as_json() for name, report in self.subsets.items()},
            "cameras_lost": {name: report.as_json()
                             for name, report in self.cameras_lost.items()},
            "shares_of_full_mAP": self.shares, "modality_adds": self.adds,
            "memory_adds": self.memory_adds, "hidden": dict(self.hidden),
            "tracking": dict(self.tracking),
            "baseline": self.baseline and {
                **self.baseline.as_json(),
                "ratio": _ratio(self.whole.mean_ap, self.baseline.mean_ap)}})

    def _rests(self) -> dict[str, str]:
        """Modality -> the subset of all others, where that was run."""
        sensors = self.full.split("+")
        rests = {one: "+".join(other for other in sensors if other != one) for one in sensors}
        return {one: rest for one, rest in rests.items() if rest in self.subsets}


def passes_of(sensors: Subset, cameras: Sequence[str], every: bool, memory: bool) -> list[Pass]:
    """What to run, all sensors first.

    Args:
        sensors: what the vehicle has.
        cameras: names, each lost once.
        every: all subsets and lost cameras, too.
        memory: the model has one, so that it is also run without.
    """
    passes = [Pass(subset_name(sensors), sensors)]
    if memory:
        passes.append(Pass("without memory", sensors, memory=False))
    if every:
        passes += [Pass(subset_name(subset), subset) for subset in subsets_of(sensors)[:-1]]
        if "camera" in sensors and len(cameras) > 1:
            passes += [Pass(f"without {name}", sensors, lost=(name,)) for name in cameras]
    return passes


def evaluate_drives(passes: Sequence[Pass], detect: Detect, samples: int,
                    published_score: float) -> DriveReport:
    """Run the passes and score them.

    Args:
        passes: of `passes_of`.
        detect: yields every sample in time order, drive after drive, with its boxes.
        samples: how many that must be.
        published_score: of the boxes that the vehicle publishes.
    """
    reports: dict[str, NuscenesReport] = {}
    kept: dict[bool, Results] = {}  # of all sensors, with memory and without
    full = passes[0]
    for each in passes:
        results = collected(detect(each), samples)
        reports[each.name] = score(results)
        if each.sensors == full.sensors and not each.lost:
            kept[each.memory] = results
    alone = {each.name: each for each in passes if each.memory and not each.lost}
    lost = {each.lost[0]: reports[each.name] for each in passes if each.lost}
    return DriveReport(full.name, {name: reports[name] for name in alone}, lost,
                       reports.get("without memory"), hidden_figures(kept, published_score),
                       tracking.evaluate_tracks(tracking.track(
                           kept[True], TrackSettings.of_published(published_score))))


def collected(results: Iterable[tuple[Sample, Boxes3D]], samples: int) -> Results:
    made = list(results)
    if len(made) != samples:
        raise RecordingError(f"{len(made)} of {samples} samples came back")
    return made


def score(results: Results) -> NuscenesReport:
    return evaluate([SampleResult(boxes, sample.truth) for sample, boxes in results])


def hidden_figures(runs: Mapping[bool, Results], published_score: float) -> dict[str, Any]:
    """Recall of hidden objects at the published score, and at scores that let each run have as many
    boxes as there are objects; by "with_memory" and "without_memory"."""
    samples = [sample for sample, _ in runs[True]]
    wanted = hidden.hidden_now(samples)
    names = {True: "with_memory", False: "without_memory"}
    boxes = {memory: [found for _, found in results] for memory, results in runs.items()}
    per_sample = hidden.objects_per_sample(samples, wanted)

    def figures(score_of: Callable[[list[Boxes3D]], float]) -> dict[str, Any]:
        recalls = {names[memory]: hidden.recall(samples, found, wanted, score_of(found))
                   for memory, found in boxes.items()}
        return {name: {"recall": each.share, **asdict(each)} for name, each in recalls.items()}

    return {"objects": int(sum(each.sum() for each in wanted)),
            "seen_within_s": hidden.WITHIN_S, "matched_m": hidden.MATCHED_M,
            "at_published_score": figures(lambda found: published_score),
            "at_equal_boxes": figures(lambda found: hidden.score_of(found, per_sample))}


def _means(report: NuscenesReport) -> dict[str, float]:
    return {"mAP": report.mean_ap, "NDS": report.nds, **report.mean_errors}


def _ratio(value: float, of: float) -> float:
    return value / of if of else float("nan")
