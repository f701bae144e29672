"""Tracks: objects keep their number, the vehicle's motion moves nothing, time goes on straight."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from moving_objects import CLASSES, MS, STILL, Objects, driving, nearest_ids, run

from perception_bev.contracts import Boxes3D
from perception_bev.errors import ShapeMismatch
from perception_bev.geometry import SE3, wrap_angle
from perception_bev.outputs.track import BRIDGE_NS, Tracker, TrackSettings

# A busy computer is no failure: no limits of time.
LAW = settings(max_examples=20, deadline=None,
               suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
TIMES = np.arange(0, 3, 0.1)
CROSSING = Objects([(-15, -3), (15, 3), (0, 20), (8, -12), (20, 20), (5, 8)],
                   [(10, 0), (-10, 0), (0, -1.4), (1.2, 0), (0, 0), (0, 5)],
                   label=[0, 0, 2, 2, 4, 3])


def one(**values) -> Objects:
    return Objects([(10, 2)], [(6, -2)], **values)


def ns(t):
    return round(t * 1e9)


# -- ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("known_velocity", (True, False))
@pytest.mark.parametrize("ego", (driving(0.0), driving(15.0), driving(12.0, 0.6),
                                 driving(-3.0, -0.3)))
def test_truth_has_no_id_switch(ego, known_velocity):
    tracker = Tracker(CLASSES)
    ids = [nearest_ids(tracks, CROSSING.boxes(t, ego(t))) for t, tracks in zip(
        TIMES, run(tracker, CROSSING, TIMES, ego, known_velocity=known_velocity), strict=True)]
    assert (np.array(ids) == ids[0]).all() and (ids[0] > 0).all()
    assert len(set(ids[0])) == len(CROSSING)


@pytest.mark.parametrize("known_velocity", (True, False))
def test_an_id_survives_a_second_without_detections(known_velocity):
    def seen(k, n):
        return np.full(n, not 10 <= k < 20)
    tracks = run(Tracker(CLASSES), CROSSING, TIMES, driving(8.0, 0.2), seen,
                 known_velocity=known_velocity)
    for t, now in zip(TIMES, tracks, strict=True):
        np.testing.assert_array_equal(now.id, tracks[0].id)
        if known_velocity:
            truth = CROSSING.boxes(t, driving(8.0, 0.2)(t))
            assert (nearest_ids(now, truth, within=0.3) > 0).all(), "hidden ones go on straight"
    assert tracks[9].unseen_s.max() == 0
    np.testing.assert_allclose(tracks[19].unseen_s, 1.0)
    np.testing.assert_allclose(tracks[19].boxes.score, tracks[9].boxes.score * np.exp(-1), 1e-5)
    assert tracks[20].unseen_s.max() == 0


def test_a_second_of_noisy_walkers_behind_a_lorry():
    walkers = Objects([(5, -4), (8, 4)], [(0, 1.3), (0, -1.2)], label=2)
    rng = np.random.default_rng(4)
    tracks = run(Tracker(CLASSES), walkers, np.arange(0, 5, 0.1), noise=rng,
                 seen=lambda k, n: np.full(n, not 20 <= k < 30), known_velocity=False)
    assert {tuple(now.id) for now in tracks} == {(1, 2)}


def closest(objects, times):
    """How near two of the objects ever come [m]."""
    xy = objects.xy + objects.velocity * np.asarray(times)[:, None, None]
    apart = np.linalg.norm(xy[:, :, None] - xy[:, None], axis=3)
    return (apart + 1e9 * np.eye(len(objects))).min()


@LAW
@given(seed=st.integers(0, 2**32 - 1))
def test_ids_are_unique_and_stay_with_crossing_objects(seed):
    """Straight ways through a common place, never two objects within 1.5 m of each other."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-np.pi, np.pi, 5)
    velocity = np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(4, 8, (5, 1))
    late = np.arange(5)[:, None] - 2.0  # [s] each passes the place at a time of its own
    objects = Objects(-velocity * late, velocity, label=rng.integers(0, 2, 5))
    times, pose = np.arange(-3, 3, 0.1), driving(5.0, 0.3)
    assume(closest(objects, times) > 1.5)
    known = bool(rng.integers(0, 2))
    tracks = run(Tracker(CLASSES), objects, times, pose, known_velocity=known)
    for t, now in zip(times, tracks, strict=True):
        assert len(set(now.id)) == len(now) == 5
        np.testing.assert_array_equal(nearest_ids(now, objects.boxes(t, pose(t))),
                                      nearest_ids(tracks[0], objects.boxes(times[0],
                                                                           pose(times[0]))))


