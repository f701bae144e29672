"""The whole of it with its threads: real clocks, a tiny model, sensors that come and go."""

import threading
import time
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
from driving import QUICK, wait_for
from small_car import calibration, frames

from perception_bev.contracts import SensorBundle
from perception_bev.deployment import Deployment, GuardLimits
from perception_bev.errors import EngineFailed
from perception_bev.latency.ladder import PLANS
from perception_bev.latency.trace import Trace
from perception_bev.pipeline.frame import Frame
from perception_bev.pipeline.gate import Gate
from perception_bev.pipeline.live import Live
from perception_bev.pipeline.output import Output
from perception_bev.pipeline.perception import Perception
from perception_bev.sync.clock import ClockWatch, Now

# A wide budget: the computer that runs the tests may be busy; what is tested is not speed.
PERIOD_MS, BUDGET_MS = 400.0, 350.0
WIDE = Deployment(threads=1, check_golden=False, budget_ms=BUDGET_MS,
                  guard=GuardLimits(safe_after=3))


@dataclass
class Said:
    """The sink: what was said, in order."""

    all: list = field(default_factory=list)

    def output(self, output):
        output.trace.published = time.monotonic_ns()
        self.all.append((output.t_ref_ns, output.mode, output.plan))

    def afterwards(self, output):
        pass

    def missed(self, miss, tracks, why):
        self.all.append((miss.t_ref_ns, miss.mode, why))

    def late(self, output):
        pass

    @property
    def modes(self) -> list[str]:
        return [mode.partition(" (")[0].partition(":")[0] for _, mode, _ in self.all]


class Vehicle:
    """Sensors that send in real time, a period after the other."""

    def __init__(self, model, deployment=WIDE) -> None:
        self.perception = Perception(model, calibration(
            **{name: {"period_ms": PERIOD_MS} for name in ("front", "top", "nose")}),
            deployment, time.monotonic_ns)
        self.said = Said()
        self.live = Live(self.perception, deployment, PERIOD_MS, _now, True, self.said,
                         self.perception.warm_up())
        self.sending = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> "Vehicle":
        self.live.start()
        self.sending.set()
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stopping.set()
        self._thread.join(10)
        self.live.stop()
        self.perception.close()

    def _send(self) -> None:
        number = 0
        while not self._stopping.wait(PERIOD_MS / 1e3):
            if self.sending.is_set():
                for sensor, raw in frames(time.time_ns(), number).items():
                    self.perception.push(sensor, raw, _now())
            number += 1


def _now() -> Now:
    return Now(time.monotonic_ns(), time.time_ns())


def in_order(said: Said) -> bool:
    stamps = [stamp for stamp, _, _ in said.all]
    return all(b > a for a, b in zip(stamps, stamps[1:], strict=False))


@pytest.mark.parametrize("runner", ["inline", "threads"])
def test_every_period_has_one_word_also_when_a_stage_fails_and_sensors_die(tiny_model, runner):
    with Vehicle(tiny_model, replace(WIDE, runner=runner)) as vehicle:
        said = vehicle.said
        wait_for(lambda: said.modes.count("full") >= 3, "full outputs")
        fuse = vehicle.perception.stages.engines["fuse"]
        vehicle.perception.stages.engines["fuse"] = Broken(fuse)
        wait_for(lambda: any("fuse is gone" in why for _, _, why in said.all), "the reason")
        vehicle.perception.stages.engines["fuse"] = fuse
        count = said.modes.count("full")
        wait_for(lambda: said.modes.count("full") > count, "full again")
        vehicle.sending.clear()
        wait_for(lambda: said.modes[-1] == "no output", "the safe state")
        assert "predicted" in said.modes[-6:]
        vehicle.sending.set()
        count = said.modes.count("full")
        wait_for(lambda: said.modes.count("full") > count, "full again after silence")
    assert in_order(said)
    assert vehicle.perception.failures["fuse is gone"]


