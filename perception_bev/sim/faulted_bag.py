"""Sim: a bag with the faults of a scenario, written as a new bag."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from perception_bev.errors import RecordingError
from perception_bev.recordings.bag_reader import BagReader, RawMessage
from perception_bev.recordings.bag_types import full_name
from perception_bev.recordings.bag_write import BagWriter, Compression
from perception_bev.recordings.player import by_kind
from perception_bev.rig import Rig
from perception_bev.sim.faults import Faults
from perception_bev.sim.scenario import Scenario


@dataclass
class Summary:
    """What was done."""

    path: str
    scenario: str
    read: int = 0  # messages
    written: int = 0
    changed: dict[str, dict[str, int]] = field(default_factory=dict)  # by kind and topic
    notes: list[str] = field(default_factory=list)  # what of the scenario was not applied
    error: str | None = None  # the bag was damaged: its readable part is written


def write(reader: BagReader, out: str | Path, scenario: Scenario, rig: Rig, seed: int = 0,
          compression: Compression = "zstd",
          progress: Callable[[int], None] = lambda done: None) -> Summary:
    """Copy an open bag through the faults; the same seed gives the same bytes.

    Types, QoS and the metadata's own entries are taken over. ConfigError for sensors that the rig
    does not have, RecordingError where `out` exists. Interrupted, nothing is left.
    """
    faults = Faults(scenario, rig, reader.types, reader.start_ns, seed)
    summary = Summary(str(out), scenario.name)
    custom = {**(reader.metadata.custom if reader.metadata else {}),
              "scenario": scenario.name, "scenario_seed": str(seed)}
    with ExitStack() as undo:
        writer = BagWriter(out, compression, custom, reader.types.definition)
        undo.callback(shutil.rmtree, out, ignore_errors=True)
        with writer:
            _copy(reader, writer, faults, summary, progress)
        undo.pop_all()
    summary.changed = by_kind(faults.counts)
    summary.notes = _notes(scenario, faults)
    return summary


def _copy(reader: BagReader, writer: BagWriter, faults: Faults, summary: Summary,
          progress: Callable[[int], None]) -> None:
    for raw in faults.apply(_readable(reader, summary)):
        writer.write(raw.topic, full_name(raw.type), raw.data, raw.stamp_ns,
                     reader.topics[raw.topic].qos)
        summary.written += 1
        progress(summary.read)


def _readable(reader: BagReader, summary: Summary) -> Iterator[RawMessage]:
    """Of a damaged bag what comes before the damage; what that is, is in the summary."""
    try:
        for raw in reader.raw_messages():
            summary.read += 1
            yield raw
    except RecordingError as err:
        summary.error = str(err)


def _notes(scenario: Scenario, faults: Faults) -> list[str]:
    notes = [f"{what} changed nothing: no such topic in the bag, or no message of it then"
             for what in faults.idle()]
    notes += [f"{kind} could not change {count} messages of {topic}: {why}"
              for (kind, topic, why), count in sorted(faults.skipped.items())]
    if scenario.needs_world:
        notes.append("the scenario's world is not in this bag unless it was simulated with it")
    return notes
