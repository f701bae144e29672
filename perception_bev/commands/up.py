"""Commands: `bev up`, the node table as subprocesses, for machines without the launch package.

Same nodes, parameters, environment and meaning of a node's end as the launch files.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from perception_bev.errors import ConfigError
from perception_bev.nodes import table
from perception_bev.nodes.endings import Endings
from perception_bev.nodes.table import Choices, Entry, NodePlan

HELP = """start the nodes, without the launch package

Starts the perception node, its watchdog and, if asked for, the picture and replay nodes, each in a
process of its own. Ctrl-C ends them all. Ends by itself when a replay is over.

examples:
  bev up --rig rig.yaml --model models/NAME              on the vehicle's own topics
  bev up --rig rig.yaml --model models/NAME --bag DRIVE --rate 0.5 --viz
  bev up --rig rig.yaml --model models/NAME --dry-run    show the commands only"""

LAUNCH_ONLY = ("rviz",)
GRACE_S = ((signal.SIGINT, 6.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 2.0))
POLL_S = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option per field of `Choices`."""
    for choice in dataclasses.fields(Choices):
        if choice.name in LAUNCH_ONLY:
            continue
        option, text = f"--{choice.name.replace('_', '-')}", choice.metadata["help"]
        if choice.default is True:  # on, until --no-... says otherwise
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=True,
                                help=text)
        elif choice.default is False:
            parser.add_argument(option, action="store_true", help=text)
        else:
            parser.add_argument(option, type=type(choice.default), default=choice.default,
                                metavar=choice.name.upper(), help=text)
    parser.add_argument("--dry-run", action="store_true", help="print the commands, start nothing")


def run(args: argparse.Namespace) -> int:
    plans = table.plan(_choices(args))
    added = {**table.environment(), "PYTHONPATH": _python_path()}
    if args.dry_run:
        _show(plans, added)
        return 0
    children = [Child(plan.entry, command(plan)) for plan in plans]
    return Team(children, {**os.environ, **added}).run()


def command(plan: NodePlan) -> list[str]:
    """The words that start a node with this very Python, installed or from a checkout."""
    return [sys.executable, "-m", plan.entry.module, *plan.ros_arguments()]


class Child:
    """One process: its command, and what its end means."""

    def __init__(self, entry: Entry, command: Sequence[str]) -> None:
        self.name = entry.name
        self.command = command
        self.endings = Endings(entry)
        self.process: subprocess.Popen | None = None
        self.reader: threading.Thread | None = None
        self.started_s = 0.0  # monotonic
        self.due_s = 0.0  # when to start next, monotonic

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Team:
    """Starts the children, prints their output with their names, restarts and ends them."""

    def __init__(self, children: Sequence[Child], environment: dict[str, str],
                 out: Callable[[str], None] | None = None) -> None:
        self._children = list(children)
        self._environment = environment
        self._out = out or _print_line
        self._stops = 0  # signals so far; each one more ends the present grace
        self._exit_code: int | None = None

    def run(self) -> int:
        """Until a signal or the end of a child that ends all; the exit code."""
        before = {number: signal.signal(number, self._on_signal)
                  for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self._exit_code is None:
                self._step(time.monotonic())
                time.sleep(POLL_S)
        finally:
            self._end_all()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._exit_code

    def stop(self) -> None:
        """As a signal does: end the children, exit code 0."""
        self._stops += 1
        self._finish(0)

    def _finish(self, code: int) -> None:
        if self._exit_code is None:
            self._exit_code = code

    def _on_signal(self, number: int, frame: object) -> None:
        self.stop()

    def _step(self, now_s: float) -> None:
        for child in self._children:
            if child.process is not None and not child.alive:
                self._after_end(child, now_s)
            elif child.process is None and now_s >= child.due_s:
                self._start(child, now_s)

    def _start(self, child: Child, now_s: float) -> None:
        child.process = subprocess.Popen(
            child.command, env=self._environment, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace",
            start_new_session=True)  # so that Ctrl-C reaches the children through us, once
        child.started_s = now_s
        child.reader = threading.Thread(target=self._copy_output, daemon=True,
                                        args=(child.name, child.process.stdout))
        child.reader.start()
        self._say(child, f"started, process {child.process.pid}")

    def _after_end(self, child: Child, now_s: float) -> None:
        code, child.process = child.process.returncode, None
        child.reader.join(timeout=1.0)
        ending = child.endings.judge(code, now_s - child.started_s)
        self._say(child, ending.text)
        again = ending.again_after_s
        child.due_s = float("inf") if again is None else now_s + again
        if ending.end_all_with is not None:
            self._finish(ending.end_all_with)

    def _end_all(self) -> None:
        """SIGINT, then SIGTERM, then SIGKILL; a further signal to us skips the present wait."""
        for number, grace_s in GRACE_S:
            left = [child for child in self._children if child.alive]
            for child in left:
                _send(child.process, number)
            self._wait(left, grace_s)
        for child in self._children:
            if child.reader is not None:
                child.reader.join(timeout=1.0)

    def _wait(self, children: Sequence[Child], grace_s: float) -> None:
        stops, deadline = self._stops, time.monotonic() + grace_s
        while (any(child.alive for child in children) and time.monotonic() < deadline
               and self._stops == stops):
            time.sleep(POLL_S)

    def _copy_output(self, name: str, stream) -> None:
        with stream:
            for line in stream:
                self._out(f"[{name}] {line.rstrip()}")

    def _say(self, child: Child, text: str) -> None:
        self._out(f"[{child.name}] -- {text}")


def _send(process: subprocess.Popen, number: int) -> None:
    """To the child alone; SIGKILL to its whole session, so that its workers do not stay."""
    try:
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except ProcessLookupError:
        pass


def _print_line(line: str) -> None:
    print(line, flush=True)


def _choices(args: argparse.Namespace) -> Choices:
    values = {choice.name: getattr(args, choice.name) for choice in dataclasses.fields(Choices)
              if choice.name not in LAUNCH_ONLY}
    for name in ("rig", "model", "bag", "deployment", "params_file"):
        if values[name] and not Path(values[name]).exists():
            raise ConfigError(f"--{name.replace('_', '-')}: {values[name]}: no such file or folder")
    return Choices(**values)


def _python_path() -> str:
    """PYTHONPATH by which the children find this package, wherever it was imported from."""
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))


def _show(plans: Sequence[NodePlan], added: dict[str, str]) -> None:
    for name, value in added.items():
        print(f"export {name}={shlex.quote(value)}")
    for plan in plans:
        print(shlex.join(command(plan)))
