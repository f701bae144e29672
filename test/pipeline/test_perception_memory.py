"""The memory in the running product: what is remembered, by whom it is forgotten, and that a frame
without history is a frame for itself."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from driving import QUICK, START_NS, Drive, counted, same_boxes
from small_car import MS, calibration, frames, rig

from perception_bev.errors import ConfigError, EngineFailed, EngineMismatch
from perception_bev.geometry import SE3
from perception_bev.latency.trace import Trace
from perception_bev.manifest import load_manifest
from perception_bev.pipeline.ingest import Ingest
from perception_bev.pipeline.offline import detect
from perception_bev.pipeline.output import Output
from perception_bev.pipeline.perception import Perception
from perception_bev.pipeline.stages import Stages
from perception_bev.recordings.base import OdometrySample, Sample
from perception_bev.temporal.ego import Twist

CYCLES = 6
LINEAR, ANGULAR = np.array([4.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.3])
MOVED = {"extrinsics": {"translation": [0.2, 0.0, 1.8], "rotation_rpy_deg": [0, 0, 30]}}


def odometry(number: int, start: SE3 | None = None) -> tuple[OdometrySample, ...]:
    """At 50 Hz, since the cycle before up to this one's t_ref."""
    first = -10 if number == 0 else -4
    return tuple(at(number * 100 + 20 * k, start) for k in range(first, 1))


def at(ms: int, start: SE3 | None = None) -> OdometrySample:
    pose = (start or SE3.identity()) @ Twist(LINEAR, ANGULAR).motion(ms / 1000)
    return OdometrySample(START_NS + ms * MS, pose, LINEAR, ANGULAR)


def drive_on(drive: Drive, numbers, start: SE3 | None = None) -> Iterator[Output]:
    """Cycles with odometry."""
    for number in numbers:
        for o in odometry(number, start):
            drive.perception.push_odometry(o.stamp_ns, o.odom_from_base, o.linear, o.angular)
        yield from drive.cycle(number)


def history(outputs) -> list[float | None]:
    return [None if o.history_s is None else round(o.history_s, 3) for o in outputs]


def sample(number: int, sequence: int = 0) -> Sample:
    t_ref = START_NS + number * 100 * MS
    return Sample(f"{number}", sequence, t_ref,
                  {n: (raw,) for n, raw in frames(t_ref, number).items()},
                  odom_from_base=at(number * 100).odom_from_base, odometry=odometry(number))


class MovingRecording:
    """What the moving drive's sensors send."""

    def __init__(self, *samples: Sample) -> None:
        self.samples = samples or tuple(sample(k) for k in range(CYCLES))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def rig_of(self, index: int):
        return rig()


def found(model, recording=None, **options) -> list:
    return [boxes for _, boxes in detect(model, recording or MovingRecording(), deployment=QUICK,
                                         **options)]


def alone(model, one: Sample) -> object:
    """A sample that is all that a model ever saw, while its odometry has run for long."""
    number = round((one.t_ref_ns - START_NS) / (100 * MS))
    known = tuple(o for k in range(number + 1) for o in odometry(k)) if one.odometry else ()
    boxes, = found(model, MovingRecording(dataclasses.replace(one, odometry=known)))
    return boxes


# -- live ------------------------------------------------------------------------------------------


def test_history_grows_to_the_oldest_wanted_age_and_matters(remembering_model):
    with Drive(remembering_model) as drive:
        outputs = list(drive_on(drive, range(CYCLES)))
    assert history(outputs) == [None, 0.1, 0.2, 0.3, 0.4, 0.4]
    assert all(o.reasons == () for o in outputs)
    with Drive(remembering_model) as drive:
        without = [o for k in range(CYCLES) for o in drive.cycle(k)]
    assert history(without) == [None] * CYCLES
    assert all(o.reasons == ("no_ego_motion",) for o in without)
    assert not same_boxes(outputs[-1].boxes, without[-1].boxes)


def test_a_model_without_memory_has_no_history(tiny_model):
    with Drive(tiny_model) as drive:
        assert history(drive_on(drive, range(3))) == [None] * 3