@LAW
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_boxes_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    objects = Objects(rng.uniform(-30, 30, (12, 2)), rng.normal(0, 4, (12, 2)),
                      label=rng.integers(0, 5, 12))
    scores = rng.uniform(0.1, 1.0, (8, 12)).astype(np.float32)
    one, two = Tracker(CLASSES), Tracker(CLASSES)
    for k in range(8):
        boxes = objects.boxes(0.1 * k, score=scores[k])
        a = one.update(boxes, STILL, 100 * MS * k)
        b = two.update(boxes[rng.permutation(12)], STILL, 100 * MS * k)
        np.testing.assert_array_equal(a.id, b.id)
        np.testing.assert_array_equal(a.boxes.centre, b.boxes.centre)


def test_ids_are_never_used_again():
    tracker, ids = Tracker(CLASSES), []
    for k in range(40):  # a new object every 2 s, far from the one before
        tracks = tracker.update(Objects([(20 * (k % 2), 0)], [(0, 0)]).boxes(0), STILL,
                                2000 * MS * k)
        ids += tracks.id.tolist()
    assert ids == list(range(1, 41))


# -- motion --------------------------------------------------------------------------------------


@LAW
@given(speed=st.floats(-10, 30), yaw_rate=st.floats(-1, 1), x=st.floats(-1e5, 1e5),
       yaw=st.floats(-3, 3))
def test_the_vehicle_s_motion_moves_nothing(speed, yaw_rate, x, yaw):
    """Any twist, anywhere in odom, on a slope too: what stands still stands still."""
    start = SE3.from_rpy(np.array([x, -x / 3, 4.0]), np.array([0.02, -0.05, yaw]))
    ego = driving(speed, yaw_rate, start)
    places = np.array([(15, 5), (-8, 3), (4, -20)])
    standing = Objects(start.translation[:2] + places, (0, 0), [0, 2, 4], yaw=[0.3, 1, 2])
    tracks = run(Tracker(CLASSES), standing, TIMES[:12], ego, known_velocity=False)
    for t, now in zip(TIMES, tracks, strict=False):
        truth = standing.boxes(t, ego(t))
        np.testing.assert_allclose(now.boxes.centre, truth.centre, atol=2e-3)
        np.testing.assert_allclose(np.nan_to_num(now.boxes.velocity), 0, atol=1e-2)
        assert np.abs(wrap_angle(now.boxes.yaw - truth.yaw)).max() < 1e-3


@LAW
@given(ahead_ms=st.integers(-200, 1400), speed=st.floats(-5, 20), yaw_rate=st.floats(-0.8, 0.8))
def test_prediction_is_straight_motion_and_changes_nothing(ahead_ms, speed, yaw_rate):
    tracker, ego = Tracker(CLASSES), driving(speed, yaw_rate)
    run(tracker, CROSSING, TIMES, ego)
    t = TIMES[-1] + ahead_ms / 1e3
    first, again = (tracker.predict(ns(t), ego(t)) for _ in range(2))
    assert first.predicted and first.stamp_ns == ns(t)
    truth = CROSSING.boxes(t, ego(t))
    by_id = np.argsort(nearest_ids(first, truth))
    np.testing.assert_allclose(first.boxes.centre, truth.centre[by_id], atol=0.01)
    np.testing.assert_allclose(first.boxes.velocity, truth.velocity[by_id], atol=0.01)
    np.testing.assert_array_equal(first.boxes.centre, again.boxes.centre)
    np.testing.assert_allclose(first.unseen_s, max(ahead_ms / 1e3, 0), atol=1e-9)


def test_steps_of_any_length_find_the_velocity():
    times = np.cumsum(np.random.default_rng(1).choice([0.05, 0.1, 0.1, 0.3], 40))
    tracks = run(Tracker(CLASSES), one(), times, known_velocity=False)
    assert {tuple(now.id) for now in tracks} == {(1,)}
    np.testing.assert_allclose(tracks[-1].boxes.velocity[0], (6, -2), atol=0.05)


