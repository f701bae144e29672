"""Simulation: a drive as a Recording. The same seed gives the same samples, in any order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.errors import ConfigError
from perception_bev.geometry import SE3
from perception_bev.raw import EncodedImage, RawCloud, RawFrame
from perception_bev.recordings.base import OdometrySample, Sample, Truth, Visibility
from perception_bev.rig import Calibration, Rig, resolve
from perception_bev.sim import weather as weathers
from perception_bev.sim import world as worlds
from perception_bev.sim.camera import CameraSimulator
from perception_bev.sim.cast_list import CLASSES
from perception_bev.sim.caster import Caster
from perception_bev.sim.lidar import LidarSimulator
from perception_bev.sim.radar import RadarSimulator
from perception_bev.sim.scenario import Scenario
from perception_bev.sim.streets import Streets
from perception_bev.sim.traffic import Traffic

START_NS = 1_700_000_000_000_000_000  # stamp of time 0
FIRST_S = 0.2  # reference time of the first sample: its sweep lies inside the drive
ODOMETRY_HZ = 50
TRUTH_REACH_M = 65.0  # objects farther away are not in the ground truth
SPEED_NOISE, YAW_RATE_NOISE = 0.01, 0.001  # of the odometry's twist [m/s, rad/s]


class SimRecording:
    """A simulated drive of `seconds`, ten samples a second."""

    def __init__(self, rig: Rig, seed: int, seconds: float = 20.0, weather: str | None = None,
                 scenario: Scenario | None = None, threads: int = 1) -> None:
        """
        Args:
            weather: one of weather.WEATHERS; default: the scenario's, or drawn by the seed.
            threads: pictures that are made at the same time.
        """
        self._calibration = resolve(rig)
        self._period_s = rig.reference.period_ms / 1e3
        if rig.modality(rig.reference.sensor) != "lidar" or len(rig.lidars) != 1:
            raise ConfigError(f"rig '{rig.name}': the simulator wants one lidar, as the reference")
        if seconds < 2 * self._period_s:
            raise ConfigError(f"{seconds} s is shorter than two sweeps")
        self._seed, self._count = seed, round(seconds / self._period_s)
        rng = np.random.default_rng([seed, 7])
        wanted = scenario.world if scenario is not None else None
        name = weather or (wanted.weather if wanted else None) or str(rng.choice(
            weathers.WEATHERS, p=(0.5, 0.14, 0.14, 0.12, 0.10)))
        self.weather = weathers.drawn(name, rng, wanted.fog_m if wanted else None)
        streets = Streets.drawn(rng)
        traffic = Traffic(streets, rng, seconds + FIRST_S, wanted.events if wanted else ())
        self.world = worlds.build(streets, traffic, rng)
        caster = Caster(self.world)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        places = self._calibration.base_from_sensor
        ghosts = wanted.radar_ghosts if wanted else 1.0
        self._cameras = {name: CameraSimulator(model, self.world, caster, self.weather)
                         for name, model in self._calibration.camera_models.items()}
        self._lidar = LidarSimulator(places[rig.reference.sensor], self.world, caster, self.weather,
                                     self._period_s)
        self._radars = {name: RadarSimulator(places[name], radar.doppler, self.world, caster,
                                             self.weather, ghosts)
                        for name, radar in rig.radars.items()}
        self._radar_phase = {name: 0.003 + 0.006 * k for k, name in enumerate(rig.radars)}

    def __len__(self) -> int:
        return self._count

    def rig_of(self, index: int) -> Rig:
        return self._calibration.rig

    def calibration_of(self, index: int) -> Calibration:
        return self._calibration

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._count:
            raise IndexError(index)
        t_ref = FIRST_S + index * self._period_s
        names, jobs = self._jobs(index, t_ref)
        run = self._pool.map if self._pool else map
        done = dict(zip(names, run(lambda job: job(), jobs), strict=True))
        raw = {name: tuple(frame for frame, _ in frames) for name, frames in done.items()}
        counts = [sum((count for name in group for _, count in done[name]),
                      np.zeros(len(self.world.actors), np.int64))
                  for group in (self._cameras, [self._calibration.rig.reference.sensor],
                                self._radars)]
        return Sample(f"{self._seed}_{index:04d}", self._seed, stamp_ns(t_ref), raw,
                      self._truth(t_ref, *counts), self._odom(t_ref),
                      {"weather": self.weather.name}, self._odometry(index, t_ref))

    # -- sensors -------------------------------------------------------------------------------

    def _jobs(self, index: int, t_ref: float):
        """Names and functions that give a sensor's frames, each with its counts of actors."""
        rig, seed = self._calibration.rig, (self._seed * 1_000_003 + index) * 64
        names, jobs = [], []
        for k, name in enumerate(self._cameras):
            names.append(name)
            jobs.append(lambda name=name, k=k: [self._picture(name, t_ref, seed + k)])
        names.append(rig.reference.sensor)
        jobs.append(lambda: [self._sweep(t_ref, seed + 30)])
        for k, name in enumerate(self._radars):
            names.append(name)
            jobs.append(lambda name=name, k=k: [
                self._scan(name, time, seed + 32 + 4 * k + i)
                for i, time in enumerate(self._scan_times(name, t_ref))])
        return names, jobs

    def _picture(self, name: str, t_ref: float, seed: int) -> tuple[RawFrame, np.ndarray]:
        """Taken when the lidar's beam passes the camera's axis."""
        place = self._calibration.base_from_sensor[name]
        axis = place.rotation[:, 2]
        share = ((np.pi - np.arctan2(axis[1], axis[0])) % (2 * np.pi)) / (2 * np.pi)
        time = t_ref - self._period_s * (1 - share)
        data, pixels = self._cameras[name].picture(self._world_from_base(time) @ place, time, seed)
        frame_id = self._calibration.rig.cameras[name].frame_id
        return EncodedImage(stamp_ns(time), frame_id, data), pixels

    def _sweep(self, t_ref: float, seed: int) -> tuple[RawFrame, np.ndarray]:
        rig = self._calibration.rig
        points, counts = self._lidar.sweep(t_ref, seed)
        return RawCloud(stamp_ns(t_ref), rig.lidars[rig.reference.sensor].frame_id, points), counts

    def _scan_times(self, name: str, t_ref: float) -> list[float]:
        """Of a radar's scans within the sweep, oldest first."""
        period = self._calibration.rig.radars[name].period_ms / 1e3
        last = t_ref - self._radar_phase[name]
        count = max(1, round(self._period_s / period))
        return [last - period * k for k in reversed(range(count))]

    def _scan(self, name: str, time: float, seed: int) -> tuple[RawFrame, np.ndarray]:
        points, counts = self._radars[name].scan(time, seed)
        return RawCloud(stamp_ns(time), self._calibration.rig.radars[name].frame_id, points), counts

    # -- truth ---------------------------------------------------------------------------------

    def _world_from_base(self, time: float) -> SE3:
        xy, yaw, _ = self.world.traffic.ego_at(time)
        return SE3.from_rpy(np.array([*xy, 0.0]), [0, 0, float(yaw)])

    def _odom(self, time: float) -> SE3:
        """odom starts at the place of the drive's beginning."""
        return self._world_from_base(0.0).inverse() @ self._world_from_base(time)

    def _odometry(self, index: int, t_ref: float) -> tuple[OdometrySample, ...]:
        step = 1.0 / ODOMETRY_HZ
        count = round((self._period_s + (FIRST_S if index == 0 else 0.0)) / step)
        rng = np.random.default_rng([self._seed, index, 3])
        return tuple(self._motion(t_ref - step * k, rng) for k in reversed(range(count)))

    def _motion(self, time: float, rng: np.random.Generator) -> OdometrySample:
        _, yaw, speed = self.world.traffic.ego_at(np.array([time - 0.02, time, time + 0.02]))
        linear = np.array([speed[1] + rng.normal(0, SPEED_NOISE), 0.0, 0.0])
        angular = np.array([0.0, 0.0, (yaw[2] - yaw[0]) / 0.04 + rng.normal(0, YAW_RATE_NOISE)])
        return OdometrySample(stamp_ns(time), self._odom(time), linear, angular)

    def _truth(self, time: float, pixels: np.ndarray, lidar: np.ndarray,
               radar: np.ndarray) -> Truth:
        """All objects round the vehicle, seen or not, in base_link at `time`."""
        world, poses = self.world, self.world.traffic.poses(time)
        xy = np.concatenate([poses.xy, world.parked_xy])
        yaw = np.concatenate([poses.yaw, world.parked_yaw])
        velocity = np.concatenate([poses.velocity, np.zeros((len(world.parked_xy), 2))])
        here, heading, _ = world.traffic.ego_at(time)
        cos, sin = np.cos(heading), np.sin(heading)
        into_base = np.array([[cos, sin], [-sin, cos]])
        local = (xy - here) @ into_base.T
        near = np.nonzero(np.linalg.norm(local, axis=1) < TRUTH_REACH_M)[0]
        size = np.array([world.actors[i].size for i in near]).reshape(-1, 3)
        boxes = Boxes3D(
            np.column_stack([local[near], size[:, 2] / 2]).astype(np.float32),
            size.astype(np.float32),
            ((yaw[near] - heading + np.pi) % (2 * np.pi) - np.pi).astype(np.float32),
            np.ones(len(near), np.float32),
            np.array([world.actors[i].label for i in near], np.int32), CLASSES,
            (velocity[near] @ into_base.T).astype(np.float32))
        seen = Visibility(*(count[near].astype(np.int32) for count in (lidar, radar, pixels)))
        hidden = (seen.lidar_points == 0) & (seen.radar_returns == 0) & (seen.pixels == 0)
        return Truth(boxes, np.where(hidden, 2, 0).astype(np.int32), ~hidden,
                     np.array([world.actors[i].track for i in near], np.int64), seen)


def stamp_ns(time_s: float) -> int:
    return START_NS + round(time_s * 1e6) * 1000
