"""Faults on streams of messages: each kind changes what it says and nothing else."""

from collections import Counter

import cv2
import message_stream
import numpy as np
import pytest
from driving import START_NS
from hypothesis import given, settings
from hypothesis import strategies as st
from message_stream import CHATTER, INFO, MS, ODOMETRY, TOPIC_OF, TYPES, content, frame, stamp_of

from perception_bev import config
from perception_bev.errors import BadMessage, ConfigError, RecordingError
from perception_bev.recordings.bag_types import jazzy
from perception_bev.sim import faults as module
from perception_bev.sim.faults import Faults
from perception_bev.sim.scenario import Scenario

CYCLES = 30
DRIVE = message_stream.drive(CYCLES)
LOST = {"off", "flapping", "drop", "overflow"}
FRONT, TOP, NOSE = TOPIC_OF["front"], TOPIC_OF["top"], TOPIC_OF["nose"]

EXAMPLES = {  # kind: a fault from 1 s to 2 s
    "off": {"sensor": "front"},
    "flapping": {"sensor": "top", "on_s": 0.3, "off_s": 0.2},
    "drop": {"sensor": "nose", "probability": 0.5},
    "late": {"sensor": "front", "delay_ms": 30.0, "jitter_ms": 200.0},
    "clock_skew": {"sensor": "nose", "offset_ms": -80.0, "drift_ppm": 100.0},
    "future_stamp": {"sensor": "top", "probability": 0.5},
    "blinded": {"sensor": "front", "picture": "dirty"},
    "garbage": {"sensor": "*", "probability": 0.5},
    "nan": {"sensor": "top", "share": 0.5},
    "ghosts": {"sensor": "nose", "count": 7},
}
BY_CHANCE = ("drop", "late", "future_stamp", "blinded", "garbage", "nan", "ghosts")


def scenario(*faults: dict) -> Scenario:
    return config.build(Scenario, {"name": "test", "what": "a test", "faults": list(faults)}, "t")


def example(kind: str, **changes) -> dict:
    return {"kind": kind, "from_s": 1.0, "to_s": 2.0, **EXAMPLES[kind], **changes}


def filtered(*faults: dict, messages=DRIVE, seed: int = 0, rig=None) -> tuple[list, Faults]:
    made = Faults(scenario(*faults), rig or message_stream.rig(), TYPES, START_NS, seed)
    return list(made.apply(messages)), made


def of(messages, topic: str) -> list:
    return [one for one in messages if one.topic == topic]


def in_window(raw) -> bool:
    return 1.0 <= (raw.stamp_ns - START_NS) / 1e9 < 2.0


def pairs(topic: str, out) -> list[tuple]:
    """Before and after of each message of a topic that loses none."""
    return list(zip(of(DRIVE, topic), of(out, topic), strict=True))


def changed(out) -> Counter:
    """Messages by topic that are not in the output as they were."""
    kept = Counter(out)
    return Counter(one.topic for one in DRIVE if kept[one] == 0)


# -- all kinds -------------------------------------------------------------------------------------


def test_no_fault_is_no_change():
    out, made = filtered()
    assert out == DRIVE and not made.counts and made.idle() == []


@pytest.mark.parametrize("kind", EXAMPLES)
def test_what_a_fault_does_not_name_passes_untouched(kind):
    out, made = filtered(example(kind))
    touched = {topic for _, topic in made.counts}
    sensors = {"*": set(TOPIC_OF.values())}.get(EXAMPLES[kind]["sensor"]) or {
        TOPIC_OF[EXAMPLES[kind]["sensor"]]}
    assert touched and touched <= sensors | {INFO}
    spared = [one for one in DRIVE if one.topic not in touched]
    assert [one for one in out if one.topic not in touched] == spared


@pytest.mark.parametrize("kind", EXAMPLES)
def test_outside_its_time_a_fault_does_nothing(kind):
    out, _ = filtered(example(kind))
    left = set(out)
    missing = [one for one in DRIVE if one not in left and not in_window(one)]
    held_up = kind == "late" and all(one.topic in (FRONT, INFO) for one in missing)
    assert not missing or held_up


@pytest.mark.parametrize("kind", EXAMPLES)
def test_what_was_changed_is_counted(kind):
    out, made = filtered(example(kind))
    counted = Counter({topic: n for (_, topic), n in made.counts.items()})
    assert counted == changed(out) and {k for k, _ in made.counts} == {kind}
    assert not made.skipped and made.idle() == []


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(kind):
    first, made = filtered(example(kind), seed=3)
    again, _ = filtered(example(kind), seed=3)
    other, _ = filtered(example(kind), seed=4)
    assert first == again == list(made.apply(DRIVE)), "a loop of the bag, too"
    assert (first != other) == (kind in BY_CHANCE)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_chance_does_not_depend_on_what_else_is_in_the_bag(kind):
    whole, made = filtered(example(kind))
    for topic in {topic for _, topic in made.counts}:
        alone, _ = filtered(example(kind), messages=of(DRIVE, topic))
        assert alone == of(whole, topic)


