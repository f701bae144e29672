"""Commands: `bev bag`: data sets to bags, what is in a bag, playing one, faults in one."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from perception_bev.errors import ConfigError, RecordingError
from perception_bev.recordings.bag_metadata import TopicInfo
from perception_bev.recordings.bag_reader import BagReader
from perception_bev.recordings.base import Recording

HELP = """convert data sets to bags, look into bags, play them, put faults into them

example: bev bag convert astyx --root DIR --out bags/astyx --spacing period
         bev bag info bags/astyx/astyx_a
         bev bag play bags/astyx/astyx_a --rate 0.5 --loop
         bev bag fault drive drive_lidar_off --scenario sensor_off --rig my_rig.yaml"""

MIN_WIDTH = 100  # of the table, so that a pipe does not break its rows
DATA_SETS = ("astyx", "nuscenes_sample")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    _add_convert(verbs.add_parser("convert", help="write a data set as MCAP bags"))
    _add_info(verbs.add_parser("info", help="what is in a bag, and is it whole"))
    _add_play(verbs.add_parser("play", help="publish a bag's messages"))
    _add_fault(verbs.add_parser("fault", help="write a bag again with a scenario's faults"))


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", choices=DATA_SETS)
    parser.add_argument("--root", type=Path, required=True, help="folder of the unpacked data set")
    parser.add_argument("--out", type=Path, required=True,
                        help="folder to make: the bag, or one bag per rig in it")
    parser.add_argument("--frames", type=Path, metavar="FILE",
                        help="names of the frames to use, one a line (default: all)")
    parser.add_argument("--first", type=int, metavar="N", help="only the first N of them")
    parser.add_argument("--repeat", type=int, metavar="N",
                        help="the first frame N times at the rig's rate, as if parked")
    parser.add_argument("--spacing", choices=("original", "period"), default="original",
                        help="original: the data set's own time; period: frame after frame at the "
                             "rig's rate, gaps are closed and announced as epochs "
                             "(default: %(default)s)")
    parser.add_argument("--compression", choices=("zstd", "lz4", "none"), default="zstd")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write what was done to this file")


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, help="folder of a bag, or one .mcap or .db3 file")
    parser.add_argument("--quick", action="store_true",
                        help="do not read the messages: no sizes, epochs or check of the content")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write it to this file")


def _add_play(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, help="folder of a bag, or one .mcap or .db3 file")
    parser.add_argument("--rate", type=float, default=1.0, help="bag seconds per second")
    parser.add_argument("--loop", action="store_true", help="begin again at the end")
    parser.add_argument("--stamps", choices=("original", "fresh"), default="original",
                        help="fresh: move all stamps so that they lie around now")
    parser.add_argument("--no-clock", action="store_true", help="do not publish /clock")
    parser.add_argument("--topics", nargs="+", default=[], metavar="TOPIC", help="only these")
    parser.add_argument("--exclude", nargs="+", default=[], metavar="TOPIC", help="not these")
    parser.add_argument("--wait", type=float, default=5.0, metavar="S",
                        help="wait at most so long for subscribers (default: %(default)s)")
    parser.add_argument("--namespace", default="", help="of all topics but /tf and /clock")
    parser.add_argument("--scenario", metavar="FILE",
                        help="name or file of a scenario whose faults befall the messages")
    parser.add_argument("--rig", type=Path, help="the rig that was recorded, for --scenario and "
                                                 "for `bev fault message`")
    parser.add_argument("--seed", type=int, default=0, help="of what the scenario leaves to chance")
    parser.add_argument("--json", type=Path, metavar="OUT",
                        help="write what was played to this file")


def _add_fault(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, help="folder of a bag, or one .mcap or .db3 file")
    parser.add_argument("out", type=Path, help="folder to make: the new bag")
    parser.add_argument("--scenario", required=True, metavar="FILE",
                        help="name of a shipped scenario, or a file")
    parser.add_argument("--rig", type=Path, required=True, help="the rig that was recorded")
    parser.add_argument("--seed", type=int, default=0, help="of what the scenario leaves to chance")
    parser.add_argument("--compression", choices=("zstd", "lz4", "none"), default="zstd")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write what was done to this file")


def run(args: argparse.Namespace) -> int:
    return {"convert": _convert, "info": _info, "play": _play, "fault": _fault}[args.verb](args)


# -- convert -------------------------------------------------------------------------------------


def _convert(args: argparse.Namespace) -> int:
    from perception_bev.recordings.convert import convert

    recording = _open(args)
    if args.repeat:
        from perception_bev.recordings.repeat import Repeated
        recording = Repeated(recording, 0, args.repeat)
    count = len(recording) if args.first is None else min(args.first, len(recording))
    with _progress() as bar:
        task = bar.add_task(args.dataset, total=count)
        summaries = convert(recording, args.out, spacing=args.spacing, indices=range(count),
                            compression=args.compression,
                            progress=lambda done, _: bar.update(task, completed=done))
    console = Console()
    for summary in summaries:
        console.print(f"{summary.path}: rig {summary.rig}, {summary.samples} samples in "
                      f"{summary.epochs} epochs, {summary.duration_s:.1f} s, "
                      f"{sum(summary.messages.values())} messages", highlight=False)
        for reason in summary.skipped:
            console.print(f"  {reason}", highlight=False)
    _write_json(args.json, [{**asdict(done), "path": str(done.path)} for done in summaries])
    return 0


def _open(args: argparse.Namespace) -> Recording:
    if args.dataset == "astyx":
        from perception_bev.recordings.astyx import AstyxRecording
        return AstyxRecording(args.root, _names(args.frames))
    from perception_bev.recordings.nuscenes import NuscenesSampleRecording
    return NuscenesSampleRecording(args.root)


def _names(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        return path.read_text().split()
    except OSError as err:
        raise ConfigError(f"--frames {path}: not readable: {err.strerror}") from err


# -- info ----------------------------------------------------------------------------------------


@dataclass
class Contents:
    """What `bev bag info` found by reading all messages."""

    bytes: Counter[str] = field(default_factory=Counter)  # by topic
    counts: Counter[str] = field(default_factory=Counter)
    first_ns: dict[str, int] = field(default_factory=dict)
    last_ns: dict[str, int] = field(default_factory=dict)
    epochs: int = 0
    error: str | None = None

    def rate_hz(self, topic: str) -> float | None:
        """Mean rate between a topic's first and last message."""
        span = self.last_ns.get(topic, 0) - self.first_ns.get(topic, 0)
        return (self.counts[topic] - 1) / (span * 1e-9) if span > 0 else None


