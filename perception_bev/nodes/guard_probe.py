"""Nodes: the process of `bev bench guard`: the real subscriptions, decoding, and a thread that
wants to run every 10 ms, as the output guard does. Figures as JSON on stdout."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from rclpy.node import Node

from perception_bev.errors import ConfigError
from perception_bev.nodes import sensor_load, serialized, spin, wake_ups
from perception_bev.nodes.clock import ClockReader
from perception_bev.nodes.subscriptions import Subscriptions
from perception_bev.pipeline import realtime
from perception_bev.raw import RawFrame
from perception_bev.rig import resolve
from perception_bev.sensors.camera import CameraDecoder
from perception_bev.sensors.lidar import LidarDecoder
from perception_bev.sync.clock import Now
from perception_bev.tf import TransformTree

PATIENCE_S, SETTLE_S = 30.0, 1.0
PICTURE = 704, 396  # [px] what the model sees
TAKING = {"unlocked": "unlocked", "rclpy": "rclpy", "typed": None}


@dataclass(frozen=True)
class Trial:
    """What is tried: how messages are taken and how Python is set."""

    taking: str = "unlocked"  # or rclpy, typed
    switch_interval_ms: float = 5.0  # Python's default
    freeze_gc: bool = False
    fifo_priority: int = 0  # of the thread that is watched
    nice: int = 0  # of the whole process
    messages: bool = True  # False: nothing is sent
    seconds: float = 20.0

    def __post_init__(self) -> None:
        if self.taking not in TAKING:
            raise ConfigError(f"taking: '{self.taking}'; known: {', '.join(TAKING)}")


@dataclass
class Measured:
    """What came of it. Delays in ns, one a due time."""

    delays_ns: list[int] = field(default_factory=list)  # of the thread beside the subscriptions
    control_ns: list[int] = field(default_factory=list)  # of the same thread in a process alone
    received: dict[str, int] = field(default_factory=dict)  # frames, by sensor
    refused: dict[str, int] = field(default_factory=dict)  # by reason
    seconds: float = 0.0
    cpu_share: float = 0.0  # of one core, the whole process
    locked_ms: float = 0.0  # CPU time of the executor's thread a frame, Python's lock held
    unlocked_ms: float = 0.0  # the same in calls that let go of the lock
    collections: int = 0  # of Python's garbage
    longest_collection_ms: float = 0.0
    notes: list[str] = field(default_factory=list)


class Decoding:
    """Stands where `Perception` stands: newest frames are decoded on threads of their own."""

    def __init__(self) -> None:
        calibration = resolve(sensor_load.rig())
        self._decoders = {
            **{name: CameraDecoder(lens, *PICTURE)
               for name, lens in calibration.camera_models.items()},
            **{name: LidarDecoder(lidar) for name, lidar in calibration.rig.lidars.items()}}
        self._pools = {name: ThreadPoolExecutor(1, kind) for name, kind in
                       ((True, "pictures"), (False, "clouds"))}
        self._waiting: dict[str, RawFrame] = {}
        self.received: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    @property
    def complete(self) -> bool:
        return set(self.received) == set(self._decoders)

    def push(self, sensor: str, raw: RawFrame, now: Now) -> None:
        self.received[sensor] += 1
        if self._waiting.pop(sensor, None) is None:  # else a job is on its way and takes this one
            self._pools[sensor.startswith("cam")].submit(self._decode, sensor)
        self._waiting[sensor] = raw

    def refuse(self, sensor: str, reason: str, now: Now) -> None:
        self.refused[reason] += 1

    def _decode(self, sensor: str) -> None:
        raw = self._waiting.pop(sensor, None)
        if raw is not None:
            self._decoders[sensor].decode(raw)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)


class UnlockedCalls:
    """Stands before rcl's take and adds up the CPU time that it spends."""

    def __init__(self) -> None:
        self.seconds = 0.0
        rcl = serialized._rcl()
        self._take = None if isinstance(rcl, str) else rcl._take
        if self._take is not None:
            rcl._take = self

    def __call__(self, *words: Any) -> int:
        began = time.thread_time()
        code = self._take(*words)
        self.seconds += time.thread_time() - began
        return code


