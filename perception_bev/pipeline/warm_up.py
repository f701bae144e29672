"""Pipeline: bundles made up to touch every code path before the first real one."""

from __future__ import annotations

import numpy as np

from perception_bev.contracts import CameraFrame, LidarSweep, RadarScan, SensorBundle, Slot
from perception_bev.manifest import Manifest
from perception_bev.rig import Calibration, Rig

POINTS = 2000
RETURNS = 200


def empty_bundle(rig: Rig) -> SensorBundle:
    """No sensor gave anything."""
    slots = {name: Slot(reason="missing") for name in rig.sensors}
    return SensorBundle(t_ref_ns=0, epoch=0, sequence=0, slots=slots, closed_by="predicted")


def synthetic_slots(calibration: Calibration, manifest: Manifest) -> dict[str, Slot]:
    """One frame a sensor: grey pictures, points on flat ground."""
    rng = np.random.default_rng(0)
    rig = calibration.rig
    slots = {}
    for name in rig.cameras:
        grey = np.full((manifest.camera.height, manifest.camera.width, 3), 110, np.uint8)
        slots[name] = Slot((CameraFrame(0, grey),), 0)
    for name in rig.lidars:
        points = _on_ground(rng, POINTS, calibration, name)
        intensity = np.full((POINTS, 1), 0.2, np.float32)
        offsets = np.linspace(-0.1, 0.0, POINTS, dtype=np.float32)
        slots[name] = Slot((LidarSweep(0, np.hstack([points, intensity]), offsets),), 0)
    for name in rig.radars:
        points = _on_ground(rng, RETURNS, calibration, name)
        slots[name] = Slot((RadarScan(0, points, np.zeros(RETURNS, np.float32),
                                      np.full(RETURNS, 50.0, np.float32)),), 0)
    return slots


def _on_ground(rng: np.random.Generator, count: int, calibration: Calibration,
               name: str) -> np.ndarray:
    """(count, 3) float32 in the sensor's frame."""
    ground = np.column_stack([rng.uniform(-40, 40, (count, 2)), np.zeros(count)])
    return calibration.base_from_sensor[name].inverse().apply(ground).astype(np.float32)
