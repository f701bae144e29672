"""Commands: `bev demo` on a simulated drive: simulate, play once at real time, score, draw."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from perception_bev import resources
from perception_bev.commands.demo_live import Display, number
from perception_bev.commands.demo_truth import Moment, moments, read_truths
from perception_bev.errors import ConfigError, RecordingError

RIG = "config/rigs/sim6.yaml"
SETTLED = "latency counts from a second after the first output on"


@dataclass
class Demo:
    """One demo; `run` is the table of contents."""

    model: Path
    seconds: float
    seed: int
    scenario_name: str | None
    out: Path
    video: bool = True
    verbose: bool = False
    rig_file: Path = field(default_factory=lambda: resources.path(RIG))
    console: Console = field(default_factory=lambda: Console(width=100))
    took: dict[str, float] = field(default_factory=dict)  # [s] by step

    def run(self) -> int:
        began = time.monotonic()
        folder = self.out / "demo"
        folder.mkdir(parents=True, exist_ok=True)
        self._load()
        with self._timed("bag"), bar("simulating", "sample") as progress:
            bag = self._bag(progress)
        with self._timed("play"):
            live = self._play(bag, folder)
        with self._timed("score"):
            truths = read_truths(bag)
            played = moments(truths, live.truth_clouds, live.outputs)
            report = self._report(bag, live, played, len(truths))
        with self._timed("pictures"):
            files = self._pictures(folder, bag, live, played, report)
        self.took["total"] = time.monotonic() - began
        report |= {"took_s": {name: round(s, 1) for name, s in self.took.items()},
                   "files": [file.name for file in files]}
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        show(report, self.console)
        self.console.print("\n" + "\n".join(str(file) for file in
                                            [*files, folder / "report.json"]), highlight=False)
        return 0

    def _load(self) -> None:
        """What can be wrong is found before anything long begins."""
        from perception_bev.manifest import load_manifest
        from perception_bev.rig import load_rig, resolve
        from perception_bev.sim.scenario import load_scenario

        self.manifest = load_manifest(self.model)
        if not self.manifest.variants:
            raise ConfigError(f"{self.model}: the model has no engine files: bev export --work "
                              f"{self.model}")
        self.calibration = resolve(load_rig(self.rig_file))
        self.scenario = load_scenario(self.scenario_name) if self.scenario_name else None
        if self.scenario is not None:
            self.console.print(f"scenario {self.scenario.name}: {self.scenario.what}",
                               highlight=False)

    def _bag(self, progress: Callable[[int, int], None]) -> Path:
        from perception_bev.commands.demo_bag import bag_of

        return bag_of(self.out / "drives", self.rig_file, self.seed, self.seconds, self.scenario,
                      progress)

    @property
    def faulty(self) -> bool:
        return self.scenario is not None and bool(self.scenario.faults)

    def _play(self, bag: Path, folder: Path):
        from perception_bev.commands.live_run import play_once

        self.console.print(f"playing {bag} at real time, once; the nodes load their engines first",
                           highlight=False)
        with Display(self.seconds) as display:
            return play_once(bag, self.rig_file, self.model, self.seconds, folder / "run",
                             quiet=not self.verbose, seed=self.seed, watch=display.show,
                             scenario=str(self.scenario_name) if self.faulty else "")

    def _report(self, bag: Path, live, played: list[Moment], in_bag: int) -> dict[str, Any]:
        from perception_bev.commands.demo_astyx import figures
        from perception_bev.commands.demo_score import score
        from perception_bev.commands.live_run import machine
        from perception_bev.eval.plain import without_nan

        if not played:
            raise RecordingError("no ground truth of the bag came back from the replay: see "
                                 "run/log.txt beside the report")
        report = {
            "machine": machine(),
            "drive": {"bag": bag.name, "rig": self.calibration.rig.name, "seed": self.seed,
                      "seconds": self.seconds,
                      "scenario": self.scenario.name if self.scenario else None},
            "model": {"name": self.manifest.name, "folder": str(self.model),
                      "published_from_score": self.manifest.heads.score_threshold},
            "frames": {"in_bag": in_bag, **frames(played)}, "live": figures(live),
            "player": {name: live.replay.get(name) for name in ("slips", "max_late_ms")},
            "faults": live.replay.get("faults", {}),
            "score": score(played, self.manifest.classes)}
        return without_nan(report)

    def _pictures(self, folder: Path, bag: Path, live, played: list[Moment],
                  report: dict[str, Any]) -> list[Path]:
        from perception_bev.commands.demo_plot import plot_latency
        from perception_bev.commands.live_run import SETTLE_S

        rows = [row for row in live.outputs if "latency_ms" in row]
        files = [plot_latency(folder / "latency.png", rows, SETTLE_S,
                              f"seed {self.seed}, {report['machine'].split(',')[0]}")]
        if self.video:
            from perception_bev.commands.demo_video import make_video

            with bar("drawing", "frame") as progress:
                files.append(make_video(
                    folder / "bev.mp4", bag, self.calibration, self.manifest.classes, played,
                    self.scenario if self.faulty else None, self.seed, progress))
        return files

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.took[step] = time.monotonic() - began


@contextmanager
def bar(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that appears with the first (done, total)."""
    from tqdm import tqdm

    shown: list[tqdm] = []

    def progress(done: int, total: int) -> None:
        if not shown:
            shown.append(tqdm(total=total, desc=what, unit=unit))
        shown[0].update(done - shown[0].n)

    try:
        yield progress
    finally:
        for each in shown:
            each.close()