def test_a_stage_that_hangs_does_not_hold_up_the_outlet(tiny_model):
    with Vehicle(tiny_model) as vehicle:
        said = vehicle.said
        wait_for(lambda: "full" in said.modes, "an output")
        hanging = Hanging(vehicle.perception.stages.engines["fuse"])
        vehicle.perception.stages.engines["fuse"] = hanging
        wait_for(lambda: said.modes[-1] == "no output", "the safe state")
        hanging.go.set()
        count = said.modes.count("full")
        wait_for(lambda: said.modes.count("full") > count, "full again")
    assert in_order(said)


def test_the_floor_forbids_dear_plans(tiny_model):
    with Vehicle(tiny_model) as vehicle:
        said = vehicle.said
        vehicle.live.floor = len(PLANS) - 1
        wait_for(lambda: PLANS[-1].name in [plan for _, _, plan in said.all], "the cheapest plan")
        vehicle.live.floor = 0
        wait_for(lambda: said.all[-1][2] == "full", "the way back up")


class Still:
    """A perception that computes nothing, and a ladder that chooses what it is told."""

    def __init__(self) -> None:
        self.plan = PLANS[0]
        self.gate = Gate(time.monotonic_ns)
        self.collector = SimpleNamespace(clock=ClockWatch())

    def predict(self, t_ref_ns, epoch):
        return None

    def extract(self, frame): ...

    def fuse(self, frame): ...

    def decide(self, frame):
        return Output(frame.t_ref_ns, 0, 0, (), (), frame.bundle, frame.trace)


@pytest.mark.parametrize(("chosen", "levels", "pictures", "given"), [
    # Down for good: pictures are spared. Up again: first the pictures, then the frame.
    ([0, 2, 1, 1, 0], [0, 2, 1, 1, 0], ["fresh", "reused", "fresh", "fresh", "fresh"],
     [0, 2, 2, 1, 0]),
    ([3, 2, 1, 1], [3, 2, 1, 1], ["none", "reused", "fresh", "fresh"], [3, 2, 2, 1]),
    # A cheaper plan for one frame only: the next one has its pictures.
    ([0, 2, 0], [0, 0, 0], ["fresh", "fresh", "fresh"], [0, 2, 0])])
def test_a_frame_has_its_own_pictures_only_where_they_were_not_spared(chosen, levels, pictures,
                                                                      given):
    still = Still()
    live = Live(still, replace(WIDE, runner="inline"), 100.0, _now, True, Said())
    found = []
    for number, (plan, level) in enumerate(zip(chosen, levels, strict=True)):
        live.ladder = SimpleNamespace(choose=lambda *_, plan=plan, **__: plan, level=level,
                                      finished=lambda *_: None)
        bundle = SensorBundle(number * 100_000_000, 0, number, {})
        frame = Frame(bundle, Trace(0, 0), still.plan)
        live._begin(frame, _now())
        found.append((still.plan.cameras, PLANS.index(frame.plan)))
    assert found == list(zip(pictures, given, strict=True))


def test_an_error_of_ours_is_told_and_the_next_bundle_comes(tiny_model):
    with Vehicle(tiny_model) as vehicle:
        told = []
        vehicle.live._fault = told.append
        wait_for(lambda: "full" in vehicle.said.modes, "an output")
        right, vehicle.live.ladder.choose = vehicle.live.ladder.choose, None
        wait_for(lambda: told, "the error")
        vehicle.live.ladder.choose = right
        count = vehicle.said.modes.count("full")
        wait_for(lambda: vehicle.said.modes.count("full") > count, "the next output")
    assert isinstance(told[0], TypeError)


def test_stop_ends_all_threads(tiny_model):
    names = ("outlet", "runner", "stage-", "camera", "clouds", "pictures")
    with Vehicle(tiny_model, QUICK) as vehicle:
        wait_for(lambda: vehicle.said.all or True)
    assert not [t for t in threading.enumerate() if t.name.startswith(names)]


class Broken:
    def __init__(self, engine) -> None:
        self.inputs, self.outputs, self.close = engine.inputs, engine.outputs, engine.close

    def infer(self, feeds):
        raise EngineFailed("fuse is gone")


class Hanging:
    def __init__(self, engine) -> None:
        self.inputs, self.outputs, self.close = engine.inputs, engine.outputs, engine.close
        self._engine, self.go = engine, threading.Event()

    def infer(self, feeds):
        self.go.wait(60)
        return self._engine.infer(feeds)
