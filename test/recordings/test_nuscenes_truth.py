"""nuScenes' truth: the published rules, on a made-up world whose truth is known."""

import fake_nuscenes as fake
import numpy as np
import pytest

from perception_bev.geometry import SE3
from perception_bev.recordings import nuscenes_truth as rules
from perception_bev.recordings.nuscenes import CLASSES
from perception_bev.recordings.nuscenes_set import NuscenesRecording
from perception_bev.recordings.nuscenes_tables import ANNOTATION, Scene


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return NuscenesRecording(fake.write(tmp_path_factory.mktemp("nuscenes")), spacing="key_frame")


def annotated(*rows) -> Scene:
    """A scene of one object a tuple of (instance, sample, x); samples lie 0.5 s apart."""
    scene = Scene("s", "", "", sample_ns=[i * 500_000_000 for i in range(10)])
    scene.annotations = np.zeros(len(rows), ANNOTATION)
    for place, (instance, sample, x) in zip(scene.annotations, rows, strict=True):
        place["instance"], place["sample"], place["centre"] = instance, sample, (x, 2 * x, 0)
    return scene


def test_velocity_is_the_central_difference():
    found = rules.velocities(annotated((7, 0, 0.0), (7, 1, 1.0), (7, 2, 4.0)))
    np.testing.assert_allclose(found, [[2, 4], [4, 8], [6, 12]])


def test_velocity_is_of_the_object_itself():
    scene = annotated((7, 0, 0.0), (3, 0, 50.0), (7, 1, 1.0), (3, 1, 50.5), (9, 1, 3.0))
    found = rules.velocities(scene)
    np.testing.assert_allclose(found, [[2, 4], [1, 2], [2, 4], [1, 2], [np.nan, np.nan]])


def test_velocity_is_unknown_over_long_gaps():
    """1.5 s are enough between neighbours, twice that round an annotation."""
    assert np.isfinite(rules.velocities(annotated((1, 0, 0.0), (1, 3, 1.0)))).all()
    assert np.isnan(rules.velocities(annotated((1, 0, 0.0), (1, 4, 1.0)))).all()
    found = rules.velocities(annotated((1, 0, 0.0), (1, 3, 1.0), (1, 6, 2.0)))
    assert np.isfinite(found).all()
    found = rules.velocities(annotated((1, 0, 0.0), (1, 2, 1.0), (1, 7, 2.0)))
    assert np.isfinite(found[:1]).all() and np.isnan(found[1:]).all()
    assert rules.velocities(annotated()).shape == (0, 2)


def test_every_published_class_has_its_categories():
    assert set(rules.CLASS_OF.values()) == set(CLASSES)
    assert set(rules.RANGE_M) == {*CLASSES, rules.IGNORED}


def test_boxes_are_where_the_world_has_them(recording):
    kept = [t for t in fake.THINGS if t.category in rules.CLASS_OF]
    for index in range(3):
        boxes = recording[index].truth.boxes
        base = fake.global_from_base(fake.START_US + index * fake.KEY_US).inverse()
        assert [boxes.classes[i] for i in boxes.label] == [rules.CLASS_OF[t.category] for t in kept]
        for i, thing in enumerate(kept):
            place = base @ thing.place(0.5 * index)
            np.testing.assert_allclose(boxes.centre[i], place.translation, atol=1e-4)
            np.testing.assert_allclose(boxes.size[i], thing.size, atol=1e-6)
            assert boxes.yaw[i] == pytest.approx(place.yaw, abs=1e-5)
            velocity = base.rotation @ np.array([*thing.velocity, 0.0])
            np.testing.assert_allclose(boxes.velocity[i], velocity[:2], atol=1e-4)


def test_what_counts_is_near_seen_and_not_racked(recording):
    truth = recording[0].truth
    counts = {truth.boxes.classes[label]: bool(counted)
              for label, counted in zip(truth.boxes.label, truth.counted, strict=True)}
    assert counts == {"car": True, "pedestrian": True, "barrier": True, "bicycle": False,
                      "truck": False, "bus": False}
    assert truth.occlusion.tolist() == [0, 1, 2, 0, 0, 0]
    assert truth.seen.lidar_points.tolist() == [40, 40, 40, 40, 40, 0]
    assert truth.seen.radar_returns.tolist() == [1, 1, 1, 1, 1, 0]


