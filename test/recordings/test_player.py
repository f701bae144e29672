"""The loop that plays a bag, with clocks that only move when it waits."""

import itertools
import json

import pytest
from bag_scenes import MS, SmallRecording, write_texts

from perception_bev.errors import ConfigError, RecordingError
from perception_bev.recordings import bag_write, player
from perception_bev.recordings.bag_reader import BagReader
from perception_bev.recordings.convert import convert
from perception_bev.recordings.playback import leading_stamp
from perception_bev.recordings.player import Player, Settings, choose_topics

NOW_NS = 1_800_000_000 * 10**9


class Stage:
    """Sink and host of a player: everything that happens, in its order."""

    def __init__(self, slow_s=0.0, stop_after=None, unknown=()):
        self.now_ns, self.events = 0, []
        self._slow_ns, self._stop_after, self._unknown = slow_s * 1e9, stop_after, unknown

    def publish(self, topic, data):
        self.now_ns += int(self._slow_ns)
        self.events.append(("publish", topic, data, self.now_ns))
        return topic not in self._unknown

    def epoch(self, number):
        self.events.append(("epoch", number))

    def clock(self, ros_ns):
        self.events.append(("clock", ros_ns))

    def monotonic_ns(self):
        return self.now_ns

    def ros_ns(self):
        return NOW_NS + self.now_ns

    def wait(self, seconds):
        assert seconds > 0
        self.now_ns += max(int(seconds * 1e9), 1)

    def stopped(self):
        return self._stop_after is not None and len(self.published()) >= self._stop_after

    def of(self, kind):
        return [event[1:] for event in self.events if event[0] == kind]

    def published(self):
        return self.of("publish")


def play(path, stage=None, only=(), **settings):
    stage = stage or Stage()
    with BagReader(path) as reader:
        topics = choose_topics(reader, set(only), set())
        report = Player(reader, topics, stage, stage, Settings(**settings)).play()
    return stage, report


@pytest.fixture
def bag(tmp_path):
    convert(SmallRecording((3, 2)), tmp_path / "bag")
    return tmp_path / "bag"


@pytest.mark.parametrize("rate", (0.5, 1.0, 4.0))
def test_every_message_comes_once_in_order_and_in_time(bag, rate):
    stage, report = play(bag, rate=rate, clock_hz=0.0)
    with BagReader(bag) as reader:
        expected = [raw for raw in reader.raw_messages() if raw.topic != "/epoch"]
        start = reader.start_ns
    assert [(topic, data) for topic, data, _ in stage.published()] == [
        (raw.topic, raw.data) for raw in expected]
    for raw, (_, _, at) in zip(expected, stage.published(), strict=True):
        assert at == pytest.approx((raw.stamp_ns - start) / rate, abs=1000)
    assert report.complete and report.error is None and report.slips == 0
    assert report.published.total() == len(expected) and report.loops == 1


@pytest.mark.parametrize("stamps", ("original", "fresh"))
def test_the_clock_comes_before_every_message_that_it_stamps_and_never_runs_back(bag, stamps):
    stage, _ = play(bag, stamps=stamps)
    clock, seen = 0, 0
    for kind, *event in stage.events:
        if kind == "clock":
            assert event[0] >= clock
            clock = event[0]
        elif kind == "publish" and not event[0].startswith(("/tf", "/ground")):
            assert leading_stamp(event[1]) <= clock
            seen += 1
    assert seen > 20


@pytest.mark.parametrize("stamps", ("original", "fresh"))
def test_who_sleeps_too_long_does_not_set_the_clock_back(bag, stamps):
    class Sleepy(Stage):
        def wait(self, seconds):
            super().wait(seconds + 0.017)

    stage, report = play(bag, Sleepy(), stamps=stamps, clock_hz=50.0)
    ticks = [ros_ns for (ros_ns,) in stage.of("clock")]
    assert ticks == sorted(ticks) and report.slips == 0


def test_between_messages_the_clock_ticks(bag):
    stage, _ = play(bag, clock_hz=100.0)
    ticks = [ros_ns for (ros_ns,) in stage.of("clock")]
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    assert max(steps) <= 11 * MS, "the pause of two seconds too"


def test_fresh_stamps_lie_around_now(bag):
    stage, _ = play(bag, stamps="fresh")
    lidar = [(data, at) for topic, data, at in stage.published() if topic == "/lidar/top/points"]
    for data, at in lidar:
        assert abs(leading_stamp(data) - (NOW_NS + at)) < 1 * MS


