"""Inputs: bundle -> tensors, live and in training. There is no other way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perception_bev.contracts import MODALITIES, Modality, RadarScan, SensorBundle
from perception_bev.errors import ConfigError
from perception_bev.geometry import skew
from perception_bev.inputs import ground
from perception_bev.inputs.lidar import LidarRaster
from perception_bev.inputs.lift import LiftCamera, LiftTables
from perception_bev.inputs.motion import EgoSource, NoEgo, deskew, now_from_then
from perception_bev.inputs.radar import RadarRaster, ambiguous, doppler_residual, ego_speed
from perception_bev.inputs.view import IDENTITY, View
from perception_bev.manifest import Manifest
from perception_bev.rig import Calibration, Rig

CONTEXT = ("camera", "lidar", "radar", "traffic")  # meaning of the columns of Inputs.context


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the engines get for one bundle. Arrays belong to the builder: the next build() reuses
    them. A modality that is absent or not wanted is None, and 0 in the context."""

    lidar: np.ndarray | None  # (1, C, X, Y) float32
    radar: np.ndarray | None  # (1, C, X, Y) float32
    camera_slots: dict[str, int]  # cameras that are there -> slot of the network
    lift_index: np.ndarray  # (4, heights * cells) int32
    lift_weight: np.ndarray  # (4, heights * cells) float32
    context: np.ndarray  # (1, 4) float32: camera, lidar, radar present; +1 right-hand traffic, -1
    plane: np.ndarray  # (3,) float64: ground z = a x + b y + c in base_link

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(m for m, present in zip(MODALITIES, self.context[0], strict=False) if present)