def frames(played: list[Moment]) -> dict[str, Any]:
    """Ground truths that were played, and what came out for them."""
    start = played[0].stamp_ns
    lost = [round((m.stamp_ns - start) / 1e9, 1) for m in played if m.output is None]
    empty = sum(m.output is not None and not m.output["boxes"] for m in played)
    return {"played": len(played), "answered": len(played) - len(lost), "lost": len(lost),
            "lost_at_s": lost, "answered_without_objects": empty}


# -- the end's table ---------------------------------------------------------------------------


def show(report: dict[str, Any], console: Console) -> None:
    live, counts, score = report["live"], report["frames"], report["score"]
    console.print()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("outputs", f"{live['outputs']} timed, at {number(live['rate_hz'])} Hz; "
                  + ", ".join(f"{n} {mode}" for mode, n in live["modes"].items()))
    table.add_row("frames", f"{counts['played']} played, {counts['lost']} lost, "
                            f"{counts['answered_without_objects']} answered without objects")
    latency = live["latency_ms"]
    table.add_row("latency, ms", "  ".join(f"{p} {number(latency[p])}"
                                            for p in ("p50", "p95", "p99", "max"))
                  + "  (receipt by a subscriber − t_ref)")
    table.add_row("drops", "; ".join(f"{k}: {v}" for k, v in sorted(live["drops"].items()))
                  or "none")
    if report["player"]["slips"]:
        table.add_row("player", f"a second late {report['player']['slips']} times: this computer "
                                "is too busy, latency and scores are not to be trusted")
    if report["faults"]:
        table.add_row("faults played", "; ".join(
            f"{kind} {sum(topics.values())} messages" for kind, topics in report["faults"].items()))
    console.print(table)
    _show_score(report, score, console)
    took = report["took_s"]
    console.print("\n" + ", ".join(f"{name} {s:g} s" for name, s in took.items())
                  + f"; {report['machine']}", highlight=False)


def _show_score(report: dict[str, Any], score: dict[str, Any], console: Console) -> None:
    model = report["model"]
    console.print(f"\nPublished live against ground truth ({report['drive']['seconds']:g} s, "
                  f"{report['frames']['played']} frames). Only objects from a score of "
                  f"{model['published_from_score']:g} are published, so mAP is not that of "
                  "`bev eval`.", highlight=False)
    table = Table("", "objects", "tracks", box=None, pad_edge=False)
    tracks = score["tracks"] or {}
    rows = (("mAP, of the classes that are there", "mAP_of_present_classes"), ("mAP", "mAP"),
            ("NDS", "NDS"), ("recall at 2 m", "recall_2m"), ("precision at 2 m", "precision_2m"),
            ("velocity error, m/s", "velocity_error_mps"),
            ("velocity error of moving, m/s", "velocity_error_moving_mps"),
            ("id switches", "id_switches"), ("HOTA", "HOTA"), ("MOTA", "MOTA"))
    for text, key in rows:
        table.add_row(text, _value(score["objects"].get(key)), _value(tracks.get(key)))
    console.print(table)
    missing = score["objects"]["classes_without_truth"]
    if missing:
        console.print(f"no {', '.join(missing)} in this drive; each counts as AP 0 in mAP and NDS",
                      highlight=False)


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
