"""Commands: `bev bench rasters`, our rasters against public ways to compute the same ones.

First all of them must agree, channel by channel; then they are timed in turns, in one process.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from perception_bev import resources
from perception_bev.commands import raster_peers
from perception_bev.grid import BevGrid
from perception_bev.inputs.ground import fit_ground
from perception_bev.inputs.lidar import BELOW_M, LidarRaster
from perception_bev.inputs.radar import RadarRaster
from perception_bev.manifest import Manifest, load_manifest

HELP = """the rasters that feed the network, against public ways to compute them

Draws the same points with this package's raster and with NumPy, SciPy and torch (where they are
installed), checks that all give the same channels, and times them in turns on one thread.

example: bev bench rasters --points 40000 --json rasters.json"""

OURS = "ours"
SCALING = (5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000)
EDGE = 1e-3  # [cells, m] nearer to a border than this, float32 may round to either side
TOLERANCE = 1e-3  # of any channel; their scale is 1
LIDAR_HEIGHT_M = 1.8
BEAMS = 64
RADAR_RETURNS = 3000
MIN_WIDTH = 100  # of the table, so that a pipe does not break its rows


@dataclass(frozen=True)
class Scene:
    """What is drawn in one round."""

    lidar: np.ndarray  # (N, 4) float32 in base_link
    radar: np.ndarray  # (M, 6) float32 in base_link
    plane: np.ndarray  # (3,)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--points", type=int, default=40_000, help="of the made-up sweep")
    parser.add_argument("--root", type=Path, help="take real frames: folder of the Astyx data set")
    parser.add_argument("--frames", type=int, default=10, help="how many of them")
    parser.add_argument("--config", type=Path, help="model description (default: astyx)")
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results here")


def run(args: argparse.Namespace) -> int:
    manifest = load_manifest(args.config or resources.path("config/models/astyx.yaml"))
    peers, absent = raster_peers.lidar_peers()
    scenes = list(_real(args.root, manifest, args.frames) if args.root else
                  [made_up(args.points, args.seed)])
    lidar = Contest(peers, LidarRaster(manifest.lidar, manifest.grid), manifest.lidar,
                    manifest.grid)
    radar = Contest(raster_peers.RADAR_PEERS, RadarRaster(manifest.radar, manifest.grid),
                    manifest.radar, manifest.grid)
    edges = (*manifest.lidar.height_bins, BELOW_M, manifest.lidar.max_height)
    differences = {"lidar": lidar.differences(
        [(clear_of_borders(s.lidar, s.plane, manifest.grid, edges), s.plane) for s in scenes]),
        "radar": radar.differences(
        [(clear_of_borders(s.radar, s.plane, manifest.grid, ()), s.plane) for s in scenes])}
    result = {
        "points": [len(scene.lidar) for scene in scenes], "repeats": args.repeats,
        "largest_difference": differences, "absent": absent,
        **_timed("lidar", lidar, [(s.lidar, s.plane) for s in scenes], args.repeats),
        **_timed("radar", radar, [(s.radar, s.plane) for s in scenes], args.repeats),
        "scaling": scaling(manifest, args.repeats, args.seed)}
    _show(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    wrong = [name for found in differences.values() for name, difference in found.items()
             if difference > TOLERANCE]
    if wrong:
        print(f"these do not compute the same raster: {', '.join(sorted(set(wrong)))}")
    return 1 if wrong else 0


class Contest:
    """One raster in all its implementations."""

    def __init__(self, peers: dict[str, raster_peers.Peer], raster: LidarRaster | RadarRaster,
                 spec, grid: BevGrid) -> None:
        out = np.zeros((spec.channels, grid.shape[0] * grid.shape[1]), np.float32)
        self._raster, self._out = raster, out
        self.draw: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {
            OURS: raster.draw,
            **{name: partial(_drawn, peer, spec, grid, out) for name, peer in peers.items()}}

    def differences(self, cases: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        """Largest |difference| of each peer to ours, over all channels and scenes."""
        found = dict.fromkeys(list(self.draw)[1:], 0.0)
        for points, plane in cases:
            ours = self._raster.draw(points, plane).reshape(self._out.shape)
            for name in found:
                self.draw[name](points, plane)
                found[name] = max(found[name], float(np.abs(ours - self._out).max()))
        return found


def _drawn(peer: raster_peers.Peer, spec, grid: BevGrid, out: np.ndarray, points: np.ndarray,
           plane: np.ndarray) -> None:
    peer(points, plane, spec, grid, out)


def in_turns(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, np.ndarray]:
    """Milliseconds of every call, (repeats,) each: one of each a round, after one round unseen."""
    times = {name: np.empty(repeats) for name in calls}
    for repeat in range(-1, repeats):
        for name, call in calls.items():
            began = time.perf_counter_ns()
            call()
            if repeat >= 0:
                times[name][repeat] = (time.perf_counter_ns() - began) / 1e6
    return times


def _timed(kind: str, contest: Contest, cases: list[tuple[np.ndarray, np.ndarray]],
           repeats: int) -> dict[str, dict[str, float]]:
    times = {name: [] for name in contest.draw}
    for points, plane in cases:
        calls = {name: partial(draw, points, plane) for name, draw in contest.draw.items()}
        for name, found in in_turns(calls, max(3, repeats // len(cases))).items():
            times[name].extend(found)
    return {f"{kind}_ms": {name: float(np.median(t)) for name, t in times.items()},
            f"{kind}_p99_ms": {name: float(np.percentile(t, 99)) for name, t in times.items()}}


def scaling(manifest: Manifest, repeats: int, seed: int) -> dict[str, object]:
    """Our lidar raster over the number of points.

    exponent: slope of log time over log points, 1 or less is linear growth over a fixed part (the
    cells, which the first points touch); ns_per_point and fixed_ms: the straight line.
    """
    scenes = {str(n): made_up(n, seed) for n in SCALING}
    # a raster of its own each: a call clears what the one before it drew
    times = in_turns({n: partial(LidarRaster(manifest.lidar, manifest.grid).draw, scene.lidar,
                                 scene.plane) for n, scene in scenes.items()}, repeats)
    medians = [float(np.median(times[str(n)])) for n in SCALING]
    exponent = np.polyfit(np.log(SCALING), np.log(medians), 1)[0]
    slope, fixed = np.polyfit(SCALING, medians, 1)
    return {"points": list(SCALING), "ours_ms": medians, "exponent": float(exponent),
            "ns_per_point": float(slope * 1e6), "fixed_ms": float(fixed)}


# -- scenes ----------------------------------------------------------------------------------------


def made_up(points: int, seed: int) -> Scene:
    """A sweep of 64 beams over a road between uneven walls, with cars on it, seeded."""
    rng = np.random.default_rng(seed)
    beams = np.deg2rad(np.linspace(-25, 5, BEAMS))
    azimuths = np.linspace(-np.pi, np.pi, -(-points // BEAMS), endpoint=False)
    azimuth, elevation = (v.ravel()[:points] for v in np.meshgrid(azimuths, beams, indexing="ij"))
    with np.errstate(divide="ignore"):
        to_ground = np.where(elevation < 0, LIDAR_HEIGHT_M / -np.tan(elevation), np.inf)
    to_wall = (12 + 3 * np.sin(7 * azimuth)) / np.maximum(np.abs(np.sin(azimuth)), 0.1)
    cars = rng.uniform(-np.pi, np.pi, 40)
    hidden = np.abs(azimuth[:, None] - cars).min(axis=1) < 0.02
    to_car = np.where(hidden, rng.uniform(6, 40, points), np.inf)
    distance = np.minimum.reduce([to_ground, to_wall, to_car, np.full(points, 100.0)])
    cloud = np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth),
                      LIDAR_HEIGHT_M + distance * np.tan(elevation)], axis=1)
    cloud += rng.normal(size=cloud.shape) * 0.02
    lidar = np.column_stack([cloud, rng.random(points)]).astype(np.float32)
    at = rng.integers(0, points, RADAR_RETURNS)
    doppler = np.where(rng.random(RADAR_RETURNS) < 0.05, np.nan, rng.normal(size=RADAR_RETURNS))
    radar = np.column_stack([cloud[at] + rng.normal(size=(RADAR_RETURNS, 3)) * 0.3,
                             rng.uniform(45, 90, RADAR_RETURNS), doppler,
                             rng.random(RADAR_RETURNS) < 0.5]).astype(np.float32)
    return Scene(lidar, radar, fit_ground(lidar))


def _real(root: Path, manifest: Manifest, frames: int) -> Iterator[Scene]:
    """Frames spread over the data set; the residual is the Doppler as it was measured."""
    from perception_bev.inputs.motion import NoEgo, sweep_in_base
    from perception_bev.pipeline.ingest import Ingest
    from perception_bev.recordings.astyx import LIDAR, RADAR, AstyxRecording

    recording = AstyxRecording(root)
    for index in np.linspace(0, len(recording) - 1, frames).astype(int):
        sample, calibration = recording[index], recording.calibration_of(index)
        ingest = Ingest(manifest, calibration)
        sweep, scan = (ingest.decode(name, sample.raw[name][0]) for name in (LIDAR, RADAR))
        lidar = sweep_in_base(sweep, calibration.base_from_sensor[LIDAR], NoEgo(),
                              sample.t_ref_ns, np.empty((len(sweep.points), 4), np.float32))
        radar = np.column_stack([calibration.base_from_sensor[RADAR].apply(scan.points),
                                 scan.intensity, scan.doppler, np.ones(len(scan.points))])
        yield Scene(lidar, radar.astype(np.float32), fit_ground(lidar))


def clear_of_borders(points: np.ndarray, plane: np.ndarray, grid: BevGrid,
                     heights: tuple[float, ...]) -> np.ndarray:
    """Points that no rounding moves to another cell or height bin: on these all must agree."""
    cell = grid.cell_of(points[:, :2].astype(np.float64))
    clear = np.abs(cell - np.round(cell)).min(axis=1) > EDGE
    if heights:
        height = points[:, 2] - points[:, :2] @ plane[:2] - plane[2]
        clear &= np.abs(height[:, None] - np.array(heights)).min(axis=1) > EDGE
    return points[clear]


# -- what is said ----------------------------------------------------------------------------------


def _show(result: dict) -> None:
    table = Table(title=f"rasters of {max(result['points'])} lidar points, {result['repeats']} "
                        "rounds, one thread")
    for heading in ("raster", "implementation", "median ms", "p99 ms", "times ours", "difference"):
        table.add_column(heading, justify="left" if heading[0] in "ri" else "right")
    for kind in ("lidar", "radar"):
        medians, tails = result[f"{kind}_ms"], result[f"{kind}_p99_ms"]
        for name, median in medians.items():
            difference = result["largest_difference"][kind].get(name)
            table.add_row(kind, name, f"{median:.3f}", f"{tails[name]:.3f}",
                          f"{median / medians[OURS]:.1f}",
                          "" if difference is None else f"{difference:.1e}")
    console = Console()
    console.width = max(console.width, MIN_WIDTH)
    console.print(table)
    growth = result["scaling"]
    console.print("ours over the number of points: " + ", ".join(
        f"{n // 1000}k {ms:.2f} ms" for n, ms in zip(growth["points"], growth["ours_ms"],
                                                     strict=True))
        + f"; {growth['ns_per_point']:.1f} ns a point and {growth['fixed_ms']:.2f} ms, exponent "
          f"{growth['exponent']:.2f}")
    if result["absent"]:
        console.print(f"not installed, not compared: {', '.join(result['absent'])}")