def read_contents(reader: BagReader, progress: Any = lambda done: None) -> Contents:
    """Read everything once; what is wrong with the bag is in `error`."""
    from perception_bev.recordings.playback import Epochs
    from perception_bev.recordings.player import Settings, is_epoch, is_latched

    found, topics = Contents(), reader.topics
    epochs = Epochs(round(Settings.max_gap_ms * 1e6),
                    {name for name, info in topics.items() if is_epoch(name, info)},
                    {name for name, info in topics.items() if is_latched(name, info)})
    try:
        for number, raw in enumerate(reader.raw_messages()):
            found.counts[raw.topic] += 1
            found.bytes[raw.topic] += len(raw.data)
            found.first_ns.setdefault(raw.topic, raw.stamp_ns)
            found.last_ns[raw.topic] = raw.stamp_ns
            epochs.before(raw)
            progress(number + 1)
    except RecordingError as err:
        found.error = str(err)
    found.epochs = epochs.number + 1
    return found


def _info(args: argparse.Namespace) -> int:
    with BagReader(args.bag) as reader:
        contents = None
        if not args.quick:
            with _progress() as bar:
                task = bar.add_task("reading", total=reader.message_count)
                contents = read_contents(reader, lambda done: bar.update(task, completed=done))
        about = describe(reader, contents)
    show(about, Console())
    _write_json(args.json, about)
    return 1 if about["error"] else 0


def describe(reader: BagReader, contents: Contents | None) -> dict[str, Any]:
    """All that is printed, as plain values."""
    metadata = reader.metadata
    return {
        "path": str(reader.path), "files": [file.name for file in reader.files],
        "size_bytes": reader.size_bytes, "start_ns": reader.start_ns, "end_ns": reader.end_ns,
        "duration_s": reader.duration, "messages": reader.message_count,
        "metadata_version": metadata.version if metadata else None,
        "compression": reader.compression,
        "distro": metadata.distro if metadata else "",
        "custom": metadata.custom if metadata else {},
        "epochs": contents.epochs if contents else None,
        "topics": {name: _topic(name, info, contents)
                   for name, info in sorted(reader.topics.items())},
        "notes": reader.notes, "error": contents.error if contents else reader.damage}


def _topic(name: str, info: TopicInfo, contents: Contents | None) -> dict[str, Any]:
    return {"type": info.type, "count": info.count, "reliability": info.qos.reliability,
            "durability": info.qos.durability,
            "rate_hz": contents.rate_hz(name) if contents else None,
            "bytes": contents.bytes[name] if contents else None}


