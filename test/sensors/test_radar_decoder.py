"""Radar scans by the contract of the rig: sign, adapters, units, and nothing but points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev import rig
from perception_bev.contracts import RadarScan
from perception_bev.errors import BadMessage
from perception_bev.raw import RawCloud
from perception_bev.sensors.radar import RadarDecoder

STAMP = 1_700_000_000_000_000_000


def spec(**changes):
    ordinary = {"topic": "points", "frame_id": "front", "extrinsics": "from_tf"}
    return rig.Radar(**{**ordinary, **changes})


def cloud(stamp_ns=STAMP, frame_id="front", kind="<f4", **columns):
    points = np.zeros(len(next(iter(columns.values()))), [(name, kind) for name in columns])
    for name, values in columns.items():
        points[name] = values
    return RawCloud(stamp_ns, frame_id, points)


def three(**columns):
    """Three points on the axes with 'doppler' and 'intensity' unless given."""
    return cloud(x=[10, 0, 30], y=[0, 20, 40], z=[0, 0, 1],
                 **{**{"doppler": [-3, 4, 0.5], "intensity": [10, 20, 30]}, **columns})


def reason_of(decoder_spec, raw):
    with pytest.raises(BadMessage) as caught:
        RadarDecoder(decoder_spec).decode(raw)
    return caught.value


def test_a_scan():
    scan = RadarDecoder(spec()).decode(three())
    assert scan.stamp_ns == STAMP and scan.points.tolist() == [[10, 0, 0], [0, 20, 0], [30, 40, 1]]
    assert scan.doppler.tolist() == [-3, 4, 0.5] and scan.intensity.tolist() == [10, 20, 30]


@pytest.mark.parametrize("kind", ["<f8", ">f4", "<i2"])
def test_datatypes(kind):
    raw = cloud(kind=kind, x=[10], y=[-20], z=[1], doppler=[-3], intensity=[12])
    scan = RadarDecoder(spec()).decode(raw)
    assert scan.points.tolist() == [[10, -20, 1]] and scan.doppler.tolist() == [-3]


def test_positive_means_away_whatever_the_radar_says():
    towards = spec(doppler=rig.Doppler("v_r", "towards"))
    scan = RadarDecoder(towards).decode(three(v_r=[-3, 4, 0.5]))
    assert scan.doppler.tolist() == [3, -4, -0.5]


def test_wrapping_is_left_to_the_compensation():
    wrapped = spec(doppler=rig.Doppler(min=-2.0, max=2.0))
    assert RadarDecoder(wrapped).decode(three()).doppler.tolist() == [-3, 4, 0.5]


def test_no_doppler_and_no_intensity():
    scan = RadarDecoder(spec(doppler=None, intensity=None)).decode(cloud(x=[1], y=[2], z=[3]))
    assert np.isnan(scan.doppler).all() and scan.intensity.tolist() == [0]


def test_intensity_is_scaled():
    scaled = spec(intensity=rig.Intensity("rcs", scale=10, unit="dBsm"))
    assert RadarDecoder(scaled).decode(three(rcs=[-100, 0, 55])).intensity.tolist() == [-10, 0, 5.5]


def test_velocity_vectors_become_radial():
    vectors = spec(message="cloud_vxvy", velocity_fields=("vx_comp", "vy_comp"))
    raw = cloud(x=[10, 0, 30, 0], y=[0, 20, 40, 0], z=[0, 0, 1, 5], intensity=[0] * 4,
                vx_comp=[-7, -7, 5, 1], vy_comp=[9, 9, 5, 1])
    doppler = RadarDecoder(vectors).decode(raw).doppler
    np.testing.assert_allclose(doppler, [-7, 9, 7, np.nan], rtol=1e-6)


def test_a_static_world_recedes_with_the_ego_speed_times_the_cosine():
    angles = np.linspace(-1.5, 1.5, 31)
    raw = cloud(x=30 * np.cos(angles), y=30 * np.sin(angles), z=0 * angles, intensity=0 * angles,
                vx=0 * angles - 12.0, vy=0 * angles)
    doppler = RadarDecoder(spec(message="cloud_vxvy")).decode(raw).doppler
    np.testing.assert_allclose(doppler, -12.0 * np.cos(angles), rtol=1e-5)


def test_radar_scan_messages_have_fixed_fields():
    raw = cloud(x=[10], y=[0], z=[0], doppler=[5], amplitude=[30])
    scan = RadarDecoder(spec(message="radar_scan", doppler=rig.Doppler("v_r", "towards"),
                             intensity=rig.Intensity("rcs"))).decode(raw)
    assert scan.doppler.tolist() == [-5] and scan.intensity.tolist() == [30]


def test_invalid_values_are_dropped_or_masked_and_counted():
    decoder = RadarDecoder(spec())
    scan = decoder.decode(cloud(
        x=[np.nan, 1, 2, 3, 4, 1e30], y=[0, np.inf, 0, 0, 0, 0], z=[0] * 6,
        doppler=[0, 0, np.nan, np.inf, 1e9, 0], intensity=[0, 0, 5, np.nan, -np.inf, 0]))
    assert scan.points[:, 0].tolist() == [2, 3, 4]
    assert np.isnan(scan.doppler).all() and scan.intensity.tolist() == [5, 0, 0]
    assert decoder.dropped == {"not_finite": 2, "too_far": 1, "intensity_not_finite": 2,
                               "doppler_absurd": 2}


def test_a_scan_without_returns_is_a_scan():
    scan = RadarDecoder(spec()).decode(RawCloud(STAMP, "front", np.zeros(0, [])))
    assert len(scan.points) == 0 and scan.stamp_ns == STAMP


@pytest.mark.parametrize("decoder_spec, raw, reason", [
    (spec(), cloud(frame_id="rear", x=[1], y=[1], z=[1]), "wrong_frame"),
    (spec(), cloud(stamp_ns=0, x=[1], y=[1], z=[1]), "zero_stamp"),
    (spec(max_points=2), three(), "too_many_points"),
    (spec(doppler=rig.Doppler("v_r")), three(), "missing_field"),
    (spec(intensity=rig.Intensity("rcs")), three(), "missing_field"),
    (spec(message="cloud_vxvy"), three(), "missing_field"),
    (spec(message="radar_scan"), three(), "missing_field"),
    (spec(doppler=None, intensity=None), cloud(x=[np.nan], y=[1], z=[1]), "no_valid_points")])
def test_unusable_clouds_are_named(decoder_spec, raw, reason):
    assert reason_of(decoder_spec, raw).reason == reason


def test_a_missing_field_lists_those_there_are():
    text = str(reason_of(spec(doppler=rig.Doppler("v_r")), three()))
    assert "'v_r'" in text and "x, y, z, doppler, intensity" in text


ANY = np.dtype([("x", "<f8"), ("y", ">f4"), ("z", "<f4"), ("doppler", "<f8"),
                ("intensity", "<f4"), ("vx", "<f4"), ("vy", ">f8"), ("amplitude", "<f8")])


@given(st.binary(max_size=10 * ANY.itemsize),
       st.sampled_from(["cloud", "cloud_vxvy", "radar_scan"]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_bytes_give_a_finite_scan_or_a_bad_message(data, message):
    points = np.frombuffer(data[:len(data) // ANY.itemsize * ANY.itemsize], ANY)
    try:
        scan = RadarDecoder(spec(message=message)).decode(RawCloud(STAMP, "front", points))
    except BadMessage as err:
        assert err.reason == "no_valid_points"
        return
    assert isinstance(scan, RadarScan) and np.isfinite(scan.points).all()
    assert np.isfinite(scan.intensity).all() and not np.isinf(scan.doppler).any()
