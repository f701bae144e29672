"""Pipeline: the product without ROS. Node, evaluation, benchmarks and replay drive this object.

Raw frames are pushed from any thread; they are decoded in a pool, a camera's backbone runs as soon
as its picture is decoded, and the collector gets validated frames. One thread calls tick().
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from perception_bev.contracts import (
    MODALITIES,
    CameraFrame,
    Modality,
    SensorBundle,
    SensorFrame,
)
from perception_bev.deployment import Deployment
from perception_bev.errors import BadMessage, ConfigError, NoSensorData, PerceptionError
from perception_bev.inputs.build import InputBuilder, Inputs
from perception_bev.latency.trace import Trace
from perception_bev.manifest import load_manifest
from perception_bev.outputs import heads
from perception_bev.outputs.occupancy import OccupancyMap
from perception_bev.outputs.track import Tracker, Tracks, TrackSettings
from perception_bev.pipeline.camera_features import CameraFeatures
from perception_bev.pipeline.ingest import Ingest
from perception_bev.pipeline.output import Condition, Failure, Output
from perception_bev.pipeline.shared_ego import SharedEgo
from perception_bev.pipeline.stages import Stages
from perception_bev.pipeline.warm_up import empty_bundle, synthetic_slots
from perception_bev.raw import RawFrame
from perception_bev.rig import Calibration, Odometry
from perception_bev.sync.clock import Now, StampMonitor
from perception_bev.sync.collector import BundleCollector, Collector
from perception_bev.temporal.ego import EgoMotion
from perception_bev.temporal.memory import ALONE, Moment

QUEUED = 2  # raw frames a sensor that may wait for decoding; the newest win
KINDS_OF_FAILURE = 20  # that are told apart; a text with a number in it must not fill the memory
KEPT_TIMINGS = 6  # frames a sensor whose times are known for the trace

History = Literal["keep", "skip", "reset"]  # what a frame does with the memory


class Perception:
    """push() frames, tick() outputs."""

    def __init__(self, model: Path, calibration: Calibration, deployment: Deployment,
                 clock: Callable[[], int],
                 make_collector: Callable[..., BundleCollector] = Collector) -> None:
        """
        Args:
            model: folder of model.yaml.
            calibration: complete, of the rig.
            deployment: engine, variant, threads.
            clock: monotonic ns, for traces; deadlines come with `Now`.
            make_collector: (rig, where the vehicle was at a stamp) -> collector.
        """
        self.manifest = load_manifest(model)
        self.deployment, self._clock = deployment, clock
        self.stages = Stages(Path(model), self.manifest, deployment, clock)
        odometry = calibration.rig.odometry
        self.ego = SharedEgo(EgoMotion(odometry.max_extrapolation_ms
                                       if isinstance(odometry, Odometry) else 100.0))
        self.want_occupancy = False
        self.received: Counter[str] = Counter()  # messages, by sensor
        self.failures: Counter[str] = Counter()  # bundles that gave no output, by error
        self.last_failure: Failure | None = None
        self._queues: dict[str, deque] = {name: deque() for name in calibration.rig.sensors}
        self._decoding: set[str] = set()  # sensors that have a job in the pool, one at most
        self._closed = False
        self._installed = 0  # calibrations: maps that were drawn with another are not recalled
        # Clouds take under a millisecond: they must not queue behind pictures, which take ten.
        self._clouds = ThreadPoolExecutor(1, "clouds")
        self._pictures = ThreadPoolExecutor(deployment.decode_threads, "pictures")
        self._features = CameraFeatures(self.stages.extract_camera, clock)
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._occupancy = OccupancyMap(self.manifest.output_grid)
        self._shown_score = self.manifest.heads.score_threshold
        self.tracker = Tracker(self.manifest.classes, TrackSettings.of_published(self._shown_score))
        self._install(calibration, *self._steps_of(calibration))
        self.collector = make_collector(calibration.rig, self.ego.at)

    # -- sensors in ----------------------------------------------------------------------------

    def push(self, sensor: str, raw: RawFrame, now: Now) -> None:
        """Queue a raw frame for decoding and return; `now` is its arrival. Not after close()."""
        with self._lock:
            self.received[sensor] += 1
            queue = self._queues.get(sensor)
            if queue is None:
                self.collector.drop(sensor, "unknown_sensor", now)
                return
            if len(queue) == QUEUED:
                queue.popleft()
                self.collector.drop(sensor, "superseded", now)
            queue.append((raw, now))
            self._decode_on(sensor)

    def refuse(self, sensor: str, reason: str, now: Now) -> None:
        """A message that could not be read: counted, and the bundle knows why it is missing."""
        with self._lock:
            self.received[sensor] += 1
        self._drop(sensor, reason, now)

    def _drop(self, sensor: str, reason: str, now: Now) -> None:
        with self._lock:
            self.collector.drop(sensor, reason, now)
        self._arrived.set()

    def push_odometry(self, stamp_ns: int, odom_from_base, linear, angular) -> None:
        """odom_from_base with the twist in base_link [m/s, rad/s]."""
        self.ego.push(stamp_ns, odom_from_base, linear, angular)

    def new_epoch(self, reason: str) -> None:
        """A jump that somebody announces: nothing is remembered across it."""
        with self._lock:
            self.collector.new_epoch(reason)
            self.ego.reset()

    def recalibrate(self, calibration: Calibration) -> None:
        """Take another calibration from the next bundle on; ConfigError for other sensors.

        Frames that wait to be decoded are decoded with it. A picture that was undistorted before
        and is used after is of the old lens: one bundle.
        """
        before, after = ({name: rig.modality(name) for name in rig.sensors}
                         for rig in (self._calibration.rig, calibration.rig))
        if before != after:
            raise ConfigError(f"recalibrate: rig '{calibration.rig.name}' has the sensors "
                              f"{', '.join(after)}; until now there were {', '.join(before)}")
        steps = self._steps_of(calibration)
        with self._lock:
            self._install(calibration, *steps)

    # -- outputs out ---------------------------------------------------------------------------

    def wait(self, timeout_s: float) -> None:
        """Sleep until a frame was decoded or the time is over."""
        self._arrived.wait(timeout_s)
        self._arrived.clear()

    def next_wakeup_ns(self) -> int | None:
        """Monotonic time by which tick() wants to be called even if nothing arrives."""
        with self._lock:
            return self.collector.next_wakeup_ns()

    def tick(self, now: Now) -> Output | None:
        """The next output, if a bundle closes now. One that fails with an error of ours is counted
        and kept as `last_failure`, not raised."""
        with self._lock:
            bundle = self.collector.poll(now)
        if bundle is None:
            return None
        try:
            if not any(slot.present for slot in bundle.slots.values()):
                raise NoSensorData("no sensor contributed (" + "; ".join(
                    f"{name}: {slot.reason}" for name, slot in bundle.slots.items()) + ")")
            return self.process(bundle, self._trace_of(bundle, now))
        except PerceptionError as err:
            self._fail(str(err))
            self.last_failure = Failure(bundle.t_ref_ns, str(err), self._carried_on(bundle))
            return None

    def process(self, bundle: SensorBundle, trace: Trace,
                modalities: Sequence[Modality] = MODALITIES,
                score_threshold: float | None = None, history: History = "keep") -> Output:
        """One bundle through all stages. One caller at a time.

        Args:
            score_threshold: default: the manifest's.
            history: "keep" on using and filling the memory, "skip" it for this frame, which is
                taken for itself then, or "reset" it before.
        """
        with self._lock:
            builder, installed = self._builder, self._installed
        ego = self.ego.snapshot()
        now = Moment(bundle.t_ref_ns, ego.at(bundle.t_ref_ns),
                     (bundle.epoch, ego.generation, installed))
        start = self._clock()
        inputs = builder.build(bundle, ego, modalities=modalities)
        trace.add("inputs", start, self._clock())
        features = {name: self._features.of(name, bundle.slots[name].newest, trace)
                    for name in inputs.camera_slots}
        if history == "reset":
            self.stages.memory.reset()
        maps = self.stages.run(inputs, features, trace, ALONE if history == "skip" else now)
        start = self._clock()
        shown = self._shown_score if score_threshold is None else score_threshold
        found = heads.decode(maps.heat, maps.boxes, inputs.plane, self.manifest,
                             min(shown, self.tracker.settings.faint_score))
        tracks = self.tracker.update(found, now.odom_from_base, bundle.t_ref_ns, bundle.epoch,
                                     ego.generation)
        found = found[found.score > shown]
        trace.add("post", start, self._clock())
        return Output(bundle.t_ref_ns, bundle.epoch, bundle.sequence, found,
                      self._reasons(bundle, now), bundle, trace,
                      self._occupied(builder, inputs) if self.want_occupancy else None,
                      maps.history_s, tracks)

    def condition(self) -> Condition:
        """Counts and faults as they are now; the other threads go on counting."""
        with self._lock:
            faults = {f"clock.{name}": fault for name, monitor in self.monitors.items()
                      if (fault := monitor.fault()) is not None}
            shift_ns = self.collector.clock.shift_ns
            if shift_ns:
                faults["clock.stamps"] = (f"most stamps are {shift_ns / 1e9:.3f} s behind ROS time"
                                          ": another clock, or a recording played without one")
            if (fault := self.ego.fault()) is not None:
                faults["odometry"] = fault
            drops = {**self.collector.drops,
                     **{("memory", why): n for why, n in self.stages.memory.drops.items()},
                     **{("tracks", why): n for why, n in self.tracker.counts.items()}}
            return Condition(dict(self.received), drops, dict(self.failures),
                             faults, self.collector.advice(), bool(shift_ns))

    def warm_up(self) -> None:
        """Compile and touch everything that the first frame would otherwise wait for."""
        empty = empty_bundle(self._calibration.rig)
        full = replace(empty, slots=synthetic_slots(self._calibration, self.manifest))
        wanted, self.want_occupancy = self.want_occupancy, True
        for bundle in (empty, full, full):
            self.process(bundle, Trace(0, 0))
        self.want_occupancy = wanted
        self._features.clear()
        self.stages.memory.reset()
        self.tracker = Tracker(self.tracker.classes, self.tracker.settings)

    def close(self) -> None:
        """Stop all threads and give back the engines. What is pushed from now on is ignored."""
        with self._lock:
            self._closed = True
        for pool in (self._clouds, self._pictures):
            pool.shutdown(wait=True, cancel_futures=True)
        self._features.close()
        self.stages.close()

    # -- inside --------------------------------------------------------------------------------

    def _steps_of(self, calibration: Calibration) -> tuple[Ingest, InputBuilder]:
        return Ingest(self.manifest, calibration), InputBuilder(self.manifest, calibration)

    def _install(self, calibration: Calibration, ingest: Ingest, builder: InputBuilder) -> None:
        rig = calibration.rig
        self._calibration, self._ingest, self._builder = calibration, ingest, builder
        self._installed += 1
        self.monitors = {name: StampMonitor(name, sensor, rig.modality(name) == "lidar")
                         for name, sensor in rig.sensors.items()}
        self._features.clear()
        # sensor -> stamp -> arrived, decoding began, ended [monotonic ns]
        self._timings: dict[str, OrderedDict[int, tuple[int, int, int]]] = {}

    def _trace_of(self, bundle: SensorBundle, now: Now) -> Trace:
        """A trace that holds when this bundle's frames came and how long they were decoded."""
        t_ref = now.mono_ns - int((now.ros_ns - bundle.t_ref_ns) / (now.rate or 1.0))
        keys = [(name, frame.stamp_ns) for name, slot in bundle.slots.items()
                for frame in slot.frames]
        with self._lock:
            timings = [found for name, stamp in keys
                       if (found := self._timings.get(name, {}).get(stamp)) is not None]
        last = max((arrived for arrived, _, _ in timings), default=now.mono_ns)
        ready = last if bundle.closed_by == "complete" else now.mono_ns
        trace = Trace(t_ref, max(ready, t_ref))
        for _, start, end in timings:
            trace.add("decode", start, end)
        return trace

    def _decode_on(self, sensor: str) -> None:
        """Give the pool the sensor's next frame, if there is one; called with the lock held.

        One job a sensor: two would hand its frames over out of order.
        """
        if self._queues[sensor] and sensor not in self._decoding and not self._closed:
            self._decoding.add(sensor)
            is_camera = sensor in self._calibration.rig.cameras
            pool = self._pictures if is_camera else self._clouds
            pool.submit(self._decode_next, sensor)

    def _decode_next(self, sensor: str) -> None:
        """Decode the oldest waiting frame of a sensor, hand it over, and ask for the next."""
        with self._lock:
            raw, arrived = self._queues[sensor].popleft()
            stamp = self.monitors[sensor].correct(raw.stamp_ns, arrived)
            ingest = self._ingest
        start = self._clock()
        try:
            frame = ingest.decode(sensor, raw, stamp)
            self._hand_over(sensor, frame, arrived, (arrived.mono_ns, start, self._clock()))
        except BadMessage as err:
            self._drop(sensor, err.reason, arrived)
        except Exception as err:  # a fault of ours must be seen, and must not end the pool
            self._fail(f"{sensor}: {type(err).__name__}: {err}")
            self._drop(sensor, "internal_error", arrived)
        finally:
            with self._lock:
                self._decoding.discard(sensor)
                self._decode_on(sensor)

    def _fail(self, text: str) -> None:
        with self._lock:
            known = text in self.failures or len(self.failures) < KINDS_OF_FAILURE
            self.failures[text if known else "others"] += 1

    def _hand_over(self, sensor: str, frame: SensorFrame, arrived: Now,
                   timing: tuple[int, int, int]) -> None:
        with self._lock:
            timings = self._timings.setdefault(sensor, OrderedDict())
            timings.setdefault(frame.stamp_ns, timing)  # a repeated stamp came before
            while len(timings) > KEPT_TIMINGS:
                timings.popitem(last=False)
            if isinstance(frame, CameraFrame):
                self._features.arrived(sensor, frame)
            self.collector.push(sensor, frame, _later(arrived, timing[2]))
        self._arrived.set()

    def _reasons(self, bundle: SensorBundle, now: Moment) -> tuple[str, ...]:
        rig = self._calibration.rig
        absent = [f"{name}: {slot.reason}" for name, slot in bundle.slots.items()
                  if rig.sensors[name].required and slot.reason != "ok"]
        return (*absent, *(() if now.odom_from_base is not None else ("no_ego_motion",)))

    def _carried_on(self, bundle: SensorBundle) -> Tracks | None:
        """The tracks at a time without detections, as long as they mean something."""
        ego = self.ego.snapshot()
        return self.tracker.predict(bundle.t_ref_ns, ego.at(bundle.t_ref_ns), bundle.epoch,
                                    ego.generation)

    def _occupied(self, builder: InputBuilder, inputs: Inputs) -> np.ndarray:
        """(Y, X) int8, every lidar's rays cast from its own place."""
        shape, cloud = (self._occupancy.height, self._occupancy.width), builder.cloud
        if not len(cloud.origins):
            return self._occupancy.unseen().reshape(shape)
        return self._occupancy.update(cloud.points, cloud.origins[:, :2], inputs.plane,
                                      cloud.source).reshape(shape)


def _later(now: Now, mono_ns: int) -> Now:
    """The same clocks at a later monotonic time: decoding belongs to a frame's way, and the
    collector predicts from it how long to wait for the next."""
    passed = round((mono_ns - now.mono_ns) * now.rate)
    return replace(now, mono_ns=mono_ns, ros_ns=now.ros_ns + passed)
