"""Commands: `bev bench faults`, are outputs on time and marked while something is broken?"""

from __future__ import annotations

import argparse
import difflib
import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from perception_bev.commands import bench_soak
from perception_bev.errors import ConfigError

HELP = """what comes out while something is broken

Starts the nodes of the node table on a simulated drive that is played without end, breaks one thing
after the other while they run (a stage slow, hung or killed, a core busy, the disk full, sensors
off, late, spoilt or from the future, the clock set), and counts the outputs in between by their
receipt in a process of its own: one every period, none older than the budget, what they were
marked with, when the fault was noticed and when all was `full` again. docs/faults.md has the table
and what is asked for. About nine seconds a fault. One by hand: bev fault --help.

A stage can be slowed, hung or killed by itself where the deployment says runner: processes.

example: bev bench faults --deployment config/deployments/NAME.yaml --json faults.json
         bev bench faults --only camera_off kill_fuse"""

SUITES = ("shared memory", "datagrams")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the list to this file")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="only these faults")
    parser.add_argument("--list", action="store_true", help="print the names and what is asked for")
    bench_soak.add_stack_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from perception_bev.rig import load_rig

    chosen = choose(cases_of(load_rig(bench_soak.rig_of(args))), args.only)
    if args.list:
        show_cases(chosen)
        return 0
    rows = measure(args, chosen)
    show(rows)
    if args.json:
        from perception_bev.eval.plain import without_nan

        args.json.write_text(json.dumps(without_nan(rows), indent=2) + "\n")
    return 0


def cases_of(rig: Any):
    from perception_bev.commands.fault_cases import cases

    return cases(rig)


def choose(known: tuple, names: list[str]) -> list:
    """The cases of these names, all without names; in the order of `known`."""
    by_name = {case.name: case for case in known}
    for name in names:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise ConfigError(f"--only: there is no fault '{name}'{hint}; known: "
                              + ", ".join(by_name))
    return [case for case in known if not names or case.name in names]


def measure(args: argparse.Namespace, chosen: list) -> list[dict[str, Any]]:
    """A stack for the faults, and another one for those of datagrams: rows in the order given."""
    from perception_bev.commands.live_run import environment

    os.environ.update(environment())  # so that our own calls reach the nodes
    from perception_bev.commands.fault_stage import UDP_PROFILE, UDP_RANGE, perform
    from perception_bev.nodes import fault_calls, table

    bag, rows = bench_soak.bag_of(args), []
    for name, udp in zip(SUITES, (False, True), strict=True):
        cases = [case for case in chosen if case.udp == udp]
        if not cases:
            continue
        folder = args.out / "bench_faults" / name.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        if udp:
            profile = folder.resolve() / "udp.xml"
            profile.write_text(UDP_PROFILE)
            os.environ.update(dict.fromkeys(table.FASTDDS_VARIABLES, str(profile)), **UDP_RANGE)
        rows += perform(cases, folder, bench_soak.choices_of(args), bag,
                        bench_soak.contract_of(args), fault_calls.order,
                        nice=bench_soak.deployment_of(args).realtime.nice,
                        quiet=not args.verbose)
    order = [case.name for case in chosen]
    return sorted(rows, key=lambda row: order.index(row["fault"]))


# -- the tables ------------------------------------------------------------------------------------


def show_cases(cases: list, console: Console | None = None) -> None:
    table = Table("fault", "what", "s", "outputs", "detected, ms", "full again, s", box=None,
                  pad_edge=False)
    for case in cases:
        what = " ".join(filter(None, [case.kind, case.of, *(
            f"{key} {value}" for key, value in case.words.items())]))
        table.add_row(case.name, what, f"{case.for_s:g}", "all" if case.outputs else "",
                      _number(case.detected_ms, "≤ "), _number(case.back_s, "≤ "))
    (console or Console(width=110)).print(table)


def show(rows: list[dict[str, Any]], console: Console | None = None) -> None:
    """A line a fault, with what was not kept."""
    console = console or Console(width=140)
    table = Table("fault", "periods", "without", "too old", "Hz", "detected, ms", "full again, s",
                  "marked as (most)", "not kept", box=None, pad_edge=False)
    for row in rows:
        if "skipped" in row:
            table.add_row(row["fault"], "", "", "", "", "", "", f"not done: {row['skipped']}", "")
            continue
        marks = {text: n for text, n in row["marking"].items() if text != "full"}
        table.add_row(
            row["fault"], str(row["periods"]), str(row["without_output"]),
            str(row["older_than_budget"]), _number(row["rate_hz"]), _number(row["detected_ms"]),
            _number(row["back_to_full_s"]), next(iter(marks), "full")[:48],
            ", ".join(name for name, was in row["kept"].items() if not was))
    console.print(table)


def _number(value: float | None, before: str = "") -> str:
    return "" if value is None else f"{before}{value:g}"
