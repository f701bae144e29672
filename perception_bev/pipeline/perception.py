"""Pipeline: the product without ROS. Node, evaluation, benchmarks and replay drive this object.

Raw frames are pushed from any thread; they are decoded in a pool, a camera's backbone runs as soon
as its picture is decoded, and the collector gets validated frames. One thread calls open(), or
tick(), which takes what was opened through all stages at once. extract(), fuse() and decide() may
each have a thread of their own (runner.py).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from perception_bev.contracts import MODALITIES, CameraFrame, Modality, SensorBundle, SensorFrame
from perception_bev.deployment import Deployment
from perception_bev.engines.base import Engine
from perception_bev.errors import ConfigError, NoSensorData, PerceptionError
from perception_bev.inputs.build import InputBuilder, Inputs
from perception_bev.latency.ladder import PLANS, Plan
from perception_bev.latency.trace import Trace
from perception_bev.manifest import load_manifest
from perception_bev.outputs import heads
from perception_bev.outputs.occupancy import OccupancyMap
from perception_bev.outputs.track import Tracker, Tracks, TrackSettings
from perception_bev.pipeline import punctual
from perception_bev.pipeline.camera_features import CameraFeatures
from perception_bev.pipeline.frame import Frame, History, Workspace, Workspaces
from perception_bev.pipeline.gate import Gate
from perception_bev.pipeline.ingest import Ingest
from perception_bev.pipeline.intake import Intake
from perception_bev.pipeline.output import Condition, Failure, Output
from perception_bev.pipeline.shared_ego import SharedEgo
from perception_bev.pipeline.stages import Stages
from perception_bev.pipeline.warm_up import empty_bundle, synthetic_slots
from perception_bev.raw import RawFrame
from perception_bev.rig import Calibration, Odometry
from perception_bev.sync.clock import Now
from perception_bev.sync.collector import BundleCollector, Collector
from perception_bev.temporal.ego import EgoMotion
from perception_bev.temporal.memory import Moment

BENCHMARK_RUNS = 3  # of a plan, at start-up
KINDS_OF_FAILURE = 20  # that are told apart; a text with a number in it must not fill the memory


class Perception:
    """push() frames, tick() outputs."""

    def __init__(self, model: Path, calibration: Calibration, deployment: Deployment,
                 clock: Callable[[], int],
                 make_collector: Callable[..., BundleCollector] = Collector,
                 engines: Mapping[str, Engine] | None = None) -> None:
        """
        Args:
            model: folder of model.yaml.
            calibration: complete, of the rig.
            deployment: engine, variant, threads.
            clock: monotonic ns, for traces; deadlines come with `Now`.
            make_collector: (rig, where the vehicle was at a stamp) -> collector.
            engines: those of worker processes; None opens the model's engines here.
        """
        self.manifest = load_manifest(model)
        self.deployment, self._clock = deployment, clock
        self.stages = Stages(Path(model), self.manifest, deployment, clock, engines)
        odometry = calibration.rig.odometry
        self.ego = SharedEgo(EgoMotion(odometry.max_extrapolation_ms
                                       if isinstance(odometry, Odometry) else 100.0))
        self.plan = PLANS[0]  # of the pictures that come from now on, and of frames opened here
        self.gate = Gate(clock)
        self.want_occupancy = False
        self.failures: Counter[str] = Counter()  # bundles that gave no output, by error
        self.last_failure: Failure | None = None  # of tick()
        self._installed = 0  # calibrations: maps that were drawn with another are not recalled
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._features = CameraFeatures(self.stages.extract_camera, clock,
                                        lambda: punctual.prepare_stage("cameras", deployment))
        self._occupancy = OccupancyMap(self.manifest.output_grid)
        self._shown_score = self.manifest.heads.score_threshold
        self.tracker = Tracker(self.manifest.classes, TrackSettings.of_published(self._shown_score))
        self._known_tracks = self.tracker.frozen()  # what any thread may carry on
        ingest, builder = self._steps_of(calibration)
        self._intake = Intake(calibration.rig, ingest, deployment.decode_threads, clock,
                              self._take, self._drop, self.count_failure, self.gate.pass_)
        self._install(calibration, builder)
        self.collector = make_collector(calibration.rig, self.ego.at)

    # -- sensors in ----------------------------------------------------------------------------

    def push(self, sensor: str, raw: RawFrame, now: Now) -> None:
        """Queue a raw frame for decoding and return; `now` is its arrival. Not after close()."""
        self._intake.push(sensor, raw, now)

    def refuse(self, sensor: str, reason: str, now: Now) -> None:
        """A message that could not be read: counted, and the bundle knows why it is missing."""
        self._intake.refuse(sensor, reason, now)

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
        ingest, builder = self._steps_of(calibration)
        self._intake.install(calibration.rig, ingest)
        with self._lock:
            self._install(calibration, builder)

    # -- outputs out ---------------------------------------------------------------------------

    def wait(self, timeout_s: float) -> None:
        """Sleep until a frame was decoded or the time is over."""
        self._arrived.wait(timeout_s)
        self._arrived.clear()

    def next_wakeup_ns(self) -> int | None:
        """Monotonic time by which open() wants to be called even if nothing arrives."""
        with self._lock:
            return self.collector.next_wakeup_ns()

    def open(self, now: Now) -> Frame | Failure | None:
        """The next frame for the stages, if a bundle closes now; a failure if nothing is in it."""
        with self._lock:
            due = self.collector.next_wakeup_ns()
            bundle = self.collector.poll(now)
        if bundle is None:
            return None
        frame = Frame(bundle, self._trace_of(bundle, now, due), self.plan)
        if not any(slot.present for slot in bundle.slots.values()):
            return self.fail(frame, str(NoSensorData("no sensor contributed (" + "; ".join(
                f"{name}: {slot.reason}" for name, slot in bundle.slots.items()) + ")")))
        return frame

    def tick(self, now: Now) -> Output | None:
        """The next output, if a bundle closes now. One that fails with an error of ours is counted
        and kept as `last_failure`, not raised."""
        frame = self.open(now)
        if isinstance(frame, Failure):
            self.last_failure = frame
        if not isinstance(frame, Frame):
            return None
        try:
            return self._through(frame)
        except PerceptionError as err:
            self.last_failure = self.fail(frame, str(err))
            return None

    def process(self, bundle: SensorBundle, trace: Trace,
                modalities: Sequence[Modality] = MODALITIES,
                score_threshold: float | None = None, history: History = "keep",
                plan: Plan = PLANS[0]) -> Output:
        """One bundle through all stages. One caller at a time.

        Args:
            score_threshold: default: the manifest's.
            history: "keep" on using and filling the memory, "skip" it for this frame, which is
                taken for itself then, or "reset" it before.
        """
        return self._through(Frame(bundle, trace, plan, tuple(modalities), history,
                                   score_threshold))

    def see(self, bundle: SensorBundle, plan: Plan = PLANS[0]) -> None:
        """A recorded bundle's pictures, as if they had come before it: their backbones have run
        when this returns, as far as the plan wants them."""
        with self._lock:
            for name, slot in bundle.slots.items():
                if slot.present and isinstance(slot.newest, CameraFrame):
                    self._features.arrived(name, slot.newest, plan.cameras)
        self._features.settle()

    def _through(self, frame: Frame) -> Output:
        try:
            self.extract(frame)
            self.fuse(frame)
            return self.decide(frame)
        finally:
            frame.let_go()

    # -- stages --------------------------------------------------------------------------------

    def extract(self, frame: Frame) -> None:
        """Tensors of all sensors, and the features of each. One caller at a time."""
        with self._lock:
            workspaces, installed = self._workspaces, self._installed
        frame.workspace, frame.workspaces = workspaces.take(), workspaces
        ego = self.ego.snapshot()
        stamp = frame.bundle.t_ref_ns
        frame.moment = Moment(stamp, ego.at(stamp),
                              (frame.bundle.epoch, ego.generation, installed))
        frame.generation = ego.generation
        start = self._clock()
        bundle, wanted = self._planned(frame)
        inputs = frame.workspace.builder.build(bundle, ego, modalities=wanted)
        frame.inputs, frame.plane = inputs, inputs.plane.copy()
        frame.trace.add("inputs", start, self._clock())
        frame.feeds = self.stages.extract(inputs, frame.trace)
        if self.want_occupancy:
            frame.occupancy = self._occupied(frame.workspace.builder, inputs)
        features = {name: self._features.of(name, bundle.slots[name].newest, frame.trace)
                    for name in inputs.camera_slots}
        frame.feeds["camera"] = self.stages.put_cameras(inputs, features, frame.workspace.camera)

    def fuse(self, frame: Frame) -> None:
        """Features and the past into one map. One caller at a time, frames in order."""
        if frame.history == "reset":
            self.stages.memory.reset()
        moment = Moment(0, None) if frame.history == "skip" else frame.moment
        frame.fused, frame.history_s = self.stages.fuse(
            frame.feeds, frame.trace, moment, frame.plan.history)
        frame.let_go()

    def decide(self, frame: Frame) -> Output:
        """The map into boxes and tracks. One caller at a time, frames in order."""
        bundle, trace = frame.bundle, frame.trace
        heat, boxes = self.stages.decide(frame.fused, trace)
        start = self._clock()
        shown = self._shown_score if frame.score_threshold is None else frame.score_threshold
        found = heads.decode(heat, boxes, frame.plane, self.manifest,
                             min(shown, self.tracker.settings.faint_score))
        tracks = self.tracker.update(found, frame.moment.odom_from_base, bundle.t_ref_ns,
                                     bundle.epoch, frame.generation)
        self._known_tracks = self.tracker.frozen()
        found = found[found.score > shown]
        trace.add("post", start, self._clock())
        trace.plan = frame.plan.name
        return Output(bundle.t_ref_ns, bundle.epoch, bundle.sequence, found,
                      self._reasons(frame), bundle, trace, frame.occupancy, frame.history_s, tracks,
                      frame.plan.name)

    def fail(self, frame: Frame, text: str) -> Failure:
        """Count a frame that gives no output."""
        self.count_failure(text)
        bundle = frame.bundle
        return Failure(bundle.t_ref_ns, text, self.predict(bundle.t_ref_ns, bundle.epoch),
                       bundle.epoch)

    def predict(self, t_ref_ns: int, epoch: int) -> Tracks | None:
        """The tracks carried on to a time without detections, as long as they mean something.
        Any thread may call."""
        ego = self.ego.snapshot()
        return self._known_tracks.predict(t_ref_ns, ego.at(t_ref_ns), epoch, ego.generation)

    # -- about itself --------------------------------------------------------------------------

    @property
    def received(self) -> Counter[str]:
        """Messages, by sensor."""
        return self._intake.received

    def count_failure(self, text: str) -> None:
        """An error for `status`, of whatever part. Any thread may call."""
        with self._lock:
            known = text in self.failures or len(self.failures) < KINDS_OF_FAILURE
            self.failures[text if known else "others"] += 1

    def condition(self) -> Condition:
        """Counts and faults as they are now; the other threads go on counting."""
        faults = {f"clock.{name}": fault for name, monitor in self._intake.monitors.items()
                  if (fault := monitor.fault()) is not None}
        odometry = self.ego.fault()
        # Stages count meanwhile without the lock: their counts are copied in one go.
        memory, tracks = dict(self.stages.memory.drops), dict(self.tracker.counts)
        with self._lock:  # not for long: decoded frames wait for it
            shift_ns, advice = self.collector.clock.shift_ns, self.collector.advice()
            drops, failures = dict(self.collector.drops), dict(self.failures)
        if shift_ns:
            faults["clock.stamps"] = (f"most stamps are {shift_ns / 1e9:.3f} s behind ROS time"
                                      ": another clock, or a recording played without one")
        if odometry is not None:
            faults["odometry"] = odometry
        drops |= {("memory", why): n for why, n in memory.items()}
        drops |= {("tracks", why): n for why, n in tracks.items()}
        return Condition(dict(self.received), drops, failures, faults, advice, bool(shift_ns))

    def warm_up(self) -> dict[str, int]:
        """Compile and touch everything that the first frame would otherwise wait for.

        Returns what every plan takes from the bundle to its boxes [ns], with the pictures'
        features there.
        """
        empty = empty_bundle(self._calibration.rig)
        full = replace(empty, slots=synthetic_slots(self._calibration, self.manifest))
        wanted, self.want_occupancy = self.want_occupancy, True
        for bundle in (empty, full, full):
            for plan in PLANS:
                self.process(bundle, Trace(0, 0), plan=plan)
        self.want_occupancy = wanted
        costs = {plan.name: self._benchmark(full, plan) for plan in PLANS}
        self._features.clear()
        self.stages.memory.reset()
        self.tracker = Tracker(self.tracker.classes, self.tracker.settings)
        self._known_tracks = self.tracker.frozen()
        return costs

    def close(self) -> None:
        """Stop all threads and give back the engines. What is pushed from now on is ignored."""
        self._intake.close()
        self._features.close()
        self.stages.close()

    def _benchmark(self, bundle: SensorBundle, plan: Plan) -> int:
        """The least of a few runs [ns]: what else goes on at start-up only adds to it, and a plan
        that is thought too dear is not tried."""
        times = []
        for _ in range(BENCHMARK_RUNS):
            start = self._clock()
            self.process(bundle, Trace(0, 0), plan=plan)
            times.append(self._clock() - start)
        return min(times)

    # -- inside --------------------------------------------------------------------------------

    def _steps_of(self, calibration: Calibration) -> tuple[Ingest, InputBuilder]:
        return Ingest(self.manifest, calibration), InputBuilder(self.manifest, calibration)

    def _install(self, calibration: Calibration, builder: InputBuilder) -> None:
        """Frames that are on their way keep what they have."""
        self._calibration = calibration
        self._installed += 1
        installed, ready = self._installed, [builder]

        def make() -> Workspace:
            made = ready.pop() if ready else InputBuilder(self.manifest, calibration)
            return Workspace(made, self.stages.staging(), installed)

        self._workspaces = Workspaces(make)
        self._features.clear()

    def _take(self, sensor: str, frame: SensorFrame, now: Now) -> None:
        """A decoded frame: its backbone begins at once, if it is a picture."""
        with self._lock:
            if isinstance(frame, CameraFrame) and self.deployment.early_extraction:
                self._features.arrived(sensor, frame, self.plan.cameras)
            self.collector.push(sensor, frame, now)
        self._arrived.set()

    def _drop(self, sensor: str, reason: str, now: Now) -> None:
        with self._lock:
            self.collector.drop(sensor, reason, now)
        self._arrived.set()

    def _trace_of(self, bundle: SensorBundle, now: Now, due: int | None) -> Trace:
        """A trace that holds when this bundle's frames came and how long they were decoded.

        due: when the collector wanted to be asked, if nothing came [monotonic ns]; what we come
        later is nobody's wait.
        """
        age_ns = self.collector.clock.lag_ns(now, bundle.t_ref_ns)
        t_ref = now.mono_ns - int(age_ns / (now.rate or 1.0))
        found = self._intake.timings((name, frame.stamp_ns) for name, slot in bundle.slots.items()
                                     for frame in slot.frames)
        last = max((arrived for _, _, (arrived, _, _) in found), default=t_ref)
        given_up = now.mono_ns if due is None or due < t_ref else min(due, now.mono_ns)
        ready = last if found and bundle.closed_by == "complete" else max(last, given_up)
        trace = Trace(t_ref, max(ready, t_ref), id=bundle.sequence, stamp_ns=bundle.t_ref_ns)
        for name, stamp_ns, (arrived, start, end) in found:
            taken = t_ref + round((stamp_ns - bundle.t_ref_ns) / (now.rate or 1.0))
            trace.add(f"transport:{name}", min(taken, arrived), arrived)
            trace.add(f"decode:{name}", start, end)
        return trace

    def _planned(self, frame: Frame) -> tuple[SensorBundle, tuple[Modality, ...]]:
        """The bundle as the plan wants it, and the modalities to use of it."""
        plan, bundle = frame.plan, frame.bundle
        leave = {"camera": plan.cameras == "none", "lidar": not plan.lidar,
                 "radar": not plan.radar}
        wanted = tuple(m for m in frame.modalities if not leave[m])
        if plan.cameras == "reused":
            bundle = replace(bundle, slots=self._features.reused(bundle))
        return bundle, wanted

    def _reasons(self, frame: Frame) -> tuple[str, ...]:
        rig, bundle = self._calibration.rig, frame.bundle
        absent = [f"{name}: {slot.reason}" for name, slot in bundle.slots.items()
                  if rig.sensors[name].required and slot.reason != "ok"]
        planned = () if frame.plan is PLANS[0] else (f"plan: {frame.plan.name}",)
        blind = () if frame.moment.odom_from_base is not None else ("no_ego_motion",)
        return (*absent, *planned, *blind)

    def _occupied(self, builder: InputBuilder, inputs: Inputs) -> np.ndarray:
        """(Y, X) int8, every lidar's rays cast from its own place."""
        shape, cloud = (self._occupancy.height, self._occupancy.width), builder.cloud
        if not len(cloud.origins):
            return self._occupancy.unseen().reshape(shape)
        return self._occupancy.update(cloud.points, cloud.origins[:, :2], inputs.plane,
                                      cloud.source).reshape(shape)
