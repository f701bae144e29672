"""Laws of rotations, rigid transforms and camera models."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev.errors import ConfigError, PerceptionError, ShapeMismatch
from perception_bev.geometry import (
    SE3,
    CameraModel,
    quaternion_from_rotation,
    rotation_from_quaternion,
    rotation_from_rotvec,
    rotation_from_rpy,
    rotvec_from_rotation,
    skew,
    wrap_angle,
)

K = np.array([[500.0, 0, 320.5], [0, 480.0, 239.0], [0, 0, 1]])
LENSES = {
    "pinhole": (),
    "plumb_bob": (-0.31, 0.12, 0.001, -0.0007, -0.02),
    "rational_polynomial": (0.4, -0.1, 0.0005, -0.0003, 0.02, 0.6, -0.05, 0.01),
    "equidistant": (-0.02, 0.004, -0.001, 0.0002),
}
unit = st.floats(-1, 1)
seeds = st.integers(0, 2**31)


def random_pose(rng: np.random.Generator) -> SE3:
    return SE3(rotation_from_rotvec(rng.normal(size=3) * 2), rng.normal(size=3) * 10)


def close(a: SE3, b: SE3) -> bool:
    return np.allclose(a.matrix, b.matrix, atol=1e-9)


@given(angle=st.floats(-1e4, 1e4))
def test_wrapped_angles_lie_in_one_turn_and_keep_their_direction(angle):
    wrapped = wrap_angle(angle)
    assert -np.pi <= wrapped < np.pi + 1e-12
    assert np.isclose(np.cos(wrapped), np.cos(angle), atol=1e-8)
    assert np.isclose(np.sin(wrapped), np.sin(angle), atol=1e-8)


@given(axis=st.tuples(unit, unit, unit).filter(lambda v: np.linalg.norm(v) > 0.1),
       angle=st.floats(0, np.pi) | st.sampled_from([0.0, 1e-12, 1e-9, 1e-5, np.pi - 1e-7]))
def test_rotation_vectors_come_back(axis, angle):
    rotvec = np.array(axis) / np.linalg.norm(axis) * angle
    rotation = rotation_from_rotvec(rotvec)
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.isclose(np.linalg.det(rotation), 1.0)
    assert np.allclose(rotvec_from_rotation(rotation), rotvec, atol=1e-7)


def test_half_a_turn_about_any_axis_comes_back_up_to_its_sign():
    for axis in (*np.eye(3), np.array([1, 1, 0]) / np.sqrt(2), np.array([1, -2, 3]) / np.sqrt(14)):
        found = rotvec_from_rotation(rotation_from_rotvec(np.pi * axis))
        assert np.isclose(abs(found @ axis), np.pi)


@given(seed=seeds)
def test_quaternions_come_back_and_both_signs_are_one_rotation(seed):
    q = np.random.default_rng(seed).normal(size=4)
    rotation = rotation_from_quaternion(q)
    assert np.allclose(rotation_from_quaternion(-q), rotation)
    assert np.allclose(rotation_from_quaternion(quaternion_from_rotation(rotation)), rotation)


@pytest.mark.parametrize("q", [(0, 0, 0, 0), (np.nan, 0, 0, 1), (1e-9, 0, 0, 0), (np.inf, 0, 0, 1)])
def test_a_quaternion_without_direction_is_refused(q):
    with pytest.raises(ConfigError, match="no direction"):
        rotation_from_quaternion(np.array(q))


def test_known_rotations():
    left_turn = rotation_from_rpy(0, 0, np.pi / 2)
    assert np.allclose(left_turn @ [1, 0, 0], [0, 1, 0])
    nose_down = rotation_from_rpy(0, np.pi / 2, 0)  # REP-103: positive pitch lowers the nose
    assert np.allclose(nose_down @ [1, 0, 0], [0, 0, -1])
    assert np.allclose(rotation_from_quaternion(np.array([0, 0, 1, 1])), left_turn)


@given(rpy=st.tuples(unit, unit, unit))
def test_roll_pitch_yaw_turn_about_fixed_axes_in_this_order(rpy):
    roll, pitch, yaw = (rotation_from_rotvec(a * e) for a, e in zip(rpy, np.eye(3), strict=True))
    assert np.allclose(rotation_from_rpy(*rpy), yaw @ pitch @ roll)


@given(seed=seeds)
def test_skew_is_the_cross_product(seed):
    v, w = np.random.default_rng(seed).normal(size=(2, 3))
    assert np.allclose(skew(v) @ w, np.cross(v, w))


@given(seed=seeds)
def test_transforms_form_a_group(seed):
    rng = np.random.default_rng(seed)
    a, b, c = (random_pose(rng) for _ in range(3))
    points = rng.normal(size=(5, 3))
    assert close((a @ b) @ c, a @ (b @ c))
    assert close(a @ a.inverse(), SE3.identity())
    assert close(a.inverse() @ a, SE3.identity())
    assert close((a @ b).inverse(), b.inverse() @ a.inverse())
    assert np.allclose((a @ b).apply(points), a.apply(b.apply(points)))
    assert np.allclose((a @ b).matrix, a.matrix @ b.matrix)
    assert close(SE3.from_quaternion(a.translation, a.quaternion), a)
    assert close(SE3.from_matrix(a.matrix[:3]), a)


def test_apply_keeps_the_float_type_and_the_leading_axes():
    pose = SE3.from_rpy(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3]))
    points = np.zeros((4, 2, 3), np.float32)
    assert pose.apply(points).dtype == np.float32
    assert pose.apply(points).shape == (4, 2, 3)
    assert np.allclose(pose.apply(np.zeros((1, 3), np.int64)), [[1, 2, 3]])


@given(seed=seeds)
def test_interpolation_goes_from_one_to_the_other_at_constant_rate(seed):
    rng = np.random.default_rng(seed)
    a = random_pose(rng)
    b = SE3(a.rotation @ rotation_from_rotvec(rng.uniform(-1, 1, 3)), rng.normal(size=3))
    assert close(a.interpolate(b, 0.0), a)
    assert close(a.interpolate(b, 1.0), b)
    half = a.interpolate(b, 0.5)
    assert close(half.interpolate(b, 1.0), b)
    assert close(a.interpolate(half, 2.0), b)  # extrapolates
    turned = [rotvec_from_rotation(p.rotation.T @ q.rotation) for p, q in ((a, half), (half, b))]
    assert np.allclose(*turned)


def test_rounded_matrices_are_made_orthonormal():
    pose = random_pose(np.random.default_rng(1))
    made = SE3.from_matrix(pose.matrix.round(3))
    assert np.allclose(made.rotation @ made.rotation.T, np.eye(3), atol=1e-12)
    assert np.allclose(made.matrix, pose.matrix, atol=2e-3)


@pytest.mark.parametrize("rotation", [
    np.diag([1.0, 1.0, -1.0]), np.eye(3) * 1.1, np.diag([2.0, 0.5, 1.0]), np.full((3, 3), np.nan)])
def test_what_is_no_rotation_is_refused(rotation):
    with pytest.raises(ConfigError):
        SE3(rotation, np.zeros(3))


@pytest.mark.parametrize("matrix", [np.eye(3), np.diag([1.0, 1, -1, 1]), np.full((4, 4), np.nan)])
def test_a_matrix_that_is_no_transform_is_refused_as_our_error(matrix):
    with pytest.raises(PerceptionError):
        SE3.from_matrix(matrix)


def test_shapes_are_checked():
    with pytest.raises(ShapeMismatch):
        SE3(np.eye(4), np.zeros(3))
    with pytest.raises(ShapeMismatch):
        SE3(np.eye(3), np.zeros(2))


def test_yaw_is_the_heading_of_x():
    assert np.isclose(SE3.from_rpy(np.zeros(3), np.array([0.0, 0.0, 2.5])).yaw, 2.5)


# -- cameras -----------------------------------------------------------------------------------


def points_in_view(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1, 50, (200, 1))
    return np.hstack([rng.uniform(-0.6, 0.6, (200, 2)) * depth, depth])


@pytest.mark.parametrize("model", LENSES)
def test_projection_agrees_with_opencv(model):
    cv2 = pytest.importorskip("cv2")
    points, lens = points_in_view(), np.array(LENSES[model])
    pixels, depth = CameraModel(640, 480, K, model, lens).project(points)
    if model == "equidistant":
        expected, _ = cv2.fisheye.projectPoints(points[None], np.zeros(3), np.zeros(3), K, lens)
    else:
        expected, _ = cv2.projectPoints(points[None], np.zeros(3), np.zeros(3), K,
                                        lens if len(lens) else None)
    assert np.allclose(pixels, expected.reshape(-1, 2), atol=1e-6)
    assert (depth == points[:, 2]).all()


def test_an_ideal_fisheye_maps_angle_to_radius():
    camera = CameraModel(640, 480, K, "equidistant", np.zeros(4))
    angle = 1.2
    pixel, _ = camera.project(np.array([[np.sin(angle), 0.0, np.cos(angle)], [0, 0, 1.0]]))
    assert np.allclose(pixel, [[320.5 + 500 * angle, 239.0], [320.5, 239.0]])


@pytest.mark.parametrize("model", LENSES)
def test_what_is_behind_the_camera_has_no_positive_depth_and_finite_pixels(model):
    camera = CameraModel(640, 480, K, model, np.array(LENSES[model]))
    pixels, depth = camera.project(np.array([[1.0, 1.0, -5.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    assert (depth <= 0).all()
    assert np.isfinite(pixels).all()


@given(size=st.tuples(st.integers(8, 4000), st.integers(8, 4000)))
@settings(max_examples=50)
def test_resizing_a_picture_scales_its_area_not_its_pixel_centres(size):
    """A pixel covers [i - 0.5, i + 0.5): corners map to corners."""
    camera = CameraModel(640, 480, K, "plumb_bob", np.array(LENSES["plumb_bob"]))
    small = camera.pinhole_resized(*size)
    points = points_in_view()
    ideal, _ = CameraModel(640, 480, K).project(points)
    scaled, _ = small.project(points)
    assert small.model == "pinhole"
    assert np.allclose((scaled + 0.5) / size, (ideal + 0.5) / (640, 480))


@pytest.mark.parametrize(("change", "text"), [
    ({"model": "kannala"}, "equidistant"),
    ({"k": np.diag([0.0, 1, 1])}, "fx and fy"),
    ({"k": np.full((3, 3), np.nan)}, "finite"),
    ({"k": np.eye(4)}, r"\(3, 3\)"),
    ({"width": 0}, "0x480"),
    ({"height": 70000}, "640x70000"),
    ({"distortion": np.zeros(5)}, "takes 0"),
    ({"model": "plumb_bob", "distortion": np.zeros(4)}, "takes 5"),
    ({"model": "equidistant", "distortion": np.full(4, np.nan)}, "finite"),
])
def test_a_wrong_camera_is_refused_with_the_reason(change, text):
    with pytest.raises(ConfigError, match=text):
        CameraModel(**({"width": 640, "height": 480, "k": K} | change))
