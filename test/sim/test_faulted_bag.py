"""Faults on disk and while a bag is played: both do the same, and what is not concerned stays."""

import json
import re

import message_stream
import pytest
from bag_scenes import STRING, text_bytes
from driving import START_NS
from message_stream import CHATTER, MS, TOPIC_OF, stamp_of

from perception_bev import config
from perception_bev.commands.main import main
from perception_bev.errors import ConfigError, RecordingError
from perception_bev.recordings import bag_write
from perception_bev.recordings.bag_metadata import Qos
from perception_bev.recordings.bag_reader import BagReader
from perception_bev.recordings.bag_write import BagWriter
from perception_bev.recordings.playback import leading_stamp
from perception_bev.recordings.player import Player, Settings, choose_topics
from perception_bev.sim import faulted_bag
from perception_bev.sim.faults import Faults
from perception_bev.sim.scenario import Scenario, load_scenario

DRIVE = message_stream.drive(20)
FAULTS = """\
name: mine
what: A drive with all of it.
faults:
  - {kind: off, sensor: front, from_s: 1.0, to_s: 1.5}
  - {kind: late, sensor: nose, delay_ms: 30, jitter_ms: 100}
  - {kind: time_jump, at_s: 1.2, by_s: -5}
"""


@pytest.fixture
def bag(tmp_path):
    with BagWriter(tmp_path / "bag", custom={"rig": "small"}) as writer:
        for raw in DRIVE:
            qos = Qos("best_effort") if raw.topic == TOPIC_OF["top"] else None
            writer.write(raw.topic, raw.type, raw.data, raw.stamp_ns, qos)
    return tmp_path / "bag"


@pytest.fixture
def scenario(tmp_path):
    (tmp_path / "mine.yaml").write_text(FAULTS)
    return tmp_path / "mine.yaml"


@pytest.fixture
def rig_file(tmp_path):
    import small_car
    import yaml
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(small_car.description()))
    return tmp_path / "rig.yaml"


def faulted(bag, out, scenario, seed=0, **keys):
    with BagReader(bag) as reader:
        return faulted_bag.write(reader, out, load_scenario(scenario), message_stream.rig(), seed,
                                 **keys)


def rows(bag) -> list:
    with BagReader(bag) as reader:
        return [raw._replace(address=()) for raw in reader.raw_messages()]


def test_the_written_bag_is_what_the_filter_gives(bag, scenario, tmp_path):
    summary = faulted(bag, tmp_path / "out", scenario, seed=2)
    made = Faults(load_scenario(scenario), message_stream.rig(), message_stream.TYPES, START_NS, 2)
    assert rows(tmp_path / "out") == list(made.apply(DRIVE))
    assert (summary.read, summary.written) == (len(DRIVE), len(DRIVE) - 10)
    assert summary.changed["off"] == {"/camera/front/camera_info": 5, TOPIC_OF["front"]: 5}
    assert not summary.notes and summary.error is None


def test_types_qos_and_metadata_are_taken_over(bag, scenario, tmp_path):
    faulted(bag, tmp_path / "out", scenario, seed=2)
    with BagReader(bag) as before, BagReader(tmp_path / "out") as after:
        assert {n: (i.type, i.qos) for n, i in after.topics.items()} == {
            n: (i.type, i.qos) for n, i in before.topics.items()}
        assert after.topics[TOPIC_OF["top"]].qos.reliability == "best_effort"
        assert after.metadata.custom == {"rig": "small", "scenario": "mine", "scenario_seed": "2"}


def test_the_same_seed_gives_the_same_file(bag, scenario, tmp_path):
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        faulted(bag, tmp_path / name / "out", scenario, seed)
        files.append((tmp_path / name / "out" / "out_0.mcap").read_bytes())
    assert files[0] == files[1] != files[2]


def test_types_of_which_nobody_knows_keep_their_own_definition(tmp_path, scenario):
    def define(msgtype):
        return "string data\n", "RIHS01_" + "0" * 64

    with BagWriter(tmp_path / "bag", define=define) as writer:
        writer.write("/x", "vendor_msgs/msg/Thing", text_bytes("hello"), START_NS)
    faulted(tmp_path / "bag", tmp_path / "out", scenario)
    with BagReader(tmp_path / "out") as reader:
        (topic, _, message), = reader.messages()
    assert (topic, message.data) == ("/x", "hello")


def test_of_a_damaged_bag_the_readable_part_is_written(tmp_path, scenario, monkeypatch):
    monkeypatch.setattr(bag_write, "_CHUNK_BYTES", 1 << 12)
    with BagWriter(tmp_path / "bag", "none") as writer:
        for k in range(200):
            writer.write(CHATTER, STRING, text_bytes(f"{k:0200d}"), START_NS + k * MS)
    path = tmp_path / "bag" / "bag_0.mcap"
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    summary = faulted(tmp_path / "bag", tmp_path / "out", scenario)
    assert "messages before it were readable" in summary.error
    assert 10 < summary.written == len(rows(tmp_path / "out")) < 200


