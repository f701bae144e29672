"""Commands: `bev bench pipeline`, the runner's modes side by side."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from perception_bev.commands import bench_soak

HELP = """runner modes side by side

Feeds a recorded drive from memory to the real pipeline, without ROS, at several rates, in each mode
and with the same threads inside each engine; prints latency after t_ref and throughput, what early
extraction saves, and what is reached of the best possible throughput. Repetitions are interleaved
over the modes, so that what else the computer does befalls all of them. Ctrl-C ends it, with the
figures of what was measured until then. What each figure means: docs/benchmarks.md.

example: bev bench pipeline --json pipeline.json --plot pipeline.png --timelines out/timelines"""

LOADS = (2.0, 5.0, 10.0, 12.5, 15.0, 20.0)
MODES = ("inline", "threads", "processes")
OVER = (0.9, 1.0, 1.15)  # loads around the bound, at which saturation is looked for
SAMPLES = 60  # of the drive that are kept in memory
EARLY_HZ, OVERLAP_HZ = 10.0, 20.0  # of the timelines
PICTURE_S = 0.4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS, metavar="HZ")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--threads", type=int, nargs="+", metavar="N",
                        help="inside each engine (default: the deployment's)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-saturation", action="store_true", help="only the loads given")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    parser.add_argument("--plot", type=Path, metavar="OUT", help="draw them (.png)")
    parser.add_argument("--timelines", type=Path, metavar="DIR",
                        help="timeline pictures and traces of single frames")
    bench_soak.add_stack_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from perception_bev.commands.live_bench_table import show

    slots: list = []
    try:
        _measure_all(args, slots)
    except KeyboardInterrupt:
        print(f"\ninterrupted after {len(slots)} measurements")
    if not slots:
        return 130
    report = report_of(args, slots)
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    if args.plot:
        from perception_bev.commands.live_bench_plot import plot_pipeline

        plot_pipeline(args.plot, report)
    if args.timelines:
        write_timelines(args.timelines, slots)
    return 0


def _measure_all(args: argparse.Namespace, slots: list) -> None:
    """First the loads that were asked for; around each mode's bound then."""
    from perception_bev.commands.live_bench_feed import load_drive
    from perception_bev.commands.live_bench_modes import Bench
    from perception_bev.rig import load_rig

    rig, deployment = load_rig(bench_soak.rig_of(args)), bench_soak.deployment_of(args)
    bag = bench_soak.bag_of(args)
    print(f"reading {SAMPLES} samples of {bag}")
    drive = load_drive(bag, rig, SAMPLES)
    with Bench(bench_soak.model_of(args), rig, deployment, drive) as bench:
        _run_all(bench, interleaved(first_cases(args), args.repeats), args.seconds, slots)
        if not args.no_saturation:
            over = over_cases(slots, rig, deployment.decode_threads)
            _run_all(bench, interleaved(over, args.repeats), args.seconds, slots)


def _run_all(bench: Any, cases: Sequence, seconds: float, slots: list) -> None:
    from tqdm import tqdm

    for case in (bar := tqdm(cases, unit="run")):
        bar.set_description_str(f"{case.mode} at {case.load_hz:g} Hz")
        slots.append(bench.run(case, seconds))


def first_cases(args: argparse.Namespace) -> list:
    """Every load in every mode, and one of them without early extraction."""
    from perception_bev.commands.live_bench_modes import Case

    threads = args.threads or [bench_soak.deployment_of(args).threads]
    found = [Case(mode, n, hz) for hz in args.loads for n in threads for mode in args.modes]
    return found + [replace(case, early=False) for case in found if case.load_hz == EARLY_HZ]


def over_cases(slots: Sequence, rig: Any, decode_threads: int) -> list:
    """Loads around the bound of every mode."""
    from perception_bev.commands.live_bench_modes import Case
    from perception_bev.commands.live_bench_table import saturation

    bound = [(s["mode"], s["threads"], s["bound"]["least_hz"])
             for s in saturation(slots, rig, decode_threads, cores())]
    return [Case(mode, threads, round(over * hz, 2))
            for over in OVER for mode, threads, hz in bound]


def interleaved(cases: Sequence, repeats: int) -> list:
    """All cases of one load after each other; in every repetition another one is the first."""
    groups: dict[float, list] = {}
    for case in cases:
        groups.setdefault(case.load_hz, []).append(case)
    return [case for repeat in range(repeats) for group in groups.values()
            for case in _turned(group, repeat)]


def _turned(group: Sequence, by: int) -> Iterator:
    by %= len(group)
    yield from (*group[by:], *group[:by])


def cores() -> int:
    return len(os.sched_getaffinity(0))


def report_of(args: argparse.Namespace, slots: Sequence) -> dict[str, Any]:
    from perception_bev.commands.live_bench_table import by_case, early_rows, row, saturation
    from perception_bev.eval.plain import without_nan
    from perception_bev.rig import load_rig

    rows = [row(case, group) for case, group in by_case(slots).items()]
    rig, deployment = load_rig(bench_soak.rig_of(args)), bench_soak.deployment_of(args)
    described = bench_soak.described(args)
    described.pop("runner")
    return without_nan({
        **described, "seconds": args.seconds, "repeats": args.repeats, "runs": rows,
        "early_extraction": early_rows(rows),
        "saturation": saturation(slots, rig, deployment.decode_threads, cores())})


def write_timelines(folder: Path, slots: Sequence) -> list[Path]:
    """Early extraction at 10 Hz and without it, overlap at 20 Hz: picture, Chrome trace and JSON
    lines for `bev trace`, of the first repetition of each."""
    from perception_bev.commands.live_bench_table import by_case
    from perception_bev.commands.trace_picture import draw_timeline
    from perception_bev.latency.chrome import chrome
    from perception_bev.latency.trace_log import line_of

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for case, group in by_case(slots).items():
        traces = [done.trace for done in group[0].counted]
        if case.load_hz not in (EARLY_HZ, OVERLAP_HZ) or not traces:
            continue
        name = f"{case.mode}_{case.threads}_{case.load_hz:g}hz" + "_not_early" * (not case.early)
        (folder / f"{name}.jsonl").write_text("".join(line_of(t) + "\n" for t in traces))
        drawn = middle(traces, PICTURE_S)
        (folder / f"{name}.json").write_text(json.dumps(chrome(drawn)) + "\n")
        title = f"{case.mode}, {case.load_hz:g} Hz, " + (
            "pictures' backbones when they come" if case.early else "backbones with the bundle")
        files.append(draw_timeline(folder / f"{name}.png", drawn, 80.0, title))
    return files


def middle(traces: Sequence, seconds: float) -> list:
    """Those of a short time in the middle of a run."""
    begin = traces[len(traces) // 2].t_ref
    return [t for t in traces if begin <= t.t_ref < begin + seconds * 1e9]
