"""Lidar: points lie on what they are counted for, at their own time; weather shortens its reach."""

import numpy as np
import pytest
from sim_worlds import in_box

from perception_bev.inputs.motion import deskew
from perception_bev.pipeline.offline import push_motion
from perception_bev.sensors.lidar import LidarDecoder
from perception_bev.sim import weather
from perception_bev.sim.caster import Caster
from perception_bev.sim.lidar import RANGE_NOISE_M, LidarSimulator
from perception_bev.temporal.ego import EgoMotion

END_S = 0.8
NOISE = 6 * RANGE_NOISE_M


@pytest.fixture(scope="module")
def sweep(drive):
    return drive.lidars["lidar_top"].sweep(END_S, 5)


def in_world(drive, xyz, times):
    """Points (N, 3) of the lidar, each at its own time (N,), in world."""
    place = drive.calibration_of(0).base_from_sensor["lidar_top"]
    xy, yaw, _ = drive.world.traffic.ego_at(times)
    base = place.apply(xyz)
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.column_stack([xy[:, 0] + cos * base[:, 0] - sin * base[:, 1],
                            xy[:, 1] + sin * base[:, 0] + cos * base[:, 1], base[:, 2]])


def outside_m(drive, sweep, k: int, times) -> np.ndarray:
    """How far the points of actor k are outside of its box at their times [m]."""
    world, mine = drive.world, sweep.actor == k
    if k < world.moving:
        track = world.traffic.tracks(np.array([k]), times[mine])[:, 0]
        xy, yaw = track[:, :2], track[:, 2]
    else:
        xy, yaw = world.parked_xy[k - world.moving], world.parked_yaw[k - world.moving]
    size = world.actors[k].size
    unit = in_box(in_world(drive, sweep.xyz[mine], times[mine]), xy, yaw, size)
    return ((np.abs(unit) - 1) * size / 2).max(axis=1)


def test_every_point_of_an_actor_lies_in_its_box_at_the_points_own_time(drive, sweep):
    times, actors = END_S + sweep.offsets_s, np.unique(sweep.actor[sweep.actor >= 0])
    assert len(actors) > 10 and (actors < drive.world.moving).any()
    for k in actors:
        assert outside_m(drive, sweep, k, times).max() < NOISE


def test_without_its_own_time_it_does_not(drive, sweep):
    """The distortion by motion is there: what is compensated later is not compensated yet."""
    _, _, speed = drive.world.traffic.ego_at(END_S)
    late = np.full(len(sweep.offsets_s), END_S)
    early = sweep.offsets_s < -0.05
    worst = [outside_m(drive, sweep, k, late).max() for k in np.unique(sweep.actor[early])
             if k >= 0]
    assert speed > 2 and max(worst) > 0.2 * speed * 0.1


def test_times_run_over_one_sweep(sweep):
    assert (sweep.offsets_s > -0.1).all() and (sweep.offsets_s <= 0).all()
    assert np.ptp(sweep.offsets_s) > 0.095 and (np.diff(sweep.offsets_s) >= 0).all()


def test_the_beam_turns_clockwise_from_behind(sweep):
    share = (np.pi - np.arctan2(sweep.xyz[:, 1], sweep.xyz[:, 0])) / (2 * np.pi)
    assert np.abs(share - (1 + sweep.offsets_s / 0.1)).max() < 2e-3


def test_motion_compensation_brings_parked_boxes_together(drive, sample):
    """Through the decoder and the deskewing that run on the vehicle."""
    ego = EgoMotion()
    for index in range(len(drive) - 3, len(drive)):
        push_motion(ego, sample if index == len(drive) - 1 else drive[index])
    spec = drive.rig_of(0).lidars["lidar_top"]
    frame = LidarDecoder(spec).decode(sample.raw["lidar_top"][0])
    place = drive.calibration_of(0).base_from_sensor["lidar_top"]
    points, _ = deskew(frame, place, ego, sample.t_ref_ns, np.empty_like(frame.points))
    boxes, parked = sample.truth.boxes, {place.actor.track for place in drive.world.traffic.parked}
    checked = 0
    for i in range(len(boxes)):
        if sample.truth.track[i] not in parked or sample.truth.seen.lidar_points[i] < 20:
            continue
        unit = in_box(points[:, :3].astype(float), boxes.centre[i, :2], boxes.yaw[i],
                      boxes.size[i])
        grown = np.abs(unit) < 1 + 2 * NOISE / boxes.size[i]
        assert grown.all(axis=1).sum() >= sample.truth.seen.lidar_points[i]
        checked += 1
    assert checked >= 5


def test_the_ground_is_flat(drive, sweep):
    points = in_world(drive, sweep.xyz, END_S + sweep.offsets_s)
    assert points[:, 2].min() > -NOISE
    assert (np.abs(points[:, 2]) < 0.05).mean() > 0.2


def test_intensity_goes_with_the_material(drive, sweep):
    assert sweep.intensity.min() >= 1 and sweep.intensity.max() <= 255
    assert np.ptp(sweep.intensity) > 50


def test_counts_are_of_the_points(drive, sweep):
    counts = sweep.counts(len(drive.world.actors))
    assert counts.sum() == (sweep.actor >= 0).sum() > 100
    assert counts[sweep.actor[sweep.actor >= 0][0]] > 0


def reach(drive, kind: str, **more) -> tuple[float, int]:
    """Farthest return that is not from the ground [m], and the number of points."""
    air = weather.drawn(kind, np.random.default_rng(0), **more)
    lidar = LidarSimulator(drive.calibration_of(0).base_from_sensor["lidar_top"], drive.world,
                           Caster(drive.world), air)
    xyz = lidar.sweep(END_S, 5).xyz
    return float(np.quantile(np.linalg.norm(xyz, axis=1), 0.995)), len(xyz)


def test_rain_and_fog_shorten_the_reach(drive):
    day, rain, fog = (reach(drive, kind) for kind in ("day", "rain", "fog"))
    dense = reach(drive, "fog", visibility_m=30.0)
    assert day[0] > rain[0] > fog[0] > dense[0]
    assert day[1] > rain[1] > fog[1] > dense[1] > 1000
    assert fog[0] < 48 and dense[0] < 24
