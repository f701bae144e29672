"""Commands: `bev fault`: break a running stack on purpose, for some seconds, and put it back."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from pathlib import Path
from typing import Any

from perception_bev.commands import fault_acts as acts
from perception_bev.commands import fault_processes
from perception_bev.errors import ConfigError

HELP = """break a running stack on purpose, and see what it does

Start a stack in one terminal:
  bev up --rig config/rigs/sim6.yaml --model models/sim6 --bag DRIVE --loop --fresh
watch it in a second one:
  ros2 topic echo /status --field status[0].message
and break it from a third; each fault ends after --seconds, or at Ctrl-C:
  bev fault processes                          what runs here, and what can be broken
  bev fault slow fuse --ms 60                  a stage computes 60 ms longer
  bev fault hang fuse --seconds 2              a process stands still (SIGSTOP)
  bev fault kill extract                       a process dies (SIGKILL)
  bev fault kill watchdog                      who watches dies
  bev fault stall --core 1                     a core of the computer does something else
  bev fault disk --process perception          files of the logs cannot grow
  bev fault loss perception --percent 20       datagrams are lost on their way in
  bev fault message off --sensor cam_front     a camera says nothing
  bev fault message late --sensor lidar_top --with delay_ms=60
  bev fault message time_jump --with by_s=-2   the vehicle's clock goes back, and forth again

Messages are changed by the player (of `bev up --bag` or `bev bag play --rig`), by the kinds of
docs/scenarios.md; those of live sensors cannot be. What must happen is in docs/faults.md. Only
processes of this package are touched. Not for a vehicle that drives."""

SECONDS = 3.0
STATUS_S = 3.0  # how long a `status` is waited for, which names the processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="faults", metavar="FAULT", dest="fault", required=True)
    _add(verbs, "processes", "what runs here", _show, lasts=False)
    slow = _add(verbs, "slow", "a stage computes longer", _slow)
    slow.add_argument("stage", help="extract, fuse, decide, or one engine such as extract_camera")
    slow.add_argument("--ms", type=float, default=60.0, help="so much (default: %(default)g)")
    for name, text, does in (("hang", "a process stands still (SIGSTOP)", _hang),
                             ("kill", "a process dies (SIGKILL)", _kill)):
        _add(verbs, name, text, does, lasts=name == "hang").add_argument(
            "process", help="perception, watchdog, replay, viz, or a worker: extract, fuse, decide")
    stall = _add(verbs, "stall", "a core of the computer does something else", _stall)
    stall.add_argument("--core", type=int, default=1, help="its number (default: %(default)s)")
    disk = _add(verbs, "disk", "the logs' disk is full", _disk)
    disk.add_argument("folder", type=Path, nargs="?",
                      help="fill the file system of this folder; only one of at most 64 MiB")
    disk.add_argument("--process", default="perception",
                      help="without a folder: this process's files cannot grow "
                           "(default: %(default)s)")
    loss = _add(verbs, "loss", "datagrams are lost on their way into a process", _loss)
    loss.add_argument("process", nargs="?", default="perception")
    loss.add_argument("--percent", type=float, default=20.0, help="(default: %(default)g)")
    message = _add(verbs, "message", "messages of the player are changed", _message)
    message.add_argument("kind", help="as in docs/scenarios.md: off, late, garbage, nan, ...")
    message.add_argument("--sensor", help="a name of the rig, or a pattern such as 'cam_*'")
    message.add_argument("--with", nargs="+", default=[], metavar="KEY=VALUE", dest="parameters",
                         help="parameters of the kind, such as delay_ms=60")


def _add(verbs: Any, name: str, text: str, does: Any, lasts: bool = True
         ) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(does=does)
    parser.add_argument("--namespace", default="", help="of the nodes")
    if lasts:
        parser.add_argument("--seconds", type=float, default=SECONDS,
                            help="how long (default: %(default)g)")
    return parser


def run(args: argparse.Namespace) -> int:
    if getattr(args, "seconds", SECONDS) <= 0:
        raise ConfigError(f"--seconds {args.seconds:g}: above 0")
    return args.does(args)


# -- the faults ------------------------------------------------------------------------------------


def _show(args: argparse.Namespace) -> int:
    for name, pid in sorted(_processes(args).items()):
        print(f"{name:16} {pid}")
    return 0


def _slow(args: argparse.Namespace) -> int:
    engines = acts.engines_of(args.stage)
    return during(acts.Slow(_pid(args, "perception"), engines, args.ms), args.seconds)


def _hang(args: argparse.Namespace) -> int:
    return during(acts.Hang(_pid(args, args.process)), args.seconds)


def _kill(args: argparse.Namespace) -> int:
    return during(acts.Kill(_pid(args, args.process)), 0.0)


def _stall(args: argparse.Namespace) -> int:
    return during(acts.Stall(args.core), args.seconds)


def _disk(args: argparse.Namespace) -> int:
    if args.folder is not None:
        if not args.folder.is_dir():
            raise ConfigError(f"{args.folder}: no such folder")
        return during(acts.FullDisk(args.folder), args.seconds)
    return during(acts.NoMoreFiles(_pid(args, args.process)), args.seconds)


def _loss(args: argparse.Namespace) -> int:
    return during(acts.Loss(_pid(args, args.process), args.percent), args.seconds)


def _message(args: argparse.Namespace) -> int:
    order = _calls().order(words_of(args), namespace=args.namespace)
    lead_s = (order["begins_mono_ns"] - time.monotonic_ns()) / 1e9
    print(f"{args.kind} begins in {max(lead_s, 0):.2f} s and lasts {args.seconds:g} s; the player "
          "ends it, Ctrl-C does not")
    return 0


def words_of(args: argparse.Namespace) -> dict[str, Any]:
    """An order for the player; values are YAML, so that numbers are numbers."""
    import yaml

    words: dict[str, Any] = {"kind": args.kind, "for_s": args.seconds}
    if args.sensor:
        words["sensor"] = args.sensor
    for pair in args.parameters:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"--with {pair}: expected KEY=VALUE")
        words[key] = yaml.safe_load(value)
    return words


def during(act: acts.Act, seconds: float) -> int:
    """The act, for so long or until a signal; then its end, whatever happens."""
    over = threading.Event()
    before = {number: signal.signal(number, lambda *_: over.set())
              for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        print(act.begin(), flush=True)
        over.wait(seconds)
    finally:
        act.end()
        for number, handler in before.items():
            signal.signal(number, handler)
    if seconds:
        print("it is over", flush=True)
    return 0


# -- who is there ----------------------------------------------------------------------------------


def _pid(args: argparse.Namespace, name: str) -> int:
    return fault_processes.pid_of(name, _processes(args))


def _processes(args: argparse.Namespace) -> dict[str, int]:
    """By `status` where ROS is installed and a stack answers, else by command lines."""
    try:
        status = _calls().status(STATUS_S, args.namespace)
    except ConfigError:
        status = None
    return fault_processes.found(status)


def _calls() -> Any:
    try:
        from perception_bev.nodes import fault_calls
    except ModuleNotFoundError as err:
        raise ConfigError("this needs ROS 2's Python packages (rclpy): source the installation, "
                          "or run in the environment of the nodes") from err
    return fault_calls