def test_a_velocity_that_nobody_knows_yet_is_not_standing_still():
    """It would be 0, whoever is new."""
    tracks = run(Tracker(CLASSES), one(), TIMES[:6], known_velocity=False)
    known = [bool(np.isfinite(now.boxes.velocity).all()) for now in tracks]
    assert known[0] is False and known[3:] == [True] * 3
    np.testing.assert_allclose(tracks[3].boxes.velocity[0], (6, -2), atol=1.0)
    hidden = run(Tracker(CLASSES), one(), TIMES[:20], seen=lambda k, n: np.full(n, k < 5))
    assert all(np.isfinite(now.boxes.velocity).all() for now in hidden), "nor is it forgotten"


def test_a_measured_velocity_is_known_at_once_and_an_absurd_one_is_not_believed():
    tracker = Tracker(CLASSES)
    assert tracker.update(one().boxes(0), STILL, 0).boxes.velocity[0] == pytest.approx((6, -2))
    run(tracker, one(), TIMES)
    boxes = one().boxes(3.0)
    boxes.velocity[:] = (6, 60)
    assert tracker.update(boxes, STILL, ns(3.0)).boxes.velocity[0] == pytest.approx((6, -2), abs=.1)


def test_a_walker_is_given_less_agility_than_a_car():
    """Where a walker's velocity would have to be 16 m/s, it is another walker."""
    for label, same in ((2, False), (0, True)):
        tracker = Tracker(CLASSES)
        run(tracker, Objects([(5, 0)], [(0, 0)], label, yaw=0), TIMES[:2], known_velocity=False)
        moved = Objects([(6.6, 0)], [(0, 0)], label, yaw=0)
        assert (len(run(tracker, moved, [0.2], known_velocity=False)[0]) == 1) == same


# -- birth and death -----------------------------------------------------------------------------


def lengths(scores, **values):
    tracker = Tracker(CLASSES, TrackSettings(**values))
    found = []
    for k, score in enumerate(scores):
        boxes = one().boxes(0.1 * k, score=score or 0.0)
        found.append(len(tracker.update(boxes, STILL, 100 * MS * k)))
    return found


def test_a_track_is_confirmed_after_some_hits_or_at_once():
    assert lengths([0.3, 0.3, 0.3, 0.3]) == [0, 0, 1, 1]
    assert lengths([0.6]) == [1]
    assert lengths([0.3, 0.3], confirm_hits=1) == [1, 1]
    assert lengths([0.3, None, 0.3, 0.3]) == [0, 0, 0, 1], "one miss is forgiven"
    assert lengths([0.3, None, None, 0.3, 0.3]) == [0] * 5, "two are not"
    assert lengths([0.3, 0.3, 0.8]) == [0, 0, 1]


def test_faint_boxes_continue_a_track_and_begin_none():
    assert lengths([0.15] * 9) == [0] * 9
    assert lengths([0.9] + [0.15] * 30) == [1] * 31
    assert lengths([0.9] + [0.05] * 20)[-4:] == [0] * 4, "too faint for that"


def test_a_faint_box_does_not_take_a_track_from_a_sure_one():
    tracker = Tracker(CLASSES)
    run(tracker, one(), TIMES[:5])
    near, true = one().boxes(0.5, score=0.15), one().boxes(0.5, score=0.5)
    true.centre[:, 1] += 0.6
    both = Boxes3D(*(np.concatenate([getattr(b, n) for b in (near, true)]) for n in (
        "centre", "size", "yaw", "score", "label")), CLASSES, np.concatenate(
        [near.velocity, true.velocity]))
    tracks = tracker.update(both, STILL, 500 * MS)
    assert len(tracks) == 1 and tracks.boxes.centre[0, 1] > near.centre[0, 1] + 0.1


def test_a_track_dies_when_nobody_saw_it_for_too_long():
    tracker = Tracker(CLASSES)
    run(tracker, one(), TIMES[:10])
    none = Boxes3D.empty(CLASSES)
    assert len(tracker.update(none, STILL, ns(0.9 + 1.5))) == 1
    assert len(tracker.predict(ns(0.9 + 1.6), STILL)) == 0
    assert len(tracker.update(none, STILL, ns(0.9 + 1.6))) == 0 == len(tracker)


