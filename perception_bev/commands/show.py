"""Commands: `bev show`, a recorded sample as a picture: cameras with the boxes, and from above."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from perception_bev.errors import ConfigError

HELP = """draw a recorded sample with its boxes

All cameras side by side, then the scene from above. White: ground truth; coloured: what a model
finds, when one is given; a model with memory sees the second before, too.

examples: bev show --dataset nuscenes_sample --root DIR --out rig.png
          bev show --dataset sim --seed 3 --index 40 --model models/sim6 --out drive.png"""

TILE = 640  # width of one camera's picture [px]
MIN_SCORE = 0.2  # as the shipped models publish
HISTORY = 10  # samples before the drawn one that a model with memory gets
SIM_RIG = "config/rigs/sim6.yaml"
SIM_SECONDS = 20.0  # a simulated drive's end depends on its length: the demo's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", choices=("astyx", "nuscenes_sample", "sim"), required=True)
    parser.add_argument("--root", type=Path, help="folder of the data set; sim has none")
    parser.add_argument("--seed", type=int, default=1, help="sim: which drive")
    parser.add_argument("--seconds", type=float, default=SIM_SECONDS, help="sim: its length")
    parser.add_argument("--scenario", help="sim: whose world is simulated")
    parser.add_argument("--index", type=int, default=0, help="which sample")
    parser.add_argument("--model", type=Path, help="folder of a model whose boxes are drawn too")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")


def run(args: argparse.Namespace) -> int:
    import cv2

    from perception_bev.pipeline.offline import calibration_of

    recording = _recording(args)
    if not 0 <= args.index < len(recording):
        raise ConfigError(f"--index {args.index}: the recording has {len(recording)} samples")
    calibration, sample = calibration_of(recording, args.index), recording[args.index]
    found = _found(args.model, recording, args.index) if args.model else None
    args.out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(args.out), cv2.cvtColor(sample_picture(sample, calibration, found),
                                            cv2.COLOR_RGB2BGR))
    print(args.out)
    return 0


def _found(model: Path, recording, index: int):
    """The model's boxes of a sample, those from MIN_SCORE on."""
    from perception_bev.manifest import load_manifest
    from perception_bev.pipeline.offline import detect

    first = max(0, index - HISTORY) if load_manifest(model).memory is not None else index
    *_, (_, boxes) = detect(model, recording, indices=range(first, index + 1))
    return boxes[boxes.score >= MIN_SCORE]


def _recording(args: argparse.Namespace):
    if args.dataset == "sim":
        from perception_bev import resources
        from perception_bev.rig import load_rig
        from perception_bev.sim.drive import SimRecording
        from perception_bev.sim.scenario import load_scenario
        return SimRecording(load_rig(resources.path(SIM_RIG)), args.seed, args.seconds, scenario=(
            load_scenario(args.scenario) if args.scenario else None), threads=2)
    if args.root is None:
        raise ConfigError(f"--dataset {args.dataset} lies in a folder: give it with --root")
    if args.dataset == "astyx":
        from perception_bev.recordings.astyx import AstyxRecording
        return AstyxRecording(args.root)
    from perception_bev.recordings.nuscenes import NuscenesSampleRecording
    return NuscenesSampleRecording(args.root)


def sample_picture(sample, calibration, found=None) -> np.ndarray:
    """RGB uint8: cameras in rows of three over the bird's-eye view; cloud colours as in viz. Where
    the recording knows the vehicle's motion, boxes lie where they were when a picture was taken."""
    from perception_bev.contracts import Boxes3D
    from perception_bev.outputs.draw import bev_image, ring
    from perception_bev.pipeline.offline import push_motion
    from perception_bev.temporal.ego import EgoMotion

    ego = EgoMotion()
    push_motion(ego, sample)
    truth = sample.truth.boxes if sample.truth else None
    boxes = found if found is not None else Boxes3D.empty(truth.classes if truth else ("none",))
    tiles = [_tile(name, sample, calibration, ego, boxes, truth)
             for name in ring(calibration) if sample.raw.get(name)]
    rows = [_row(tiles[i:i + 3]) for i in range(0, len(tiles), 3)]
    rig = calibration.rig
    above = bev_image(_extent(rig), boxes, truth=truth,
                      lidar=_points(sample, calibration, ego, rig.lidars),
                      radar=_points(sample, calibration, ego, rig.radars), title=sample.name)
    width = max([row.shape[1] for row in rows], default=above.shape[1])
    return np.vstack([_padded(part, width) for part in (*rows, _to_width(above, width))])


def _tile(name: str, sample, calibration, ego, boxes, truth) -> np.ndarray:
    import cv2

    from perception_bev.inputs.motion import now_from_then
    from perception_bev.outputs.draw import camera_overlay, carried

    raw, model = sample.raw[name][-1], calibration.camera_models[name]
    picture = cv2.cvtColor(cv2.imdecode(np.asarray(raw.data), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    moved = now_from_then(ego, raw.stamp_ns, sample.t_ref_ns)
    seconds = (raw.stamp_ns - sample.t_ref_ns) * 1e-9
    drawn = camera_overlay(picture, calibration.base_from_sensor[name].inverse(), model,
                           carried(boxes, moved, seconds),
                           None if truth is None else carried(truth, moved, seconds))
    drawn = _to_width(drawn, 2 * TILE if len(calibration.camera_models) == 1 else TILE)
    cv2.putText(drawn, name, (8, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 2)
    return drawn


def _extent(rig):
    """In front only, for a rig with one camera; else all around."""
    from perception_bev.grid import BevGrid
    return (BevGrid(0, 80, -32, 32, 0.5) if len(rig.cameras) == 1
            else BevGrid(-60, 60, -60, 60, 0.5))


def _points(sample, calibration, ego, names) -> np.ndarray | None:
    """Newest frames in base_link at t_ref, each as a whole: points have no times here."""
    from perception_bev.inputs.motion import now_from_then

    clouds = []
    for name in names:
        for raw in sample.raw.get(name, ())[-1:]:
            points = raw.points
            xyz = np.column_stack([points["x"], points["y"], points["z"]]).astype(np.float32)
            place = now_from_then(ego, sample.t_ref_ns, raw.stamp_ns)
            clouds.append((place @ calibration.base_from_sensor[name]).apply(xyz))
    return np.concatenate(clouds) if clouds else None


def _row(tiles: list[np.ndarray]) -> np.ndarray:
    height = max(tile.shape[0] for tile in tiles)
    return np.hstack([np.pad(t, ((0, height - t.shape[0]), (0, 0), (0, 0))) for t in tiles])


def _to_width(image: np.ndarray, width: int) -> np.ndarray:
    import cv2
    return cv2.resize(image, (width, image.shape[0] * width // image.shape[1]),
                      interpolation=cv2.INTER_AREA)


def _padded(image: np.ndarray, width: int) -> np.ndarray:
    return np.pad(image, ((0, 0), (0, width - image.shape[1]), (0, 0)))
