"""Tracks in the pipeline's output: of its t_ref, carried on where a bundle fails, never across
epochs. The weights are random, so the same pictures again are what makes the same objects."""

import numpy as np
from driving import START_NS, Drive, counted, same_boxes
from small_car import MS

from perception_bev.errors import EngineFailed
from perception_bev.geometry import SE3
from perception_bev.latency.trace import Trace


def standing(drive: Drive, first: int, count: int) -> list:
    """Cycles in which all sensors see the same again and again."""
    return [output for k in range(first, first + count) for output in drive.cycle(k, seed=0)]


def sensitive(drive: Drive) -> Drive:
    """The scores of random weights are low."""
    scores = drive.cycle(0, seed=0)[0].boxes.score
    assert len(scores) > 4
    settings = drive.perception.tracker.settings
    object.__setattr__(settings, "sure_score", float(np.median(scores)))
    return drive


def test_what_stays_is_a_track_of_its_own_at_t_ref(tiny_model):
    with Drive(tiny_model) as drive:
        outputs = standing(sensitive(drive), 1, 5)
    for output in outputs:
        assert output.tracks.stamp_ns == output.t_ref_ns and not output.tracks.predicted
        assert len(set(output.tracks.id)) == len(output.tracks)
    assert len(outputs[-1].tracks) > 0
    assert set(outputs[-2].tracks.id) <= set(outputs[-1].tracks.id)
    assert (outputs[-1].tracks.unseen_s == 0).any()


def test_a_bundle_that_fails_has_the_tracks_of_before(tiny_model):
    with Drive(tiny_model) as drive:
        before = standing(sensitive(drive), 1, 5)[-1].tracks
        counted(drive.perception)["fuse"].error = EngineFailed("fuse: out of memory")
        assert standing(drive, 6, 1) == []
        failure = drive.perception.last_failure
        assert standing(drive, 7, 20) == []
        too_late = drive.perception.last_failure
    assert failure.tracks.predicted and failure.tracks.stamp_ns == START_NS + 600 * MS
    np.testing.assert_array_equal(failure.tracks.id, before.id)
    np.testing.assert_allclose(failure.tracks.unseen_s, before.unseen_s + 0.1)
    assert too_late.tracks is None, "nobody knows any more, which is not an empty street"


def test_a_bundle_that_fails_where_nobody_knows_has_no_tracks(tiny_model):
    """Odometry has ended, too: an empty array would say that the street is empty."""
    with Drive(tiny_model) as drive:
        for k in range(8):
            drive.perception.push_odometry(START_NS + 100 * MS * k, SE3.identity(), np.zeros(3),
                                           np.zeros(3))
            drive.cycle(k, seed=0)
        assert drive.perception.tracker._frame.moving
        counted(drive.perception)["fuse"].error = EngineFailed("fuse: out of memory")
        bridged, lost = (last_of(drive, k).tracks for k in (10, 14))
    assert bridged is not None and bridged.predicted
    assert lost is None, "the boxes are younger than a track's life, the pose is not known"


def last_of(drive: Drive, cycle: int):
    assert standing(drive, cycle, 1) == []
    return drive.perception.last_failure


def test_a_first_bundle_that_fails_has_no_tracks(tiny_model):
    with Drive(tiny_model) as drive:
        drive.perception.warm_up()
        counted(drive.perception)["fuse"].error = EngineFailed("fuse: out of memory")
        assert drive.cycle(0) == []
        assert drive.perception.last_failure.tracks is None


def test_tracks_do_not_outlive_their_epoch(tiny_model):
    with Drive(tiny_model) as drive:
        before = standing(sensitive(drive), 1, 5)[-1].tracks
        drive.perception.new_epoch("announced")
        after = standing(drive, 8, 5)[-1].tracks
        assert drive.perception.condition().drops["tracks", "reset: epoch"] == 1
    assert len(after) > 0 and not set(before.id) & set(after.id)


def test_faint_boxes_are_for_the_tracker_alone(tiny_model):
    """What is published does not depend on how faint the boxes are that continue tracks."""
    with Drive(tiny_model) as drive:
        whole = drive.cycle(0)[0]
        middle = float(np.median(whole.boxes.score))
        found = []
        for faint in (0.0, 1.0):
            object.__setattr__(drive.perception.tracker.settings, "faint_score", faint)
            found.append(drive.perception.process(whole.bundle, Trace(0, 0),
                                                  score_threshold=middle).boxes)
    assert 0 < len(found[0]) < len(whole.boxes) and same_boxes(*found)
    assert same_boxes(found[0], whole.boxes[whole.boxes.score > middle])
