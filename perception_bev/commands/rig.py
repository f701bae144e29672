"""Commands: `bev rig`, the file of the vehicle's sensors, written from topics and checked."""

from __future__ import annotations

import argparse
from pathlib import Path

from perception_bev.errors import ConfigError, PerceptionError

HELP = """write or check the file of a vehicle's sensors

`init` looks at topics, live or in a bag, and writes a rig file: topics, rates, clocks, frames,
point fields; what it cannot see is marked TODO. Edit it, then `check` it against the same topics.

examples:
  bev rig init --bag drive.mcap --out rig.yaml
  bev rig check rig.yaml --bag drive.mcap --picture rig.png"""

INIT_HELP = """write a rig file from what is on the topics

examples:
  bev rig init --bag drive.mcap --out rig.yaml      from a recording
  bev rig init --live --seconds 10 --out rig.yaml   from the running vehicle"""

CHECK_HELP = """say what a rig file lacks, and where it differs from the topics

examples:
  bev rig check rig.yaml
  bev rig check rig.yaml --bag drive.mcap --picture rig.png
  bev rig check rig.yaml --live

Exit code: 0 when nothing is wrong (warnings allowed), 1 when something is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, text, run_verb in (("init", INIT_HELP, init), ("check", CHECK_HELP, check)):
        verb = verbs.add_parser(name, help=text.splitlines()[0], description=text,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
        verb.add_argument("--debug", action="store_true", default=argparse.SUPPRESS,
                          help="show the traceback of an error")
        verb.set_defaults(run_verb=run_verb)
        if name == "check":
            verb.add_argument("rig", type=Path, help="the rig file")
            verb.add_argument("--picture", type=Path, metavar="PNG",
                              help="draw the sensors from above into this file")
        source = verb.add_mutually_exclusive_group(required=name == "init")
        source.add_argument("--bag", type=Path, help="look at this recording")
        source.add_argument("--live", action="store_true", help="look at the running topics")
        verb.add_argument("--seconds", type=float, default=10.0,
                          help="how long to look (default: %(default)s)")
        if name == "init":
            verb.add_argument("--out", type=Path, required=True, help="the file to write")
            verb.add_argument("--force", action="store_true", help="overwrite it if it exists")


def run(args: argparse.Namespace) -> int:
    return args.run_verb(args)


def init(args: argparse.Namespace) -> int:
    """Write a draft and say what is left to do."""
    from perception_bev.survey.draft import rig_from_observations

    if args.out.exists() and not args.force:
        raise ConfigError(f"--out: {args.out} exists; --force overwrites it")
    text = rig_from_observations(_look(args))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text)
    left = [f"  line {number}: {line.strip()}"
            for number, line in enumerate(text.splitlines(), 1) if "TODO" in line]
    print(f"{args.out}: written", f"{len(left)} lines need you:" if left else "complete", sep="; ")
    print(*left, f"then: bev rig check {args.out}", sep="\n")
    return 0


def check(args: argparse.Namespace) -> int:
    """Print the table and the findings; 1 when one of them is an error."""
    from perception_bev.rig import load_rig
    from perception_bev.survey.check import check, table

    rig = load_rig(args.rig)
    seen = _look(args) if args.bag or args.live else None
    calibration, findings = check(rig, seen)
    print(f"rig '{rig.name}', reference {rig.reference.sensor} every "
          f"{rig.reference.period_ms:g} ms, frames {rig.odom_frame} -> {rig.base_frame}")
    print(table(rig, seen))
    print(*findings, sep="\n") if findings else print("nothing is wrong")
    if args.picture:
        _draw(args.picture, calibration)
    return int(any(finding.level == "error" for finding in findings))


def _look(args: argparse.Namespace):
    """Observations of the bag's first seconds, or of the live topics."""
    if not args.seconds > 0:
        raise ConfigError(f"--seconds: {args.seconds} is not above 0")
    return _look_at_bag(args.bag, args.seconds) if args.bag else _look_live(args.seconds)


def _look_at_bag(path: Path, seconds: float):
    from perception_bev.recordings.bag_reader import BagReader
    from perception_bev.survey.observe import WANTED_TYPES, Observer

    observer = Observer(path.name)
    with BagReader(path) as bag:
        types = {name: info.type for name, info in bag.topics.items() if info.type in WANTED_TYPES}
        end_ns = bag.start_ns + int(seconds * 1e9)
        for topic, stamp_ns, message in bag.messages(types):
            if stamp_ns > end_ns:
                break
            observer.add(topic, types[topic], stamp_ns, message)
    return observer.result()


def _look_live(seconds: float):
    try:
        from perception_bev.nodes.rig_probe import probe
    except ImportError as err:
        raise PerceptionError(f"--live needs ROS 2 for Python: source its setup file ({err})") \
            from err
    print(f"looking at the topics for {seconds:g} s ...")
    return probe(seconds)


def _draw(path: Path, calibration) -> None:
    import cv2

    from perception_bev.outputs.draw import rig_image

    if calibration is None:
        raise ConfigError(f"--picture: {path} was not drawn: places are missing (see above; "
                          "--bag or --live reads them from TF)")
    if not cv2.imwrite(str(path), rig_image(calibration)[:, :, ::-1]):
        raise ConfigError(f"--picture: {path} cannot be written")
    print(f"{path}: drawn")