@dataclass(frozen=True, slots=True)
class Cloud:
    """Points of all sweeps of all lidars, in base_link at t_ref, one sweep after the other."""

    points: np.ndarray  # (N, 4) float32: x, y, z [m], intensity
    counts: np.ndarray  # (S,) int64: points of each sweep
    origins: np.ndarray  # (S, 3) float32 [m]: where its lidar was in the middle of each sweep

    @property
    def source(self) -> np.ndarray:
        """(N,) int64: the sweep of each point."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


class InputBuilder:
    """Owns the rasters and tables of one model on one rig. One caller at a time."""

    def __init__(self, manifest: Manifest, calibration: Calibration) -> None:
        self.slots = camera_slots(calibration.rig, manifest)
        self._calibration, self._manifest = calibration, manifest
        self._pinholes = {
            name: model.pinhole_resized(manifest.camera.width, manifest.camera.height)
            for name, model in calibration.camera_models.items()}
        self._lidar = LidarRaster(manifest.lidar, manifest.grid)
        self._radar = RadarRaster(manifest.radar, manifest.grid)
        self._lift = LiftTables(manifest)
        limit = sum(2 * lidar.max_points for lidar in calibration.rig.lidars.values())
        self._points = np.empty((limit, 4), np.float32)
        self.cloud = self._cloud([], [])  # of the last build; the next one overwrites its points

    @property
    def points(self) -> np.ndarray:
        """(N, 4) float32 of the last build, in base_link at t_ref."""
        return self.cloud.points

    def build(self, bundle: SensorBundle, ego: EgoSource | None = None, view: View = IDENTITY,
              modalities: Sequence[Modality] = MODALITIES, flipped_pictures: bool = False,
              ) -> Inputs:
        """All tensors but the pictures, which go to their engine when they arrive."""
        ego = ego or NoEgo()
        rig = self._calibration.rig
        present = {m: bundle.present(tuple(sensors)) if m in modalities else ()
                   for m, sensors in zip(MODALITIES, (rig.cameras, rig.lidars, rig.radars),
                                         strict=True)}
        self.cloud = self._lidar_cloud(bundle, present["lidar"], ego)
        points = self.points
        plane = ground.fit_ground(points)
        index, weight = self._lift.build(
            [self._lift_camera(bundle, name, ego, flipped_pictures)
             for name in present["camera"]], plane, view)
        side = (1.0 if rig.traffic == "right" else -1.0) * (-1.0 if view.mirrored else 1.0)
        return Inputs(
            lidar=self._lidar.draw(points, plane, view) if present["lidar"] else None,
            radar=(self._radar.draw(self._radar_returns(bundle, present["radar"], ego), plane, view)
                   if present["radar"] else None),
            camera_slots={name: self.slots[name] for name in present["camera"]},
            lift_index=index, lift_weight=weight,
            context=np.array([[*(float(bool(present[m])) for m in MODALITIES), side]], np.float32),
            plane=plane)

    def _lidar_cloud(self, bundle: SensorBundle, names: Sequence[str], ego: EgoSource) -> Cloud:
        """All sweeps of all lidars, in base_link at t_ref."""
        used, counts, origins = 0, [], []
        for name in names:
            place = self._calibration.base_from_sensor[name]
            for sweep in bundle.slots[name].frames:
                while used + len(sweep.points) > len(self._points):
                    self._points = np.concatenate([self._points, np.empty_like(self._points)])
                points, origin = deskew(sweep, place, ego, bundle.t_ref_ns, self._points[used:])
                used += len(points)
                counts.append(len(points))
                origins.append(origin)
        return self._cloud(counts, origins)

    def _cloud(self, counts: list[int], origins: list[np.ndarray]) -> Cloud:
        return Cloud(self._points[:sum(counts)], np.array(counts, np.int64),
                     np.array(origins, np.float32).reshape(-1, 3))

    def _radar_returns(self, bundle: SensorBundle, names: Sequence[str],
                       ego: EgoSource) -> np.ndarray:
        """(N, 8) float32 of all scans of all radars: x y z, intensity, residual, ambiguous, line
        of sight x y."""
        parts = [self._scan_returns(name, scan, ego, bundle.t_ref_ns)
                 for name in names for scan in bundle.slots[name].frames]
        return np.concatenate(parts) if parts else np.zeros((0, 8), np.float32)

    def _scan_returns(self, name: str, scan: RadarScan, ego: EgoSource,
                      t_ref_ns: int) -> np.ndarray:
        place = self._calibration.base_from_sensor[name]
        now_from_radar = now_from_then(ego, t_ref_ns, scan.stamp_ns) @ place
        returns = np.empty((len(scan.points), 8), np.float32)
        returns[:, :3] = now_from_radar.apply(scan.points)
        returns[:, 3] = scan.intensity
        returns[:, 4], returns[:, 5] = self._residual(name, scan, ego)
        sight = returns[:, :2] - now_from_radar.translation[:2].astype(np.float32)
        returns[:, 6:] = sight / np.maximum(np.linalg.norm(sight, axis=1, keepdims=True), 1e-3)
        return returns

    def _residual(self, name: str, scan: RadarScan,
                  ego: EgoSource) -> tuple[np.ndarray, np.ndarray | float]:
        """Doppler less ego motion (N,), and whether its sign is ambiguous, (N,) or all: 0 or 1."""
        doppler = self._calibration.rig.radars[name].doppler
        if doppler is None or doppler.compensated:
            return scan.doppler, 0.0
        place, interval = self._calibration.base_from_sensor[name], doppler.away_interval
        distance = np.maximum(np.linalg.norm(scan.points, axis=1, keepdims=True), 1e-3)
        direction = (scan.points / distance) @ place.rotation.T.astype(np.float32)
        twist = ego.twist_at(scan.stamp_ns)
        if twist is None:
            speed = ego_speed(scan.doppler, direction, np.array([1.0, 0.0, 0.0]), interval)
            if speed is None:
                return np.full_like(scan.doppler, np.nan), 1.0
            velocity = np.array([speed, 0.0, 0.0])
        else:
            velocity = twist[0] + skew(twist[1]) @ place.translation
        residual = doppler_residual(scan.doppler, direction, velocity, interval)
        return residual, ambiguous(residual, interval)

    def _lift_camera(self, bundle: SensorBundle, name: str, ego: EgoSource,
                     flipped: bool) -> LiftCamera:
        taken_ns = bundle.slots[name].newest.stamp_ns
        then_from_now = now_from_then(ego, bundle.t_ref_ns, taken_ns).inverse()
        camera_from_base = self._calibration.base_from_sensor[name].inverse() @ then_from_now
        return LiftCamera(self.slots[name], camera_from_base, self._pinholes[name], flipped)


def camera_slots(rig: Rig, manifest: Manifest) -> dict[str, int]:
    """The rig's cameras -> the network's slots, in the file's order; fewer than slots is fine."""
    if len(rig.cameras) > manifest.camera.slots:
        raise ConfigError(
            f"rig '{rig.name}' has {len(rig.cameras)} cameras, model '{manifest.name}' was "
            f"exported for {manifest.camera.slots}: export it again with `bev export --cameras "
            f"{len(rig.cameras)}`")
    return {name: slot for slot, name in enumerate(rig.cameras)}