def test_interrupted_it_leaves_nothing(bag, scenario, tmp_path):
    def interrupt(done):
        if done > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        faulted(bag, tmp_path / "out", scenario, progress=interrupt)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_stays(bag, scenario, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(RecordingError, match="new folder"):
        faulted(bag, tmp_path / "out", scenario)
    assert (tmp_path / "out" / "precious").exists()


# -- the command -----------------------------------------------------------------------------------


def test_the_command_says_what_it_changed(bag, scenario, rig_file, tmp_path, capsys):
    words = ["bag", "fault", str(bag), str(tmp_path / "out"), "--scenario", str(scenario),
             "--rig", str(rig_file), "--json", str(tmp_path / "done.json")]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "mine: A drive with all of it." in text and "/camera/front/camera_info 5" in text
    done = json.loads((tmp_path / "done.json").read_text())
    assert done["changed"]["time_jump"]["/odometry"] == 8 and done["written"] == len(DRIVE) - 10


def test_what_changed_nothing_is_said(bag, rig_file, tmp_path, capsys):
    path = tmp_path / "void.yaml"
    path.write_text("name: void\nwhat: Too late.\nworld: {weather: night}\nfaults:\n"
                    "  - {kind: off, sensor: top, from_s: 100}\n")
    assert main(["bag", "fault", str(bag), str(tmp_path / "out"), "--scenario", str(path),
                 "--rig", str(rig_file)]) == 0
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "faults[0] (off of top) changed nothing" in text and "world is not in this bag" in text
    assert rows(tmp_path / "out") == DRIVE


@pytest.mark.parametrize(("words", "text"), (
    (["--scenario", "sensor_of"], "did you mean 'sensor_off'"),
    (["--scenario", "sensor_off"], "no sensor fits 'lidar_top'"),
    (["--scenario", "none.yaml"], "no such file"),
))
def test_what_is_wrong_is_one_line(bag, rig_file, tmp_path, capsys, words, text):
    assert main(["bag", "fault", str(bag), str(tmp_path / "out"), "--rig", str(rig_file),
                 *words]) == 2
    err = capsys.readouterr().err
    assert text in err and len(err.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_playing_with_a_scenario_needs_a_rig(bag, capsys):
    assert main(["bag", "play", str(bag), "--scenario", "fog"]) == 2
    assert "--rig FILE" in capsys.readouterr().err


# -- playing ---------------------------------------------------------------------------------------


class Stage:
    """Sink and host of a player whose clock only moves when it waits."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.now_ns, self.clock_ns, self._stop_after = 0, [], stop_after
        self.published, self.epochs = [], []

    def publish(self, topic, data):
        self.published.append((topic, data, self.now_ns, self.clock_ns[-1]))
        return True

    def epoch(self, number):
        self.epochs.append(number)

    def clock(self, ros_ns):
        self.clock_ns.append(ros_ns)

    def monotonic_ns(self):
        return self.now_ns

    def ros_ns(self):
        return START_NS + 10**15 + self.now_ns

    def wait(self, seconds):
        self.now_ns += max(int(seconds * 1e9), 1)

    def stopped(self):
        return self._stop_after is not None and len(self.published) >= self._stop_after


def played(bag, *faults: dict, stage=None, **settings):
    stage = stage or Stage()
    scenario = config.build(Scenario, {"name": "t", "what": "t", "faults": list(faults)}, "t")
    with BagReader(bag) as reader:
        made = Faults(scenario, message_stream.rig(), reader.types, reader.start_ns)
        topics = choose_topics(reader, set(), set())
        report = Player(reader, topics, stage, stage, Settings(**settings), made).play()
    return stage, report


@pytest.mark.parametrize("stamps", ("original", "fresh"))
def test_the_clock_jumps_with_the_stamps_while_messages_come_as_ever(bag, stamps):
    plain, _ = played(bag, stamps=stamps)
    jumped, report = played(bag, {"kind": "time_jump", "at_s": 1.0, "by_s": -5.0}, stamps=stamps)
    assert [(topic, at) for topic, _, at, _ in jumped.published] == [
        (topic, at) for topic, _, at, _ in plain.published]
    for before, after in zip(plain.published, jumped.published, strict=True):
        shift = -5 * 10**9 if before[2] >= 10**9 else 0
        assert after[3] - before[3] == shift
        if before[0] not in (CHATTER, "/tf"):
            assert leading_stamp(after[1]) - leading_stamp(before[1]) == shift
            assert leading_stamp(after[1]) <= after[3]
    assert jumped.epochs == [0] and report.epochs == 1, "the product has to see it by itself"
    steps = [b - a for a, b in zip(jumped.clock_ns, jumped.clock_ns[1:], strict=False)]
    assert sum(step < 0 for step in steps) == 1, "ticks between messages jump too"


def test_what_is_late_is_played_late(bag):
    stage, report = played(bag, {"kind": "late", "sensor": "top", "delay_ms": 70}, clock_hz=0.0)
    for _, data, at, _ in (row for row in stage.published if row[0] == TOPIC_OF["top"]):
        assert at - (leading_stamp(data) - START_NS) == pytest.approx(72 * MS, abs=1000)
    assert report.as_dict()["faults"] == {"late": {TOPIC_OF["top"]: 20}}


def test_every_loop_has_the_faults_again(bag):
    once, report = played(bag, {"kind": "drop", "sensor": "nose", "probability": 0.5})
    count = len(once.published)
    thrice, _ = played(bag, {"kind": "drop", "sensor": "nose", "probability": 0.5},
                       stage=Stage(3 * count), loop=True)
    rounds = [[row[:2] for row in thrice.published[k * count:(k + 1) * count]] for k in range(3)]
    assert rounds[0] == rounds[1] == rounds[2] == [row[:2] for row in once.published]
    assert report.published.total() == len(DRIVE) - report.faults["drop", TOPIC_OF["nose"]]


def test_a_rig_that_does_not_fit_is_said_before_playing(bag):
    with pytest.raises(ConfigError, match=r"scenario 't', faults\[0\]: off: no sensor fits 'tip'"):
        played(bag, {"kind": "off", "sensor": "tip"})


def test_stamps_of_transforms_inside_messages_jump_too(bag, tmp_path, scenario):
    faulted(bag, tmp_path / "out", scenario)
    last = [raw for raw in rows(tmp_path / "out") if raw.topic == "/tf"][-1]
    assert stamp_of(last) == last.stamp_ns - 5 * 10**9
