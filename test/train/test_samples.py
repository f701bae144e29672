"""Laws of training samples: the same build() as live, honest masks, honest targets."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import T_REF, ConstantTwist, bundle, manifest, truth, vehicle

from perception_bev.contracts import Boxes3D, LidarSweep, RadarScan, SensorBundle, Slot
from perception_bev.inputs.build import InputBuilder
from perception_bev.inputs.view import IDENTITY
from perception_bev.outputs.heads import encode
from perception_bev.recordings.base import Truth, Visibility
from perception_bev.train import samples
from perception_bev.train.samples import Labelled, SampleMaker, TrainingSample, points_in_boxes

MODEL, CAR = manifest(), vehicle()
CLASSES = {"Car": "car", "Person": "pedestrian", "Tram": None}
CAMERA, LIDAR, RADAR, SIDE = range(4)


def item(seed: int = 0) -> Labelled:
    return Labelled(str(seed), bundle(CAR, seed), CAR, truth(tuple(CLASSES), seed, n=6))


def made(seed: int, one: Labelled | None = None) -> TrainingSample:
    return SampleMaker(MODEL, CLASSES).make(one or item(), np.random.default_rng(seed))


def test_a_seed_gives_a_sample_and_another_seed_another():
    first, again, other = made(1), made(1), made(2)
    for name in ("pictures", "lift_index", "lift_weight", "lidar", "radar", "context"):
        assert (getattr(first, name) == getattr(again, name)).all()
    assert (first.targets.heat == again.targets.heat).all()
    assert not np.array_equal(first.targets.heat, other.targets.heat)


def test_what_is_absent_is_zero_and_every_mask_occurs():
    maker, masks = SampleMaker(MODEL, CLASSES), []
    for seed in range(60):
        sample = maker.make(item(), np.random.default_rng(seed))
        camera, lidar, radar, side = sample.context
        assert sample.pictures.any() == sample.lift_weight.any() == bool(camera)
        assert sample.lidar.any() == bool(lidar)
        assert sample.radar.any() == bool(radar)
        assert abs(side) == 1
        masks.append((camera, lidar, radar))
    assert len(set(masks)) == 7  # all but none at all
    assert 0.35 < np.mean([m == (1, 1, 1) for m in masks]) < 0.65


def test_without_augmentation_it_is_what_runs_live(monkeypatch):
    monkeypatch.setattr(samples, "_random_view", lambda *_: IDENTITY)
    monkeypatch.setattr(samples, "_random_modalities", lambda *_: ("camera", "lidar", "radar"))
    monkeypatch.setattr(samples, "_random_picture", lambda image, view, rng: image)
    one = item()
    sample, live = made(0, one), InputBuilder(MODEL, CAR).build(one.bundle)
    for name in ("lidar", "radar", "context"):
        assert (getattr(sample, name) == getattr(live, name)[0]).all()
    for name in ("lift_index", "lift_weight"):
        assert (getattr(sample, name) == getattr(live, name)).all()
    for name, slot in live.camera_slots.items():
        assert (sample.pictures[slot] == one.bundle.slots[name].newest.image).all()
    learned = one.truth.boxes[one.truth.boxes.label != 2]
    labels = Boxes3D(learned.centre, learned.size, learned.yaw, learned.score, learned.label,
                     MODEL.classes)
    other = one.truth.boxes[one.truth.boxes.label == 2]
    expected = encode(IDENTITY.boxes(labels, live.plane), IDENTITY.boxes(other, live.plane), MODEL)
    assert (sample.targets.heat == expected.heat).all()
    assert (sample.targets.valid == expected.valid).all()


def test_samples_do_not_share_the_builder_s_buffers():
    maker = SampleMaker(MODEL, CLASSES)
    first = maker.make(item(0), np.random.default_rng(1))
    kept = {name: getattr(first, name).copy() for name in ("lidar", "radar", "lift_weight")}
    for seed in range(6):
        maker.make(item(5), np.random.default_rng(seed))
    assert all((getattr(first, name) == value).all() for name, value in kept.items())


@pytest.mark.parametrize("mirror", [False, True])
def test_mirrored_scenes_have_mirrored_pictures_and_the_other_driving_side(monkeypatch, mirror):
    monkeypatch.setattr(samples, "_random_view",
                        lambda *_: samples.View.augmented(mirror=mirror))
    monkeypatch.setattr(samples, "_random_modalities", lambda *_: ("camera",))
    monkeypatch.setattr(samples, "CONTRAST", 0.0)
    monkeypatch.setattr(samples, "BRIGHTNESS", 0.0)
    one = item()
    sample = made(0, one)
    picture = one.bundle.slots["front"].newest.image
    assert (sample.pictures[0] == (picture[:, ::-1] if mirror else picture)).all()
    assert sample.context[SIDE] == (-1 if mirror else 1)
    assert (picture == bundle(CAR, 0).slots["front"].newest.image).all()  # not changed in place


def test_changed_brightness_stays_a_picture():
    for seed in range(8):
        pictures = made(seed).pictures
        assert pictures.dtype == np.uint8


# -- what is to be found ---------------------------------------------------------------------------


def one_car(*sensors: str) -> Labelled:
    """A car at (10, 2), with a point in it for each of these sensors."""
    boxes = Boxes3D(np.array([[10, 2, 0.8]], np.float32), np.array([[4, 1.8, 1.5]], np.float32),
                    np.array([0.5], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32),
                    tuple(CLASSES))
    at = np.array([[10.3, 2.1, 0.9]], np.float32)
    slots = {name: Slot(reason="missing") for name in CAR.rig.sensors}
    for name in CAR.rig.sensors:
        here = CAR.base_from_sensor[name].inverse().apply(at if name in sensors else at + 50)
        if CAR.rig.modality(name) == "lidar":
            slots[name] = Slot((LidarSweep(T_REF, np.pad(here, ((0, 0), (0, 1)))),), 0)
        elif CAR.rig.modality(name) == "radar":
            one = np.zeros(1, np.float32)
            slots[name] = Slot((RadarScan(T_REF, here, one, one),), 0)
        else:
            slots[name] = bundle(CAR).slots[name]
    return Labelled("one", SensorBundle(T_REF, 0, 0, slots), CAR,
                    Truth(boxes, np.zeros(1, np.int32), np.ones(1, bool)))


@pytest.mark.parametrize(("sensors", "modalities", "count"), [
    (("top",), ("lidar",), 1), (("top",), ("radar",), 0), ((), ("lidar", "radar"), 0),
    (("corner_radar", "front_radar"), ("radar",), 2), (("top", "front_radar"), ("camera",), 0)])
def test_points_are_counted_in_boxes_by_modality(sensors, modalities, count):
    assert points_in_boxes(one_car(*sensors), modalities).tolist() == [count]


@pytest.mark.parametrize(("place", "inside"), [
    ((1.9, 0, 0), True), ((2.2, 0, 0), False), ((0, 0.95, 0), True), ((0, 1.1, 0), False),
    ((0, 0, 1.0), True), ((0, 0, 1.1), False)])  # above and below, 20 cm more
def test_a_hand_s_breadth_around_a_box_belongs_to_it(place, inside):
    one = one_car()
    box = one.truth.boxes
    cos, sin = np.cos(box.yaw[0]), np.sin(box.yaw[0])
    turned = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ place
    at = CAR.base_from_sensor["top"].inverse().apply(box.centre + turned.astype(np.float32))
    one.bundle.slots["top"].newest.points[0, :3] = at[0]
    assert points_in_boxes(one, ("lidar",)).tolist() == [int(inside)]


@pytest.mark.parametrize(("sensors", "present", "learned"), [
    (("top",), ("lidar",), True), ((), ("lidar",), False), ((), ("camera",), True),
    (("top",), ("radar",), False), (("front_radar",), ("lidar", "radar"), True)])
def test_what_no_active_sensor_sees_is_ignored_not_taught(monkeypatch, sensors, present, learned):
    monkeypatch.setattr(samples, "_random_view", lambda *_: IDENTITY)
    monkeypatch.setattr(samples, "_random_modalities", lambda *_: present)
    targets = made(0, one_car(*sensors)).targets
    assert (targets.heat == 1).any() == learned
    assert (targets.valid == 0).any() == (not learned)


def test_a_class_that_is_not_to_be_learned_is_ignored(monkeypatch):
    monkeypatch.setattr(samples, "_random_view", lambda *_: IDENTITY)
    monkeypatch.setattr(samples, "_random_modalities", lambda *_: ("camera",))
    one = one_car("top")
    one.truth.boxes.label[:] = 2
    targets = made(0, one).targets
    assert not (targets.heat == 1).any()
    assert (targets.valid == 0).any()
    one.truth.boxes.label[:] = 1
    assert (made(0, one).targets.heat[1] == 1).sum() == 1


# -- cameras lost, views, and what the recording says was seen -------------------------------------


def all_round():
    return manifest(grid={"x_min": -12, "x_max": 12, "y_min": -12, "y_max": 12, "cell": 0.5})


def test_single_cameras_are_lost_now_and_then_but_never_the_last():
    lost = [samples._random_lost_cameras(item(), np.random.default_rng(seed))
            for seed in range(200)]
    assert 0.15 < np.mean([len(names) > 0 for names in lost]) < 0.35
    assert {len(names) for names in lost} == {0, 1}
    assert set(lost) == {(), ("front",), ("left",)}


def test_a_lost_camera_is_read_by_no_cell_and_the_others_are(monkeypatch):
    monkeypatch.setattr(samples, "_random_lost_cameras", lambda item, rng: ("front",))
    monkeypatch.setattr(samples, "_random_modalities", lambda rng, weak: ("camera",))
    sample = made(0)
    pixels = MODEL.camera.feature_shape[0] * MODEL.camera.feature_shape[1]
    read = sample.lift_index[sample.lift_weight > 0]
    assert not sample.pictures[0].any()
    assert sample.pictures[1].any()
    assert read.min() >= pixels
    assert sample.context[CAMERA] == 1


def test_a_grid_all_round_is_turned_by_any_angle_and_one_ahead_by_a_little():
    def turns(model) -> np.ndarray:
        views = [samples._random_view(np.random.default_rng(seed), model) for seed in range(200)]
        return np.array([np.arctan2(v.linear[1, 0], v.linear[0, 0]) for v in views])

    assert np.abs(turns(MODEL)).max() <= samples.TURN_RAD + 1e-9
    angles = turns(all_round())
    assert np.histogram(angles, 4, (-np.pi, np.pi))[0].min() > 30


def test_where_velocity_is_learned_the_world_is_not_scaled():
    """Doppler and the ego motion would not be scaled with it."""
    fast = manifest(heads={"stride": 2, "velocity": True})
    for seed in range(20):
        view = samples._random_view(np.random.default_rng(seed), fast)
        assert abs(np.linalg.det(view.linear)) == pytest.approx(1.0)
        assert view.height_scale == 1.0


@pytest.mark.parametrize("sensors", [("lidar",), ("camera", "radar")])
def test_chosen_sensors_are_always_there_and_no_others(sensors):
    maker = SampleMaker(MODEL, CLASSES, sensors)
    for seed in range(10):
        context = maker.make(item(), np.random.default_rng(seed)).context
        assert [bool(c) for c in context[:3]] == [m in sensors for m in ("camera", "lidar",
                                                                        "radar")]


def seen(lidar_points=0, radar_returns=0, pixels=0, **slots) -> Labelled:
    """One car at (10, 2) of which the recording says who saw it; `front=None` takes it away."""
    one = one_car()
    count = Visibility(*(np.array([n], np.int32) for n in (lidar_points, radar_returns, pixels)))
    known = replace(one, truth=replace(one.truth, seen=count))
    return samples._without_cameras(known, tuple(slots))


@pytest.mark.parametrize(("account", "present", "found"), [
    ({"lidar_points": 1}, ("lidar",), True), ({"lidar_points": 1}, ("radar", "camera"), False),
    ({"radar_returns": 1}, ("radar",), True), ({"pixels": 40}, ("camera",), True),
    ({"pixels": 39}, ("camera",), False), ({"pixels": 40}, ("lidar", "radar"), False),
    ({}, ("camera", "lidar", "radar"), False)])
def test_seen_is_what_the_recording_says_of_the_sensors_that_are_there(account, present, found):
    assert samples.seen_by(seen(**account), present).tolist() == [found]


def test_what_only_a_lost_camera_showed_is_not_seen():
    for lost, found in (({"left": None}, True), ({"front": None}, False)):
        one = seen(pixels=500, **lost)
        one.truth.boxes.centre[0, 1] = -4.0  # in the front camera's view alone
        assert samples.seen_by(one, ("camera",)).tolist() == [found]


def test_a_modality_without_any_sensor_sees_nothing():
    one = seen(pixels=500)
    gone = samples._without_cameras(one, ("front", "left"))
    assert samples.seen_by(gone, ("camera", "lidar")).tolist() == [False]


def test_motion_is_compensated_as_it_is_live(monkeypatch):
    monkeypatch.setattr(samples, "_random_view", lambda *_: IDENTITY)
    monkeypatch.setattr(samples, "_random_modalities", lambda rng, weak: ("lidar", "radar"))
    ego = ConstantTwist((12.0, 0, 0), (0, 0, 0.3))
    one = replace(item(), ego=ego)
    live = InputBuilder(MODEL, CAR).build(one.bundle, ego, modalities=("lidar", "radar"))
    moved = made(0, one)
    assert (moved.lidar == live.lidar[0]).all()
    assert (moved.radar == live.radar[0]).all()
    assert (moved.lidar != made(0, item()).lidar).any()
