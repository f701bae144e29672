"""Pictures: things land where they are, and what cannot be seen is not drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from perception_bev.contracts import Boxes3D
from perception_bev.geometry import SE3, CameraModel
from perception_bev.grid import BevGrid
from perception_bev.outputs import draw
from perception_bev.rig import Calibration, Extrinsics, Lidar, Reference, Rig

GRID = BevGrid(0.0, 40.0, -20.0, 20.0, 0.5)
OPTICAL_FROM_BASE = SE3(np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float), np.zeros(3))
PINHOLE = CameraModel(640, 480, np.array([[400, 0, 319.5], [0, 400, 239.5], [0, 0, 1.0]]))


def boxes(*rows, classes=("car", "walker")) -> Boxes3D:
    """rows: x, y, z, l, w, h, yaw[, label]."""
    table = np.array([row[:7] for row in rows], np.float32).reshape(-1, 7)
    labels = np.array([row[7] if len(row) > 7 else 0 for row in rows], np.int32)
    return Boxes3D(table[:, :3], table[:, 3:6], table[:, 6], np.full(len(rows), 0.5, np.float32),
                   labels, classes)


def changed(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(K, 2) rows and columns that differ."""
    return np.argwhere((image != reference).any(axis=-1))


def overlay_pixels(found: Boxes3D, model=PINHOLE, place=OPTICAL_FROM_BASE) -> np.ndarray:
    blank = np.zeros((model.height, model.width, 3), np.uint8)
    return changed(draw.camera_overlay(blank, place, model, found), blank)


def test_forward_is_up_and_left_is_left():
    canvas = draw.BevCanvas(GRID, 4.0)
    ahead, left, origin = canvas.pixels(np.array([[30.0, 0], [10, 10], [10, 0]]))
    assert ahead[1] < origin[1] and ahead[0] == origin[0]
    assert left[0] < origin[0] and left[1] == origin[1]


def test_a_point_is_drawn_in_its_pixel_and_outside_ones_are_not():
    canvas = draw.BevCanvas(GRID, 4.0)
    before = canvas.image.copy()
    canvas.points(np.array([[33.3, 7.7, 0.0], [50.0, 0, 0], [-1, 0, 0], [5, 20.0, 0]]), draw.LIDAR)
    hit = changed(canvas.image, before)
    assert hit.tolist() == [[int((40 - 33.3) * 4), int((20 - 7.7) * 4)]]


def test_points_on_the_borders_stay_inside():
    canvas = draw.BevCanvas(GRID, 4.0)
    canvas.points(np.array([[0.0, -20.0], [39.9999, 19.9999]]), draw.RADAR, size_px=3)


def test_a_bev_box_marks_its_front():
    empty = draw.BevCanvas(GRID, 8.0).image
    canvas = draw.BevCanvas(GRID, 8.0)
    canvas.boxes(boxes((20, 0, 0, 8, 4, 2, 0)), labels=False)
    hit = changed(canvas.image, empty)
    middle = canvas.pixels(np.array([20.0, 0.0]))
    on_axis = hit[np.abs(hit[:, 1] - middle[0]) < 1.0]
    ahead = (on_axis[:, 0] < middle[1] - 4).sum()
    behind = (on_axis[:, 0] > middle[1] + 4).sum()
    assert ahead > 3 * max(behind, 1)


def test_velocity_is_an_arrow_and_unknown_velocity_none():
    def picture(velocity):
        box = boxes((20, 0, 0, 1, 1, 1, 0))
        moving = Boxes3D(box.centre, box.size, box.yaw, box.score, box.label, box.classes,
                         np.array([velocity], np.float32))
        return draw.bev_image(GRID, moving)
    unknown = picture((np.nan, np.nan))
    assert len(changed(picture((0.0, -8.0)), unknown)) > 20
    assert not len(changed(picture((0.0, 0.0)), unknown))


def test_empty_and_far_away_boxes_draw_nothing_and_do_not_fail():
    plain = draw.bev_image(GRID)
    assert not len(changed(draw.bev_image(GRID, Boxes3D.empty(("car",))), plain))
    far = boxes((1e7, -1e7, 0, 4, 2, 2, 0.3))
    assert not len(changed(draw.bev_image(GRID, far), plain))


def test_truth_has_another_colour_than_every_class():
    assert draw.TRUTH not in {*draw.CLASS_COLOURS.values(), *draw.OTHER_COLOURS}
    box = boxes((20, 0, 0, 8, 4, 2, 0))
    picture = draw.bev_image(GRID, truth=box)
    assert (picture.min(axis=-1) > 200).any()
    assert not (draw.bev_image(GRID, box).min(axis=-1) > 200).any()


def test_colours_of_unknown_classes_are_stable():
    assert draw.class_colour("Car") == draw.CLASS_COLOURS["car"]
    assert draw.class_colour("hovercraft") == draw.class_colour("hovercraft")


def test_a_box_ahead_is_drawn_round_its_projection():
    hit = overlay_pixels(boxes((20, 0, 0, 0.2, 4, 2, 0), classes=("car",)))
    half_width, half_height = 400 * 2 / 19.9, 400 * 1 / 19.9
    assert abs(hit[:, 1].min() - (319.5 - half_width)) < 3
    assert abs(hit[:, 0].max() - (239.5 + half_height)) < 3


def test_a_box_behind_is_not_drawn():
    assert not len(overlay_pixels(boxes((-20, 0, 0, 4, 2, 2, 0))))
    assert not len(overlay_pixels(Boxes3D.empty(("car",))))