def test_an_object_is_found_again_behind_a_gap_in_the_stream():
    tracker = Tracker(CLASSES)
    run(tracker, CROSSING, TIMES[:10])
    after = run(tracker, CROSSING, [2.1])[0]
    np.testing.assert_array_equal(after.id, np.arange(1, 7))


@pytest.mark.parametrize("gap_s", (1.6, 60.0))
def test_behind_a_gap_longer_than_a_life_everything_is_new(gap_s):
    """After a minute a track could be anywhere: it would take whatever comes."""
    tracker = Tracker(CLASSES)
    run(tracker, CROSSING, TIMES[:10], known_velocity=False)
    others = Objects(CROSSING.xy + 4.0, CROSSING.velocity, CROSSING.label)
    after = run(tracker, others, [0.9 + gap_s], known_velocity=False)[0]
    np.testing.assert_array_equal(after.id, np.arange(7, 13))
    assert (after.hits == 1).all() and (after.age_s == 0).all()


def test_tracks_are_bounded_and_the_loss_is_counted():
    objects = Objects(np.column_stack([np.arange(30) * 10, np.zeros(30)]), (0, 0))
    tracker = Tracker(CLASSES, TrackSettings(max_tracks=20))
    score = np.linspace(0.6, 0.9, 30).astype(np.float32)
    for k in range(3):
        tracks = tracker.update(objects.boxes(0, score=score), STILL, 100 * MS * k)
    assert len(tracks) == len(tracker) == 20 and tracker.counts["no room"] == 30
    assert tracks.boxes.score.min() >= 0.7, "the best have room"


def test_a_detection_of_another_kind_is_another_object():
    tracker = Tracker(CLASSES)
    run(tracker, one(label=0), TIMES[:5])
    assert run(tracker, one(label=1), [0.5])[0].id.tolist() == [1], "a lorry may be that car"
    assert run(tracker, one(label=2), [0.6])[0].id.tolist() == [1, 2], "a walker may not"


def test_the_class_is_what_most_detections_say():
    tracker = Tracker(CLASSES)
    for k in range(12):
        tracks = run(tracker, one(label=1 if k % 4 == 2 else 0), [0.1 * k])[0]
    assert tracks.boxes.label.tolist() == [0] and tracks.hits.tolist() == [12]
    assert tracks.age_s == pytest.approx(1.1)


# -- heading -------------------------------------------------------------------------------------


def headings(yaws, velocity=(0, 0), known_velocity=True):
    tracker = Tracker(CLASSES)
    return [run(tracker, Objects([(5, 5)], [velocity], yaw=yaw), [0.1 * k],
                known_velocity=known_velocity)[0].boxes.yaw[0] for k, yaw in enumerate(yaws)]


def test_one_heading_the_wrong_way_round_changes_nothing():
    found = headings([0.4] * 5 + [0.4 + np.pi] + [0.4] * 3)
    np.testing.assert_allclose(found, 0.4, atol=1e-5)


def test_the_heading_turns_round_when_detections_insist():
    found = headings([0.4] + [0.4 - np.pi] * 8)
    assert found[0] == pytest.approx(0.4) and found[-1] == pytest.approx(0.4 - np.pi)


def test_who_drives_forward_heads_forward():
    found = headings([np.pi] * 15, velocity=(8, 0))
    assert np.abs(found[-1]) < 1e-5, "boxes say backwards, motion knows better"


def test_who_parks_backwards_keeps_its_heading():
    np.testing.assert_allclose(np.abs(headings([np.pi] * 15, velocity=(0.8, 0))), np.pi, atol=1e-5)


def test_a_noisy_axis_is_smoothed():
    rng = np.random.default_rng(0)
    given_yaw = 0.7 + rng.normal(0, 0.2, 200) + np.pi * (rng.random(200) < 0.1)
    error = wrap_angle(np.array(headings(given_yaw))[5:] - 0.7)
    assert np.std(error) < 0.12 and np.abs(error).max() < 0.6


# -- epochs, poses, bad input --------------------------------------------------------------------


@pytest.mark.parametrize("change", ({"epoch": 1}, {"generation": 1}))
def test_nothing_is_remembered_across(change):
    tracker = Tracker(CLASSES)
    run(tracker, one(), TIMES[:5])
    tracks = tracker.update(one().boxes(0.5), STILL, ns(0.5), **change)
    assert tracks.id.tolist() == [2] and tracks.hits.tolist() == [1]
    assert sum(tracker.counts.values()) == 1
    assert tracker.update(one().boxes(0.6), STILL, ns(0.6), **change).id.tolist() == [2]


