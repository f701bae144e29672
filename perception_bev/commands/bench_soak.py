"""Commands: `bev bench soak`, does the stack keep its output contract for a long time?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HELP = """does it keep its promises for long

Plays a simulated drive without end, at real time and with fresh stamps, to the nodes of the node
table, and counts outputs by their receipt in a process of its own: one `tracks` + `status` every
period, none older than the budget. Control processes measure how long the computer itself kept a
ready thread waiting; periods in which that was more than 20 ms are counted apart. Ctrl-C ends it,
with the figures of what was measured until then. What each figure means: docs/benchmarks.md.

example: bev bench soak --minutes 10 --json soak.json --plot soak.png"""

RIG, MODEL = "config/rigs/sim6.yaml", "models/sim6"
LAP_S = 20.0  # of the simulated drive: the one of `bev demo`
SEED = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    parser.add_argument("--plot", type=Path, metavar="OUT", help="draw latency and memory (.png)")
    add_stack_arguments(parser)


def add_stack_arguments(parser: argparse.ArgumentParser) -> None:
    """What runs and what it is shown."""
    parser.add_argument("--rig", type=Path, help=f"default: {RIG}")
    parser.add_argument("--model", type=Path, help=f"folder of a model (default: {MODEL})")
    parser.add_argument("--deployment", type=Path, help="file of what this computer does")
    parser.add_argument("--bag", type=Path, help="recording with fresh sensors of the rig "
                                                 "(default: a simulated drive, kept in --out)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for drives and logs")
    parser.add_argument("--verbose", action="store_true", help="show what the nodes print")


def run(args: argparse.Namespace) -> int:
    from perception_bev.commands.live_bench_soak import report, show

    live = measure(args, args.minutes * 60.0, args.out / "bench_soak")
    figures = report(live, described(args))
    show(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    if args.plot:
        from perception_bev.commands.live_bench_plot import plot_soak

        plot_soak(args.plot, live, figures)
    return 0


def measure(args: argparse.Namespace, seconds: float, folder: Path):
    """The stack under the drive for so long: a LiveResult."""
    from perception_bev.commands.live_bench_soak import Bar
    from perception_bev.commands.live_bench_stack import LiveStack

    choices, deployment = choices_of(args), deployment_of(args)
    stack = LiveStack(folder, choices, bag_of(args), contract_of(args),
                      nice=deployment.realtime.nice, quiet=not args.verbose)
    with Bar(seconds) as bar:
        return stack.run(seconds, bar.show)


def choices_of(args: argparse.Namespace):
    from perception_bev.nodes.table import Choices

    return Choices(rig=str(rig_of(args)), model=str(model_of(args)),
                   deployment=str(args.deployment or ""))


def deployment_of(args: argparse.Namespace):
    from perception_bev.deployment import Deployment, load_deployment

    return load_deployment(args.deployment) if args.deployment else Deployment()


def contract_of(args: argparse.Namespace):
    """Period of the rig, budget of the deployment."""
    from perception_bev.commands.live_bench_count import Contract
    from perception_bev.rig import load_rig

    return Contract(round(load_rig(rig_of(args)).reference.period_ms * 1e6),
                    round(deployment_of(args).budget_ms * 1e6))


def rig_of(args: argparse.Namespace) -> Path:
    from perception_bev import resources

    return args.rig or resources.path(RIG)


def model_of(args: argparse.Namespace) -> Path:
    from perception_bev import resources

    return args.model or resources.path(MODEL)


def bag_of(args: argparse.Namespace) -> Path:
    """What is played; simulated once and kept."""
    if args.bag:
        return args.bag
    from perception_bev.commands.demo_bag import bag_of as drive_bag
    from perception_bev.commands.demo_sim import bar

    with bar("simulating", "sample") as progress:
        return drive_bag(args.out / "drives", rig_of(args), SEED, LAP_S, None, progress)


def described(args: argparse.Namespace) -> dict[str, Any]:
    """What was measured, and on what."""
    from perception_bev.commands.live_run import machine

    return {"machine": machine(), "rig": rig_of(args).stem, "model": model_of(args).name,
            "deployment": args.deployment.stem if args.deployment else None,
            "runner": deployment_of(args).runner}