def test_a_box_that_reaches_behind_the_camera_is_cut_at_the_near_plane():
    pixels, seen = draw.project_boxes(OPTICAL_FROM_BASE, PINHOLE, boxes((2, 3, 0, 12, 2, 2, 0)))
    assert seen.any() and not seen.all()
    inside = pixels[seen]
    margin = 1.0
    assert (inside >= np.array([-320, -240]) - margin).all()
    assert (inside <= np.array([960, 720]) + margin).all()


def test_front_face_is_marked_with_a_cross():
    near_front = overlay_pixels(boxes((20, 0, 0, 4, 4, 4, np.pi)))
    assert any(abs(row - 239.5) < 2 and abs(col - 319.5) < 2 for row, col in near_front)
    side = overlay_pixels(boxes((20, 0, 0, 4, 4, 4, np.pi / 2)))
    assert not any(abs(row - 239.5) < 2 and abs(col - 319.5) < 2 for row, col in side)


def test_cut_keeps_what_is_inside_in_place():
    """Law: a clipped segment's points are on the segment and inside all planes."""
    rng = np.random.default_rng(3)
    start, end = rng.uniform(-10, 10, (2, 500, 3))
    planes = draw._view_planes(PINHOLE)
    first, last = draw._clip(start, end, planes)
    some = first < last
    assert 0 < some.sum() < 500
    for fraction in (first, last, (first + last) / 2):
        points = start[some] + fraction[some, None] * (end - start)[some]
        assert (points @ planes[:, :3].T + planes[:, 3] >= -1e-9).all()
    samples = np.linspace(0, 1, 101)[:, None, None]
    dense = start + samples * (end - start)
    inside = ((dense @ planes[:, :3].T + planes[:, 3]) > 1e-6).all(axis=-1)
    assert not (inside & ((samples[..., 0] < first) | (samples[..., 0] > last))).any()


@pytest.mark.parametrize("model", [
    CameraModel(640, 480, PINHOLE.k, "plumb_bob", np.array([-0.4, 0, 0, 0, 0])),
    CameraModel(640, 480, PINHOLE.k, "equidistant", np.array([0.1, -0.05, 0.0, 0.0]))])
def test_points_where_the_lens_folds_are_left_out(model):
    """Seen points keep their order along a ray outwards: the picture does not turn back."""
    limit = draw._lens_limit(model)
    assert np.isfinite(limit) or model.model == "equidistant"
    rays = np.linspace(0, min(limit, 20.0), 200)
    points = np.stack([rays, np.zeros(200), np.ones(200)], axis=1)
    assert (np.diff(model.project(points)[0][:, 0]) >= -1e-6).all()


def test_picture_of_another_scale_scales_the_boxes():
    found = boxes((20, 1, 0, 4, 2, 2, 0.3))
    small = np.zeros((240, 320, 3), np.uint8)
    hit = changed(draw.camera_overlay(small, OPTICAL_FROM_BASE, PINHOLE, found), small)
    full = overlay_pixels(found)
    assert hit[:, 0].max() * 2 == pytest.approx(full[:, 0].max(), abs=4)
    assert hit[:, 1].min() * 2 == pytest.approx(full[:, 1].min(), abs=4)


def test_input_picture_is_not_changed():
    image = np.zeros((480, 640, 3), np.uint8)
    draw.camera_overlay(image, OPTICAL_FROM_BASE, PINHOLE, boxes((20, 0, 0, 4, 2, 2, 0)))
    assert not image.any()


def test_rig_picture_shows_each_sensor():
    place = Extrinsics(translation=(1.0, 0.0, 2.0), rotation_rpy_deg=(0.0, 0.0, 0.0))
    rig = Rig("car", Reference("top"), lidars={"top": Lidar(topic="p", frame_id="l",
                                                            extrinsics=place)})
    shown = draw.rig_image(Calibration(rig, {"top": place.transform}, {}), pixels_per_metre=60.0)
    centre = len(shown) / 2
    hit = np.argwhere((shown == draw.OTHER_COLOURS[0]).all(axis=-1))
    assert hit[:, 0].max() == pytest.approx(centre - 60 * 1.0, abs=6), "1 m ahead of the middle"


@pytest.mark.skipif("PERCEPTION_BEV_NUSCENES_SAMPLE" not in os.environ,
                    reason="PERCEPTION_BEV_NUSCENES_SAMPLE names no folder with the sample")
def test_real_boxes_enclose_their_lidar_points_in_every_picture():
    """Points inside a 3D box must fall inside the drawn outline, in each of the six cameras."""
    folder = Path(os.environ["PERCEPTION_BEV_NUSCENES_SAMPLE"])
    frame = json.loads((folder / "frame.json").read_text())
    points = np.fromfile(folder / frame["lidar"]["file"], np.float32).reshape(-1, 5)[:, :3]
    found = boxes(*(box["center_lwh_yaw_in_lidar"] for box in frame["boxes"]))
    checked = 0
    for camera in frame["cameras"].values():
        model = CameraModel(1600, 900, np.array(camera["K"]))
        place = SE3.from_matrix(np.array(camera["camera_from_lidar"]))
        pixels, seen = draw.project_boxes(place, model, found)
        for i in range(len(found)):
            inside = points[contained(found, i, points)]
            if seen[i].all() and len(inside):
                hit, depth = model.project(place.apply(inside))
                low, high = pixels[i].min(axis=(0, 1)), pixels[i].max(axis=(0, 1))
                assert ((hit >= low - 1) & (hit <= high + 1)).all() and (depth > 0).all()
                checked += len(inside)
    assert checked > 500


def contained(found: Boxes3D, i: int, points: np.ndarray) -> np.ndarray:
    """(N,) bool: which points lie inside box i."""
    local = SE3.from_rpy(found.centre[i], (0, 0, found.yaw[i])).inverse().apply(points)
    return (np.abs(local) <= found.size[i] / 2).all(axis=1)