def test_time_that_runs_back_begins_anew():
    tracker = Tracker(CLASSES)
    run(tracker, one(), TIMES)
    assert tracker.update(one().boxes(0), STILL, 0).id.tolist() == [2]
    assert tracker.counts == {"reset: time ran back": 1}


def test_tracks_are_not_seen_from_another_time_or_odometry():
    tracker = Tracker(CLASSES)
    run(tracker, one(), TIMES[:5])
    for same in ({}, {"epoch": 0}, {"generation": 0}):
        assert tracker.knows(ns(0.5), **same) and len(tracker.predict(ns(0.5), STILL, **same)) == 1
    for other in ({"epoch": 1}, {"generation": 3}):
        assert not tracker.knows(ns(0.5), **other)
        assert tracker.predict(ns(0.5), STILL, **other) is None
    assert not tracker.knows(ns(0.4 + 1.6)), "too long ago to say that there is nothing"


def test_a_tracker_that_saw_nothing_knows_nothing():
    tracker = Tracker(CLASSES)
    assert not tracker.knows(0) and tracker.predict(0, STILL) is None
    tracker.update(Boxes3D.empty(CLASSES), STILL, 0)
    assert tracker.knows(0) and len(tracker.predict(0, STILL)) == 0


def test_without_ego_motion_the_vehicle_stands_still():
    """What stands in odom comes nearer: its velocity is relative, also where a head measures it."""
    tracker, ego = Tracker(CLASSES), driving(9.0)
    standing = Objects([(40, 3)], [(0, 0)], yaw=0)
    for t in TIMES:
        tracks = tracker.update(standing.boxes(t, ego(t)), None, ns(t))
    assert tracks.id.tolist() == [1]
    assert tracks.boxes.velocity[0] == pytest.approx((-9, 0), abs=0.1)
    ahead = tracker.predict(ns(TIMES[-1] + 0.5), None)
    truth = standing.boxes(0, ego(TIMES[-1] + 0.5))
    assert ahead.boxes.centre[0] == pytest.approx(truth.centre[0], abs=0.1)


def test_short_gaps_of_ego_motion_are_bridged():
    tracker, ego = Tracker(CLASSES), driving(12.0, 0.2)
    for k, t in enumerate(TIMES):
        pose = ego(t) if k % 6 < 2 else None  # 400 ms are missing, again and again
        tracks = tracker.update(CROSSING.boxes(t, ego(t)), pose, ns(t))
        np.testing.assert_array_equal(tracks.id, np.arange(1, 7))
    assert not tracker.counts


def test_long_gaps_of_ego_motion_begin_anew():
    tracker = Tracker(CLASSES)
    run(tracker, one(), TIMES[:5])
    late = ns(TIMES[4]) + BRIDGE_NS + 1
    assert tracker.knows(late) and tracker.predict(late, None) is None, "where is the vehicle?"
    assert tracker.update(one().boxes(0.9), None, late).id.tolist() == [2]
    assert tracker.update(one().boxes(1.0), STILL, late + 1).id.tolist() == [3]
    assert tracker.counts == {"reset: ego motion was lost": 1, "reset: ego motion came": 1}


def test_boxes_that_are_not_finite_are_counted_and_left_out():
    tracker = Tracker(CLASSES)
    boxes = CROSSING.boxes(0)
    boxes.centre[0, 0], boxes.yaw[1], boxes.score[2] = np.inf, np.nan, np.nan
    assert len(tracker.update(boxes, STILL, 0)) == 3 and tracker.counts["not finite"] == 3


def test_other_classes_are_an_error():
    with pytest.raises(ShapeMismatch, match="tram"):
        Tracker(("tram",)).update(one().boxes(0), STILL, 0)


def test_classes_that_nobody_knows_are_tracked_too():
    tracker = Tracker(("tram", "Car"))
    for k in range(5):
        boxes = one().boxes(0.1 * k)
        tracks = tracker.update(Boxes3D(boxes.centre, boxes.size, boxes.yaw, boxes.score,
                                        boxes.label, ("tram", "Car")), STILL, 100 * MS * k)
    assert tracks.id.tolist() == [1]
