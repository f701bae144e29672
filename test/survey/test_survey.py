"""From messages to a rig file and back: what is seen is written, what is not is marked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from perception_bev import config
from perception_bev.errors import ConfigError
from perception_bev.geometry import SE3, CameraModel
from perception_bev.messages.write import MessageWriter
from perception_bev.raw import EncodedImage, RawCloud
from perception_bev.rig import Rig, load_rig
from perception_bev.survey import guess, observe
from perception_bev.survey.check import check, find_topic, table
from perception_bev.survey.draft import base_frame, rig_from_observations
from perception_bev.survey.observe import Observer

MS, S = 1_000_000, 1_000_000_000
START = 1_700_000_000 * S
LENS = CameraModel(640, 480, np.array([[500, 0, 320], [0, 500, 240], [0, 0, 1.0]]))
OPTICAL = SE3(np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float), np.array([1.0, 0, 1.5]))
WRITER = MessageWriter(lambda name: lambda **values: SimpleNamespace(**values),
                       np.ascontiguousarray)
LIDAR_POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"),
                        ("time", "<f4")])
RADAR_POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("v_r", "<f4"), ("rcs", "<f4")])


def lidar_cloud(stamp: int, n: int = 100, times=(-0.1, 0.0), dtype=LIDAR_POINT) -> RawCloud:
    points = np.zeros(n, dtype)
    points["intensity"] = np.linspace(0, 200, n)
    points["time"] = np.linspace(*times, n)
    return RawCloud(stamp, "lidar_top", points)


def radar_cloud(stamp: int) -> RawCloud:
    points = np.zeros(10, RADAR_POINT)
    points["v_r"] = np.linspace(-5, 5, 10)
    return RawCloud(stamp, "radar_front", points)


def drive(delay_ms=8.0, seconds=2.0, offset_ns=0) -> Observer:
    """A vehicle with one camera at 12 Hz, one lidar at 10 Hz, one radar at 20 Hz, TF, odometry."""
    seen = Observer("drive")
    tf = WRITER.transforms([("base_link", "front_optical_frame", OPTICAL, START),
                            ("base_link", "lidar_top", SE3.from_rpy((0, 0, 2), (0, 0, 0)), START)])
    seen.add("/tf_static", observe.TF, START, tf)
    seen.add("/camera/front/camera_info", observe.CAMERA_INFO, START,
             WRITER.camera_info(LENS, START, "front_optical_frame"))

    def add(topic, kind, period_ms, make):
        for i in range(int(seconds * 1e3 / period_ms)):
            stamp = START + int(i * period_ms * MS) + offset_ns
            seen.add(topic, kind, stamp - offset_ns + int(delay_ms * MS), make(stamp))

    add("/camera/front/image/compressed", observe.COMPRESSED_IMAGE, 1000 / 12, lambda stamp:
        WRITER.compressed_image(EncodedImage(stamp, "front_optical_frame", b"\xff\xd8")))
    add("/lidar/top/points", observe.CLOUD, 100, lambda stamp: WRITER.cloud(lidar_cloud(stamp)))
    add("/radar/front/points", observe.CLOUD, 50, lambda stamp: WRITER.cloud(radar_cloud(stamp)))
    add("/odometry", observe.ODOMETRY, 20, lambda stamp:
        WRITER.odometry(stamp, SE3.identity(), np.zeros(3), np.zeros(3)))
    return seen


def loaded(text: str) -> Rig:
    return config.build(Rig, yaml.safe_load(text), "draft")


@pytest.fixture(scope="module")
def seen():
    return drive().result()


@pytest.fixture(scope="module")
def rig(seen) -> Rig:
    return loaded(rig_from_observations(seen))


def test_sensors_are_found_with_distinct_names_and_topics(rig):
    assert set(rig.cameras) == {"camera_front"} and set(rig.radars) == {"radar_front"}
    assert rig.lidars["top"].topic == "/lidar/top/points"
    assert rig.lidars["top"].frame_id == "lidar_top"


def test_rates_reference_and_odometry(rig):
    assert rig.reference.sensor == "top" and rig.reference.period_ms == 100
    assert rig.cameras["camera_front"].period_ms == pytest.approx(83.3, abs=0.1)
    assert rig.radars["radar_front"].period_ms == 50
    assert rig.odometry.topic == "/odometry" and rig.odom_frame == "odom"
    assert rig.base_frame == "base_link"


def test_places_come_from_tf_where_it_has_them_else_todo(seen, rig):
    assert rig.cameras["camera_front"].extrinsics == "from_tf"
    assert rig.cameras["camera_front"].intrinsics == "from_camera_info"
    assert rig.radars["radar_front"].extrinsics == "TODO"
    todo = [line for line in rig_from_observations(seen).splitlines() if "extrinsics: TODO" in line]
    assert len(todo) == 1 and "base_link" in todo[0] and "rotation_rpy_deg" in todo[0]


def test_fields_of_lidar_and_radar(rig):
    lidar, radar = rig.lidars["top"], rig.radars["radar_front"]
    assert lidar.intensity.field == "intensity" and lidar.intensity.scale == 255
    assert (lidar.point_time.field, lidar.point_time.unit) == ("time", "s")
    assert lidar.stamp == "end"
    assert radar.message == "cloud" and radar.doppler.field == "v_r"
    assert radar.intensity.field == "rcs"


def test_draft_with_its_hole_filled_resolves_and_checks(seen):
    text = rig_from_observations(seen).replace(
        "extrinsics: TODO", "extrinsics: {translation: [3, 0, 0.5], rotation_rpy_deg: [0, 0, 0]}")
    calibration, findings = check(loaded(text), seen)
    assert findings == []
    assert calibration.camera_models["camera_front"].width == 640
    np.testing.assert_allclose(calibration.base_from_sensor["camera_front"].matrix, OPTICAL.matrix)


def test_check_names_what_is_left(seen, rig):
    calibration, findings = check(rig, seen)
    assert calibration is None
    assert any("extrinsics are TODO" in finding.text for finding in findings)


@pytest.mark.parametrize("changes, needle", [
    ({"topic": "/lidar/roof/points"}, "nothing on /lidar/roof/points"),
    ({"frame_id": "velodyne"}, "frame_id is velodyne in the file and lidar_top"),
    ({"period_ms": 50.0}, "period_ms is 50"),
    ({"point_time": {"field": "t"}}, "time field 't' is not in the cloud; it has x, y"),
    ({"intensity": {"field": "rcs"}}, "intensity field 'rcs'"),
    ({"max_points": 50}, "100 points, max_points is 50"),
    ({"max_age_ms": 4.0}, "the age limit is 4 ms"),
    ({"topic": "/camera/front/image/compressed"}, "the file means sensor_msgs/msg/PointCloud2")])
def test_check_finds_each_difference(seen, changes, needle):
    content = yaml.safe_load(rig_from_observations(seen))
    content["lidars"]["top"].update(changes)
    _, findings = check(config.build(Rig, content, "rig"), seen)
    assert any(needle in str(finding) for finding in findings), findings


def test_relative_topics_are_found_in_a_namespace(seen):
    assert find_topic("lidar/top/points", seen).type == observe.CLOUD
    assert find_topic("top/points", seen) is not None
    assert find_topic("points", seen) is None, "two topics end so: neither is taken"


def test_table_has_a_row_per_sensor(seen, rig):
    lines = table(rig, seen).splitlines()
    assert len(lines) == 1 + len(rig.sensors)
    assert "top (ref)" in lines[2] and "8.0 +0.0" in lines[2] and "0.00 0.00 2.00" in lines[2]
    assert "delay" not in table(rig, None)


def test_check_without_topics_judges_the_file_alone(rig):
    calibration, findings = check(rig, None)
    assert calibration is None and [f.level for f in findings] == ["error"]


@pytest.mark.parametrize("offset_s, expected", [(37, -37_000.0), (-1, 1_000.0), (0, 0.0)])
def test_whole_seconds_between_the_clocks_become_an_offset(offset_s, expected):
    seen = drive(offset_ns=offset_s * S).result()
    text = rig_from_observations(seen)
    rig = loaded(text)
    assert rig.lidars["top"].clock_offset_ms == expected
    assert ("TAI" in text) == (offset_s == 37)
    assert not [f for f in check(rig, seen)[1] if "stamp" in f.text and "TODO" not in f.text]


def test_a_bag_of_old_data_says_nothing_of_the_clocks():
    seen = drive(offset_ns=-400 * 86_400 * S).result()
    assert "clocks not judged" in rig_from_observations(seen)
    assert loaded(rig_from_observations(seen)).lidars["top"].clock_offset_ms == 0


def test_zero_stamps_mean_arrival_time():
    seen = Observer("x")
    for i in range(5):
        seen.add("/points", observe.CLOUD, START + i * 100 * MS, WRITER.cloud(lidar_cloud(0)))
    rig = loaded(rig_from_observations(seen.result()))
    assert rig.lidars["lidar"].stamp_source == "arrival" and rig.lidars["lidar"].period_ms == 100


@pytest.mark.parametrize("times, unit, origin, convention", [
    ((-0.1, 0.0), "s", "stamp", "end"), ((0.0, 0.0999), "s", "stamp", "start"),
    ((0, 99_000_000), "ns", "stamp", "start"), ((-100_000, 0), "us", "stamp", "end"),
    ((START / S, START / S + 0.1), "s", "absolute", "start"),
    ((START - 100 * MS, START), "ns", "absolute", "end")])
def test_point_times_of_common_drivers(times, unit, origin, convention):
    dtype = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"),
                      ("time", "<f8")])
    seen = Observer("x")
    for i in range(3):
        stamp = START + i * 100 * MS
        cloud = lidar_cloud(stamp, times=times, dtype=dtype)
        seen.add("/points", observe.CLOUD, stamp, WRITER.cloud(
            RawCloud(START if origin == "absolute" and i == 0 else stamp, "l", cloud.points)))
        if i == 0:
            first = seen.result().topics["/points"]
    told, at = guess.point_time(first)
    assert (told.unit, told.origin, at) == (unit, origin, convention)


def test_a_late_sweep_without_point_times_is_stamped_at_its_start():
    dtype = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4")])
    seen = Observer("x")
    for i in range(5):
        stamp = START + i * 100 * MS
        seen.add("/points", observe.CLOUD, stamp + 110 * MS,
                 WRITER.cloud(RawCloud(stamp, "l", np.zeros(4, dtype))))
    lidar = loaded(rig_from_observations(seen.result())).lidars["lidar"]
    assert lidar.stamp == "start" and lidar.intensity is None and lidar.point_time is None


def test_only_cameras_makes_the_first_the_reference_at_about_ten_hertz():
    seen = Observer("x")
    for name in ("left", "right"):
        for i in range(10):
            stamp = START + i * 33 * MS
            seen.add(f"/camera/{name}/image/compressed", observe.COMPRESSED_IMAGE, stamp,
                     WRITER.compressed_image(EncodedImage(stamp, name, b"x")))
    rig = loaded(rig_from_observations(seen.result()))
    assert rig.reference.sensor == "left" and rig.reference.period_ms == 99


def test_no_sensor_is_an_error_that_lists_what_was_seen():
    with pytest.raises(ConfigError, match="no camera, lidar or radar"):
        rig_from_observations(Observer("empty").result())


@pytest.mark.parametrize("topic, kind", [
    ("/a/image_raw", "camera"), ("/camera/front/overlay", None), ("/bev/image", None),
    ("/cam/depth/image_raw", None)])
def test_our_own_pictures_and_depth_are_no_cameras(topic, kind):
    seen = observe.TopicSeen(topic, observe.IMAGE, "f", 1, observe.Timing(None, 0, 0))
    assert guess.modality(seen) == kind


def test_of_two_transports_of_one_camera_the_compressed_is_taken(seen):
    observer = drive()
    header = SimpleNamespace(frame_id="f", stamp=SimpleNamespace(sec=1, nanosec=0))
    observer.add("/camera/front/image", observe.IMAGE, START, SimpleNamespace(header=header))
    rig = loaded(rig_from_observations(observer.result()))
    assert [camera.transport for camera in rig.cameras.values()] == ["compressed"]


def test_raw_camera_and_radar_with_a_velocity_vector():
    seen = Observer("x")
    header = SimpleNamespace(frame_id="f", stamp=SimpleNamespace(sec=1, nanosec=0))
    seen.add("/cam/image_raw", observe.IMAGE, S, SimpleNamespace(header=header))
    dtype = np.dtype([(name, "<f4") for name in ("x", "y", "z", "vx_comp", "vy_comp")])
    seen.add("/radar/points", observe.CLOUD, S,
             WRITER.cloud(RawCloud(S, "r", np.zeros(3, dtype))))
    rig = loaded(rig_from_observations(seen.result()))
    assert rig.cameras["camera"].transport == "raw"
    radar, = rig.radars.values()
    assert radar.message == "cloud_vxvy" and radar.velocity_fields == ("vx_comp", "vy_comp")
    assert radar.doppler.compensated


def test_a_transport_that_drops_frames_does_not_change_the_period():
    seen = Observer("x")
    for i in [j for j in range(60) if j % 3 != 1 and not 30 <= j < 50]:
        stamp = START + i * 100 * MS + (i % 5) * MS
        seen.add("/points", observe.CLOUD, stamp, WRITER.cloud(lidar_cloud(stamp)))
    timing = seen.result().topics["/points"].timing
    assert timing.period_ms == pytest.approx(100, abs=2)
    assert timing.lost == pytest.approx(13, abs=1), "the pause of two seconds is no loss"
    text = rig_from_observations(seen.result())
    assert "messages are missing" in text
    assert any("are missing" in f.text for f in check(loaded(text), seen.result())[1])


def test_jitter_is_no_loss():
    rng = np.random.default_rng(2)
    seen = Observer("x")
    for i in range(50):
        stamp = START + i * 100 * MS + int(rng.uniform(-15, 15) * MS)
        seen.add("/points", observe.CLOUD, stamp, WRITER.cloud(lidar_cloud(stamp)))
    timing = seen.result().topics["/points"].timing
    assert timing.lost == 0 and timing.period_ms == pytest.approx(100, abs=5)


def test_strange_names_stay_text_in_the_file():
    seen = Observer("bag\nname: evil")
    for frame in ("on", "12", "a: b # c", "null", "new\nline", "quo'te\"s"):
        header = SimpleNamespace(frame_id=frame, stamp=SimpleNamespace(sec=1, nanosec=0))
        topic = f"/cam_{abs(hash(frame))}/image_raw"
        seen.add(topic, observe.IMAGE, S, SimpleNamespace(header=header))
    rig = loaded(rig_from_observations(seen.result()))
    assert {camera.frame_id for camera in rig.cameras.values()} == {
        "on", "12", "a: b # c", "null", "new\nline", "quo'te\"s"}


def test_unreadable_clouds_are_named():
    seen = Observer("x")
    broken = WRITER.cloud(lidar_cloud(S))
    broken.data = broken.data[:7]
    seen.add("/points", observe.CLOUD, S, broken)
    text = rig_from_observations(seen.result())
    assert "could not be read" in text and "bad_size" in text
    _, findings = check(loaded(text), seen.result())
    assert any("bad_size" in finding.text for finding in findings)


def test_a_camera_frame_that_is_not_optical_is_pointed_out():
    seen = drive()
    seen.add("/tf_static", observe.TF, START, WRITER.transforms(
        [("base_link", "front_optical_frame", SE3.identity(), START)]))
    assert "is it an optical frame" in rig_from_observations(seen.result())


@pytest.mark.parametrize("info", ["/cam/front/camera_info", "/cam/front/color/camera_info",
                                  "/cam/front/color/image/camera_info"])
def test_camera_info_is_found_where_drivers_put_it(info):
    seen = Observer("x")
    seen.add("/cam/front/color/image/compressed", observe.COMPRESSED_IMAGE, S,
             WRITER.compressed_image(EncodedImage(S, "f", b"x")))
    seen.add(info, observe.CAMERA_INFO, S, WRITER.camera_info(LENS, S, "f"))
    camera, = loaded(rig_from_observations(seen.result())).cameras.values()
    assert camera.info_topic == info


def test_base_frame_falls_back_to_odometry_and_root():
    seen = Observer("x")
    assert base_frame(seen.result()) == "base_link"
    seen.add("/tf_static", observe.TF, S, WRITER.transforms([("body", "l", SE3.identity(), S)]))
    assert base_frame(seen.result()) == "body"


def test_names_are_short_and_distinct():
    names = guess.short_names({
        "/sensing/camera/front/image_raw": "camera", "/sensing/lidar/front/points": "lidar",
        "/lidar/points": "lidar", "/a/top/points": "lidar", "/b/top/points": "lidar"})
    assert len(set(names.values())) == 5
    assert names["/lidar/points"] == "lidar" and names["/a/top/points"] == "a_top"


def test_written_file_loads(tmp_path, seen):
    path = tmp_path / "rig.yaml"
    path.write_text(rig_from_observations(seen))
    assert load_rig(path).name == "vehicle"