def show(about: dict[str, Any], console: Console) -> None:
    """Print what `describe` gave."""
    console.width = max(console.width, MIN_WIDTH)
    table = Table(title=f"{about['path']}: {about['duration_s']:.3f} s, "
                        f"{about['messages']} messages")
    for heading in ("topic", "type"):
        table.add_column(heading, overflow="fold")
    for heading in ("count", "Hz", "size"):
        table.add_column(heading, justify="right")
    for name, topic in about["topics"].items():
        rate = "" if topic["rate_hz"] is None else f"{topic['rate_hz']:.2f}"
        size = "" if topic["bytes"] is None else _size(topic["bytes"])
        table.add_row(name, topic["type"], str(topic["count"]), rate, size)
    console.print(table)
    facts = [f"{len(about['files'])} file(s), {_size(about['size_bytes'])}",
             f"compression {about['compression'] or 'none'}"]
    if about["epochs"] is not None:
        facts.append(f"{about['epochs']} epochs")
    if about["metadata_version"]:
        facts.append(f"metadata version {about['metadata_version']} {about['distro']}".rstrip())
    facts += [f"{key} {value}" for key, value in about["custom"].items()]
    console.print(", ".join(facts), highlight=False)
    for note in about["notes"]:
        console.print(f"note: {note}", highlight=False)
    if about["error"]:
        console.print(f"[red]damaged:[/red] {about['error']}", highlight=False)


def _size(count: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""


# -- play ----------------------------------------------------------------------------------------


def _play(args: argparse.Namespace) -> int:
    """Start the replay node as a process of its own, as launch does."""
    import os

    from perception_bev.nodes import table

    entry = next(entry for entry in table.TABLE if entry.executable == "replay_node")
    words = table.NodePlan(entry, args.namespace, play_parameters(args), "", "info").ros_arguments()
    for name in ("topics", "exclude"):
        if chosen := getattr(args, name):
            words += ["-p", f"{name}:={json.dumps(chosen)}"]
    process = subprocess.Popen([sys.executable, "-m", entry.module, *words],
                               env={**os.environ, **table.environment()})
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal has told the node too
        return process.wait()


def play_parameters(args: argparse.Namespace) -> dict[str, Any]:
    """The node's parameters; relative paths are resolved here."""
    return {"bag": str(args.bag.resolve()), "rate": args.rate, "loop": args.loop,
            "stamps": args.stamps, "clock": not args.no_clock, "wait_for_subscribers_s": args.wait,
            "report": str(args.json.resolve()) if args.json else "", **_fault_parameters(args)}


def _fault_parameters(args: argparse.Namespace) -> dict[str, Any]:
    rig = {"rig": str(args.rig.resolve())} if args.rig else {}  # faults may be ordered, too
    if args.scenario is None:
        return rig
    from perception_bev.sim.scenario import path_of

    if not rig:
        raise ConfigError("--scenario names sensors of a rig: give it with --rig FILE")
    return {"scenario": str(path_of(args.scenario).resolve()), **rig, "seed": args.seed}


# -- fault ---------------------------------------------------------------------------------------


def _fault(args: argparse.Namespace) -> int:
    from perception_bev.rig import load_rig
    from perception_bev.sim import faulted_bag
    from perception_bev.sim.scenario import load_scenario

    scenario, rig = load_scenario(args.scenario), load_rig(args.rig)
    with BagReader(args.bag) as reader, _progress() as bar:
        task = bar.add_task(scenario.name, total=reader.message_count)
        done = faulted_bag.write(reader, args.out, scenario, rig, args.seed, args.compression,
                                 lambda count: bar.update(task, completed=count))
    console = Console()
    console.print(f"{done.path}: {done.read} messages read, {done.written} written; "
                  f"{scenario.name}: {scenario.what}", highlight=False)
    for kind, topics in done.changed.items():
        console.print(f"  {kind}: " + ", ".join(f"{t} {n}" for t, n in topics.items()),
                      highlight=False)
    for note in done.notes:
        console.print(f"  note: {note}", highlight=False)
    if done.error:
        console.print(f"[red]damaged:[/red] {done.error}", highlight=False)
    _write_json(args.json, asdict(done))
    return 1 if done.error else 0


# -- both ----------------------------------------------------------------------------------------


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                    TimeRemainingColumn(), console=Console(stderr=True), transient=True)


def _write_json(path: Path | None, content: Any) -> None:
    if path is not None:
        path.write_text(json.dumps(content, indent=2) + "\n")
