"""Survey: a rig file against what was seen on the topics; findings are sentences with the cure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from perception_bev.errors import CalibrationError
from perception_bev.geometry import CameraModel
from perception_bev.rig import (
    TODO,
    Calibration,
    Camera,
    Extrinsics,
    Lidar,
    Radar,
    Rig,
    Sensor,
    resolve,
)
from perception_bev.survey import guess, observe
from perception_bev.survey.observe import Observations, TopicSeen

RATE_TOLERANCE = 0.1  # of the period
LOSS_TOLERANCE = 0.02  # of the messages that came
TABLE_HEADINGS = ("sensor", "kind", "topic", "period ms", "age limit ms", "place in base",
                  "seen ms", "delay ms")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know about a rig."""

    level: Literal["error", "warning"]
    text: str

    def __str__(self) -> str:
        return f"{self.level.upper()}: {self.text}"


def check(rig: Rig, seen: Observations | None) -> tuple[Calibration | None, list[Finding]]:
    """The calibration, if it is complete, and everything that is wrong.

    Without observations only the file is judged: what it leaves to TF and CameraInfo is open.
    """
    if seen is None:
        return _complete_alone(rig), list(_todos(rig))
    findings = [finding for name, sensor in rig.sensors.items()
                for finding in _sensor(rig, name, sensor, seen)]
    findings += _odometry(rig, seen)
    try:
        return resolve(rig, seen.tf, _camera_infos(rig, seen)), findings
    except CalibrationError as err:
        return None, [Finding("error", str(err)), *findings]


def table(rig: Rig, seen: Observations | None) -> str:
    """The sensors as aligned columns of text."""
    sensors = (_row(rig, name, sensor, seen) for name, sensor in rig.sensors.items())
    rows = [TABLE_HEADINGS, *sensors]
    columns = len(TABLE_HEADINGS) if seen else TABLE_HEADINGS.index("seen ms")
    widths = [max(len(row[i]) for row in rows) for i in range(columns)]
    return "\n".join("  ".join(row[i].ljust(widths[i]) for i in range(columns)).rstrip()
                     for row in rows)


def find_topic(topic: str, seen: Observations) -> TopicSeen | None:
    """The seen topic for a rig's name, which may be relative to a namespace."""
    name = _matching(topic, seen.topics)
    return None if name is None else seen.topics[name]


def _matching(topic: str, names: Mapping[str, object]) -> str | None:
    """The name that is this topic, or the only one that ends with it."""
    wanted = topic.strip("/")
    exact = [name for name in names if name.strip("/") == wanted]
    inside = [name for name in names if name.endswith("/" + wanted)]
    return exact[0] if exact else inside[0] if len(inside) == 1 else None


def _complete_alone(rig: Rig) -> Calibration | None:
    try:
        return resolve(rig)
    except CalibrationError:
        return None


def _todos(rig: Rig) -> Iterator[Finding]:
    for name, sensor in rig.sensors.items():
        if sensor.extrinsics == TODO:
            yield Finding("error", f"{name}: extrinsics are TODO in the file")
        if getattr(sensor, "intrinsics", None) == TODO:
            yield Finding("error", f"{name}: intrinsics are TODO in the file")
    if rig.odometry is None:
        yield Finding("warning", "no odometry: no deskewing, Doppler from the scan alone")


def _camera_infos(rig: Rig, seen: Observations) -> dict[str, CameraModel]:
    found = {name: _matching(camera.info_topic, seen.camera_infos)
             for name, camera in rig.cameras.items()}
    return {name: seen.camera_infos[topic] for name, topic in found.items() if topic is not None}


def _sensor(rig: Rig, name: str, sensor: Sensor, seen: Observations) -> Iterator[Finding]:
    what = find_topic(sensor.topic, seen)
    if what is None:
        yield Finding("error" if sensor.required else "warning",
                      f"{name}: nothing on {sensor.topic} in {seen.seconds:.1f} s")
        return
    yield from _type(name, sensor, what)
    if sensor.frame_id not in ("*", what.frame_id):
        yield Finding("error", f"{name}: frame_id is {sensor.frame_id} in the file and "
                               f"{what.frame_id} in the messages")
    yield from _rate(name, sensor, what)
    yield from _delay(name, sensor, what)
    yield from _fields(name, sensor, what)


def _type(name: str, sensor: Sensor, what: TopicSeen) -> Iterator[Finding]:
    expected = expected_type(sensor)
    if what.type != expected:
        yield Finding("error", f"{name}: {what.topic} is {what.type}, the file means {expected}")
    if what.unreadable:
        yield Finding("error", f"{name}: {what.unreadable}")


def expected_type(sensor: Sensor) -> str:
    """The message type that a rig's sensor is read from."""
    if isinstance(sensor, Camera):
        return observe.IMAGE if sensor.transport == "raw" else observe.COMPRESSED_IMAGE
    scan = isinstance(sensor, Radar) and sensor.message == "radar_scan"
    return observe.RADAR_SCAN if scan else observe.CLOUD


