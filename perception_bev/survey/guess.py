"""Survey: what names and numbers of a topic tell about its sensor; guesses, and said to be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from perception_bev.contracts import Modality
from perception_bev.rig import PointTime
from perception_bev.survey import observe
from perception_bev.survey.observe import FieldRange, TopicSeen

RADIAL_FIELDS = ("doppler", "doppler_velocity", "v_doppler", "v_r", "vr", "radial_speed",
                 "radial_velocity", "range_rate", "velocity", "v_r_compensated", "v_comp")
VECTOR_FIELDS = (("vx", "vy"), ("v_x", "v_y"), ("vx_comp", "vy_comp"))
INTENSITY_FIELDS = ("intensity", "reflectivity", "reflectance", "rcs", "snr", "magnitude", "mag",
                    "power", "amplitude", "i")
TIME_FIELDS = ("t", "time", "timestamp", "time_stamp", "offset_time", "time_offset",
               "point_time_offset", "ts")
OWN_OUTPUTS = ("/overlay", "bev/image", "tracks/cloud", "objects/cloud")
NOT_CAMERAS = ("compresseddepth", "theora", "depth", "disparity", "/mask")

DAY_S = 86_400.0
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
SENT_AFTER_SWEEP = 0.8  # of a period: so late on the way means that the stamp is the sweep's start
_NAME_NOISE = {"image", "image_raw", "image_color", "image_rect", "image_rect_color", "raw",
               "compressed", "points", "point_cloud", "pointcloud", "cloud", "scan", "points_raw",
               "detections", "targets", "returns"}
_MODALITY_WORDS = {"camera", "cameras", "cam", "lidar", "lidars", "radar", "radars", "sensor",
                   "sensors", "sensing"}


def modality(seen: TopicSeen) -> Modality | None:
    """Which kind of sensor sends this; None for what is none (or is one of our own outputs)."""
    if seen.topic.endswith(OWN_OUTPUTS):
        return None
    if seen.type in (observe.IMAGE, observe.COMPRESSED_IMAGE):
        return None if any(word in seen.topic.lower() for word in NOT_CAMERAS) else "camera"
    if seen.type == observe.RADAR_SCAN:
        return "radar"
    if seen.type == observe.CLOUD:
        return "radar" if radial_field(seen) or vector_fields(seen) else "lidar"
    return None


def radial_field(seen: TopicSeen) -> str | None:
    return _first(RADIAL_FIELDS, seen.fields)


def vector_fields(seen: TopicSeen) -> tuple[str, str] | None:
    lower = {name.lower(): name for name in seen.fields}
    return next(((lower[x], lower[y]) for x, y in VECTOR_FIELDS if x in lower and y in lower), None)


def intensity_field(seen: TopicSeen) -> str | None:
    return _first(INTENSITY_FIELDS, seen.fields)


def intensity_scale(seen_range: FieldRange) -> float:
    """What a lidar's intensity is divided by to lie in [0..1]."""
    return next((top for top in (1.0, 255.0, 4095.0) if seen_range.high <= top), 65535.0)


def point_time(seen: TopicSeen) -> tuple[PointTime | None, str | None]:
    """The field of each point's time, and whether the stamp is the sweep's start or end."""
    name = _first(TIME_FIELDS, seen.fields)
    if name is None or seen.points == 0:
        return None, None
    span = seen.fields[name]
    stamp_s = seen.stamp_ns * 1e-9
    absolute = _absolute_unit(span, stamp_s)
    if absolute:
        scale = _PER_SECOND[absolute]
        return (PointTime(name, absolute, "absolute"),
                _stamp_at(span.low / scale - stamp_s, span.high / scale - stamp_s))
    unit = _relative_unit(span.high - span.low, (seen.timing.period_ms or 100.0) * 1e-3)
    if unit is None:
        return None, None
    return PointTime(name, unit, "stamp"), _stamp_at(span.low, span.high)


def stamp_convention(seen: TopicSeen) -> str:
    """ "start" or "end" of the sweep: by the points' own times, else by how late it arrives."""
    _, told = point_time(seen)
    if told:
        return told
    period = seen.timing.period_ms
    late = seen.timing.stamped and period and \
        SENT_AFTER_SWEEP * period <= seen.timing.delay_ms - clock_offset_s(seen) * 1e3 < 2 * period
    return "start" if late else "end"


def clock_offset_s(seen: TopicSeen) -> int:
    """Whole seconds by which arrival is after the stamp; 0 for clocks that agree, or days apart."""
    delay_s = seen.timing.delay_ms * 1e-3
    whole = round(delay_s)
    plausible = seen.timing.stamped and 0.9 < abs(delay_s) < DAY_S
    return whole if plausible and abs(delay_s - whole) < 0.25 else 0


def days_apart(seen: TopicSeen) -> bool:
    """True when the arrival says nothing about the clock: a re-recorded bag, or no stamp."""
    return seen.timing.stamped and abs(seen.timing.delay_ms) * 1e-3 >= DAY_S


def output_period_ms(period_ms: float) -> float:
    """The multiple of a sensor's period that is nearest to 10 Hz."""
    return period_ms * max(1, round(100.0 / period_ms))


def short_names(topics: Mapping[str, Modality]) -> dict[str, str]:
    """A short, distinct name for each topic: the words that are left without their common noise."""
    names = {topic: _words(topic, kind)[-1] for topic, kind in topics.items()}
    names = _longer(names, lambda topic: "_".join(_words(topic, topics[topic])))
    names = _longer(names, lambda topic: f"{topics[topic]}_{names[topic]}")
    taken: dict[str, int] = {}
    for topic, name in names.items():
        taken[name] = taken.get(name, 0) + 1
        names[topic] = name if taken[name] == 1 else f"{name}_{taken[name]}"
    return names


def _longer(names: dict[str, str], more) -> dict[str, str]:
    """Names, those that come twice replaced by `more(topic)`."""
    all_names = list(names.values())
    return {topic: more(topic) if all_names.count(name) > 1 else name
            for topic, name in names.items()}


def _words(topic: str, kind: Modality) -> list[str]:
    words = [re.sub(r"\W", "_", word) for word in topic.strip("/").split("/")]
    telling = [word for word in words if word.lower() not in _NAME_NOISE | _MODALITY_WORDS]
    return telling or [kind]


def _first(candidates: Iterable[str], names: Iterable[str]) -> str | None:
    lower = {name.lower(): name for name in names}
    return next((lower[name] for name in candidates if name in lower), None)


def _absolute_unit(span: FieldRange, stamp_s: float) -> str | None:
    """The unit in which the values are a date of this century, or near a stamp of any clock."""
    return next((unit for unit, scale in _PER_SECOND.items()
                 if 1e9 <= span.low / scale <= 4.1e9
                 or (stamp_s > 10.0 and abs(span.low / scale - stamp_s) < 1.0)), None)


def _relative_unit(length: float, period_s: float) -> str | None:
    """The unit in which the values span between a tenth of the period and two of them."""
    return next((unit for unit, scale in _PER_SECOND.items()
                 if 0.1 * period_s <= length / scale <= 2.0 * period_s), None)


def _stamp_at(low: float, high: float) -> str:
    """Where the stamp lies among the points' offsets from it."""
    return "start" if abs(low) < abs(high) else "end"
