"""Commands: `bev sim`, a drive of the simulated vehicle as a bag."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from perception_bev import resources
from perception_bev.errors import ConfigError

if TYPE_CHECKING:
    from perception_bev.recordings.convert import Summary
    from perception_bev.rig import Rig
    from perception_bev.sim.scenario import Scenario

HELP = """write a simulated drive as a bag

Streets with traffic of ten classes, seen by the cameras, the lidar and the radars of a rig, with
ground truth. The same seed gives the same bytes. A scenario adds weather, events or faults:
config/scenarios/.

example: bev sim out/drive --seconds 20 --seed 7
         bev sim out/hidden --scenario occluded_pedestrian"""

RIG = "config/rigs/sim6.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="the bag, a folder that does not exist yet")
    parser.add_argument("--rig", type=Path, help=f"rig file (default: {RIG})")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenario", help="a shipped one's name, or a file")
    parser.add_argument("--weather", choices=("day", "dusk", "night", "rain", "fog"),
                        help="default: the scenario's, or drawn by the seed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hash", action="store_true", help="print the SHA-256 of all messages")


def run(args: argparse.Namespace) -> int:
    from perception_bev.rig import load_rig

    if args.out.exists():
        raise ConfigError(f"{args.out} is there already; a bag is only written to a new folder")
    if args.threads < 1:
        raise ConfigError(f"--threads {args.threads}: at least one")
    began = time.monotonic()
    rig = load_rig(args.rig or resources.path(RIG))
    summary = generate(args.out, rig, args.seed, args.seconds, args.scenario, args.weather,
                       args.threads)
    _print_summary(args, summary, time.monotonic() - began)
    return 0


def _print_summary(args: argparse.Namespace, summary: Summary, took_s: float) -> None:
    console = Console()
    console.print(f"{args.out}: seed {args.seed}, {summary.samples} samples, "
                  f"{summary.duration_s:.1f} s, {sum(summary.messages.values())} messages, "
                  f"{summary.samples / took_s:.1f} samples a second", highlight=False)
    for what in summary.skipped:
        console.print(what, highlight=False)
    if args.hash:
        console.print(f"sha256 {bag_hash(args.out)}", highlight=False)


def generate(out: Path, rig: Rig, seed: int, seconds: float, scenario: str | Path | None = None,
             weather: str | None = None, threads: int = 2) -> Summary:
    """Simulate and write a bag, with the scenario's faults in it; the summary of the writing."""
    from perception_bev.sim.scenario import load_scenario

    chosen = load_scenario(scenario) if scenario else None
    if chosen is None or not chosen.faults:
        return _simulate(out, rig, seed, seconds, chosen, weather, threads)
    clean = out.with_name(f"{out.name}_clean")
    summary = _simulate(clean, rig, seed, seconds, chosen, weather, threads)
    try:
        _spoil(clean, out, chosen, rig, seed)
    finally:
        shutil.rmtree(clean)
    return summary


def _simulate(out: Path, rig: Rig, seed: int, seconds: float, scenario: Scenario | None,
              weather: str | None, threads: int) -> Summary:
    from tqdm import tqdm

    from perception_bev.recordings.convert import convert
    from perception_bev.sim.drive import SimRecording

    recording = SimRecording(rig, seed, seconds, weather, scenario, threads)
    with tqdm(total=len(recording), desc="simulating", unit="sample") as bar:
        summary, = convert(recording, out, progress=lambda n, _: bar.update(n - bar.n))
    recording.close()
    return summary


def _spoil(clean: Path, out: Path, scenario: Scenario, rig: Rig, seed: int) -> None:
    """The bag with the scenario's faults in its messages."""
    from perception_bev.recordings.bag_reader import BagReader
    from perception_bev.sim import faulted_bag

    with BagReader(clean) as reader:
        faulted_bag.write(reader, out, scenario, rig, seed)


def bag_hash(folder: Path) -> str:
    """SHA-256 over all messages of a bag with their topics, types and times, in their order. The
    files themselves hold the folder's name."""
    from perception_bev.recordings.bag_reader import BagReader

    digest = hashlib.sha256()
    with BagReader(folder) as reader:
        for message in reader.raw_messages():
            digest.update(f"{message.topic} {message.type} {message.stamp_ns} ".encode())
            digest.update(message.data)
    return digest.hexdigest()