def test_a_new_epoch_a_new_calibration_and_new_odometry_forget(remembering_model):
    def drive_and(act, start=None) -> list:
        with Drive(remembering_model) as drive:
            outputs = list(drive_on(drive, range(3)))
            act(drive.perception)
            outputs += drive_on(drive, range(3, 6), start)
        return history(outputs)[-3:]

    assert drive_and(lambda perception: None) == [0.3, 0.4, 0.4]
    assert drive_and(lambda perception: perception.recalibrate(calibration(top=MOVED))) == [
        None, 0.1, 0.2]
    assert drive_and(lambda perception: None, SE3(np.eye(3), np.array([500.0, 0, 0]))) == [
        None, 0.1, 0.2]
    assert drive_and(lambda perception: perception.new_epoch("test")) == [None, 0.1, 0.2]
    assert drive_and(lambda perception: perception.stages.memory.reset()) == [None, 0.1, 0.2]


def test_a_frame_without_odometry_is_alone_and_the_next_remembers_again(remembering_model):
    with Drive(remembering_model) as drive:
        outputs = list(drive_on(drive, range(3)))
        outputs += drive.cycle(3)  # 100 ms after the last odometry: carried on by its twist
        outputs += drive.cycle(4)
        outputs += drive_on(drive, [5])
    assert history(outputs) == [None, 0.1, 0.2, 0.3, None, 0.4]
    assert [o.reasons for o in outputs[3:]] == [(), ("no_ego_motion",), ()]


def test_warming_up_leaves_nothing_to_remember(remembering_model):
    with Drive(remembering_model) as cold:
        expected = list(drive_on(cold, range(3)))
    with Drive(remembering_model) as drive:
        drive.perception.warm_up()
        assert len(drive.perception.stages.memory) == 0
        warm = list(drive_on(drive, range(3)))
    assert all(same_boxes(a.boxes, b.boxes) for a, b in zip(expected, warm, strict=True))


def test_an_engine_that_fails_costs_its_own_map_only(remembering_model):
    with Drive(remembering_model) as drive:
        engines = counted(drive.perception)
        list(drive_on(drive, range(2)))
        engines["fuse"].error = EngineFailed("fuse: out of memory")
        assert list(drive_on(drive, [2])) == []
        engines["fuse"].error = None
        assert history(drive_on(drive, [3])) == [0.3]
        assert len(drive.perception.stages.memory) == 3


def test_a_map_that_is_not_finite_is_counted_and_never_seen_again(remembering_model):
    with Drive(remembering_model) as drive:
        fuse = drive.perception.stages.engines["fuse"]
        list(drive_on(drive, [0]))
        drive.perception.stages.engines["fuse"] = Spoiling(fuse)
        list(drive_on(drive, [1]))
        drive.perception.stages.engines["fuse"] = fuse
        after, = drive_on(drive, [2])
        assert drive.perception.condition().drops == {("memory", "not_finite"): 1}
    assert history([after]) == [0.2] and np.isfinite(after.boxes.centre).all()


class Spoiling:
    """An engine whose memory output overflows."""

    def __init__(self, engine) -> None:
        self._engine, self.inputs, self.outputs = engine, engine.inputs, engine.outputs
        self.close = engine.close

    def infer(self, feeds):
        made = self._engine.infer(feeds)
        made["remember"][0, 0, 0, 0] = np.inf
        return made


@pytest.mark.parametrize("memory", [None, {"ages_s": (0.1, 0.2), "channels": 6},
                                    {"ages_s": (0.1, 0.2, 0.4), "channels": 7}])
def test_a_manifest_that_speaks_of_another_memory_is_refused(remembering_model, memory):
    from perception_bev import manifest
    described = dataclasses.replace(load_manifest(remembering_model),
                                    memory=memory and manifest.Memory(**memory))
    with pytest.raises(EngineMismatch, match=r"memory is .*export the model again"):
        Stages(remembering_model, described, QUICK, lambda: 0)


# -- frames for themselves -------------------------------------------------------------------------


