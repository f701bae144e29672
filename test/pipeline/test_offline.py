"""A recording through the model gives, bit by bit, what the same frames give as they come in."""

from dataclasses import replace

import numpy as np
import pytest
from driving import QUICK, START_NS, Drive, same_boxes
from small_car import MS, frames, rig

from perception_bev.errors import BadMessage
from perception_bev.pipeline.offline import detect
from perception_bev.raw import EncodedImage
from perception_bev.recordings.base import Sample

CYCLES = 4


class SmallRecording:
    """What the drive's sensors send, as a recording; `rigs` of each sample, default: one of all."""

    def __init__(self, samples: list[Sample] | None = None, rigs: list | None = None) -> None:
        self.samples = samples or [sample(k) for k in range(CYCLES)]
        self.rigs = rigs or [rig()] * len(self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def rig_of(self, index: int):
        return self.rigs[index]


def sample(number: int) -> Sample:
    t_ref = START_NS + number * 100 * MS
    return Sample(f"{number}", 0, t_ref, {n: (raw,) for n, raw in frames(t_ref, number).items()})


def spoilt(of: Sample) -> Sample:
    """The same sample, one lidar point moved by a metre."""
    cloud, = of.raw["top"]
    points = cloud.points.copy()
    points["x"][700] += 1.0
    return replace(of, raw={**of.raw, "top": (replace(cloud, points=points),)})


@pytest.fixture(scope="module")
def recorded(tiny_model) -> list:
    return [boxes for _, boxes in detect(tiny_model, SmallRecording(), deployment=QUICK)]


def test_live_and_recorded_are_the_same(tiny_model, recorded):
    with Drive(tiny_model) as drive:
        live = [output.boxes for k in range(CYCLES) for output in drive.cycle(k)]
    assert len(live) == CYCLES
    threshold = drive.perception.manifest.heads.score_threshold
    strong = [boxes[boxes.score > threshold] for boxes in recorded]
    assert all(len(boxes) > 0 for boxes in strong)
    assert all(same_boxes(a, b) for a, b in zip(live, strong, strict=True))


def test_the_comparison_can_fail(tiny_model, recorded):
    samples = [sample(k) for k in range(CYCLES)]
    samples[2] = spoilt(samples[2])
    found = [boxes for _, boxes in detect(tiny_model, SmallRecording(samples), deployment=QUICK)]
    assert [same_boxes(a, b) for a, b in zip(found, recorded, strict=True)] == [
        True, True, False, True]


def test_chosen_samples_in_the_chosen_order(tiny_model, recorded):
    seen = []

    def progress(indices):
        for index in indices:
            seen.append(index)
            yield index

    found = list(detect(tiny_model, SmallRecording(), indices=[3, 1], progress=progress,
                        deployment=QUICK))
    assert seen == [3, 1] and [s.name for s, _ in found] == ["3", "1"]
    assert same_boxes(found[0][1], recorded[3]) and same_boxes(found[1][1], recorded[1])


def test_sensors_that_are_not_asked_for_do_not_count(tiny_model):
    def boxes(samples):
        return [b for _, b in detect(tiny_model, SmallRecording(samples), ("camera", "radar"),
                                     deployment=QUICK)]
    whole = [sample(k) for k in range(CYCLES)]
    without = [replace(s, raw={n: r for n, r in s.raw.items() if n != "top"}) for s in whole]
    assert all(same_boxes(a, b) for a, b in zip(boxes(whole), boxes(without), strict=True))


def test_stopping_early_ends_the_threads(tiny_model):
    from driving import threads_named
    before = len(threads_named("decode", "camera"))
    running = detect(tiny_model, SmallRecording(), deployment=QUICK)
    next(running)
    assert len(threads_named("decode", "camera")) > before
    running.close()
    assert len(threads_named("decode", "camera")) == before


def test_a_damaged_recording_is_said_not_scored(tiny_model):
    """Evaluation must not score a masked camera as if it had been one."""
    broken = sample(0)
    picture, = broken.raw["front"]
    broken.raw["front"] = (EncodedImage(picture.stamp_ns, picture.frame_id,
                                        picture.data[:200]),)
    with pytest.raises(BadMessage, match="truncated"):
        list(detect(tiny_model, SmallRecording([broken]), deployment=QUICK))


def test_every_drive_has_its_own_calibration(tiny_model):
    """Two drives of one vehicle, between which somebody mounted the lidar anew."""
    moved = rig(top={"extrinsics": {"translation": [0.2, 0.0, 1.8],
                                    "rotation_rpy_deg": [0, 0, 30]}})
    samples, rigs = [sample(0)] * 3, [rig(), moved, rig()]
    together = [b for _, b in detect(tiny_model, SmallRecording(samples, rigs), deployment=QUICK)]
    alone = [next(detect(tiny_model, SmallRecording(samples[:1], [one]), deployment=QUICK))[1]
             for one in rigs]
    assert all(same_boxes(a, b) for a, b in zip(together, alone, strict=True))
    assert not same_boxes(together[0], together[1])


def test_samples_without_stamps_are_told_apart(tiny_model):
    """A data set may have no times; pictures of two samples then share a stamp."""
    still = [replace(sample(k), t_ref_ns=START_NS, raw={
        n: (replace(r, stamp_ns=START_NS),) for n, (r,) in sample(k).raw.items()})
        for k in range(2)]
    together = [b for _, b in detect(tiny_model, SmallRecording(still), ("camera",),
                                     deployment=QUICK)]
    alone = [b for k in range(2) for _, b in detect(
        tiny_model, SmallRecording(still[k:k + 1]), ("camera",), deployment=QUICK)]
    assert all(same_boxes(a, b) for a, b in zip(together, alone, strict=True))
    assert not same_boxes(*together) and np.isfinite(together[0].centre).all()