@st.composite
def random_faults(draw) -> dict:
    kind = draw(st.sampled_from(sorted(EXAMPLES)))
    start = draw(st.floats(0, 3))
    changes = {"from_s": start, "to_s": start + draw(st.floats(0.01, 3))}
    if kind == "late":
        changes |= {"delay_ms": draw(st.floats(0, 900)), "jitter_ms": draw(st.floats(0, 900)),
                    "sensor": draw(st.sampled_from(["front", "*", "odometry"]))}
    return example(kind, **changes)


@settings(max_examples=30)
@given(st.lists(random_faults(), max_size=4), st.integers(0, 5))
def test_order_is_kept_and_nothing_is_lost_in_silence(some, seed):
    out, made = filtered(*some, seed=seed)
    log_times = [one.stamp_ns for one in out]
    assert log_times == sorted(log_times)
    lost = sum(n for (kind, _), n in made.counts.items() if kind in LOST)
    assert len(out) == len(DRIVE) - lost
    for topic in {one.topic for one in DRIVE}:
        counted = sum(n for (_, name), n in made.counts.items() if name == topic)
        assert changed(out)[topic] <= counted + sum(
            n for (_, name, _), n in made.skipped.items() if name == topic)
    assert [content(one).data for one in of(out, CHATTER)] == [
        content(one).data for one in of(DRIVE, CHATTER)]


# -- streams ---------------------------------------------------------------------------------------


def test_off_takes_the_camera_info_along():
    out, _ = filtered(example("off"))
    for topic in (FRONT, INFO):
        assert of(out, topic) == [one for one in of(DRIVE, topic) if not in_window(one)]


def test_off_without_an_end_lasts():
    out, _ = filtered({"kind": "off", "sensor": "to*", "from_s": 1.0})
    assert max(one.stamp_ns for one in of(out, TOP)) < START_NS + 1000 * MS


def test_odometry_is_named_not_matched():
    out, _ = filtered({"kind": "off", "sensor": "odometry"})
    assert not of(out, ODOMETRY) and len(out) == len(DRIVE) - CYCLES
    out, _ = filtered({"kind": "off", "sensor": "*"})
    assert len(of(out, ODOMETRY)) == CYCLES and not of(out, TOP)


def test_flapping_comes_and_goes():
    out, _ = filtered({"kind": "flapping", "sensor": "front", "on_s": 0.3, "off_s": 0.2})
    cycles = [round((one.stamp_ns - START_NS) / (100 * MS)) for one in of(out, FRONT)]
    assert cycles == [k for k in range(CYCLES) if k % 5 < 3]


def test_drop_loses_as_many_as_it_says():
    one = of(DRIVE, CHATTER)[0]
    many = [one._replace(topic=NOSE, stamp_ns=START_NS + k * MS) for k in range(2000)]
    out, _ = filtered({"kind": "drop", "sensor": "nose", "probability": 0.3}, messages=many)
    assert 0.66 < len(out) / len(many) < 0.74


def test_late_delays_and_keeps_the_stamp():
    out, _ = filtered(example("late", delay_ms=110.0, jitter_ms=0.0))
    for before, after in pairs(FRONT, out):
        delay = 110 * MS if in_window(before) else 0
        # the first after it waits behind the last that was late
        assert after.stamp_ns - before.stamp_ns == delay or not in_window(before)
        assert after.data == before.data


def test_jitter_lets_no_message_overtake_its_own_topic():
    out, _ = filtered(example("late"))
    delays = [(after.stamp_ns - before.stamp_ns) / MS for before, after in pairs(FRONT, out)
              if in_window(before)]
    assert [stamp_of(one) for one in of(out, FRONT)] == [stamp_of(one) for one in of(DRIVE, FRONT)]
    assert min(delays) >= 30 and max(delays) > 100 and len(set(delays)) > 5
    assert max(delays) <= 230, "a delay, or the wait behind the one before"


