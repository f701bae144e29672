"""Survey: a rig file from observations. What could not be seen is marked TODO, with the cure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import numpy as np

from perception_bev.contracts import Modality
from perception_bev.errors import ConfigError
from perception_bev.rig import FROM_CAMERA_INFO, FROM_TF, TODO, Camera
from perception_bev.survey import guess, observe
from perception_bev.survey.observe import Observations, TopicSeen

GIVE_PLACE = "TODO: {translation: [x, y, z], rotation_rpy_deg: [roll, pitch, yaw]} in "
GIVE_LENS = ("TODO: {width: W, height: H, k: [fx, fy, cx, cy], model: plumb_bob, distortion: "
             "[k1, k2, p1, p2, k3]}")
LIKELY_BASES = ("base_link", "base_footprint", "ego_vehicle", "vehicle")
MANY_RADAR_POINTS = 20_000


def rig_from_observations(seen: Observations) -> str:
    """The text of a rig file. ConfigError when no sensor was seen."""
    kinds = _sensors(seen)
    if not kinds:
        listed = ", ".join(sorted(seen.topics)) or "none"
        raise ConfigError(f"{seen.source}: no camera, lidar or radar in {seen.seconds:.1f} s; "
                          f"topics of known types: {listed}")
    return "\n".join(_lines(seen, kinds, guess.short_names(kinds))) + "\n"


def base_frame(seen: Observations) -> str:
    """The vehicle's frame: by its usual names, else odometry's child, else the sensors' root."""
    frames = seen.tf.frames()
    children = [topic.child_frame_id for topic in _odometry(seen) if topic.child_frame_id]
    roots = [name for name, parent in frames.items() if parent is None]
    known = [name for name in LIKELY_BASES if name in frames]
    return next(iter([*known, *children, *roots]), LIKELY_BASES[0])


def _sensors(seen: Observations) -> dict[str, Modality]:
    """Topics of sensors, cameras first; of a camera's two transports only the compressed one."""
    kinds = {topic: guess.modality(what) for topic, what in seen.topics.items()}
    compressed = {topic.removesuffix("/compressed") for topic in kinds
                  if topic.endswith("/compressed")}
    chosen = {topic: kind for topic, kind in kinds.items() if kind and topic not in compressed}
    order = ("camera", "lidar", "radar")
    return dict(sorted(chosen.items(), key=lambda item: (order.index(item[1]), item[0])))


def _reference(seen: Observations, kinds: Mapping[str, Modality]) -> str:
    """The lidar with the most points, else the first camera, else the first radar."""
    lidars = [topic for topic, kind in kinds.items() if kind == "lidar"]
    return max(lidars, key=lambda topic: seen.topics[topic].points) if lidars else next(iter(kinds))


def _lines(seen: Observations, kinds: Mapping[str, Modality],
           names: Mapping[str, str]) -> Iterator[str]:
    yield (f"# Written by `bev rig init` from {_comment(seen.source)}, {seen.seconds:.1f} s of it. "
           "`bev rig check` lists what is missing.")
    yield "name: vehicle  # TODO: give it a name"
    yield from _reference_lines(seen, kinds, names)
    yield f"base_frame: {_text(base_frame(seen))}"
    yield from _odometry_lines(seen)
    yield "traffic: right  # TODO: the side of the road that one drives on: right or left"
    for kind in ("camera", "lidar", "radar"):
        topics = [topic for topic in kinds if kinds[topic] == kind]
        if topics:
            yield f"{kind}s:"
        for topic in topics:
            yield f"  {_text(names[topic])}:"
            yield from (f"    {line}" for line in _sensor(seen, seen.topics[topic], kind))


def _reference_lines(seen: Observations, kinds: Mapping[str, Modality],
                     names: Mapping[str, str]) -> Iterator[str]:
    topic = _reference(seen, kinds)
    period = guess.output_period_ms(_period(seen.topics[topic]))
    yield (f"reference: {{sensor: {_text(names[topic])}, period_ms: {period:.4g}, wait_ms: 25}}"
           "  # its sweep ends are the output times")


