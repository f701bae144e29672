"""Commands: `bev bench hosts`, what it costs to compute a stage on another host."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from perception_bev.commands import bench_soak
from perception_bev.deployment import MOVABLE

HELP = """stages on another host: the latency that the hop adds

Two hosts are two network namespaces of this computer with UDP between them (needs root; else two
processes and UDP over the loopback, which the report says). First every engine here, there, and
there as float16, by turns: time, hop, bytes. Then the whole stack under a simulated drive, with all
stages here and with some there, by turns: latency of its outputs, frames that were lost. The two
share this computer's cores, so what a second computer would save is not seen, only what the way
costs. What each figure means: docs/hosts.md.

example: bev bench hosts --json hosts.json
         bev bench hosts --mbit 1000              over a link of 1 Gbit/s"""

ENGINES = ("extract_camera", "extract_lidar", "extract_radar", "fuse", "decide")
SPLITS = (("decide",), ("extract_camera",))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--splits", nargs="+", type=_split, default=SPLITS, metavar="A+B",
                        help="what runs there in the second part, each in turn (default: "
                             + ", ".join(map("+".join, SPLITS)) + ")")
    parser.add_argument("--engines", nargs="*", choices=ENGINES, default=ENGINES,
                        help="of the first part (default: all); none: leave it out")
    parser.add_argument("--calls", type=int, default=200, help="of an engine, each way")
    parser.add_argument("--seconds", type=float, default=20.0,
                        help="of each run of the stack; 0: leave it out")
    parser.add_argument("--rounds", type=int, default=3, help="of all ways")
    parser.add_argument("--mbit", type=float, default=0.0, metavar="MBIT",
                        help="limit the link to so many Mbit/s (default: none)")
    parser.add_argument("--loopback", action="store_true", help="no namespaces")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    bench_soak.add_stack_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from perception_bev.commands.hosts_figures import show
    from perception_bev.commands.two_hosts import TwoHosts
    from perception_bev.eval.plain import without_nan

    folder = args.out / "bench_hosts"
    if args.seconds:
        bench_soak.bag_of(args)  # simulated now, not in the middle
    with TwoHosts(folder, args.mbit, args.loopback) as place:
        print(f"{place.kind}{': ' if place.why else ''}{place.why}")
        report = without_nan({**bench_soak.described(args), "place": place.plain(),
                              "mbit": args.mbit or None, **_measured(args, place, folder)})
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def _measured(args: argparse.Namespace, place: Any, folder: Path) -> dict[str, Any]:
    from perception_bev.commands import hosts_figures, hosts_runs

    found: dict[str, Any] = {}
    if args.engines and args.calls:
        rows = hosts_runs.call_engines(hosts_runs.Setup(place, folder, bench_soak.model_of(args)),
                                       args.engines, args.calls, args.deployment)
        found["engines"] = hosts_figures.engines(rows)
    if args.seconds:
        found["stack"] = hosts_figures.stack(
            hosts_runs.drive(args, place, folder, _ways(args), args.rounds))
    return found


def _ways(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Name -> `remote` of the deployment."""
    from perception_bev.deployment import Remote

    ways: dict[str, dict[str, Any]] = {"local": {}}
    for split in args.splits:
        for half in (False, True):
            ways["+".join(split) + " half" * half] = {
                name: dataclasses.asdict(Remote(half=half)) for name in split}
    return ways


def _split(text: str) -> tuple[str, ...]:
    names = tuple(text.split("+"))
    unknown = sorted(set(names) - set(MOVABLE))
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none of {', '.join(MOVABLE)}")
    return names
