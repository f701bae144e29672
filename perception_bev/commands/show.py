"""Commands: `bev show`, a recorded sample as a picture: cameras with the boxes, and from above."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from perception_bev.errors import ConfigError

HELP = """draw a recorded sample with its boxes

All cameras side by side, then the scene from above. White: ground truth; coloured: what a model
finds, when one is given.

example: bev show --dataset nuscenes_sample --root DIR --out rig.png"""

TILE = 640  # width of one camera's picture [px]
MIN_SCORE = 0.2  # as the shipped models publish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", choices=("astyx", "nuscenes_sample"), required=True)
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--index", type=int, default=0, help="which sample")
    parser.add_argument("--model", type=Path, help="folder of a model whose boxes are drawn too")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")


def run(args: argparse.Namespace) -> int:
    import cv2

    from perception_bev.pipeline.offline import calibration_of, detect

    recording = _recording(args)
    if not 0 <= args.index < len(recording):
        raise ConfigError(f"--index {args.index}: the recording has {len(recording)} samples")
    calibration, sample = calibration_of(recording, args.index), recording[args.index]
    found = None
    if args.model:
        (_, boxes), = detect(args.model, recording, indices=[args.index])
        found = boxes[boxes.score >= MIN_SCORE]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(args.out), cv2.cvtColor(sample_picture(sample, calibration, found),
                                            cv2.COLOR_RGB2BGR))
    print(args.out)
    return 0


def _recording(args: argparse.Namespace):
    if args.dataset == "astyx":
        from perception_bev.recordings.astyx import AstyxRecording
        return AstyxRecording(args.root)
    from perception_bev.recordings.nuscenes import NuscenesSampleRecording
    return NuscenesSampleRecording(args.root)


def sample_picture(sample, calibration, found=None) -> np.ndarray:
    """RGB uint8: cameras in rows of three over the bird's-eye view; cloud colours as in viz."""
    import cv2

    from perception_bev.contracts import Boxes3D
    from perception_bev.outputs.draw import bev_image, camera_overlay

    truth = sample.truth.boxes if sample.truth else None
    boxes = found if found is not None else Boxes3D.empty(truth.classes if truth else ("none",))
    tiles = []
    for name, model in calibration.camera_models.items():
        picture = cv2.imdecode(np.asarray(sample.raw[name][0].data), cv2.IMREAD_COLOR)
        drawn = camera_overlay(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB),
                               calibration.base_from_sensor[name].inverse(), model, boxes, truth)
        drawn = _to_width(drawn, 2 * TILE if len(calibration.camera_models) == 1 else TILE)
        cv2.putText(drawn, name, (8, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 2)
        tiles.append(drawn)
    rows = [_row(tiles[i:i + 3]) for i in range(0, len(tiles), 3)]
    rig = calibration.rig
    above = bev_image(_extent(rig, truth), boxes, truth=truth,
                      lidar=_points(sample, calibration, rig.lidars),
                      radar=_points(sample, calibration, rig.radars), title=sample.name)
    width = max([row.shape[1] for row in rows], default=above.shape[1])
    return np.vstack([_padded(part, width) for part in (*rows, _to_width(above, width))])


def _extent(rig, truth):
    """In front only, for a rig with one camera; else all around."""
    from perception_bev.grid import BevGrid
    return (BevGrid(0, 80, -32, 32, 0.5) if len(rig.cameras) == 1
            else BevGrid(-60, 60, -60, 60, 0.5))


def _points(sample, calibration, names) -> np.ndarray | None:
    clouds = []
    for name in names:
        points = sample.raw[name][0].points
        xyz = np.column_stack([points["x"], points["y"], points["z"]]).astype(np.float32)
        clouds.append(calibration.base_from_sensor[name].apply(xyz))
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
