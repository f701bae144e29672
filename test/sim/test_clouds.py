"""Clouds as the rig says: whatever the format, the decoders of the vehicle read the same."""

from dataclasses import replace

import numpy as np
import pytest
import sim_worlds

from perception_bev.errors import ConfigError
from perception_bev.raw import RawCloud
from perception_bev.rig import Doppler, Intensity, PointTime
from perception_bev.sensors.lidar import LidarDecoder
from perception_bev.sensors.radar import RadarDecoder
from perception_bev.sim import clouds

END_NS = 1_700_000_000_123_456_000
RNG = np.random.default_rng(0)
XYZ = RNG.uniform(3, 40, (50, 3))
OFFSETS = np.sort(RNG.uniform(-0.1, 0, 50))
BRIGHT = RNG.uniform(1, 255, 50)
LIDAR = sim_worlds.rig().lidars["lidar_top"]
RADAR = sim_worlds.rig().radars["radar_front"]

LIDARS = {
    "as it is": {},
    "other scale": {"intensity": Intensity("reflectance", 65535.0)},
    "unit scale": {"intensity": Intensity("i", 1.0)},
    "stamp at the start": {"stamp": "start"},
    "milliseconds": {"point_time": PointTime("t", "ms")},
    "microseconds from the start": {"stamp": "start", "point_time": PointTime("t", "us")},
    "nanoseconds": {"point_time": PointTime("t", "ns")},
    **{f"absolute {unit}": {"point_time": PointTime("stamp", unit, "absolute")}
       for unit in ("s", "ms", "us", "ns")},
    "absolute from the start": {"stamp": "start", "point_time": PointTime("t", "s", "absolute")}}


@pytest.mark.parametrize("name", LIDARS)
def test_lidars_of_any_format_are_read_alike(name):
    spec = replace(LIDAR, **LIDARS[name])
    points = clouds.lidar_cloud(spec, XYZ, BRIGHT, OFFSETS, END_NS)
    stamp = END_NS - (100_000_000 if spec.stamp == "start" else 0)
    sweep = LidarDecoder(spec).decode(RawCloud(stamp, spec.frame_id, points))
    assert sweep.stamp_ns == END_NS
    assert np.allclose(sweep.points[:, :3], XYZ, atol=1e-5)
    assert np.allclose(sweep.points[:, 3], BRIGHT / 255, atol=1e-5)
    assert np.allclose(sweep.time_offset, OFFSETS, atol=2e-6)


def test_a_lidar_may_have_neither_intensity_nor_time():
    spec = replace(LIDAR, intensity=None, point_time=None)
    points = clouds.lidar_cloud(spec, XYZ, BRIGHT, OFFSETS, END_NS)
    assert points.dtype.names == ("x", "y", "z")
    assert LidarDecoder(spec).decode(RawCloud(END_NS, "lidar_top", points)).time_offset is None


def radar_read(**changes):
    """What the decoder gives for returns of 10, 30 and -30 m/s at 20 m, 30 degrees to the left."""
    spec = replace(RADAR, **changes)
    points = clouds.radar_cloud(spec, np.full(3, 20.0), np.full(3, np.pi / 6),
                                np.array([10.0, 30.0, -30.0]), np.array([5.0, 6, 7]))
    return RadarDecoder(spec).decode(RawCloud(END_NS, spec.frame_id, points))


@pytest.mark.parametrize("doppler", [Doppler(), Doppler("v", "towards"), Doppler(compensated=True)])
def test_radars_of_any_sign_are_read_alike(doppler):
    scan = radar_read(doppler=doppler)
    assert np.allclose(scan.doppler, [10, 30, -30], atol=1e-4)
    assert np.allclose(scan.points, [[20 * np.cos(np.pi / 6), 10, 0]] * 3, atol=1e-5)


@pytest.mark.parametrize("doppler, wanted", [
    (Doppler(min=-20, max=20), [10, -10, 10]), (Doppler(min=-25, max=15), [10, -10, 10]),
    (Doppler(positive="towards", min=-15, max=25), [10, -10, 10])])
def test_doppler_wraps_into_the_interval(doppler, wanted):
    assert np.allclose(radar_read(doppler=doppler).doppler, wanted, atol=1e-4)


def test_a_radar_may_give_a_vector_along_the_ray():
    scan = radar_read(message="cloud_vxvy", velocity_fields=("vx", "vy"), doppler=Doppler())
    assert np.allclose(scan.doppler, [10, 30, -30], atol=1e-4)


def test_a_radar_may_have_neither_doppler_nor_intensity():
    scan = radar_read(doppler=None, intensity=None)
    assert np.isnan(scan.doppler).all() and (scan.intensity == 0).all()


def test_the_radars_intensity_has_its_scale():
    assert np.allclose(radar_read(intensity=Intensity("snr", 10.0)).intensity, [5, 6, 7])


@pytest.mark.parametrize("name, spec", [
    ("top", replace(LIDAR, intensity=Intensity("x"))),
    ("nose", replace(RADAR, doppler=Doppler("rcs")))])
def test_two_fields_of_one_name_are_an_error(name, spec):
    with pytest.raises(ConfigError, match=name):
        clouds.check(name, spec)
