"""Drives: the same seed gives the same samples in any order; truth, stamps and odometry agree."""

from functools import cache

import numpy as np
import pytest
import sim_worlds
from sim_worlds import digest

from perception_bev.errors import ConfigError
from perception_bev.geometry import wrap_angle
from perception_bev.raw import EncodedImage, RawCloud, RawImage
from perception_bev.recordings.base import Visibility
from perception_bev.sim import truth, weather
from perception_bev.sim.actors import CLASSES
from perception_bev.sim.drive import SimRecording
from perception_bev.sim.scenario import Scenario, World

pytest.importorskip("open3d", reason="the simulator needs Open3D")


def nothing_seen(world) -> Visibility:
    return Visibility(*(np.zeros(len(world.actors), np.int64) for _ in range(3)))


@cache
def small(seed: int) -> SimRecording:
    return SimRecording(sim_worlds.small_rig(), seed, 0.3)


@pytest.fixture(scope="module")
def truths(drive):
    """The drive's truth without its sensors, ten a second."""
    return [truth.truth_at(drive.world, t, nothing_seen(drive.world))
            for t in np.arange(0.2, 1.2, 0.1)]


# -- determinism -----------------------------------------------------------------------------------


def test_a_seed_is_one_drive_in_any_order_and_with_any_threads(drive, sample):
    again = SimRecording(sim_worlds.rig(), sim_worlds.SEED, sim_worlds.SECONDS, "day", threads=3)
    digests = {index: digest(again[index]) for index in (len(drive) - 1, 2)}
    again.close()
    assert digest(sample) == digests[len(drive) - 1] and digest(drive[2]) == digests[2]
    assert digests[2] != digests[len(drive) - 1]


def test_other_seeds_are_other_drives():
    one, other = small(1), small(2)
    assert digest(one[0]) != digest(other[0])
    assert len(one.world.actors) != len(other.world.actors)


def test_the_weather_is_the_callers_or_the_scenarios_or_drawn():
    rig, foggy = sim_worlds.small_rig(), Scenario("a", "b", World("fog", visibility_m=30.0))
    fog = SimRecording(rig, 1, 0.3, scenario=foggy)
    assert fog.weather.name == "fog" and fog.weather.visibility_m == 30
    assert SimRecording(rig, 1, 0.3, "night", foggy).weather.name == "night"
    assert small(1).weather.name in weather.WEATHERS
    assert fog[0].notes == {"weather": "fog"}


# -- samples ---------------------------------------------------------------------------------------


def test_a_sample_has_all_sensors_of_the_rig(drive, sample):
    rig = drive.rig_of(0)
    assert set(sample.raw) == set(rig.sensors) and len(drive) == 10
    assert [len(sample.raw[name]) for name in rig.radars] == [2] * 5
    for name, frames in sample.raw.items():
        kind = EncodedImage if name in rig.cameras else RawCloud
        assert all(isinstance(f, kind) and f.frame_id == rig.sensors[name].frame_id
                   for f in frames)


def test_stamps_lie_in_the_sweep_and_those_of_cameras_are_staggered(drive, sample):
    ages = {name: (sample.t_ref_ns - frames[-1].stamp_ns) / 1e6
            for name, frames in sample.raw.items()}
    assert ages["lidar_top"] == 0 and all(0 <= age <= 100 for age in ages.values())
    cameras = sorted(ages[name] for name in drive.rig_of(0).cameras)
    assert np.diff(cameras).min() > 5 and ages["cam_front"] == pytest.approx(50, abs=0.01)


def test_cameras_are_taken_when_the_lidar_looks_their_way(drive, sample):
    """Points in the direction of a camera's axis have its age."""
    cloud = sample.raw["lidar_top"][0].points
    bearing = np.arctan2(cloud["y"], cloud["x"])
    for name in ("cam_front", "cam_front_left", "cam_back_right"):
        axis = drive.calibration_of(0).base_from_sensor[name].rotation[:, 2]
        ahead = np.abs(wrap_angle(bearing - np.arctan2(axis[1], axis[0]))) < 0.02
        age = (sample.t_ref_ns - sample.raw[name][0].stamp_ns) / 1e9
        assert ahead.any() and np.abs(cloud["time"][ahead] + age).max() < 0.001


def test_samples_out_of_range_do_not_exist(drive):
    with pytest.raises(IndexError):
        drive[len(drive)]
    with pytest.raises(IndexError):
        drive[-1]