class Collections:
    """How often and how long Python collects garbage; all threads stand still meanwhile."""

    def __init__(self) -> None:
        self.count, self.longest_ns, self._began = 0, 0, 0

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = time.monotonic_ns()
        else:
            self.count += 1
            self.longest_ns = max(self.longest_ns, time.monotonic_ns() - self._began)


def measure(trial: Trial, decoding: Decoding) -> Measured:
    """In a thread beside the executor's: wait for the sensors, settle, watch."""
    end = time.monotonic() + PATIENCE_S
    while trial.messages and not decoding.complete:
        if time.monotonic() > end:
            return Measured(notes=[f"not all sensors were heard: {dict(decoding.received)}"])
        time.sleep(0.05)
    time.sleep(SETTLE_S)
    if trial.freeze_gc:
        realtime.freeze_gc()
    sys.setswitchinterval(trial.switch_interval_ms / 1e3)
    return _watch(trial, decoding)


def _watch(trial: Trial, decoding: Decoding) -> Measured:
    collections, unlocked, found = Collections(), UnlockedCalls(), Measured()
    executor = time.pthread_getcpuclockid(threading.main_thread().ident)
    control = subprocess.Popen([sys.executable, "-m", "perception_bev.nodes.wake_ups",
                                str(trial.seconds)], stdout=subprocess.PIPE, text=True)
    gc.callbacks.append(collections)
    before, began, cpu = decoding.received.copy(), time.monotonic(), time.process_time()
    refusals = _all_nice(trial.nice), realtime.first_in_first_out(trial.fifo_priority)
    spent, unlocked.seconds = time.clock_gettime(executor), 0.0
    found.delays_ns = wake_ups.delays_ns(round(trial.seconds * 1e9 / wake_ups.PERIOD_NS))
    found.seconds = time.monotonic() - began
    found.cpu_share = (time.process_time() - cpu) / found.seconds
    spent = time.clock_gettime(executor) - spent
    gc.callbacks.remove(collections)
    found.received = {name: count - before[name] for name, count in decoding.received.items()}
    count = sum(found.received.values()) or 1
    found.locked_ms = (spent - unlocked.seconds) / count * 1e3
    found.unlocked_ms = unlocked.seconds / count * 1e3
    found.refused = dict(decoding.refused)
    found.collections, found.longest_collection_ms = (collections.count,
                                                      collections.longest_ns / 1e6)
    found.notes += [refusal for refusal in refusals if refusal]
    found.control_ns = json.loads(control.communicate()[0])
    return found


def _all_nice(nice: int) -> str | None:
    """All threads: Linux keeps it for each, and one that is set aside with Python's lock in its
    hands stops the others."""
    try:
        for thread in os.listdir("/proc/self/task") if nice else ():
            os.setpriority(os.PRIO_PROCESS, int(thread), nice)
    except OSError as err:
        return f"nice {nice}: {err.strerror}"
    return None


def main(args: Sequence[str] | None = None) -> int:
    """Entry point: a Trial as JSON is the only word."""
    words = sys.argv[1:] if args is None else args
    trial, found = Trial(**json.loads(words[0])), []
    stopping = spin.init([])
    node, decoding = Node("guard_probe"), Decoding()
    inputs = Subscriptions(node, sensor_load.rig(), ClockReader(node), TransformTree(), {},
                           TAKING[trial.taking])
    inputs.perception = decoding

    def run() -> None:
        try:
            found.append(measure(trial, decoding))
        finally:
            stopping.set()

    threading.Thread(target=run, name="guard", daemon=True).start()
    spin.spin(node, stopping)
    decoding.close()
    if found:
        print(json.dumps(asdict(found[0])))
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
