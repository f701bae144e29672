"""Sweeps hold every valid point once, in [0..1] and on the sweep's clock, and count the others."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev import rig
from perception_bev.contracts import LidarSweep
from perception_bev.errors import BadMessage
from perception_bev.raw import RawCloud
from perception_bev.sensors.lidar import MAX_RANGE_M, LidarDecoder

STAMP = 1_700_000_000_123_456_789
NAMES = ("x", "y", "z", "intensity")
ORDINARY = np.dtype([(name, "<f4") for name in NAMES])


def spec(**changes):
    ordinary = {"topic": "points", "frame_id": "top", "extrinsics": "from_tf"}
    return rig.Lidar(**{**ordinary, **changes})


def timed(unit="s", origin="stamp", **changes):
    return spec(point_time=rig.PointTime("t", unit, origin), **changes)


def cloud(values, dtype=ORDINARY, stamp_ns=STAMP, frame_id="top"):
    """A cloud of (N, 4) values; further fields are 0."""
    points = np.zeros(len(values), dtype)
    for name, column in zip(NAMES, np.asarray(values, np.float64).T, strict=True):
        points[name] = column
    return RawCloud(stamp_ns, frame_id, points)


def cloud_at(times, kind="<f8"):
    raw = cloud([[5, 0, 0, 0.5]] * len(times), np.dtype([*ORDINARY.descr, ("t", kind)]))
    raw.points["t"] = times
    return raw


def reason_of(decoder, raw):
    with pytest.raises(BadMessage) as caught:
        decoder.decode(raw)
    return caught.value


def scattered(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(2, 50, (n, 3)), rng.uniform(0, 1, n)])


LAYOUTS = {
    "packed": ORDINARY,
    "velodyne": np.dtype({"names": [*NAMES, "ring", "time"], "itemsize": 22,
                          "formats": ["<f4"] * 4 + ["<u2", "<f4"],
                          "offsets": [0, 4, 8, 12, 16, 18]}),
    "other order": np.dtype([("intensity", "<f4"), ("z", "<f4"), ("y", "<f4"), ("x", "<f4")]),
    "big-endian": np.dtype([(name, ">f4") for name in NAMES]),
    "doubles": np.dtype([(name, "<f8") for name in NAMES]),
    "padded": np.dtype({"names": list(NAMES), "formats": ["<f4"] * 4, "offsets": [5, 13, 21, 29],
                        "itemsize": 40}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_all_give_the_same_points(layout):
    values = scattered(100)
    sweep = LidarDecoder(spec()).decode(cloud(values, LAYOUTS[layout]))
    assert sweep.stamp_ns == STAMP and sweep.time_offset is None
    np.testing.assert_allclose(sweep.points, values, rtol=1e-6)


def test_whole_numbers_are_values_too():
    dtype = np.dtype([("x", "<i2"), ("y", "<i2"), ("z", "<i2"), ("intensity", "u1")])
    decoder = LidarDecoder(spec(intensity=rig.Intensity(scale=255)))
    assert decoder.decode(cloud([[3, -4, 1, 51]], dtype)).points.tolist() == [
        [3, -4, 1, pytest.approx(0.2)]]


def test_invalid_points_are_dropped_and_counted():
    decoder = LidarDecoder(spec(min_range_m=1.0))
    good = [[5, 0, 0, 0.5], [0, 0, -1.5, 0.25]]
    bad = [[np.nan, 0, 0, 0], [5, np.inf, 0, 0], [5, 0, -np.inf, 0], [0, 0, 0, 0],
           [0.5, 0.5, 0.5, 0], [1e30, 0, 0, 0], [0, 2 * MAX_RANGE_M, 0, 0]]
    sweep = decoder.decode(cloud([bad[0], good[0], *bad[1:], good[1]]))
    assert sweep.points.tolist() == good
    assert decoder.dropped == {"not_finite": 3, "near": 2, "too_far": 2}
    decoder.decode(cloud(good))
    decoder.decode(cloud([good[0], bad[0]]))
    assert decoder.dropped["not_finite"] == 4


def test_intensity_is_scaled_clipped_and_finite():
    decoder = LidarDecoder(spec(intensity=rig.Intensity(scale=100)))
    values = [[5, 0, 0, i] for i in (-10, 0, 50, 100, 255, np.nan, np.inf)]
    assert decoder.decode(cloud(values)).points[:, 3].tolist() == [0, 0, 0.5, 1, 1, 0, 0]
    assert decoder.dropped == {"intensity_not_finite": 2}
    without = LidarDecoder(spec(intensity=None)).decode(cloud([[5, 0, 0, 9]]))
    assert without.points[:, 3].tolist() == [0]


@pytest.mark.parametrize("unit, factor, kind", [
    ("s", 1, "<f4"), ("s", 1, ">f8"), ("ms", 1e3, "<f4"), ("us", 1e6, "<i4"), ("ns", 1e9, "<i4")])
def test_point_times_from_the_stamp(unit, factor, kind):
    seconds = np.array([-0.1, -0.05, 0.0])
    ends = LidarDecoder(timed(unit)).decode(cloud_at(seconds * factor, kind))
    assert ends.stamp_ns == STAMP
    np.testing.assert_allclose(ends.time_offset, seconds, atol=1e-6)
    starts = LidarDecoder(timed(unit, stamp="start"))
    sweep = starts.decode(cloud_at((seconds + 0.1) * factor, kind))
    assert sweep.stamp_ns == STAMP + 100_000_000
    np.testing.assert_allclose(sweep.time_offset, seconds, atol=1e-6)


@pytest.mark.parametrize("unit, kind", [("s", "<f8"), ("us", "<u8"), ("ns", "<u8"), ("ns", "<i8")])
@pytest.mark.parametrize("stamp", ["start", "end"])
def test_absolute_point_times(unit, kind, stamp):
    seconds = np.array([-0.1, -0.05, 0.0])
    end_ns = STAMP + (100_000_000 if stamp == "start" else 0)
    factor = {"s": 10**9, "us": 10**3, "ns": 1}[unit]
    times = (end_ns + np.round(seconds * 1e9).astype(np.int64)) / factor
    sweep = LidarDecoder(timed(unit, "absolute", stamp=stamp)).decode(cloud_at(times, kind))
    assert sweep.stamp_ns == end_ns
    np.testing.assert_allclose(sweep.time_offset, seconds, atol=3e-6)


def test_without_point_times_the_period_leads_to_the_end():
    sweep = LidarDecoder(spec(stamp="start", period_ms=50.0)).decode(cloud([[5, 0, 0, 0]]))
    assert sweep.stamp_ns == STAMP + 50_000_000


def test_arrival_is_the_end_whatever_the_headers_stamp_was():
    arrival = {"stamp_source": "arrival", "stamp": "start"}
    assert LidarDecoder(spec(**arrival)).decode(cloud([[5, 0, 0, 0]])).stamp_ns == STAMP
    absolute = LidarDecoder(timed("s", "absolute", **arrival))
    other_clock = [1000.0, 1000.05, 1000.1, 9e9, np.nan]
    sweep = absolute.decode(cloud_at(other_clock))
    assert sweep.stamp_ns == STAMP and absolute.dropped == {"bad_time": 2}
    np.testing.assert_allclose(sweep.time_offset, [-0.1, -0.05, 0], atol=1e-6)
    assert reason_of(absolute, cloud_at([np.nan, np.inf])).reason == "empty"


def test_times_of_no_sweep_are_dropped():
    decoder = LidarDecoder(timed())
    sweep = decoder.decode(cloud_at([-0.1, np.nan, np.inf, 5.0, -1e30, 0.0]))
    np.testing.assert_allclose(sweep.time_offset, [-0.1, 0.0])
    assert decoder.dropped == {"bad_time": 4}
    wrong_unit = reason_of(LidarDecoder(timed("s")), cloud_at([-1e5, -5e4, -1e3]))
    assert wrong_unit.reason == "empty" and "bad_time" in str(wrong_unit)


@pytest.mark.parametrize("decoder, raw, reason", [
    (spec(), cloud([[5, 0, 0, 0]], frame_id="other"), "wrong_frame"),
    (spec(), cloud([[5, 0, 0, 0]], stamp_ns=0), "zero_stamp"),
    (spec(), cloud(np.zeros((0, 4))), "empty"),
    (spec(), cloud([[np.nan] * 4]), "empty"),
    (spec(max_points=2), cloud([[5, 0, 0, 0]] * 3), "too_many_points"),
    (spec(intensity=rig.Intensity("i")), cloud([[5, 0, 0, 0]]), "missing_field"),
    (timed(), cloud([[5, 0, 0, 0]]), "missing_field"),
    (spec(intensity=None), RawCloud(STAMP, "top", np.ones(3, [("x", "f4", (2,)), ("y", "f4"),
                                                              ("z", "f4")])), "bad_layout")])
def test_unusable_clouds_are_named(decoder, raw, reason):
    assert reason_of(LidarDecoder(decoder), raw).reason == reason


def test_a_missing_field_lists_those_there_are():
    error = reason_of(LidarDecoder(spec(intensity=rig.Intensity("i"))), cloud([[5, 0, 0, 0]]))
    assert "'i'" in str(error) and "x, y, z, intensity" in str(error)


def test_any_frame_and_a_zero_stamp_on_arrival():
    decoder = LidarDecoder(spec(frame_id="*", stamp_source="arrival"))
    assert decoder.decode(cloud([[5, 0, 0, 0]], stamp_ns=0, frame_id="other")).stamp_ns == 0


def test_sweeps_do_not_share_memory():
    decoder = LidarDecoder(spec())
    first = decoder.decode(cloud(scattered(50, 1)))
    before = first.points.copy()
    decoder.decode(cloud(scattered(60, 2)))
    np.testing.assert_array_equal(first.points, before)


ANY = np.dtype([("x", "<f4"), ("y", ">f8"), ("z", "<f4"), ("intensity", "<f8"), ("t", "<u8")])


@given(st.binary(max_size=10 * ANY.itemsize), st.sampled_from(["start", "end"]),
       st.sampled_from(["header", "arrival"]), st.sampled_from(["stamp", "absolute"]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_bytes_give_a_finite_sweep_or_a_bad_message(data, stamp, source, origin):
    points = np.frombuffer(data[:len(data) // ANY.itemsize * ANY.itemsize], ANY)
    decoder = LidarDecoder(timed("ns", origin, stamp=stamp, stamp_source=source))
    try:
        sweep = decoder.decode(RawCloud(STAMP, "top", points))
    except BadMessage as err:
        assert err.reason == "empty"
        return
    assert isinstance(sweep, LidarSweep) and np.isfinite(sweep.points).all()
    assert (np.linalg.norm(sweep.points[:, :3], axis=1) >= 0.999).all()
    assert (np.abs(sweep.time_offset) <= 0.2001).all()
    lost = sum(n for why, n in decoder.dropped.items() if why != "intensity_not_finite")
    assert len(sweep.points) + lost == len(points)


def test_threads_share_a_decoder():
    decoder = LidarDecoder(spec())
    clouds = [cloud(np.vstack([scattered(400 + 300 * i, i), [[np.nan] * 4]])) for i in range(6)]
    alone = [LidarDecoder(spec()).decode(raw).points for raw in clouds]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda raw: decoder.decode(raw).points, clouds * 20))
    for i, points in enumerate(together):
        np.testing.assert_array_equal(points, alone[i % 6])
    assert decoder.dropped == {"not_finite": 120}
