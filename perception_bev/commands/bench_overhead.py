"""Commands: `bev bench overhead`, what everything but the computing costs, through real nodes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELP = """what the pipeline itself costs

Plays held-out Astyx frames at 10 Hz through the nodes, again and again. Overhead is latency at a
subscriber minus waiting, decoding, inputs, engines and post on the critical path after t_ref.

example: bev bench overhead --data ~/data/astyx --seconds 120 --json overhead.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of the Astyx data set")
    parser.add_argument("--model", type=Path, help="folder of a model (default: models/astyx)")
    parser.add_argument("--deployment", type=Path, help="file of what this computer does")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for bag and log")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")


def run(args: argparse.Namespace) -> int:
    from perception_bev import resources
    from perception_bev.commands import demo_astyx as demo
    from perception_bev.commands.live_run import machine, run_live

    model = args.model or resources.path("models/astyx")
    _, bag = demo.held_out_bag(args.data, model, args.out)
    live = run_live(bag, resources.path(f"config/rigs/{demo.RIG}.yaml"), model, args.seconds,
                    args.out / "bench_overhead", args.deployment)
    report = {"machine": machine(), **demo.figures(live)}
    demo.show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0