def _odometry(seen: Observations) -> list[TopicSeen]:
    """Odometry topics, the one called so first."""
    topics = [what for what in seen.topics.values() if what.type == observe.ODOMETRY]
    return sorted(topics, key=lambda what: (not what.topic.endswith("odometry"), what.topic))


def _odometry_lines(seen: Observations) -> Iterator[str]:
    found = _odometry(seen)
    if not found:
        frames = seen.tf.frames()
        yield f"odom_frame: odom{'' if 'odom' in frames else '  # not on /tf either'}"
        yield "# TODO: without odometry there is no deskewing. odometry: {topic: ...}"
        return
    yield f"odom_frame: {_text(found[0].frame_id or 'odom')}"
    others = _comment(", ".join(what.topic for what in found[1:]))
    note = f"  # TODO: it must be continuous; others seen: {others}" if others else ""
    yield f"odometry: {{topic: {_text(found[0].topic)}}}{note}"


def _sensor(seen: Observations, what: TopicSeen, kind: Modality) -> Iterator[str]:
    yield f"topic: {_text(what.topic)}"
    yield f"frame_id: {_text(what.frame_id or '*')}" + (
        "" if what.frame_id else "  # TODO: its messages name no frame")
    yield _place(seen, what, kind)
    yield f"period_ms: {_period(what):.4g}" + (
        "" if what.timing.period_ms else "  # TODO: only one message was seen")
    if what.timing.lost:
        yield f"# {what.timing.lost} messages are missing between the {what.count} that came"
    yield from _clock(what)
    if what.unreadable:
        yield f"# TODO: its messages could not be read: {_comment(what.unreadable)}"
    yield from {"camera": _camera, "lidar": _lidar, "radar": _radar}[kind](seen, what)


def _place(seen: Observations, what: TopicSeen, kind: Modality) -> str:
    base = base_frame(seen)
    place = seen.tf.lookup(base, what.frame_id)
    if place is None:
        return f"extrinsics: {TODO}  # {GIVE_PLACE}{_comment(base)}"
    notes = []
    if not seen.tf.is_static(base, what.frame_id):
        notes.append("TODO: this transform moves; its place at start-up is taken")
    if kind == "camera" and abs(place.rotation[2, 2]) > 0.9:
        notes.append("TODO: z of this frame looks up or down: is it an optical frame (z forward)?")
    if kind != "camera" and np.allclose(place.matrix, np.eye(4)):
        notes.append(f"identity: the sensor is said to be in {_comment(base)} itself")
    return f"extrinsics: {FROM_TF}" + (f"  # {'; '.join(notes)}" if notes else "")


def _clock(what: TopicSeen) -> Iterator[str]:
    """How the header's stamp relates to the arrival."""
    offset_s = guess.clock_offset_s(what)
    if not what.timing.stamped:
        yield "stamp_source: arrival  # the header's stamps are zero or stand still"
    elif guess.days_apart(what):
        yield "# arrival and stamp are days apart (a bag made of older data): clocks not judged"
    elif offset_s:
        tai = ": this clock is TAI" if offset_s == -37 else ""
        yield (f"clock_offset_ms: {offset_s * 1000}  # stamps and arrival differ by {-offset_s} s"
               f"{tai}; TODO: set the sensor's clock")
    else:
        yield (f"# arrives {what.timing.delay_ms:.1f} ms after its stamp at the earliest, "
               f"spread {what.timing.delay_spread_ms:.1f} ms")


def _camera(seen: Observations, what: TopicSeen) -> Iterator[str]:
    raw = what.type == observe.IMAGE
    usual = Camera(topic=what.topic, frame_id="*", extrinsics=TODO).info_topic
    info = next((topic for topic in _info_topics(what, usual) if topic in seen.camera_infos), None)
    if info is None:
        why = seen.bad_camera_infos.get(usual, f"no CameraInfo on {usual}")
        yield f"intrinsics: {TODO}  # {GIVE_LENS}; {_comment(why)}"
    else:
        yield f"intrinsics: {FROM_CAMERA_INFO}"
        if info != usual:
            yield f"camera_info_topic: {_text(info)}"
    yield f"transport: {'raw' if raw else 'compressed'}"