def test_pixels_grow_with_nearness_and_need_a_camera_in_front(recording):
    first, last = recording[0].truth, recording[2].truth
    names = [first.boxes.classes[i] for i in first.boxes.label]
    barrier = names.index("barrier")
    assert 0 < first.seen.pixels[barrier] < last.seen.pixels[barrier], "the vehicle drives to it"
    assert (first.seen.pixels <= 6 * fake.WIDTH * fake.HEIGHT).all()


def test_tracks_are_the_objects(recording):
    tracks = [recording[i].truth.track.tolist() for i in range(6)]
    assert tracks[0] == tracks[1] == tracks[2] and tracks[3] == tracks[5]
    assert len(set(tracks[0])) == 6 and not set(tracks[0]) & set(tracks[3])


def test_other_categories_come_when_asked_for_and_never_count(recording):
    with_ignored = NuscenesRecording(recording._root, spacing="key_frame", with_ignored=True)
    truth = with_ignored[0].truth
    ignored = truth.boxes.label == truth.boxes.classes.index(rules.IGNORED)
    assert truth.boxes.classes == (*CLASSES, rules.IGNORED)
    assert ignored.sum() == 2 and not truth.counted[ignored].any()
    np.testing.assert_array_equal(truth.boxes.centre[~ignored], recording[0].truth.boxes.centre)


def labels(*rows) -> rules.Labels:
    """Of (instance, x, yaw, points); all move at 2 m/s along x."""
    table = np.zeros(len(rows), ANNOTATION)
    for place, (instance, x, yaw, points) in zip(table, rows, strict=True):
        place["instance"], place["centre"], place["lidar_points"] = instance, (x, 0, 0), points
        place["rotation"] = 0, 0, np.sin(yaw / 2), np.cos(yaw / 2)
    return rules.Labels(table, np.tile([2.0, 0.0], (len(rows), 1)), np.ones(len(rows), bool))


def test_between_key_frames_objects_move_and_turn_evenly():
    """The shorter way round, from 170 to -170 degrees over 180."""
    made = rules.between(labels((5, 1.0, np.deg2rad(170), 9), (4, 0.0, 0.0, 3)),
                         labels((4, 1.0, 0.4, 0), (5, 3.0, np.deg2rad(-170), 7)), 0.25, 0.5)
    assert made.rows["instance"].tolist() == [4, 5] and made.certain.all()
    np.testing.assert_allclose(made.rows["centre"][:, 0], [0.25, 1.5])
    yaw = 2 * np.arctan2(made.rows["rotation"][:, 2], made.rows["rotation"][:, 3])
    np.testing.assert_allclose(np.cos(yaw - [0.1, np.deg2rad(175)]), 1.0)
    assert made.rows["lidar_points"].tolist() == [0, 7]


def test_who_comes_or_goes_between_key_frames_is_uncertain(recording):
    made = rules.between(labels((1, 0.0, 0.0, 1), (2, 10.0, 0.0, 1)),
                         labels((2, 11.0, 0.0, 1), (3, 20.0, 0.0, 1)), 0.2, 0.5)
    assert made.rows["instance"].tolist() == [2, 1, 3]
    assert made.certain.tolist() == [True, False, False]
    np.testing.assert_allclose(made.rows["centre"][:, 0], [10.2, 0.2, 20 - 0.8])
    scene, calibration = recording._scenes[0], recording.calibration_of(0)
    truth = rules.truth(scene, made, SE3.identity(), calibration, with_ignored=True)
    assert truth.boxes.label.tolist() == [CLASSES.index("car"), len(CLASSES), len(CLASSES)]
    assert len(rules.truth(scene, made, SE3.identity(), calibration).boxes) == 1