def test_clock_skew_moves_stamps_and_no_arrivals():
    out, _ = filtered(example("clock_skew", sensor="front", offset_ms=-80.0, drift_ppm=1000.0))
    for topic in (FRONT, INFO):
        for before, after in pairs(topic, out):
            passed_s = (before.stamp_ns - START_NS) / 1e9 - 1.0
            expected = -80 * MS + 1e6 * passed_s if in_window(before) else 0
            assert stamp_of(after) - stamp_of(before) == pytest.approx(expected, abs=1)
            assert after.stamp_ns == before.stamp_ns
            assert content(after).header.frame_id == "front_optical"


def test_future_stamps_are_single_ones():
    out, _ = filtered(example("future_stamp", ahead_s=3600.0))
    shifts = [stamp_of(after) - stamp_of(before) for before, after in pairs(TOP, out)]
    assert set(shifts) == {0, 3600 * 10**9}


def test_a_time_jump_moves_all_stamps_and_the_clock_but_no_log_time():
    out, made = filtered({"kind": "time_jump", "at_s": 1.0, "by_s": 30.0},
                         {"kind": "time_jump", "at_s": 2.0, "by_s": -45.0})
    assert [one.stamp_ns for one in out] == [one.stamp_ns for one in DRIVE]
    for before, after in zip(DRIVE, out, strict=True):
        at_s = (before.stamp_ns - START_NS) / 1e9
        shift = 0 if at_s < 1 else 30 if at_s < 2 else -15
        assert made.clock_shift_ns(before.stamp_ns) == shift * 10**9
        if before.topic == CHATTER:
            assert after == before, "it has no stamp"
        else:
            assert stamp_of(after) - stamp_of(before) == shift * 10**9


def test_point_times_since_1970_go_with_their_clock():
    rig = message_stream.rig(top={"point_time": {"field": "time", "origin": "absolute"}})
    whole, _ = filtered({"kind": "clock_skew", "sensor": "top", "offset_ms": 2000.0}, rig=rig)
    for before, after in pairs(TOP, whole):
        assert np.allclose(frame(after).points["time"], frame(before).points["time"] + 2.0)
        assert np.array_equal(frame(after).points["x"], frame(before).points["x"])
    relative, _ = filtered({"kind": "clock_skew", "sensor": "top", "offset_ms": 2000.0})
    assert all(np.array_equal(frame(after).points, frame(before).points)
               for before, after in pairs(TOP, relative))


# -- contents --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("picture", "value"), (("white", 255), ("black", 0)))
def test_a_blinded_camera_sends_valid_pictures_of_nothing(picture, value):
    out, _ = filtered(example("blinded", picture=picture))
    for before, after in pairs(FRONT, out):
        seen = cv2.imdecode(frame(after).data, cv2.IMREAD_COLOR)
        assert seen.shape == (64, 128, 3)
        assert (seen == value).all() == in_window(before)
        assert stamp_of(after) == stamp_of(before)
    assert of(out, INFO) == of(DRIVE, INFO)


def test_mud_hides_its_share_and_stays_where_it_is():
    out, _ = filtered(example("blinded", picture="dirty", cover=0.5))
    differences = [np.abs(cv2.imdecode(frame(after).data, 1).astype(int)
                          - cv2.imdecode(frame(before).data, 1)).max(axis=2)
                   for before, after in pairs(FRONT, out) if in_window(before)]
    muddy = np.median(differences, axis=0) > 25
    assert 0.3 < muddy.mean() < 0.7
    clean = np.max(differences, axis=0) < 25  # what no picture lost: the same place in all
    assert clean.mean() > 0.25


def raw_picture(encoding: str, channels: int):
    rows = np.random.default_rng(1).integers(1, 255, (8, 10 * channels + 3), np.uint8)
    head = content(of(DRIVE, FRONT)[0]).header
    message = jazzy().types["sensor_msgs/msg/Image"](
        header=head, height=8, width=10, encoding=encoding, is_bigendian=0, step=rows.shape[1],
        data=rows.reshape(-1))
    return message_stream.stored(FRONT, "sensor_msgs/msg/Image", message, START_NS)


@pytest.mark.parametrize("picture", ("white", "black", "dirty"))
@pytest.mark.parametrize(("encoding", "channels"), (("rgb8", 3), ("mono8", 1), ("bgra8", 4)))
def test_uncompressed_pictures_are_blinded_too(picture, encoding, channels):
    one = raw_picture(encoding, channels)
    (after,), _ = filtered({"kind": "blinded", "sensor": "front", "picture": picture},
                           messages=[one])
    rows, was = frame(after).rows, frame(one).rows
    assert np.array_equal(rows[:, 10 * channels:], was[:, 10 * channels:]), "padding"
    inside = rows[:, :10 * channels]
    if picture == "dirty":
        assert (inside != was[:, :10 * channels]).any()
    else:
        assert (inside == (255 if picture == "white" else 0)).all()


