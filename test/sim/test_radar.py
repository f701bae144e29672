"""Radar: what stands still has no Doppler once the ego motion is out, at any speed and in turns."""

from dataclasses import replace

import numpy as np
import pytest

from perception_bev.inputs.radar import doppler_residual
from perception_bev.rig import Doppler
from perception_bev.sim import clouds, weather
from perception_bev.sim.caster import Caster
from perception_bev.sim.radar import (
    AZIMUTH_NOISE_DEG,
    DOPPLER_NOISE,
    FARTHEST_M,
    HALF_VIEW_DEG,
    RadarSimulator,
)
from perception_bev.sim.traffic import Poses

TIME_S = 0.7
RADARS = ("radar_front", "radar_front_left", "radar_back_right")


class Turning:
    """Traffic of nobody but an ego that drives in a circle through its place in a drive."""

    def __init__(self, traffic, speed: float, rate: float) -> None:
        self._xy, self._yaw, _ = traffic.ego_at(TIME_S)
        self._speed, self._rate = speed, rate

    def ego_at(self, time_s):
        yaw = self._yaw + self._rate * (np.asarray(time_s) - TIME_S)
        xy = np.broadcast_to(self._xy, (*np.shape(time_s), 2))
        return xy, yaw, np.full(np.shape(time_s), self._speed)

    def poses(self, time_s: float) -> Poses:
        return Poses(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2)))


def scans(drive, name: str, speed: float, rate: float, count: int = 8, **more):
    """Of a world without moving actors, from an ego with a given motion."""
    world = replace(drive.world, traffic=Turning(drive.world.traffic, speed, rate), moving=0)
    radar = RadarSimulator(drive.calibration_of(0).base_from_sensor[name], world, Caster(world),
                           weather.drawn("day", np.random.default_rng(0)), **more)
    return [radar.scan(TIME_S, seed) for seed in range(count)]


def residuals(drive, name: str, scan, speed: float, rate: float, interval=(-20.0, 20.0)):
    """(N,) [m/s] as the product works them out: wrapped in the message, unwrapped by ego motion."""
    spec = replace(drive.rig_of(0).radars[name], doppler=Doppler(min=interval[0], max=interval[1]))
    cloud = clouds.radar_cloud(spec, scan.distance, scan.azimuth, scan.radial, scan.rcs_db)
    place = drive.calibration_of(0).base_from_sensor[name]
    xyz = np.column_stack([cloud[axis] for axis in "xyz"])
    direction = xyz / np.linalg.norm(xyz, axis=1, keepdims=True)
    velocity = np.array([speed, 0, 0]) + np.cross([0, 0, rate], place.translation)
    return doppler_residual(cloud["doppler"], (direction @ place.rotation.T).astype(np.float32),
                            velocity, interval)


@pytest.mark.parametrize("speed, rate", [(0, 0), (8, 0), (8, 0.6), (15, -0.4), (33, 0.3)])
@pytest.mark.parametrize("name", RADARS)
def test_a_static_world_has_no_doppler_left(drive, name, speed, rate):
    """33 m/s is beyond the wrap of 20. The noise of the azimuth counts as speed."""
    parked = []
    for scan in scans(drive, name, speed, rate):
        left = residuals(drive, name, scan, speed, rate)
        parked += list(left[scan.actor >= 0])
        assert np.abs(np.median(left)) < 0.15 + 0.01 * speed
    spread = np.hypot(DOPPLER_NOISE, np.deg2rad(AZIMUTH_NOISE_DEG) * (speed + 2 * abs(rate)))
    parked = [] if name != "radar_front" and len(parked) < 5 else parked
    assert all(abs(value) < 5 * spread + 0.002 * speed for value in parked)


def test_some_of_those_are_parked_vehicles(drive):
    assert sum((scan.actor >= 0).sum() for name in RADARS
               for scan in scans(drive, name, 5.0, 0.0)) > 20


def test_a_compensated_radar_says_so_itself(drive):
    for scan in scans(drive, "radar_front_left", 15.0, 0.4, 4, compensated=True):
        assert (np.abs(scan.radial[scan.actor >= 0]) < 5 * DOPPLER_NOISE).all()
        assert np.abs(np.median(scan.radial)) < 0.15


