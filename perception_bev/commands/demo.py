"""Commands: `bev demo`, see it work on this computer: a simulated drive, or recorded sensors."""

from __future__ import annotations

import argparse
from pathlib import Path

from perception_bev import resources

HELP = """see it work on this computer

Without --data: simulates a drive (kept for the next time), plays it at real time through the real
nodes, shows rate, latency, losses and objects while it runs, scores what was published against the
simulation's ground truth, and leaves a video, a latency plot and all figures in out/demo/
(docs/demo.md). A scenario adds weather, events or faults: config/scenarios/.

With --data: converts frames of the Astyx HiRes2019 data set, a folder with camera_front/
lidar_vlp16/ radar_6455/ groundtruth_obj3d/ calibration/, that the model was not trained on, plays
them over and over, prints counts, losses and latencies, and leaves pictures with boxes and ground
truth in out/.

examples: bev demo
          bev demo --scenario sensor_flapping
          bev demo --data ~/data/astyx"""

SIM_MODEL, SIM_SECONDS = "models/sim6", 20.0
ASTYX_MODEL, ASTYX_SECONDS = "models/astyx", 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenario", help="of the simulated drive: a shipped one's name, or a "
                                           "file")
    parser.add_argument("--seed", type=int, default=7, help="of the simulated drive")
    parser.add_argument("--seconds", type=float, help="how long to play (default: "
                        f"{SIM_SECONDS:g}, with --data {ASTYX_SECONDS:g})")
    parser.add_argument("--data", type=Path, help="folder of the Astyx data set")
    parser.add_argument("--model", type=Path, help=f"folder of a model (default: {SIM_MODEL}, "
                                                   f"with --data {ASTYX_MODEL})")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--no-video", action="store_true", help="no video of the simulated drive")
    parser.add_argument("--verbose", action="store_true", help="show what the nodes print")


def run(args: argparse.Namespace) -> int:
    if args.data is not None:
        from perception_bev.commands import demo_astyx

        return demo_astyx.run(args.data, args.model or resources.path(ASTYX_MODEL),
                              args.seconds or ASTYX_SECONDS, args.out, args.verbose)
    from perception_bev.commands.demo_sim import Demo

    return Demo(args.model or resources.path(SIM_MODEL), args.seconds or SIM_SECONDS, args.seed,
                args.scenario, args.out, video=not args.no_video, verbose=args.verbose).run()
