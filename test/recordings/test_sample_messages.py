"""Truth as messages: read(write(truth)) is the truth, with all that is known of it."""

import numpy as np
import pytest
from bag_scenes import CLASSES, START_NS

from perception_bev.contracts import Boxes3D
from perception_bev.errors import BadMessage, RecordingError
from perception_bev.messages.fields import cloud_dtype
from perception_bev.messages.objects_cloud import OBJECT, TRUTH_OBJECT
from perception_bev.recordings.base import Truth, Visibility
from perception_bev.recordings.sample_messages import (
    read_truth,
    read_truth_cloud,
    truth_cloud,
    truth_message,
)

WAYS = ((truth_message, read_truth), (truth_cloud, read_truth_cloud))


def truth(n: int, track: bool = True, seen: bool = True, seed: int = 0) -> Truth:
    rng = np.random.default_rng(seed)
    velocity = rng.normal(size=(n, 2)).astype(np.float32)
    velocity[: n // 3] = np.nan
    boxes = Boxes3D(rng.normal(0, 30, (n, 3)).astype(np.float32),
                    rng.uniform(0.3, 12, (n, 3)).astype(np.float32),
                    rng.uniform(-3.1, 3.1, n).astype(np.float32), np.ones(n, np.float32),
                    rng.integers(0, 2, n).astype(np.int32), CLASSES, velocity)
    counts = [rng.integers(0, 90_000, n).astype(np.int32) for _ in range(3)]
    return Truth(boxes, rng.integers(0, 3, n).astype(np.int32), rng.random(n) < 0.5,
                 rng.permutation(n).astype(np.int64) + 5 if track else None,
                 Visibility(*counts) if seen else None)


def same(one, two):
    if one is None or two is None:
        assert one is two
    else:
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("write", "read"), WAYS)
@pytest.mark.parametrize(("track", "seen"), ((True, True), (True, False), (False, True),
                                             (False, False)))
def test_truth_read_back_is_the_truth(write, read, track, seen):
    ours = truth(9, track, seen)
    theirs = read(write(ours, START_NS, "base_link"), CLASSES)
    for name in ("centre", "size", "score", "label", "velocity"):
        same(getattr(ours.boxes, name), getattr(theirs.boxes, name))
    np.testing.assert_allclose(ours.boxes.yaw, theirs.boxes.yaw, atol=1e-6)
    for name in ("occlusion", "counted", "track"):
        same(getattr(ours, name), getattr(theirs, name))
    assert (theirs.seen is not None) == seen
    for name in ("lidar_points", "radar_returns", "pixels") if seen else ():
        same(getattr(ours.seen, name), getattr(theirs.seen, name))


@pytest.mark.parametrize(("write", "read"), WAYS)
def test_an_empty_scene_knows_the_track_of_each_of_its_objects(write, read):
    theirs = read(write(truth(0), START_NS, "base_link"), CLASSES)
    assert len(theirs.boxes) == 0 and len(theirs.track) == 0 and len(theirs.seen.pixels) == 0


def test_row_i_of_the_cloud_is_detection_i():
    ours = truth(7)
    detections = truth_message(ours, START_NS, "base_link").detections
    cloud = truth_cloud(ours, START_NS, "base_link")
    points = np.frombuffer(cloud.data.tobytes(),
                           cloud_dtype(cloud.fields, cloud.point_step, False))
    assert [f"track={i}" in d.id for i, d in zip(points["id"], detections, strict=True)] == [
        True] * 7
    assert {"id", "x", "y", "z", "length", "width", "height", "yaw", "vx", "vy", "score", "class",
            "mode", "lidar_points", "radar_returns", "pixels"} <= set(points.dtype.names)


def test_the_truth_has_the_fields_of_a_track_first():
    assert TRUTH_OBJECT.names[:len(OBJECT.names)] == OBJECT.names
    assert all(TRUTH_OBJECT.fields[name] == OBJECT.fields[name] for name in OBJECT.names)


def test_another_s_detections_are_visible_and_counted():
    message = truth_message(truth(3), START_NS, "base_link")
    for detection in message.detections:
        detection.id = "7f3a"
    theirs = read_truth(message, CLASSES)
    assert theirs.counted.all() and not theirs.occlusion.any()
    assert theirs.track is None and theirs.seen is None


def test_tracks_that_do_not_fit_into_a_cloud_are_an_error():
    ours = truth(2)
    ours.track[1] = 2**31
    with pytest.raises(RecordingError, match="2147483648"):
        truth_cloud(ours, START_NS, "base_link")


def test_another_cloud_is_no_truth():
    cloud = truth_cloud(truth(2), START_NS, "base_link")
    next(f for f in cloud.fields if f.name == "pixels").name = "flags"
    with pytest.raises(BadMessage, match="lacks pixels"):
        read_truth_cloud(cloud, CLASSES)
    with pytest.raises(BadMessage, match="bad_class"):
        read_truth_cloud(truth_cloud(truth(9), START_NS, "base_link"), CLASSES[:1])