def test_doppler_is_positive_away_from_the_radar(drive):
    """Driving on, what is in front comes nearer; behind, it goes away."""
    front, back = (np.concatenate([scan.radial for scan in scans(drive, name, 10.0, 0.0)])
                   for name in ("radar_front", "radar_back_left"))
    assert np.median(front) < -3 and np.median(back) > 3


def test_moving_actors_have_their_own_doppler(drive):
    """Counted returns of moving actors: the residual is their velocity along the ray."""
    world, checked = drive.world, 0
    for name, radar in drive.radars.items():
        place = drive.calibration_of(0).base_from_sensor[name]
        _, yaw, speed = world.traffic.ego_at(TIME_S)
        _, around, _ = world.traffic.ego_at(np.array([TIME_S - 0.02, TIME_S + 0.02]))
        rate = float(np.diff(around)[0]) / 0.04
        for seed in range(10):
            scan = radar.scan(TIME_S, seed)
            moving = (scan.actor >= 0) & (scan.actor < world.moving)
            left = residuals(drive, name, scan, float(speed), rate)[moving]
            velocity = world.traffic.poses(TIME_S).velocity[scan.actor[moving]]
            angle = scan.azimuth[moving] + place.yaw + float(yaw)
            wanted = velocity[:, 0] * np.cos(angle) + velocity[:, 1] * np.sin(angle)
            fast = np.linalg.norm(velocity, axis=1) + float(speed)
            assert (np.abs(left - wanted) < 5 * DOPPLER_NOISE + 0.07 * fast).all()
            checked += int(moving.sum())
    assert checked > 20


def test_returns_lie_in_the_field_of_view(drive):
    for scan in scans(drive, "radar_front", 5.0, 0.0):
        assert (np.abs(np.rad2deg(scan.azimuth)) < HALF_VIEW_DEG + 5 * AZIMUTH_NOISE_DEG).all()
        assert (scan.distance > 0).all() and (scan.distance < FARTHEST_M + 21).all()


def test_counted_returns_lie_on_their_actors(drive):
    world, off = drive.world, []
    xy, yaw, _ = world.traffic.ego_at(TIME_S)
    centres = np.concatenate([world.traffic.poses(TIME_S).xy, world.parked_xy])
    cos, sin = np.cos(float(yaw)), np.sin(float(yaw))
    for name, radar in drive.radars.items():
        place, scan = drive.calibration_of(0).base_from_sensor[name], radar.scan(TIME_S, 1)
        local = place.apply(np.column_stack([scan.distance * np.cos(scan.azimuth),
                                             scan.distance * np.sin(scan.azimuth),
                                             np.zeros(len(scan.distance))]))
        mine = scan.actor >= 0
        point = np.column_stack([xy[0] + cos * local[:, 0] - sin * local[:, 1],
                                 xy[1] + sin * local[:, 0] + cos * local[:, 1]])[mine]
        radius = np.array([np.linalg.norm(world.actors[k].size[:2]) / 2 for k in scan.actor[mine]])
        away = np.linalg.norm(point - centres[scan.actor[mine]], axis=1) - radius
        off += list(away - 0.06 * scan.distance[mine])
    assert len(off) > 5 and max(off) < 1.0


def test_more_ghosts_when_asked_for(drive):
    usual, many = (sum(len(scan.distance) for scan in scans(drive, "radar_front", 5.0, 0.0,
                                                            ghosts=ghosts))
                   for ghosts in (1.0, 9.0))
    assert many > 1.2 * usual


def test_large_vehicles_echo_more_than_people(drive):
    radar = drive.radars["radar_front"]
    rcs = {kind: [] for kind in ("pedestrian", "truck")}
    for name in drive.radars:
        for seed in range(6):
            scan = drive.radars[name].scan(TIME_S, seed)
            for kind, values in rcs.items():
                values += [value for value, k in zip(scan.rcs_db, scan.actor, strict=True)
                           if k >= 0 and drive.classes[drive.world.actors[k].label] == kind]
    assert radar is not None
    if min(map(len, rcs.values())) < 3:
        pytest.skip("the drive shows too few of them")
    assert np.mean(rcs["truck"]) > np.mean(rcs["pedestrian"]) + 8
