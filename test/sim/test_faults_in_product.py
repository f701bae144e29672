"""Faulty streams through the product without ROS: outputs go on, losses are counted by reason."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import message_stream
import numpy as np
import pytest
from driving import MONO_NS, START_NS, Drive
from message_stream import MS, ODOMETRY, TOPICS, TYPES, content, frame

from perception_bev import config
from perception_bev.errors import BadMessage
from perception_bev.messages import read
from perception_bev.pipeline.output import Output
from perception_bev.recordings.bag_reader import RawMessage
from perception_bev.sim.faults import Faults
from perception_bev.sim.scenario import Scenario
from perception_bev.sync.clock import Now


@dataclass
class FaultyDrive(Drive):
    """Messages of a bag, pushed at their log times; ROS time is what a player would say."""

    faults: Faults | None = None
    refused: list[tuple[str, str]] = field(default_factory=list)

    def now(self) -> Now:
        ros_ns = START_NS + self.passed_ns
        return Now(MONO_NS + self.passed_ns, ros_ns + self.faults.clock_shift_ns(ros_ns))

    def play(self, messages: Iterable[RawMessage]) -> list[Output]:
        found: list[Output] = []
        for raw in self.faults.apply(messages):
            found += self.until(raw.stamp_ns - START_NS)
            if raw.topic in TOPICS:
                self._take(TOPICS[raw.topic], raw)
            elif raw.topic == ODOMETRY:
                self.perception.push_odometry(*read.read_odometry(content(raw)))
        return found + list(self.until(self.passed_ns + 20 * MS))  # not into another cycle

    def _take(self, sensor: str, raw: RawMessage) -> None:
        try:
            self.push(sensor, frame(raw))
        except BadMessage as err:  # as the node's subscriptions do
            self.refused.append((sensor, err.reason))
            self.perception.refuse(sensor, err.reason, self.now())


@dataclass
class Result:
    """What came of a drive of 30 cycles whose fault lasts from cycle 10 to 20."""

    outputs: list[Output]
    drops: dict[tuple[str, str], int]
    failures: dict[str, int]
    faults: dict[str, str]
    epoch: int
    counts: dict[tuple[str, str], int]

    def of(self, first: int, last: int) -> list[Output]:
        """Outputs of these cycles, by when they came."""
        return self.outputs[first:last]

    def reasons(self, sensor: str, first: int = 11, last: int = 20) -> set[str]:
        return {output.bundle.slots[sensor].reason for output in self.of(first, last)}


def driven(model, *faults: dict, **sensors: dict) -> Result:
    rig = message_stream.rig(**sensors)
    scenario = config.build(Scenario, {"name": "t", "what": "t", "faults": list(faults)}, "t")
    made = Faults(scenario, rig, TYPES, START_NS)
    with FaultyDrive(model, sensors=sensors, faults=made) as drive:
        outputs = drive.play(message_stream.drive(30))
        condition = drive.perception.condition()
        return Result(outputs, condition.drops, condition.failures, condition.faults,
                      drive.perception.collector.epoch, dict(made.counts))


def fault(kind: str, **keys) -> dict:
    return {"kind": kind, "from_s": 0.95, "to_s": 1.95, **keys}


NO_REUSE = {"max_age_ms": 50}


@pytest.fixture
def clean(tiny_model) -> Result:
    return driven(tiny_model)


def test_without_faults_all_outputs_are_full(clean):
    assert len(clean.outputs) == 30 and {o.mode for o in clean.outputs} == {"full"}
    assert not clean.drops and not clean.failures and clean.epoch == 0
    assert not any("no_ego_motion" in o.reasons for o in clean.outputs[1:])


@pytest.mark.parametrize("sensor", ("front", "top", "nose"))
def test_off_is_a_missing_sensor_and_it_comes_back(tiny_model, sensor):
    found = driven(tiny_model, fault("off", sensor=sensor))
    assert len(found.outputs) == 30 and not found.failures
    assert "missing" in found.reasons(sensor)
    assert found.of(17, 18)[0].mode == "degraded"
    assert {o.mode for o in found.of(23, 30)} == {"full"}, "back within half a second"
    # a dead reference is not waited for, so that its first sweep finds its bundle closed
    assert found.drops == ({("top", "late"): 1} if sensor == "top" else {}) and found.epoch == 0


def test_everything_off_for_a_moment_is_one_pause(tiny_model):
    found = driven(tiny_model, fault("off", sensor="*"))
    assert 18 <= len(found.outputs) <= 30 and found.outputs[-1].mode == "full"
    assert all(o.boxes is not None for o in found.outputs)


def test_flapping_leaves_an_output_every_cycle(tiny_model):
    found = driven(tiny_model, fault("flapping", sensor="top", on_s=0.3, off_s=0.2))
    assert [b.t_ref_ns - a.t_ref_ns for a, b in zip(found.outputs, found.outputs[1:], strict=False)
            ] == pytest.approx([100 * MS] * 29, abs=MS)
    assert {"full", "degraded"} == {o.mode for o in found.of(10, 20)}


def test_a_constant_delay_is_used_with_its_age(tiny_model):
    found = driven(tiny_model, {"kind": "late", "sensor": "front", "from_s": 0.5, "delay_ms": 110})
    used = [o.bundle.slots["front"] for o in found.of(10, 29)]
    assert all(slot.present for slot in used) and len(found.outputs) >= 29
    assert {round(slot.age_ns / MS) for slot in used} == {100}


def test_jitter_costs_frames_and_no_outputs(tiny_model):
    found = driven(tiny_model, fault("late", sensor="front", delay_ms=50, jitter_ms=200),
                   front=NO_REUSE)
    assert len(found.outputs) == 30 and not found.failures
    assert {"stale", "late"} & {reason for (name, reason) in found.drops if name == "front"}


def test_garbage_is_counted_as_what_it_is(tiny_model):
    found = driven(tiny_model, fault("garbage", sensor="*"), front=NO_REUSE, top=NO_REUSE,
                   nose=NO_REUSE)
    assert {("front", "truncated"): 10, ("top", "bad_size"): 10, ("nose", "bad_size"): 10
            }.items() <= found.drops.items()
    assert found.outputs[-1].mode == "full"
    one = driven(tiny_model, fault("garbage", sensor="front"), front=NO_REUSE)
    assert "bad: truncated" in one.reasons("front") and len(one.outputs) == 30


@pytest.mark.parametrize("share", (0.3, 1.0))
def test_points_that_are_no_numbers_are_dropped_one_by_one(tiny_model, share):
    found = driven(tiny_model, fault("nan", sensor="top", share=share))
    assert len(found.outputs) == 30
    assert all(np.isfinite(o.boxes.centre).all() for o in found.outputs)
    if share == 1.0:
        assert found.drops["top", "empty"] == 10 and "bad: empty" in found.reasons("top")
    else:
        assert not found.drops and {o.mode for o in found.outputs} == {"full"}


def test_a_radar_of_nothing_but_nan_is_refused(tiny_model):
    found = driven(tiny_model, fault("nan", sensor="nose", fields=["x", "doppler"]), nose=NO_REUSE)
    assert found.drops["nose", "no_valid_points"] == 10 and len(found.outputs) == 30


@pytest.mark.parametrize("picture", ("white", "black", "dirty"))
def test_a_blinded_camera_is_not_noticed_but_changes_the_boxes(tiny_model, clean, picture):
    found = driven(tiny_model, fault("blinded", sensor="front", picture=picture))
    assert {o.mode for o in found.outputs} == {"full"} and not found.drops
    assert not np.array_equal(found.outputs[15].boxes.centre, clean.outputs[15].boxes.centre)
    assert np.array_equal(found.outputs[25].boxes.centre, clean.outputs[25].boxes.centre)


def test_ghosts_reach_the_network(tiny_model, clean):
    found = driven(tiny_model, fault("ghosts", sensor="nose", count=40, max_range_m=15))
    scans = [o.bundle.slots["nose"].newest for o in found.of(11, 19)]
    assert {len(scan.points) for scan in scans} == {100}
    assert {o.mode for o in found.outputs} == {"full"}


def test_a_clock_far_ahead_is_the_fault_of_its_sensor(tiny_model):
    found = driven(tiny_model, fault("clock_skew", sensor="nose", to_s=2.5, offset_ms=37_000))
    assert found.drops["nose", "future"] == 15 and found.epoch == 0
    assert {"future"} & found.reasons("nose", 15, 24) and len(found.outputs) == 30
    assert {o.mode for o in found.of(28, 30)} == {"full"}
    assert found.outputs[-1].bundle.slots["nose"].present


def test_a_clock_a_little_behind_changes_the_age_and_is_named(tiny_model):
    found = driven(tiny_model, {"kind": "clock_skew", "sensor": "front", "offset_ms": -80})
    ages = {round(o.bundle.slots["front"].age_ns / MS) for o in found.of(5, 30)}
    assert ages == {80} and not found.drops


def test_single_stamps_in_the_future_cost_single_frames(tiny_model):
    found = driven(tiny_model, fault("future_stamp", sensor="front", probability=0.5))
    images = found.counts["future_stamp", "/camera/front/image/compressed"]
    assert found.drops == {("front", "future"): images} and 0 < images < 10
    assert len(found.outputs) == 30 and found.epoch == 0


@pytest.mark.parametrize("by_s", (30.0, -2.0, -3600.0))
def test_a_time_jump_begins_one_epoch_and_outputs_are_back_at_once(tiny_model, by_s):
    found = driven(tiny_model, {"kind": "time_jump", "at_s": 1.45, "by_s": by_s})
    before = [o for o in found.outputs if o.epoch == 0]
    after = [o for o in found.outputs if o.epoch == 1]
    assert found.epoch == 1 and len(before) == 15 and len(after) >= 14
    step = after[0].t_ref_ns - before[-1].t_ref_ns
    assert step == pytest.approx(by_s * 1e9 + 100 * MS, abs=2 * 100 * MS)
    assert {o.mode for o in after[3:]} == {"full"} and not found.failures


def test_lost_messages_leave_an_output_every_cycle(tiny_model):
    found = driven(tiny_model, {"kind": "drop", "sensor": "*", "probability": 0.4})
    assert len(found.outputs) >= 28 and not found.failures
    assert {"full", "degraded"} == {o.mode for o in found.outputs}


def test_odometry_off_is_said(tiny_model):
    found = driven(tiny_model, fault("off", sensor="odometry"))
    assert "no_ego_motion" in found.outputs[18].reasons
    assert "no_ego_motion" not in found.outputs[28].reasons and len(found.outputs) == 30


def test_all_of_it_at_once_crashes_nothing(tiny_model):
    found = driven(
        tiny_model, fault("garbage", sensor="*", probability=0.3),
        fault("late", sensor="*", delay_ms=20, jitter_ms=150), fault("nan", sensor="*", share=0.5),
        fault("drop", sensor="*", probability=0.2), fault("future_stamp", sensor="*",
                                                          probability=0.1),
        {"kind": "time_jump", "at_s": 1.5, "by_s": -10.0})
    assert found.outputs[-1].epoch >= 1 and len(found.outputs) > 15
    assert not [text for text in found.failures if "no sensor contributed" not in text]
    assert {o.mode for o in found.outputs[-3:]} == {"full"}
