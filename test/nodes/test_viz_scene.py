"""The viz node's scene: pictures of the right time and place, and counted losses. No ROS needed."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from perception_bev.contracts import Boxes3D
from perception_bev.geometry import SE3, CameraModel
from perception_bev.grid import BevGrid
from perception_bev.messages.write import MessageWriter
from perception_bev.nodes.viz_scene import KEPT, Scene, wanted_inputs
from perception_bev.outputs import draw
from perception_bev.raw import EncodedImage, RawCloud
from perception_bev.rig import Camera, Extrinsics, Intrinsics, Lidar, Radar, Reference, Rig

MS = 1_000_000
NOW = 1_700_000_000_000_000_000
GRID = BevGrid(0.0, 40.0, -20.0, 20.0, 0.5)
FRONT = Extrinsics(translation=(0.0, 0.0, 1.5), rotation_rpy_deg=(-90.0, 0.0, -90.0))
LEVEL = Extrinsics(translation=(0.0, 0.0, 2.0), rotation_rpy_deg=(0.0, 0.0, 0.0))
WRITER = MessageWriter(lambda name: lambda **values: SimpleNamespace(**values),
                       np.ascontiguousarray)


def rig(place=FRONT, intrinsics=None, **camera) -> Rig:
    lens = intrinsics or Intrinsics(width=640, height=480, k=(400.0, 400.0, 319.5, 239.5))
    return Rig("car", Reference("top"),
               cameras={"front": Camera(topic="front/compressed", frame_id="front",
                                        extrinsics=place, intrinsics=lens, **camera)},
               lidars={"top": Lidar(topic="top", frame_id="top", extrinsics=LEVEL)},
               radars={"nose": Radar(topic="nose", frame_id="nose", extrinsics=LEVEL)})


def picture(stamp: int, level: int) -> object:
    data = cv2.imencode(".jpg", np.full((480, 640, 3), level, np.uint8))[1]
    return WRITER.compressed_image(EncodedImage(stamp, "front", data))


def cloud(stamp: int, x: float, frame="top") -> object:
    dtype = np.dtype([(n, "<f4") for n in ("x", "y", "z", "intensity", "doppler")])
    points = np.zeros(50, dtype)
    points["x"], points["y"] = x, np.linspace(-5, 5, 50)
    return WRITER.cloud(RawCloud(stamp, frame, points))


def one_box() -> Boxes3D:
    return Boxes3D(np.array([[20, 0, 1.5]], np.float32), np.array([[4, 2, 2]], np.float32),
                   np.zeros(1, np.float32), np.ones(1, np.float32), np.zeros(1, np.int32), ("car",))


def test_overlay_draws_over_the_picture_next_in_time():
    scene = Scene(rig(), GRID)
    for i in range(KEPT):
        scene.take("front", picture(NOW + i * 33 * MS, 20 + 30 * i))
    shown = scene.overlay("front", one_box(), NOW + 2 * 33 * MS + 10 * MS)
    assert shown.shape == (480, 640, 3)
    assert abs(int(np.median(shown)) - 80) <= 2, "the third picture"
    assert (np.abs(shown.astype(int) - np.median(shown)) > 40).any(), "the box"


def test_overlay_is_scaled_to_the_width_that_was_asked_for():
    scene = Scene(rig(), GRID, overlay_width=320)
    scene.take("front", picture(NOW, 50))
    assert scene.overlay("front", one_box(), NOW).shape == (240, 320, 3)


@pytest.mark.parametrize("stamp", [NOW - 400 * MS, NOW + 400 * MS])
def test_no_overlay_over_a_picture_of_another_time(stamp):
    scene = Scene(rig(), GRID)
    scene.take("front", picture(stamp, 50))
    assert scene.overlay("front", one_box(), NOW) is None


def test_clock_offset_and_arrival_stamps_are_respected():
    late = Scene(rig(clock_offset_ms=-37_000.0), GRID)
    late.take("front", picture(NOW + 37_000 * MS, 50))
    assert late.overlay("front", one_box(), NOW) is not None
    unstamped = Scene(rig(stamp_source="arrival"), GRID)
    unstamped.take("front", picture(0, 50))
    assert unstamped.overlay("front", one_box(), NOW) is not None


def test_calibration_comes_when_tf_and_camera_info_came():
    scene = Scene(rig(place="from_tf", intrinsics="from_camera_info"), GRID)
    scene.take("front", picture(NOW, 50))
    assert scene.overlay("front", one_box(), NOW) is None
    assert "no transform" in scene.missing and "no CameraInfo" in scene.missing
    scene.tf.set("base_link", "front", FRONT.transform, 0, static=True)
    model = CameraModel(640, 480, np.array([[400, 0, 320], [0, 400, 240], [0, 0, 1.0]]))
    scene.take_camera_info("front", WRITER.camera_info(model, NOW, "front"))
    assert scene.overlay("front", one_box(), NOW) is not None and scene.missing == ""


def test_bird_view_has_points_of_lidar_and_radar_in_their_colours():
    scene = Scene(rig(), GRID, pixels_per_metre=4.0)
    scene.take("top", cloud(NOW, 10.0))
    scene.take("nose", cloud(NOW + 20 * MS, 30.0, "nose"))
    shown = scene.bird_view(one_box(), NOW, "full")
    for colour, row in ((draw.LIDAR, (40 - 10) * 4), (draw.RADAR, (40 - 30) * 4)):
        hit = np.argwhere((shown == colour).all(axis=-1))
        assert len(hit) > 20 and abs(np.median(hit[:, 0]) - row) <= 2


def test_bird_view_without_calibration_has_boxes_alone():
    scene = Scene(rig(place="from_tf"), GRID)
    scene.take("top", cloud(NOW, 10.0))
    shown = scene.bird_view(one_box(), NOW, "")
    assert not (shown == draw.LIDAR).all(axis=-1).any()


@pytest.mark.parametrize("damage, reason", [
    (lambda m: setattr(m, "data", m.data[:200]), "front: truncated"),
    (lambda m: setattr(m.header, "frame_id", "rear"), "front: wrong_frame"),
    (lambda m: setattr(m, "data", m.data[:0]), "front: empty")])
def test_bad_pictures_are_counted(damage, reason):
    scene = Scene(rig(), GRID)
    message = picture(NOW, 50)
    damage(message)
    scene.take("front", message)
    assert scene.overlay("front", one_box(), NOW) is None
    assert set(scene.dropped) == {reason}


def test_bad_clouds_and_camera_infos_are_counted():
    scene = Scene(rig(), GRID)
    scene.take("top", cloud(NOW, 10.0, frame="elsewhere"))
    scene.bird_view(one_box(), NOW, "")
    model = CameraModel(640, 480, np.eye(3))
    info = WRITER.camera_info(model, NOW, "front")
    info.k = np.zeros(9)
    scene.take_camera_info("front", info)
    assert set(scene.dropped) == {"top: wrong_frame", "front: uncalibrated"}


def test_forget_drops_messages_and_keeps_places():
    scene = Scene(rig(), GRID)
    scene.take("front", picture(NOW, 50))
    scene.tf.set("base_link", "x", SE3.identity(), 0, static=True)
    scene.forget()
    assert scene.overlay("front", one_box(), NOW) is None
    assert scene.tf.lookup("base_link", "x") is not None


def test_inputs_are_wanted_only_for_outputs_that_are_watched():
    assert wanted_inputs(rig(), False, False, set()) == set()
    assert wanted_inputs(rig(), True, False, set()) == {"objects"}
    assert wanted_inputs(rig(), False, True, set()) == {"objects", "top", "nose"}
    assert wanted_inputs(rig(), False, False, {"front"}) == {"objects", "front"}
