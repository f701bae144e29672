"""Commands: `bev sim`, a drive of the simulated vehicle as a bag."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import time
from pathlib import Path

from rich.console import Console

from perception_bev import resources
from perception_bev.errors import ConfigError

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
    parser.add_argument("--hash", action="store_true", help="print the bag's SHA-256")


def run(args: argparse.Namespace) -> int:
    from perception_bev.rig import load_rig

    if args.out.exists():
        raise ConfigError(f"{args.out} is there already; a bag is only written to a new folder")
    began = time.monotonic()
    rig = load_rig(args.rig or resources.path(RIG))
    summary = generate(args.out, rig, args.seed, args.seconds, args.scenario, args.weather,
                       args.threads)
    took = time.monotonic() - began
    console = Console()
    console.print(f"{args.out}: seed {args.seed}, {summary.samples} samples, "
                  f"{summary.duration_s:.1f} s, {sum(summary.messages.values())} messages, "
                  f"{summary.samples / took:.1f} samples a second", highlight=False)
    if args.hash:
        console.print(f"sha256 {bag_hash(args.out)}", highlight=False)
    return 0


def generate(out: Path, rig, seed: int, seconds: float, scenario: str | Path | None = None,
             weather: str | None = None, threads: int = 2):
    """Simulate and write a bag, with the scenario's faults in it; the summary of the writing."""
    from tqdm import tqdm

    from perception_bev.recordings.bag_reader import BagReader
    from perception_bev.recordings.convert import convert
    from perception_bev.sim import faulted_bag
    from perception_bev.sim.drive import SimRecording
    from perception_bev.sim.scenario import load_scenario

    chosen = load_scenario(scenario) if scenario else None
    faulty = chosen is not None and bool(chosen.faults)
    first = out.with_name(f"{out.name}_clean") if faulty else out
    recording = SimRecording(rig, seed, seconds, weather, chosen, threads)
    with tqdm(total=len(recording), desc="simulating", unit="sample") as bar:
        summary, = convert(recording, first, progress=lambda n, _: bar.update(n - bar.n))
    if faulty:
        with BagReader(first) as reader:
            faulted_bag.write(reader, out, chosen, rig, seed)
        shutil.rmtree(first)
    return summary


def bag_hash(folder: Path) -> str:
    """SHA-256 over all files of a bag, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()
