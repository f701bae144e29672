"""Laws of the values that rooms hand to each other: checked at birth, frozen, consistent."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_bev.contracts import (
    Boxes3D,
    CameraFrame,
    LidarSweep,
    RadarScan,
    SensorBundle,
    Slot,
    check_array,
)
from perception_bev.errors import ShapeMismatch


def f32(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def random_boxes(n: int, seed: int = 0) -> Boxes3D:
    rng = np.random.default_rng(seed)
    return Boxes3D(rng.normal(size=(n, 3)).astype(np.float32) * 20,
                   rng.uniform(0.5, 8, (n, 3)).astype(np.float32),
                   rng.uniform(-np.pi, np.pi, n).astype(np.float32),
                   rng.random(n).astype(np.float32),
                   rng.integers(0, 2, n).astype(np.int32), ("car", "truck"),
                   rng.normal(size=(n, 2)).astype(np.float32))


def test_check_array_says_what_was_expected_and_what_came():
    check_array("x", f32(7, 4), (None, 4), np.float32)
    with pytest.raises(ShapeMismatch, match=r"x: expected \(N, 4\) float32, got \(7, 3\) float64"):
        check_array("x", np.zeros((7, 3)), (None, 4), np.float32)


@pytest.mark.parametrize("make", [
    lambda: CameraFrame(0, f32(4, 4, 3)),
    lambda: CameraFrame(0, np.zeros((4, 4), np.uint8)),
    lambda: CameraFrame(0, np.zeros((4, 4, 4), np.uint8)),
    lambda: LidarSweep(0, f32(5, 3)),
    lambda: LidarSweep(0, np.zeros((5, 4))),
    lambda: LidarSweep(0, f32(5, 4), f32(4)),
    lambda: LidarSweep(0, f32(5, 4), np.zeros(5)),
    lambda: RadarScan(0, f32(5, 4), f32(5), f32(5)),
    lambda: RadarScan(0, f32(5, 3), f32(4), f32(5)),
    lambda: RadarScan(0, f32(5, 3), f32(5), f32(5, 1)),
    lambda: Boxes3D(f32(2, 3), f32(2, 3), f32(2), f32(1), np.zeros(2, np.int32), ("car",)),
    lambda: Boxes3D(f32(2, 3), f32(2, 3), f32(2), f32(2), np.zeros(2, np.int64), ("car",)),
    lambda: Boxes3D(f32(2, 2), f32(2, 3), f32(2), f32(2), np.zeros(2, np.int32), ("car",)),
    lambda: Boxes3D(f32(2, 3), f32(2, 3), f32(2), f32(2), np.zeros(2, np.int32), ("car",),
                    f32(2, 3)),
])
def test_wrong_shapes_and_types_are_refused_at_birth(make):
    with pytest.raises(ShapeMismatch, match="expected"):
        make()


def test_empty_frames_are_fine_and_know_their_modality():
    assert CameraFrame(0, np.zeros((4, 6, 3), np.uint8)).modality == "camera"
    assert LidarSweep(0, f32(0, 4), f32(0)).modality == "lidar"
    assert RadarScan(0, f32(0, 3), f32(0), f32(0)).modality == "radar"


def test_values_are_frozen():
    for value, name in ((LidarSweep(0, f32(0, 4)), "points"), (Slot(), "frames"),
                        (Boxes3D.empty(("car",)), "yaw")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)


def test_a_slot_is_present_when_it_has_a_frame_and_gives_the_newest():
    old, new = LidarSweep(1, f32(0, 4)), LidarSweep(2, f32(0, 4))
    assert not Slot(reason="stale").present
    assert Slot((old, new)).present
    assert Slot((old, new)).newest is new


def test_a_bundle_says_which_of_some_sensors_are_there():
    slots = {"a": Slot((LidarSweep(1, f32(0, 4)),)), "b": Slot(reason="late")}
    bundle = SensorBundle(10, 0, 0, slots)
    assert bundle.present(("b", "a")) == ("a",)
    assert bundle.present(()) == ()


def test_unknown_velocity_is_nan():
    boxes = Boxes3D(f32(2, 3), f32(2, 3), f32(2), f32(2), np.zeros(2, np.int32), ("car",))
    assert np.isnan(boxes.velocity).all()
    assert boxes.velocity.shape == (2, 2)
    assert len(Boxes3D.empty(("car",))) == 0
    assert Boxes3D.empty(("car",)).corners().shape == (0, 8, 3)


@given(chosen=st.lists(st.integers(0, 8), max_size=12))
def test_choosing_boxes_chooses_in_every_field(chosen):
    boxes = random_boxes(9)
    some = boxes[np.array(chosen, int)]
    assert len(some) == len(chosen)
    for name in ("centre", "size", "yaw", "score", "label", "velocity"):
        assert (getattr(some, name) == getattr(boxes, name)[chosen]).all()
    mask = np.isin(np.arange(9), chosen)
    assert (boxes[mask].centre == boxes.centre[mask]).all()
    assert len(boxes[2:5]) == 3


@given(seed=st.integers(0, 2**31))
def test_corners_lie_round_the_centre_at_the_size_s_distances(seed):
    boxes = random_boxes(4, seed)
    corners = boxes.corners()
    assert corners.dtype == np.float32
    assert np.allclose(corners.mean(axis=1), boxes.centre, atol=1e-4)
    length = np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1)
    width = np.linalg.norm(corners[:, 1] - corners[:, 2], axis=1)
    assert np.allclose(np.stack([length, width, corners[:, 4, 2] - corners[:, 0, 2]], 1),
                       boxes.size, atol=1e-4)
    forward = (corners[:, 0] - corners[:, 1])[:, :2] / length[:, None]
    assert np.allclose(forward, np.stack([np.cos(boxes.yaw), np.sin(boxes.yaw)], 1), atol=1e-3)
    a, b = corners[:, 1, :2] - corners[:, 0, :2], corners[:, 2, :2] - corners[:, 1, :2]
    assert (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] > 0).all()  # counter-clockwise from above


def test_the_first_corner_is_front_left():
    box = Boxes3D(f32(1, 3), np.array([[4, 2, 1]], np.float32), f32(1), f32(1),
                  np.zeros(1, np.int32), ("car",))
    assert box.corners()[0, 0].tolist() == [2, 1, -0.5]
    assert box.corners()[0, 4].tolist() == [2, 1, 0.5]