def test_without_memory_every_sample_is_as_if_it_were_the_only_one(remembering_model):
    singles = [alone(remembering_model, sample(k)) for k in range(CYCLES)]
    off = found(remembering_model, memory=False)
    on = found(remembering_model)
    assert all(same_boxes(a, b) for a, b in zip(off, singles, strict=True)), "bit by bit"
    assert [same_boxes(a, b) for a, b in zip(on, singles, strict=True)] == [
        True] + [False] * (CYCLES - 1), "and the memory is not for nothing"


@pytest.mark.parametrize(("mode", "expected"), [
    ("keep", [None, 0.1, 0.2, 0.3]), ("skip", [None, 0.1, None, 0.3]),
    ("reset", [None, 0.1, None, 0.1])])
def test_keep_skip_and_reset(remembering_model, mode, expected):
    perception = Perception(remembering_model, calibration(), QUICK, lambda: 0)
    ingest, outputs = Ingest(perception.manifest, calibration()), []
    for number in range(4):
        for o in odometry(number):
            perception.push_odometry(o.stamp_ns, o.odom_from_base, o.linear, o.angular)
        outputs.append(perception.process(ingest.bundle(sample(number)), Trace(0, 0),
                                          history=mode if number == 2 else "keep"))
    perception.close()
    assert history(outputs) == expected


# -- recordings ------------------------------------------------------------------------------------


def test_live_and_recorded_remember_the_same(remembering_model):
    with Drive(remembering_model) as drive:
        live = list(drive_on(drive, range(CYCLES)))
    threshold = drive.perception.manifest.heads.score_threshold
    recorded = [b[b.score > threshold] for b in found(remembering_model)]
    assert history(live)[-1] == 0.4
    assert all(same_boxes(a.boxes, b) for a, b in zip(live, recorded, strict=True))


def test_another_sequence_begins_anew(remembering_model):
    samples = [sample(0), sample(1), sample(2, sequence=1), sample(3, sequence=1)]
    samples[2] = dataclasses.replace(samples[2], odometry=sum(map(odometry, range(3)), ()))
    boxes = found(remembering_model, MovingRecording(*samples))
    assert same_boxes(boxes[2], alone(remembering_model, samples[2]))
    assert not same_boxes(boxes[3], alone(remembering_model, samples[3]))


def test_going_back_in_a_sequence_begins_anew(remembering_model):
    again = dataclasses.replace(sample(1), odometry=odometry(0) + odometry(1))
    boxes = found(remembering_model, MovingRecording(sample(2), sample(3), again))
    assert same_boxes(boxes[2], alone(remembering_model, again))


def test_samples_that_are_left_out_are_a_gap_not_a_lie(remembering_model):
    """Every third sample: the map of 0.3 s ago serves for the age of 0.2 s."""
    boxes = found(remembering_model, indices=[0, 3])
    assert not same_boxes(boxes[1], alone(remembering_model, sample(3)))
    far = [sample(0), dataclasses.replace(sample(7), odometry=sum(map(odometry, range(8)), ()))]
    boxes = found(remembering_model, MovingRecording(*far))  # farther than anything serves
    assert same_boxes(boxes[1], alone(remembering_model, far[1]))


def test_poses_without_odometry_are_enough_to_remember(remembering_model):
    bare = [dataclasses.replace(sample(k), odometry=()) for k in range(3)]
    boxes = found(remembering_model, MovingRecording(*bare))
    assert not same_boxes(boxes[2], alone(remembering_model, bare[2]))


def test_a_lost_sensor_is_a_missing_one(remembering_model):
    without = [dataclasses.replace(s, raw={n: r for n, r in s.raw.items() if n != "front"})
               for s in MovingRecording().samples]
    lost = found(remembering_model, lost=["front"])
    expected = found(remembering_model, MovingRecording(*without))
    assert all(same_boxes(a, b) for a, b in zip(lost, expected, strict=True))
    assert not same_boxes(lost[0], found(remembering_model)[0])


def test_a_lost_sensor_that_the_rig_does_not_have_is_an_error(tiny_model):
    with pytest.raises(ConfigError, match="has no rear; it has: front, top, nose"):
        found(tiny_model, lost=["rear"])
