"""Recordings: what a bag says of itself: topics, QoS and rosbag2's metadata.yaml.

Versions 1 to 9 are read (file names with and without folders, QoS as numbers or names, text or
lists); version 9, that of Jazzy, is written. Format: rosbag2_storage/metadata_io.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from perception_bev.errors import RecordingError

NEWEST_VERSION = 9
_NEVER = {"sec": 9223372036, "nsec": 854775807}  # rmw's infinite duration
_RELIABILITY = {1: "reliable", 2: "best_effort"}
_DURABILITY = {1: "transient_local", 2: "volatile"}
_HISTORY = {1: "keep_last", 2: "keep_all"}


@dataclass(frozen=True, slots=True)
class Qos:
    """The part of an offered QoS profile that a replay has to honour."""

    reliability: str = "reliable"  # "reliable", "best_effort" or "unknown"
    durability: str = "volatile"  # "volatile", "transient_local" or "unknown"
    history: str = "keep_last"
    depth: int = 10

    @property
    def latched(self) -> bool:
        return self.durability == "transient_local"


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """One topic of a bag."""

    type: str  # "sensor_msgs/msg/Image"; several types on one topic: the first
    count: int = 0
    qos: Qos = field(default_factory=Qos)
    serialization: str = "cdr"


@dataclass(frozen=True)
class Metadata:
    """metadata.yaml, as far as it is used. Times in ns; None where the file does not say."""

    version: int
    storage: str
    files: tuple[str, ...]  # names without folders, in playing order
    topics: dict[str, TopicInfo]
    start_ns: int | None = None
    duration_ns: int | None = None
    message_count: int | None = None
    compression: str = ""  # "", "zstd (file)" or "zstd (message)"
    distro: str = ""
    custom: dict[str, str] = field(default_factory=dict)


def read_metadata(path: Path) -> Metadata:
    """Read metadata.yaml; RecordingError when it is not one."""
    try:
        content = yaml.safe_load(path.read_text())["rosbag2_bagfile_information"]
        return _parse(content)
    except RecordingError:
        raise
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise RecordingError(f"{path}: not the metadata of a bag: {type(err).__name__} {err}"
                             ) from err


def _parse(content: dict[str, Any]) -> Metadata:
    version = int(content["version"])
    if version > NEWEST_VERSION:
        raise RecordingError(f"bag metadata has version {version}; known are 1 to {NEWEST_VERSION}")
    mode = str(content.get("compression_mode") or "").lower()
    form = str(content.get("compression_format") or "")
    return Metadata(
        version=version,
        storage=str(content.get("storage_identifier") or ""),
        files=tuple(str(name).rsplit("/", 1)[-1] for name in content["relative_file_paths"] or ()),
        topics=_topics(content.get("topics_with_message_count") or ()),
        start_ns=(content.get("starting_time") or {}).get("nanoseconds_since_epoch"),
        duration_ns=(content.get("duration") or {}).get("nanoseconds"),
        message_count=content.get("message_count"),
        compression=f"{form} ({mode})" if form and mode not in ("", "none") else "",
        distro=str(content.get("ros_distro") or ""),
        custom={str(k): str(v) for k, v in (content.get("custom_data") or {}).items()})


def _topics(entries: Any) -> dict[str, TopicInfo]:
    topics: dict[str, TopicInfo] = {}
    for entry in entries:
        about, count = entry["topic_metadata"], int(entry["message_count"])
        name = about["name"]
        if name in topics:  # one topic with two types or two publishers
            topics[name] = replace(topics[name], count=topics[name].count + count)
            continue
        topics[name] = TopicInfo(about["type"], count, read_qos(about.get("offered_qos_profiles")),
                                 about.get("serialization_format") or "cdr")
    return topics


def read_qos(profiles: Any) -> Qos:
    """The offered profiles of a topic (YAML text or list) -> the one that serves all of them."""
    try:
        entries = yaml.safe_load(profiles) if isinstance(profiles, str) else profiles
        parsed = [_one_qos(entry) for entry in entries or ()]
    except (yaml.YAMLError, AttributeError, TypeError, ValueError):
        parsed = []
    if not parsed:
        return Qos("unknown", "unknown", "unknown", 0)
    latched = all(q.latched for q in parsed)
    return replace(parsed[0], durability="transient_local" if latched else "volatile",
                   depth=max(q.depth for q in parsed))


def _one_qos(entry: dict[str, Any]) -> Qos:
    return Qos(_named(_RELIABILITY, entry.get("reliability")),
               _named(_DURABILITY, entry.get("durability")),
               _named(_HISTORY, entry.get("history")), int(entry.get("depth") or 0))


def _named(names: dict[int, str], value: Any) -> str:
    text = str(value).lower()
    return text if text in names.values() else names.get(value, "unknown")


def qos_entries(qos: Qos) -> list[dict[str, Any]]:
    """A profile as metadata version 9 lists it."""
    return [{"history": qos.history, "depth": qos.depth, "reliability": qos.reliability,
             "durability": qos.durability, "deadline": dict(_NEVER), "lifespan": dict(_NEVER),
             "liveliness": "automatic", "liveliness_lease_duration": dict(_NEVER),
             "avoid_ros_namespace_conventions": False}]


def metadata_text(file: str, topics: dict[str, TopicInfo], hashes: dict[str, str],
                  span_ns: tuple[int, int], custom: dict[str, str]) -> str:
    """metadata.yaml of a bag of one MCAP file, as Jazzy writes it; span: first and last stamp."""
    start, duration = span_ns[0], span_ns[1] - span_ns[0]
    count = sum(info.count for info in topics.values())
    times = {"duration": {"nanoseconds": duration},
             "starting_time": {"nanoseconds_since_epoch": start}, "message_count": count}
    content = {
        "version": NEWEST_VERSION, "storage_identifier": "mcap", **times,
        "topics_with_message_count": [
            {"topic_metadata": {"name": name, "type": info.type, "serialization_format": "cdr",
                                "offered_qos_profiles": qos_entries(info.qos),
                                "type_description_hash": hashes[info.type]},
             "message_count": info.count} for name, info in topics.items()],
        "compression_format": "", "compression_mode": "", "relative_file_paths": [file],
        "files": [{"path": file, **times}], "custom_data": custom or None, "ros_distro": "jazzy"}
    return yaml.dump({"rosbag2_bagfile_information": content}, Dumper=_NoAliases, sort_keys=False)


class _NoAliases(yaml.SafeDumper):
    """yaml-cpp on the other side needs no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