def test_what_cannot_be_blinded_is_counted_and_passes():
    one = raw_picture("yuv422_yuy2", 2)
    out, made = filtered({"kind": "blinded", "sensor": "front"}, messages=[one])
    assert out == [one] and made.skipped == {("blinded", FRONT, "bad_encoding"): 1}
    assert made.idle() == ["faults[0] (blinded of front)"] and not made.counts


@pytest.mark.parametrize(("topic", "reason"), ((FRONT, "truncated"), (TOP, "bad_size"),
                                               (NOSE, "bad_size")))
def test_garbage_is_refused_by_the_readers_and_decoders(topic, reason):
    from perception_bev.sensors.picture import read_header

    out, _ = filtered(example("garbage", probability=1.0, keep=0.5))
    for before, after in pairs(topic, out):
        if not in_window(before):
            assert after == before
            continue
        assert len(content(after).data) == len(content(before).data) // 2
        with pytest.raises(BadMessage) as caught:
            read_header(frame(after).data)
        assert caught.value.reason == reason


def test_nan_spoils_the_fields_of_its_share_of_the_points():
    out, _ = filtered(example("nan", fields=["x", "time"], share=0.25))
    shares = []
    for before, after in pairs(TOP, out):
        was, now = frame(before).points, frame(after).points
        hit = np.isnan(now["x"])
        assert hit.any() == in_window(before) and np.array_equal(hit, np.isnan(now["time"]))
        assert np.array_equal(now[~hit], was[~hit]) and np.array_equal(now["y"], was["y"])
        shares.append(hit.mean())
    assert 0.2 < np.mean([s for s in shares if s]) < 0.3


def test_a_field_that_cannot_be_nan_is_skipped():
    out, made = filtered(example("nan", fields=["ring"]))
    assert out == DRIVE and made.skipped == {("nan", TOP, "missing_field"): 10}


def padded_cloud(topic: str, msgtype: str = "sensor_msgs/msg/PointCloud2"):
    """An organised cloud of two rows with padding behind each, big-endian."""
    dtype = np.dtype({"names": ["x", "y", "z", "ring"], "formats": [">f4", ">f4", ">f4", ">u2"],
                      "offsets": [0, 4, 8, 14], "itemsize": 20})
    points = np.zeros((2, 3), dtype)
    points["x"], points["ring"] = np.arange(6).reshape(2, 3), 7
    rows = np.full((2, 70), 9, np.uint8)
    rows[:, :60] = points.view(np.uint8).reshape(2, 60)
    field = jazzy().types["sensor_msgs/msg/PointField"]
    message = jazzy().types[msgtype](
        header=content(of(DRIVE, TOP)[0]).header, height=2, width=3, point_step=20, row_step=70,
        fields=[field("x", 0, 7, 1), field("y", 4, 7, 1), field("z", 8, 7, 1),
                field("ring", 14, 4, 1)], is_bigendian=True, data=rows.reshape(-1), is_dense=True)
    return message_stream.stored(topic, msgtype, message, START_NS)


def test_any_layout_of_a_cloud_can_be_spoilt():
    one = padded_cloud(TOP)
    (after,), _ = filtered({"kind": "nan", "sensor": "top"}, messages=[one])
    assert np.isnan(frame(after).points["x"]).all() and (frame(after).points["ring"] == 7).all()
    message = content(after)
    assert (message.height, message.row_step, message.is_bigendian) == (2, 70, True)
    assert (message.data.reshape(2, 70)[:, 60:] == 9).all(), "padding stays"


def test_ghosts_are_more_returns_behind_the_real_ones():
    out, _ = filtered(example("ghosts", count=7, max_range_m=40.0, fov_deg=60.0))
    for before, after in pairs(NOSE, out):
        was, now = frame(before).points, frame(after).points
        assert np.array_equal(now[:len(was)], was)
        ghosts = now[len(was):]
        assert len(ghosts) == (7 if in_window(before) else 0)
        assert (np.hypot(ghosts["x"], ghosts["y"]) <= 40.001).all()
        assert (np.abs(np.arctan2(ghosts["y"], ghosts["x"])) <= np.deg2rad(30.001)).all()
        assert np.isin(ghosts["intensity"], was["intensity"]).all()