def _rate(name: str, sensor: Sensor, what: TopicSeen) -> Iterator[Finding]:
    period = what.timing.period_ms
    if period is not None and abs(period - sensor.period_ms) > RATE_TOLERANCE * sensor.period_ms:
        yield Finding("warning", f"{name}: period_ms is {sensor.period_ms:g} in the file and "
                                 f"{period:.1f} on {what.topic}")
    if what.timing.lost > LOSS_TOLERANCE * what.count:
        yield Finding("warning", f"{name}: {what.timing.lost} messages are missing between the "
                                 f"{what.count} that came; on one computer, start the driver with "
                                 "FASTRTPS_DEFAULT_PROFILES_FILE naming our config/fastdds.xml")


def _delay(name: str, sensor: Sensor, what: TopicSeen) -> Iterator[Finding]:
    if sensor.stamp_source == "arrival":
        return
    if not what.timing.stamped:
        yield Finding("error", f"{name}: stamps are zero or stand still; set stamp_source: arrival")
        return
    if guess.days_apart(what):
        return  # a bag of older data: its log times say nothing of the sensor's clock
    delay = what.timing.delay_ms - sensor.clock_offset_ms
    latest = delay + what.timing.delay_spread_ms
    limit = sensor.age_limit_ns * 1e-6
    if delay > limit:
        yield Finding("error", f"{name}: comes {delay:.0f} ms after its stamp at the earliest, the "
                               f"age limit is {limit:.0f} ms: set clock_offset_ms or max_age_ms")
    elif latest > limit:
        yield Finding("warning", f"{name}: comes up to {latest:.0f} ms after its stamp, "
                                 f"the age limit is {limit:.0f} ms")
    if delay < -sensor.max_lead_ms:
        yield Finding("error", f"{name}: stamps are {-delay:.0f} ms in the future: "
                               "set the sensor's clock, or clock_offset_ms")


def _fields(name: str, sensor: Sensor, what: TopicSeen) -> Iterator[Finding]:
    if what.type != observe.CLOUD or what.points == 0:
        return
    for role, wanted in _wanted_fields(sensor):
        if wanted not in what.fields:
            yield Finding("error", f"{name}: {role} field '{wanted}' is not in the cloud; it has "
                                   f"{', '.join(what.fields)}")
    most = getattr(sensor, "max_points", None)
    if most is not None and what.points > most:
        yield Finding("error", f"{name}: {what.points} points, max_points is {most}")


def _wanted_fields(sensor: Sensor) -> Iterator[tuple[str, str]]:
    if isinstance(sensor, (Lidar, Radar)) and sensor.intensity is not None:
        yield "intensity", sensor.intensity.field
    if isinstance(sensor, Lidar) and sensor.point_time is not None:
        yield "time", sensor.point_time.field
    if isinstance(sensor, Radar) and sensor.message == "cloud" and sensor.doppler is not None:
        yield "doppler", sensor.doppler.field
    if isinstance(sensor, Radar) and sensor.message == "cloud_vxvy":
        yield from (("velocity", field) for field in sensor.velocity_fields)


def _odometry(rig: Rig, seen: Observations) -> Iterator[Finding]:
    if rig.odometry_topic is not None and find_topic(rig.odometry_topic, seen) is None:
        yield Finding("warning", f"nothing on {rig.odometry_topic}: no deskewing, Doppler from "
                                 "the scan alone")
    if rig.odometry is None and rig.odom_frame not in seen.tf.frames():
        yield Finding("warning", f"no odometry topic, and no {rig.odom_frame} on /tf: "
                                 "no deskewing, Doppler from the scan alone")


def _row(rig: Rig, name: str, sensor: Sensor, seen: Observations | None) -> tuple[str, ...]:
    what = find_topic(sensor.topic, seen) if seen else None
    reference = " (ref)" if rig.reference.sensor == name else ""
    return (name + reference, rig.modality(name), sensor.topic, f"{sensor.period_ms:g}",
            f"{sensor.age_limit_ns * 1e-6:g}", _place(rig, sensor, seen),
            *_seen_cells(what))


def _seen_cells(what: TopicSeen | None) -> tuple[str, str]:
    if what is None:
        return "nothing", ""
    period = "once" if what.timing.period_ms is None else f"{what.timing.period_ms:.1f}"
    if guess.days_apart(what):
        return period, "days"
    return period, f"{what.timing.delay_ms:.1f} +{what.timing.delay_spread_ms:.1f}"


def _place(rig: Rig, sensor: Sensor, seen: Observations | None) -> str:
    if sensor.extrinsics == TODO:
        return TODO
    if isinstance(sensor.extrinsics, Extrinsics):
        place = sensor.extrinsics.transform
    else:
        place = seen.tf.lookup(rig.base_frame, sensor.frame_id) if seen else None
    if place is None:
        return "from TF" if seen is None else "not on TF"
    return " ".join(f"{value:.2f}" for value in place.translation)
