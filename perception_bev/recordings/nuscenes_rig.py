"""Recordings: the vehicle of a nuScenes scene: the shipped rig file with the set's calibration.

Facts relied on (schema and `RadarPointCloud` of the devkit): pictures come undistorted; sweeps come
motion-compensated to their stamp, their end. Of the radar's velocities, vx_comp and vy_comp, with
the ego motion taken out, lie along the line of sight; vx and vy do not (nuscenes-devkit issues 748
and 924), so the Doppler is taken from the former and needs no compensation here.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache

from perception_bev import resources
from perception_bev.errors import RecordingError
from perception_bev.recordings.nuscenes_tables import CalibratedSensor, Scene
from perception_bev.rig import (
    Calibration,
    Doppler,
    Extrinsics,
    Intensity,
    Intrinsics,
    Radar,
    Rig,
    load_rig,
    resolve,
)

RADAR_PERIOD_MS = 76.9  # 13 Hz


def calibration_of(scene: Scene) -> Calibration:
    """Of equal calibrations there is one object, whatever the scenes are.

    The rig's name holds a digest of its numbers: every calibration has a name of its own.
    """
    sensors = tuple((channel, _key(place)) for channel, place in sorted(scene.sensors.items()))
    traffic = "left" if scene.location.startswith("singapore") else "right"
    return _calibration(sensors, traffic)


def _key(place: CalibratedSensor) -> tuple:
    return (tuple(place.base_from_sensor.translation.tolist()),
            tuple(place.base_from_sensor.quaternion.round(9).tolist()), place.k, place.size)


@cache  # a set has some hundreds at most
def _calibration(sensors: tuple, traffic: str) -> Calibration:
    template = _template()
    cameras, lidars, radars = {}, {}, {}
    for channel, (translation, rotation, k, size) in sensors:
        name, place = channel.lower(), Extrinsics(translation, rotation)
        if name in template.cameras and k is not None:
            cameras[name] = replace(template.cameras[name], extrinsics=place,
                                    intrinsics=Intrinsics(*size, k))
        elif name in template.lidars:
            lidars[name] = replace(template.lidars[name], extrinsics=place)
        elif name.startswith("radar_"):
            radars[name] = _radar(name, place)
        else:
            raise RecordingError(f"a sensor {channel} is none of nuScenes' vehicles; known: "
                                 + ", ".join(template.sensors) + ", radar_...")
    digest = hashlib.sha256(repr((sensors, traffic)).encode()).hexdigest()[:8]
    in_order = {name: cameras[name] for name in template.cameras if name in cameras}
    return resolve(replace(template, name=f"nuscenes_{digest}", cameras=in_order, lidars=lidars,
                           radars=radars, traffic=traffic))


@cache
def _template() -> Rig:
    return load_rig(resources.path("config/rigs/nuscenes.yaml"))


def _radar(name: str, place: Extrinsics) -> Radar:
    return Radar(topic=f"radar/{name}/points", frame_id=name, extrinsics=place,
                 period_ms=RADAR_PERIOD_MS, message="cloud_vxvy",
                 velocity_fields=("vx_comp", "vy_comp"), doppler=Doppler(compensated=True),
                 intensity=Intensity("rcs", unit="dBsm"))

