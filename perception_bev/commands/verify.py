"""Commands: `bev verify`, how far every engine is from what was exported."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from perception_bev.errors import ConfigError

HELP = """prove that a model computes what it should

Runs every engine on its generated golden inputs and prints the deviations; with --root also the
whole chain on real frames against torch. Exit code 1 when something is out of tolerance.

example: bev verify --model models/astyx"""

PARITY = 1e-3  # allowed between torch and an fp32 engine, on real frames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, help="folder with a model.yaml")
    parser.add_argument("--variant", default="fp32")
    parser.add_argument("--root", type=Path, help="Astyx folder: compare with torch on its frames")
    parser.add_argument("--frames", type=int, default=10, help="how many of them")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")


def run(args: argparse.Namespace) -> int:
    from perception_bev.deployment import Deployment
    from perception_bev.engines import golden
    from perception_bev.manifest import load_manifest
    from perception_bev.pipeline.stages import Stages, check_file

    manifest = load_manifest(args.model)
    deployment = Deployment(variant=args.variant, check_golden=False)
    stages = Stages(args.model, manifest, deployment, time.monotonic_ns)
    stored = manifest.variant(args.variant).golden
    if stored is None:
        raise ConfigError(f"{args.model}: variant '{args.variant}' has no golden outputs "
                          "(export the model again)")
    check_file(args.model / stored.file, stored.sha256)
    rows = manifest.feature_rows
    deviations = [d for name, engine in stages.engines.items()
                  for d in golden.compare(name, engine, rows, args.model / stored.file)]
    result = {"tolerance": stored.tolerance,
              "golden": {f"{d.engine}.{d.output}": d.largest for d in deviations}}
    good = all(d.largest <= stored.tolerance for d in deviations)
    if args.root:
        parity = _parity(args, manifest, stages)
        result["parity"] = {"frames": parity.frames, "heat": parity.heat, "boxes": parity.boxes,
                            "tolerance": PARITY}
        good = good and max(parity.heat, parity.boxes) <= PARITY
    _show(result)
    if args.json:
        args.json.write_text(json.dumps(result | {"good": good}, indent=2) + "\n")
    return 0 if good else 1


def _parity(args: argparse.Namespace, manifest, stages):
    from perception_bev.network import parity
    from perception_bev.pipeline.ingest import Ingest
    from perception_bev.recordings.astyx import AstyxRecording

    recording = AstyxRecording(args.root)

    def bundles() -> Iterator:
        step = max(1, len(recording) // max(1, args.frames))
        for index in range(0, len(recording), step)[:args.frames]:
            calibration = recording.calibration_of(index)
            yield Ingest(manifest, calibration).bundle(recording[index]), calibration

    model = parity.load_weights(manifest, args.model)
    return parity.compare(model, stages, manifest, bundles())


def _show(result: dict) -> None:
    table = Table("compared", "largest deviation", "allowed", box=None, title_justify="left")
    for name, value in result["golden"].items():
        table.add_row(f"golden {name}", f"{value:.2e}", f"{result['tolerance']:.0e} of its scale")
    for name in ("heat", "boxes"):
        if "parity" in result:
            table.add_row(f"torch {name}, {result['parity']['frames']} real frames",
                          f"{result['parity'][name]:.2e}", f"{PARITY:.0e}")
    Console(width=100).print(table)
