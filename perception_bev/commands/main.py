"""Commands: `bev`, the entry point. Only the module of the verb that was asked for is imported.

A verb is a module with `HELP` (text; its first line is the summary), `add_arguments(parser)` and
`run(args) -> int`, the exit code. An error of ours becomes one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from perception_bev import __version__
from perception_bev.errors import PerceptionError

VERBS: dict[str, tuple[str, str]] = {
    "demo": ("perception_bev.commands.demo", "see it work on this computer"),
    "up": ("perception_bev.commands.up", "start the nodes, without the launch package"),
    "rig": ("perception_bev.commands.rig", "write or check the file of a vehicle's sensors"),
    "bag": ("perception_bev.commands.bag", "convert data sets to bags, look into bags, play them"),
    "sim": ("perception_bev.commands.sim", "write a simulated drive as a bag"),
    "train": ("perception_bev.commands.train", "train the network"),
    "eval": ("perception_bev.commands.eval", "score a model on a recording"),
    "export": ("perception_bev.commands.export", "write a trained network as engine files"),
    "verify": ("perception_bev.commands.verify", "prove that a model computes what it should"),
    "bench": ("bench", "measure one part, or all of it for long"),
    "fault": ("perception_bev.commands.fault", "break a running stack on purpose"),
    "trace": ("perception_bev.commands.trace", "tables and timelines of a run's traces"),
    "show": ("perception_bev.commands.show", "draw a recorded sample with its boxes"),
    "doctor": ("perception_bev.commands.doctor", "check this computer and say what is missing"),
}

GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "bench": {
        "sync": ("perception_bev.commands.bench_sync", "frames in, bundles out: time and losses"),
        "rasters": ("perception_bev.commands.bench_rasters", "the rasters that feed the network"),
        "overhead": ("perception_bev.commands.bench_overhead", "what the pipeline itself costs"),
        "ingest": ("perception_bev.commands.bench_ingest", "what a message costs its executor"),
        "guard": ("perception_bev.commands.bench_guard", "how late a thread beside six cameras is"),
        "pipeline": ("perception_bev.commands.bench_pipeline", "runner modes side by side"),
        "ladder": ("perception_bev.commands.bench_ladder", "what each plan saves and costs"),
        "soak": ("perception_bev.commands.bench_soak", "does it keep its promises for long"),
        "workers": ("perception_bev.commands.bench_workers", "engines in processes of their own"),
        "trace": ("perception_bev.commands.bench_trace", "what the trace of a frame costs"),
        "faults": ("perception_bev.commands.bench_faults", "outputs while something is broken"),
        "hosts": ("perception_bev.commands.bench_hosts", "stages on another host"),
    },
}

FIRST_STEPS = """\
first steps:
  bev demo                                   see it work on a simulated drive
  bev doctor                                 what this computer has and lacks
  bev rig init --bag drive.mcap --out rig.yaml
                                             describe your vehicle from a recording
  bev up --rig rig.yaml --model MODEL        run on the vehicle's topics

`bev VERB --help` shows the arguments of a verb and an example."""

TRAINING_PACKAGES = ("torch", "onnx", "onnxscript")  # not needed to run, so not always there
PLACEHOLDER = "this verb is not part of this installation"


class _Parser(argparse.ArgumentParser):
    """Prints the nearest word for a mistyped verb and where to read more."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n  (`{self.prog} --help` shows the usage)\n")


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of `bev`; returns the exit code."""
    words = list(sys.argv[1:] if args is None else args)
    parser = _parser(words)
    try:
        parsed = parser.parse_args(words)
    except PerceptionError as err:  # a verb's own arguments may need what is not installed
        return _report(err, "--debug" in words)
    if not hasattr(parsed, "run"):
        parser.print_help()
        return 0
    return _run(parsed)


def _run(parsed: argparse.Namespace) -> int:
    try:
        return int(parsed.run(parsed) or 0)
    except PerceptionError as err:
        return _report(err, parsed.debug)
    except ModuleNotFoundError as err:
        if err.name not in TRAINING_PACKAGES:
            raise
        return _report(PerceptionError(f"this needs {err.name}: make setup-test, or pip install -r "
                                       "requirements/train.txt"), parsed.debug)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `bev ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _report(err: PerceptionError, debug: bool) -> int:
    if debug:
        traceback.print_exception(err)
    print(f"bev: error: {err}", file=sys.stderr)
    return 2


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The whole tree of verbs, of which only the branch in `words` gets its arguments."""
    parser = _new(_Parser, prog="bev", description="Camera, lidar and radar topics in, 3D objects "
                  "in bird's-eye view out.", epilog=FIRST_STEPS)
    parser.add_argument("--version", action="version", version=f"bev {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    chosen = [word for word in words if not word.startswith("-")]
    _add_verbs(parser, VERBS, chosen)
    return parser


def _add_verbs(parser: argparse.ArgumentParser, verbs: dict[str, tuple[str, str]],
               chosen: Sequence[str]) -> None:
    if chosen and chosen[0] not in verbs:
        near = difflib.get_close_matches(chosen[0], verbs, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        parser.error(f"there is no '{chosen[0]}'{hint}; known: {', '.join(verbs)}")
    branches = parser.add_subparsers(title="verbs", metavar="VERB", parser_class=_Parser)
    for name, (module, summary) in verbs.items():
        branch = _new(branches.add_parser, name=name, help=summary, description=summary)
        branch.add_argument("--debug", action="store_true", default=argparse.SUPPRESS,
                            help="show the traceback of an error")
        if chosen and chosen[0] == name:
            _fill(branch, name, module, chosen[1:])


def _fill(branch: argparse.ArgumentParser, name: str, module: str, chosen: Sequence[str]) -> None:
    """Give a verb its arguments: a group's own verbs, or what its module says."""
    if name in GROUPS and module == name:
        branch.set_defaults(run=lambda _: branch.print_help())
        _add_verbs(branch, GROUPS[name], chosen)
        return
    try:
        verb = importlib.import_module(module)
    except ModuleNotFoundError as err:
        if err.name != module:
            raise
        branch.description = PLACEHOLDER
        branch.set_defaults(run=lambda _: _absent(name))
        return
    branch.description = verb.HELP
    branch.set_defaults(run=verb.run)
    verb.add_arguments(branch)


def _absent(name: str) -> int:
    raise PerceptionError(f"'{name}': {PLACEHOLDER}")


def _new(make, **options) -> argparse.ArgumentParser:
    """A parser that keeps the line breaks of its texts and takes no abbreviations."""
    name = (options.pop("name"),) if "name" in options else ()
    return make(*name, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
                **options)


if __name__ == "__main__":
    sys.exit(main())
