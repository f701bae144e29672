"""Errors of true positives by hand."""

import numpy as np
import pytest

from perception_bev.contracts import Boxes3D
from perception_bev.eval import box_errors


def box(centre=(0, 0, 0), size=(4, 2, 1.5), yaw=0.0) -> Boxes3D:
    return Boxes3D(np.array([centre], np.float32), np.array([size], np.float32),
                   np.array([yaw], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32),
                   ("car",))


def test_translation_is_flat():
    assert box_errors.translation_error(box((3, 4, 9)), box())[0] == pytest.approx(5)


def test_scale_ignores_place_and_heading():
    assert box_errors.scale_error(box((9, 9, 9), yaw=1.0), box())[0] == 0
    assert box_errors.scale_error(box(size=(2, 2, 1.5)), box())[0] == pytest.approx(0.5)
    assert box_errors.scale_error(box(size=(2, 4, 1.5)), box())[0] == pytest.approx(1 - 6 / 18)


@pytest.mark.parametrize("yaw, expected", [
    (0.1, 0.1), (-0.1, 0.1), (np.pi, 0), (np.pi + 0.2, 0.2), (np.pi / 2, np.pi / 2),
    (2 * np.pi - 0.3, 0.3), (2.0, np.pi - 2.0)])
def test_yaw_does_not_see_the_direction(yaw, expected):
    assert box_errors.yaw_error(box(yaw=yaw), box())[0] == pytest.approx(expected, abs=1e-6)
    assert box_errors.yaw_error(box(yaw=3.0 + yaw), box(yaw=3.0))[0] == pytest.approx(
        expected, abs=1e-5)


@pytest.mark.parametrize("yaw, expected", [
    (0.1, 0.1), (-0.1, 0.1), (np.pi, np.pi), (np.pi + 0.2, np.pi - 0.2), (2 * np.pi - 0.3, 0.3)])
def test_yaw_of_the_whole_turn_sees_it(yaw, expected):
    error = box_errors.yaw_error(box(yaw=yaw), box(), 2 * np.pi)
    assert error[0] == pytest.approx(expected, abs=1e-6)


def test_velocity_is_unknown_where_either_is():
    def moving(x, y):
        still = box()
        return Boxes3D(still.centre, still.size, still.yaw, still.score, still.label,
                       still.classes, np.array([[x, y]], np.float32))
    assert box_errors.velocity_error(moving(3, 0), moving(0, 4))[0] == pytest.approx(5)
    assert np.isnan(box_errors.velocity_error(box(), moving(0, 4))[0])
    assert np.isnan(box_errors.velocity_error(moving(0, 4), moving(0, np.nan))[0])


@pytest.mark.parametrize("yaw, right", [(0.1, True), (1.5, True), (1.6, False), (np.pi, False),
                                        (-1.6, False), (2 * np.pi, True)])
def test_direction(yaw, right):
    assert box_errors.faces_right_way(box(yaw=yaw), box())[0] == right