def test_epochs_stand_between_the_drives(bag):
    stage, report = play(bag)
    kinds = [(kind, event[0]) for kind, *event in stage.events
             if kind == "epoch" or (kind == "publish" and event[0] == "/lidar/top/points")]
    sweep = ("publish", "/lidar/top/points")
    assert kinds == [("epoch", 0), sweep, sweep, sweep, ("epoch", 1), sweep, sweep]
    assert report.epochs == 2


def test_only_some_topics_keep_the_epochs(bag):
    stage, report = play(bag, only={"lidar/top/points"})
    assert report.published == {"/lidar/top/points": 5} and report.epochs == 2
    assert {topic for topic, *_ in stage.published()} == {"/lidar/top/points"}


def test_a_loop_is_a_new_epoch_and_sets_the_clock_back(bag):
    once, _ = play(bag)
    count = len(once.published())
    stage, report = play(bag, Stage(stop_after=3 * count), loop=True)
    assert [number for (number,) in stage.of("epoch")] == [0, 1, 2, 3, 4, 5]
    ticks = [ros_ns for (ros_ns,) in stage.of("clock")]
    assert sum(b < a for a, b in itertools.pairwise(ticks)) == 2
    assert not report.complete and report.published.total() == 3 * count
    fresh, _ = play(bag, Stage(stop_after=3 * count), loop=True, stamps="fresh")
    ticks = [ros_ns for (ros_ns,) in fresh.of("clock")]
    assert ticks == sorted(ticks), "fresh stamps go on"


def test_stopping_ends_it_at_once(bag):
    stage, report = play(bag, Stage(stop_after=4))
    assert len(stage.published()) == 4 and not report.complete and report.error is None


def test_who_cannot_keep_up_goes_on_from_there(bag):
    stage, report = play(bag, Stage(slow_s=0.4), only={"lidar/top/points", "/odometry"},
                         stamps="fresh")
    assert report.slips > 0 and report.complete and report.max_late_ms >= 1000
    ticks = [ros_ns for (ros_ns,) in stage.of("clock")]
    assert ticks == sorted(ticks)


def test_topics_that_cannot_be_published_are_not_counted(bag):
    _, report = play(bag, Stage(unknown={"/odometry"}))
    assert "/odometry" not in +report.published and report.published["/lidar/top/points"] == 5


def test_a_torn_bag_is_played_as_far_as_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(bag_write, "_CHUNK_BYTES", 1 << 12)
    write_texts(tmp_path / "bag", 100)
    path = tmp_path / "bag" / "bag_0.mcap"
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    stage, report = play(tmp_path / "bag", loop=True)
    assert 10 < report.published.total() == len(stage.published()) < 100
    assert f"{report.published.total()} messages before it were readable" in report.error
    assert not report.complete


def test_an_empty_bag_does_not_loop_for_ever(tmp_path):
    bag_write.BagWriter(tmp_path / "bag").close()
    _, report = play(tmp_path / "bag", loop=True)
    assert report.complete and report.published.total() == 0


def test_unknown_topics_are_named(bag):
    with BagReader(bag) as reader, pytest.raises(ConfigError, match="no topic /radio"):
        choose_topics(reader, {"radio"}, set())


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="original, fresh"):
        Settings(stamps="new")
    for rate in (0.0, 101.0, float("nan")):
        with pytest.raises(ConfigError, match="rate"):
            Settings(rate=rate)


def test_the_report_is_json(bag):
    _, report = play(bag)
    assert json.loads(json.dumps(report.as_dict()))["published"]["/odometry"] == 5


@pytest.mark.parametrize("count", [0, 1, player.BATCH - 1, player.BATCH, player.AHEAD + 3])
@pytest.mark.parametrize("fails", [False, True])
def test_read_ahead_hands_over_all_in_order_and_the_error_last(count, fails):
    def messages():
        yield from range(count)
        if fails:
            raise RecordingError("damaged")

    got = []
    try:
        for message in player.read_ahead(messages, lambda: False):
            got.append(message)
        failed = False
    except RecordingError:
        failed = True
    assert got == list(range(count)) and failed == fails


def test_read_ahead_reads_no_further_than_it_says():
    read = []

    def messages():
        for number in itertools.count():
            read.append(number)
            yield number

    taken = player.read_ahead(messages, lambda: False)
    for number in range(100):
        assert next(taken) == number
        assert len(read) <= number + 1 + player.AHEAD + player.BATCH
    taken.close()
    count = len(read)
    assert len(read) == count, "its thread has ended"
