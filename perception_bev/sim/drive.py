"""Simulation: a drive as a Recording. The same seed gives the same samples, in any order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from perception_bev.errors import ConfigError
from perception_bev.raw import EncodedImage, RawCloud, RawFrame, RawImage
from perception_bev.recordings.base import Sample, Visibility
from perception_bev.rig import Calibration, Rig, resolve
from perception_bev.sim import clouds, supported, timing, truth
from perception_bev.sim import weather as weathers
from perception_bev.sim import world as worlds
from perception_bev.sim.actors import CLASSES
from perception_bev.sim.camera import CameraSimulator, jpeg
from perception_bev.sim.caster import Caster
from perception_bev.sim.lidar import LidarSimulator
from perception_bev.sim.radar import RadarSimulator
from perception_bev.sim.scenario import Scenario
from perception_bev.sim.scenario import World as Wanted
from perception_bev.sim.streets import Streets
from perception_bev.sim.timing import Moment, Schedule, stamp_ns
from perception_bev.sim.traffic import Traffic

FIRST_S = 0.2  # reference time of the first sample: its sweep lies inside the drive


class Measured(NamedTuple):
    """One sensor's frame, and how many points or pixels are each actor's (A,) int64."""

    frame: RawFrame
    counts: np.ndarray


class SimRecording:
    """A simulated drive of `seconds`, one sample a period of the rig's reference."""

    def __init__(self, rig: Rig, seed: int, seconds: float = 20.0, weather: str | None = None,
                 scenario: Scenario | None = None, threads: int = 1) -> None:
        """
        Args:
            weather: one of weather.WEATHERS; default: the scenario's, or drawn by the seed.
            threads: sensors that are simulated at the same time. The bytes are the same.

        Raises:
            ConfigError: the rig cannot be simulated, or the drive is too short.
            CalibrationError: the rig file has holes.
        """
        supported.check(rig)
        self._calibration = resolve(rig)
        self._period_s = rig.reference.period_ms / 1e3
        if seconds < 2 * self._period_s:
            raise ConfigError(f"{seconds} s is shorter than two sweeps")
        self._seed, self._count = seed, round(seconds / self._period_s)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._build(seconds, weather, scenario.world if scenario is not None else None, threads)
        self._schedules = self._timetable()

    def _build(self, seconds: float, weather: str | None, wanted: Wanted | None,
               threads: int) -> None:
        """The world and its sensors; the order in which chance is asked is part of a seed."""
        rng = np.random.default_rng([self._seed, 7])
        name = weather or (wanted.weather if wanted else None) or str(
            rng.choice(weathers.WEATHERS, p=weathers.SHARES))
        self.weather = weathers.drawn(name, rng, wanted.fog_m if wanted else None)
        streets = Streets.drawn(rng)
        traffic = Traffic(streets, rng, seconds + FIRST_S, wanted.events if wanted else ())
        self.world = worlds.build(streets, traffic, rng)
        self._sensors(Caster(self.world, threads), wanted.radar_ghosts if wanted else 1.0)

    def _sensors(self, caster: Caster, ghosts: float) -> None:
        rig, places = self._calibration.rig, self._calibration.base_from_sensor
        self.cameras = {name: CameraSimulator(model, self.world, caster, self.weather)
                        for name, model in self._calibration.camera_models.items()}
        self.lidars = {name: LidarSimulator(places[name], self.world, caster, self.weather,
                                            spec.period_ms / 1e3)
                       for name, spec in rig.lidars.items()}
        self.radars = {name: RadarSimulator(
                           places[name], self.world, caster, self.weather, ghosts,
                           compensated=spec.doppler is not None and spec.doppler.compensated)
                       for name, spec in rig.radars.items()}

    def _timetable(self) -> dict[str, Schedule]:
        rig, places = self._calibration.rig, self._calibration.base_from_sensor
        phases = {name: (timing.camera_place(k),
                         self._period_s * (1 - timing.beam_share(places[name])))
                  for k, name in enumerate(rig.cameras)}
        phases |= dict.fromkeys(rig.lidars, (timing.LIDAR_PLACE, 0.0))
        phases |= {name: (timing.radar_place(k), timing.RADAR_PHASE_S + timing.RADAR_STEP_S * k)
                   for k, name in enumerate(rig.radars)}
        return {name: Schedule(self._seed, place, phase, rig.sensors[name].period_ms / 1e3,
                               self._period_s) for name, (place, phase) in phases.items()}

    def __len__(self) -> int:
        return self._count

    def rig_of(self, index: int) -> Rig:
        return self._calibration.rig

    def calibration_of(self, index: int) -> Calibration:
        return self._calibration

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._count:
            raise IndexError(index)
        t_ref = FIRST_S + index * self._period_s
        measured = self._measure(index, t_ref)
        raw = {name: tuple(one.frame for one in group) for name, group in measured.items()}
        seen = Visibility(*(self._counts(measured, group)
                            for group in (self.lidars, self.radars, self.cameras)))
        traffic = self.world.traffic
        since = self._period_s + (FIRST_S if index == 0 else 0.0)
        return Sample(f"{self._seed}_{index:04d}", self._seed, stamp_ns(t_ref), raw,
                      truth.truth_at(self.world, t_ref, seen),
                      truth.odom_from_base(traffic, t_ref), {"weather": self.weather.name},
                      truth.odometry(traffic, t_ref, since,
                                     np.random.default_rng([self._seed, index, 3])))

    def _counts(self, measured: dict[str, list[Measured]], names) -> np.ndarray:
        """(A,) int64 over all frames of some sensors."""
        return sum((one.counts for name in names for one in measured[name]),
                   np.zeros(len(self.world.actors), np.int64))

    def _measure(self, index: int, t_ref: float) -> dict[str, list[Measured]]:
        """All frames of a sample, by sensor, oldest first."""
        jobs: list[tuple[str, Callable[[str, Moment], Measured], Moment]] = [
            (name, measure, moment)
            for group, measure in ((self.cameras, self._picture), (self.lidars, self._sweep),
                                   (self.radars, self._scan))
            for name in group for moment in self._schedules[name].of(index, t_ref)]
        run = self._pool.map if self._pool else map
        done: dict[str, list[Measured]] = {name: [] for name, _, _ in jobs}
        for (name, _, _), one in zip(jobs, run(lambda job: job[1](job[0], job[2]), jobs),
                                     strict=True):
            done[name].append(one)
        return done

    def _picture(self, name: str, at: Moment) -> Measured:
        world_from_base = truth.world_from_base(self.world.traffic, at.time_s)
        place = world_from_base @ self._calibration.base_from_sensor[name]
        image, pixels = self.cameras[name].picture(place, at.time_s, at.seed)
        stamp, frame_id = stamp_ns(at.time_s), self._frame_id(name)
        if self._calibration.rig.cameras[name].transport == "compressed":
            return Measured(EncodedImage(stamp, frame_id, jpeg(image)), pixels)
        height, width = image.shape[:2]
        return Measured(RawImage(stamp, frame_id, "bgr8", width, height,
                                 image.reshape(height, -1)), pixels)

    def _sweep(self, name: str, at: Moment) -> Measured:
        spec, end_ns = self._calibration.rig.lidars[name], stamp_ns(at.time_s)
        sweep = self.lidars[name].sweep(at.time_s, at.seed)
        points = clouds.lidar_cloud(spec, sweep.xyz, sweep.intensity, sweep.offsets_s, end_ns)
        starts = spec.stamp == "start" and spec.stamp_source == "header"
        stamp = end_ns - (round(spec.period_ms * 1e6) if starts else 0)
        return Measured(RawCloud(stamp, self._frame_id(name), points),
                        sweep.counts(len(self.world.actors)))

    def _scan(self, name: str, at: Moment) -> Measured:
        scan = self.radars[name].scan(at.time_s, at.seed)
        points = clouds.radar_cloud(self._calibration.rig.radars[name], scan.distance,
                                    scan.azimuth, scan.radial, scan.rcs_db)
        return Measured(RawCloud(stamp_ns(at.time_s), self._frame_id(name), points),
                        scan.counts(len(self.world.actors)))

    def _frame_id(self, name: str) -> str:
        """Of the messages; where the rig accepts any, the sensor's name."""
        frame_id = self._calibration.rig.sensors[name].frame_id
        return name if frame_id == "*" else frame_id