def test_raw_pictures_free_rates_and_any_frame_id():
    rig = sim_worlds.small_rig()
    camera = rig.cameras["cam_front"]
    changed = sim_worlds.replace(camera, transport="raw", frame_id="*", period_ms=40.0)
    drive = SimRecording(sim_worlds.replace(rig, cameras={"cam_front": changed}), 1, 0.5)
    stamps = set()
    for index in range(3):
        frames = drive[index].raw["cam_front"]
        assert all(isinstance(f, RawImage) and f.frame_id == "cam_front" for f in frames)
        assert frames[0].encoding == "bgr8" and frames[0].rows.shape == (55, 97 * 3)
        stamps |= {frame.stamp_ns for frame in frames}
    assert len(stamps) in (7, 8) and np.allclose(np.diff(sorted(stamps)), 40e6)


def test_two_sweeps_a_sample():
    rig = sim_worlds.small_rig()
    fast = sim_worlds.replace(rig.lidars["lidar_top"], period_ms=50.0)
    sample = SimRecording(sim_worlds.replace(rig, lidars={"lidar_top": fast}), 1, 0.3)[1]
    first, second = sample.raw["lidar_top"]
    assert second.stamp_ns - first.stamp_ns == 50_000_000
    assert second.points["time"].min() > -0.05 and second.stamp_ns == sample.t_ref_ns


# -- truth -----------------------------------------------------------------------------------------


def test_tracks_are_the_same_objects_in_all_samples(truths):
    known = {}
    for frame in truths:
        assert len(set(frame.track)) == len(frame.track)
        for i, track in enumerate(frame.track):
            now = int(frame.boxes.label[i]), tuple(frame.boxes.size[i])
            assert known.setdefault(int(track), now) == now
    lasting = set(truths[0].track) & set(truths[-1].track)
    assert len(lasting) > 0.8 * len(truths[0].track)


def test_velocity_in_base_link_is_how_an_object_moves_over_ground(drive, truths):
    """Centres in the world, by the odometry's pose, against the velocity turned there."""
    traffic, times = drive.world.traffic, np.arange(0.2, 1.2, 0.1)
    for k in range(0, len(times) - 1, 3):
        before, after = truths[k], truths[k + 1]
        poses = [sim_worlds.world_from_base(traffic, t) for t in times[k:k + 2]]
        rows = {track: i for i, track in enumerate(after.track)}
        for i, track in enumerate(before.track):
            if track not in rows:
                continue
            moved = (poses[1].apply(after.boxes.centre[rows[track]].astype(float))
                     - poses[0].apply(before.boxes.centre[i].astype(float)))[:2] / 0.1
            both = [pose.rotation[:2, :2] @ frame.boxes.velocity[j] for pose, frame, j in (
                (poses[0], before, i), (poses[1], after, rows[track]))]
            assert np.linalg.norm(moved - np.mean(both, axis=0)) < 1.2


def test_truth_reaches_so_far_and_has_ten_classes(truths):
    for frame in truths:
        assert np.linalg.norm(frame.boxes.centre[:, :2], axis=1).max() < truth.REACH_M
        assert frame.boxes.classes == CLASSES and (np.abs(frame.boxes.yaw) <= np.pi).all()
        assert np.allclose(frame.boxes.centre[:, 2], frame.boxes.size[:, 2] / 2)


def test_what_no_sensor_got_is_not_counted(drive, sample, truths):
    assert not truths[0].counted.any() and (truths[0].occlusion == 2).all()
    seen = sample.truth.seen
    some = (seen.lidar_points + seen.radar_returns + seen.pixels) > 0
    assert np.array_equal(sample.truth.counted, some) and 0.2 < some.mean() < 1


def test_poses_are_those_of_the_odometry(drive, sample):
    stamps = [motion.stamp_ns for motion in sample.odometry]
    assert np.allclose(np.diff(stamps), 20e6) and stamps[-1] == sample.t_ref_ns
    last = sample.odometry[-1]
    assert np.array_equal(last.odom_from_base.matrix, sample.odom_from_base.matrix)
    step = sample.odometry[-2].odom_from_base.inverse() @ last.odom_from_base
    assert step.translation[0] / 0.02 == pytest.approx(last.linear[0], abs=0.35)
    assert step.yaw / 0.02 == pytest.approx(last.angular[2], abs=0.02)


def test_the_drive_begins_in_odom():
    drive = small(1)
    assert np.allclose(truth.odom_from_base(drive.world.traffic, 0.0).matrix, np.eye(4), atol=1e-9)
    assert len(drive[0].odometry) == 15, "the first sample brings what was before it"


def test_unknown_weather_is_not_silently_another():
    with pytest.raises(ConfigError, match="'hail'; there are day, dusk"):
        SimRecording(sim_worlds.small_rig(), 1, 0.3, "hail")