def _info_topics(what: TopicSeen, usual: str) -> list[str]:
    """Where drivers put CameraInfo: beside the picture, below it, or one level up."""
    image = what.topic.removesuffix("/compressed")
    return [usual, f"{image}/camera_info", f"{image.rsplit('/', 2)[0]}/camera_info"]


def _lidar(seen: Observations, what: TopicSeen) -> Iterator[str]:
    times, told = guess.point_time(what)
    convention = guess.stamp_convention(what)
    yield f"stamp: {convention}" + (
        "  # by the points' own times" if told else
        f"  # TODO: start or end of the sweep? '{convention}' is a guess from the delay")
    if times:
        yield f"point_time: {{field: {_text(times.field)}, unit: {times.unit}, " \
              f"origin: {times.origin}}}"
    else:
        yield "# no time per point was found: points can be deskewed by the sweep only"
    yield from _intensity(what, lidar=True)
    if what.points > 400_000:
        yield f"max_points: {2 * what.points}"


def _radar(seen: Observations, what: TopicSeen) -> Iterator[str]:
    radial, vector = guess.radial_field(what), guess.vector_fields(what)
    if what.type == observe.RADAR_SCAN:
        yield "message: radar_scan"
        yield from _doppler(what, "doppler")
    elif radial is None and vector is not None:
        yield "message: cloud_vxvy"
        yield f"velocity_fields: [{_text(vector[0])}, {_text(vector[1])}]"
        compensated = "comp" in vector[0].lower()
        yield (f"doppler: {{compensated: {str(compensated).lower()}}}"
               "  # TODO: true if the radar has taken the ego motion out already")
    else:
        yield from _doppler(what, radial)
    yield from _intensity(what, lidar=False)
    if what.points > MANY_RADAR_POINTS:
        yield f"# TODO: {what.points} points are many for a radar; a lidar with velocities?"


def _doppler(what: TopicSeen, name: str) -> Iterator[str]:
    compensated = "comp" in name.lower()
    span = what.fields.get(name)
    limits = f" (seen: {span.low:.4g} .. {span.high:.4g})" if span else ""
    yield (f"doppler: {{field: {_text(name)}, positive: away, "
           f"compensated: {str(compensated).lower()}}}")
    yield "# TODO: 'positive: towards' if an approaching car has a positive value; compensated:"
    yield "#   true if the ego motion is taken out already; add min and max [m/s] if the value"
    yield f"#   wraps{limits}"


def _intensity(what: TopicSeen, lidar: bool) -> Iterator[str]:
    if what.type == observe.RADAR_SCAN:
        yield "intensity: {field: amplitude, unit: dB}"
        return
    name = guess.intensity_field(what)
    if name is None:
        yield "intensity: null  # no such field was seen"
    elif lidar:
        span = what.fields[name]
        yield (f"intensity: {{field: {_text(name)}, scale: {guess.intensity_scale(span):g}}}"
               f"  # seen: {span.low:.4g} .. {span.high:.4g}; value / scale must lie in 0..1")
    else:
        yield f"intensity: {{field: {_text(name)}, unit: dB}}  # TODO: is it in dB?"


def _period(what: TopicSeen) -> float:
    return float(np.clip(what.timing.period_ms or 100.0, 1.0, 10_000.0))


def _text(value: str) -> str:
    """A YAML scalar that is read as this text."""
    plain = re.fullmatch(r"[A-Za-z/_][\w/.\-]*", value) is not None
    reserved = value.lower() in ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
    return value if plain and not reserved else json.dumps(value)


def _comment(value: str) -> str:
    """Foreign text in a comment stays on its line."""
    return "".join(letter if letter.isprintable() else " " for letter in value)
