"""Raw frames to frames: the stamp that counts, and recorded samples as bundles."""

import pytest
import tiny_model as small
from driving import START_NS
from small_car import MS, calibration, frames

from perception_bev.errors import BadMessage
from perception_bev.pipeline.ingest import Ingest
from perception_bev.recordings.base import Sample


def ingest(**sensors) -> Ingest:
    return Ingest(small.description(), calibration(**sensors))


def test_frames_have_the_models_scale_and_their_own_stamp():
    made = {n: ingest().decode(n, raw) for n, raw in frames(START_NS).items()}
    assert made["front"].image.shape == (32, 64, 3)
    assert {n: f.modality for n, f in made.items()} == {
        "front": "camera", "top": "lidar", "nose": "radar"}
    assert {f.stamp_ns for f in made.values()} == {START_NS}


@pytest.mark.parametrize("sensor", ["front", "top", "nose"])
def test_a_corrected_stamp_moves_the_whole_frame(sensor):
    raw = frames(START_NS)[sensor]
    assert ingest().decode(sensor, raw, START_NS + 7 * MS).stamp_ns == START_NS + 7 * MS


def test_point_times_follow_their_sweep():
    raw = frames(START_NS)["top"]
    plain, moved = (ingest().decode("top", raw, START_NS + k * MS) for k in (0, 7))
    assert (plain.time_offset == moved.time_offset).all()


def test_a_wrong_frame_is_named():
    raw = frames(START_NS)["nose"]
    with pytest.raises(BadMessage, match=r"wrong_frame.*'nose'.*'other'"):
        ingest(nose={"frame_id": "other"}).decode("nose", raw)


def test_a_sample_becomes_a_bundle_with_ages_and_holes():
    raws = frames(START_NS)
    sample = Sample("a", 5, START_NS + 30 * MS, {"front": (raws["front"],), "top": ()})
    bundle = ingest().bundle(sample)
    assert set(bundle.slots) == {"front", "top", "nose"} and bundle.epoch == 5
    assert bundle.slots["front"].age_ns == 30 * MS
    assert bundle.slots["top"].reason == bundle.slots["nose"].reason == "missing"