def test_ghosts_haunt_any_layout_and_an_empty_scan():
    one = padded_cloud(NOSE)
    (after,), _ = filtered({"kind": "ghosts", "sensor": "nose", "count": 2}, messages=[one])
    assert frame(after).points["x"][:6].tolist() == [0, 1, 2, 3, 4, 5]
    assert len(frame(after).points) == 8 and (frame(after).points["ring"] == 7).all()
    scan = content(of(DRIVE, NOSE)[0])
    scan.width, scan.row_step, scan.data = 0, 0, np.zeros(0, np.uint8)
    empty = message_stream.stored(NOSE, "sensor_msgs/msg/PointCloud2", scan, START_NS)
    (after,), _ = filtered({"kind": "ghosts", "sensor": "nose", "count": 2}, messages=[empty])
    assert len(frame(after).points) == 2


def radar_scan(returns: int):
    kind = jazzy().types["radar_msgs/msg/RadarReturn"]
    rows = [kind(range=5.0 + i, azimuth=0.1, elevation=0.0, doppler_velocity=1.0, amplitude=30.0)
            for i in range(returns)]
    message = jazzy().types["radar_msgs/msg/RadarScan"](
        header=content(of(DRIVE, NOSE)[0]).header, returns=rows)
    return message_stream.stored(NOSE, "radar_msgs/msg/RadarScan", message, START_NS)


@pytest.mark.parametrize("returns", (0, 3))
def test_scans_of_radar_msgs_have_ghosts_and_nan(returns):
    rig = message_stream.rig(nose={"message": "radar_scan"})
    (after,), _ = filtered({"kind": "ghosts", "sensor": "nose", "count": 4}, rig=rig,
                           messages=[radar_scan(returns)])
    assert len(content(after).returns) == returns + 4
    assert content(after).returns[:returns] == content(radar_scan(returns)).returns
    (after,), _ = filtered({"kind": "nan", "sensor": "nose"}, rig=rig,
                           messages=[radar_scan(returns)])
    assert all(np.isnan(one.range) for one in content(after).returns)


# -- edges -----------------------------------------------------------------------------------------


def test_a_topic_of_another_type_passes():
    text = of(DRIVE, CHATTER)[0]._replace(topic=NOSE)
    out, made = filtered(*(example(kind, sensor="*", from_s=0.0, to_s=None) for kind in
                           ("garbage", "nan", "ghosts")), messages=[text])
    assert out == [text] and made.skipped == {
        (kind, NOSE, "wrong_type"): 1 for kind in ("nan", "ghosts", "garbage")}


def test_bytes_that_are_no_message_pass():
    broken = of(DRIVE, NOSE)[0]._replace(data=b"\0\1\0\0")
    out, made = filtered({"kind": "clock_skew", "sensor": "nose", "offset_ms": 1.0},
                         {"kind": "ghosts", "sensor": "nose"}, messages=[broken])
    assert out == [broken]
    assert made.skipped == {(kind, NOSE, "unreadable"): 1 for kind in ("clock_skew", "ghosts")}


def test_of_a_damaged_bag_what_is_late_comes_before_the_error():
    def damaged():
        yield from DRIVE[:20]
        raise RecordingError("torn")

    late = Faults(scenario({"kind": "late", "sensor": "top", "delay_ms": 5000.0}),
                  message_stream.rig(), TYPES, START_NS)
    found = []
    with pytest.raises(RecordingError, match="torn"):
        for one in late.apply(damaged()):
            found.append(one)
    assert len(found) == 20


def test_what_waits_is_bounded_and_loss_is_counted(monkeypatch):
    monkeypatch.setattr(module, "HELD", 5)
    out, made = filtered({"kind": "late", "sensor": "top", "delay_ms": 10_000.0})
    assert made.counts["overflow", TOP] == CYCLES - 5
    assert len(out) == len(DRIVE) - (CYCLES - 5)
    assert stamp_of(of(out, TOP)[-1]) == stamp_of(of(DRIVE, TOP)[-1]), "the newest are kept"


def test_a_sensor_that_the_rig_does_not_have_is_said_with_those_that_it_has():
    with pytest.raises(ConfigError, match=r"did you mean 'front'.*front, top, nose, odometry"):
        filtered({"kind": "off", "sensor": "fromt"})


def test_faults_act_one_after_the_other():
    out, made = filtered({"kind": "clock_skew", "sensor": "top", "offset_ms": 10.0},
                         {"kind": "clock_skew", "sensor": "top", "offset_ms": 20.0},
                         {"kind": "off", "sensor": "top", "from_s": 2.0})
    assert {stamp_of(b) - stamp_of(a) for a, b in zip(of(DRIVE, TOP), of(out, TOP), strict=False)
            } == {30 * MS}
    assert made.counts["off", TOP] == 10 and made.counts["clock_skew", TOP] == 60
