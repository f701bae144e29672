"""Many threads at once: frames in, outputs out, new calibrations, somebody who reads the counts."""

import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier, Event

import pytest
from driving import QUICK, START_NS, wait_for
from small_car import MS, calibration, frames

from perception_bev.pipeline.perception import Perception
from perception_bev.sync.clock import Now

FRAMES = 60  # a sensor
PACE_S = 0.003


def now() -> Now:
    mono = time.monotonic_ns()
    return Now(mono, START_NS + mono)


def used(outputs) -> Counter:
    """Frames by sensor that a bundle used for the first time."""
    return Counter(name for output in outputs for name, slot in output.bundle.slots.items()
                   if slot.reason == "ok" for _ in slot.frames)


class Crowd:
    """The threads; every one returns what it saw, or raises here."""

    def __init__(self, perception: Perception) -> None:
        self.perception, self.over, self.start = perception, Event(), Barrier(7)

    def push(self, sensor: str) -> None:
        raw = frames(START_NS)[sensor]
        self.start.wait()
        for _ in range(FRAMES):
            moment = now()
            self.perception.push(sensor, replace(raw, stamp_ns=moment.ros_ns), moment)
            self.over.wait(PACE_S)

    def push_odometry(self) -> None:
        from perception_bev.geometry import SE3
        self.start.wait()
        while not self.over.wait(PACE_S):
            self.perception.push_odometry(now().ros_ns, SE3.identity(), [0, 0, 0], [0, 0, 0])

    def tick(self) -> list:
        outputs = []
        self.start.wait()
        while not self.over.is_set():
            self.perception.wait(0.01)
            while (output := self.perception.tick(now())) is not None:
                outputs.append(output)
        return outputs

    def recalibrate(self) -> int:
        places = [calibration(), calibration(top={"extrinsics": {
            "translation": [0.0, 0.0, 1.7], "rotation_rpy_deg": [0, 0, 5]}})]
        self.start.wait()
        count = 0
        while not self.over.wait(PACE_S):
            self.perception.recalibrate(places[count % 2])
            count += 1
        return count

    def read(self) -> int:
        """As the node does for every status."""
        self.start.wait()
        count = 0
        while not self.over.is_set():
            condition = self.perception.condition()
            assert sum(condition.received.values()) <= 3 * FRAMES
            self.perception.next_wakeup_ns()
            count += 1
        return count


@pytest.mark.parametrize("decode_threads", [1, 3])
def test_nothing_is_lost_uncounted(tiny_model, decode_threads):
    perception = Perception(tiny_model, calibration(),
                            replace(QUICK, decode_threads=decode_threads), time.monotonic_ns)
    perception.warm_up()
    crowd = Crowd(perception)
    with ThreadPoolExecutor(7) as pool:
        pushing = [pool.submit(crowd.push, name) for name in ("front", "top", "nose")]
        others = [pool.submit(f) for f in (crowd.push_odometry, crowd.recalibrate, crowd.read)]
        ticking = pool.submit(crowd.tick)
        try:
            for future in pushing:
                future.result()
            wait_for(lambda: not perception._intake.busy, "decoding")
        finally:
            crowd.over.set()
        recalibrated, read = (f.result() for f in others[1:])
        outputs = ticking.result()
    perception.close()
    condition = perception.condition()
    assert recalibrated > 0 and read > 0
    # a machine that gives us no time for as long as frames are good has bundles without any
    assert all(text.startswith("no sensor contributed") for text in condition.failures)
    assert condition.received == dict.fromkeys(("front", "top", "nose"), FRAMES)
    lost = sum(n for (name, _), n in condition.drops.items() if name in condition.received)
    assert sum(used(outputs).values()) + lost + perception.collector.waiting == 3 * FRAMES
    stamps = [o.t_ref_ns for o in outputs]
    assert stamps == sorted(set(stamps)) and len(outputs) > 0
    assert not any(reason in ("backward", "duplicate") for _, reason in condition.drops), (
        "frames of one sensor stay in order")


def test_decoded_in_order_by_many_threads(tiny_model, monkeypatch):
    """A slow first frame does not let the second overtake."""
    perception = Perception(tiny_model, calibration(), replace(QUICK, decode_threads=4),
                            time.monotonic_ns)
    decode, begun, release = perception._intake._ingest.decode, [], Event()

    def slow(sensor, raw, stamp):
        begun.append(raw.stamp_ns)
        if len(begun) == 1:
            assert release.wait(60)
        return decode(sensor, raw, stamp)

    monkeypatch.setattr(perception._intake._ingest, "decode", slow)
    base = now()
    for k in range(2):
        stamp = base.ros_ns + k * MS
        moment = Now(base.mono_ns + 10 * MS, base.ros_ns + 10 * MS)
        perception.push("nose", frames(stamp)["nose"], moment)
        wait_for(lambda: begun)
    release.set()
    wait_for(lambda: not perception._intake.busy)
    perception.close()
    assert begun == sorted(begun) and len(begun) == 2
    assert perception.collector.waiting == 2 and not perception.condition().drops


def test_counts_may_be_read_while_the_stages_count(tiny_model):
    """A stage that counts something for the first time must not spoil a `status`."""
    perception = Perception(tiny_model, calibration(), QUICK, time.monotonic_ns)
    counters = (perception.tracker.counts, perception.stages.memory.drops)
    over, before = Event(), sys.getswitchinterval()

    def count() -> None:
        while not over.is_set():
            for counter in counters:
                counter.clear()
                counter.update(f"reason {i}" for i in range(20))

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            counting = pool.submit(count)
            try:
                for _ in range(1000):
                    perception.condition()
            finally:
                over.set()
            counting.result()
    finally:
        sys.setswitchinterval(before)
        perception.close()
