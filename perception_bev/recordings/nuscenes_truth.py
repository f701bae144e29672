"""Recordings: nuScenes' annotations as truth in base_link.

The detection task's published definitions (H. Caesar et al., CVPR 2020, and the devkit's
`eval/detection`): 23 categories become ten classes, velocities are central differences of the
annotated centres, a box counts within its class's range when a lidar or radar point is on it and
when it is no cycle in a bicycle rack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_bev.contracts import Boxes3D
from perception_bev.geometry import SE3, rotation_from_quaternion
from perception_bev.recordings.base import Truth, Visibility
from perception_bev.recordings.nuscenes import CLASSES
from perception_bev.recordings.nuscenes_tables import Scene
from perception_bev.rig import Calibration

IGNORED = "ignored"  # the class of all other categories, where they are asked for
CLASS_OF = {
    "movable_object.barrier": "barrier", "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus", "vehicle.bus.rigid": "bus", "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle", "vehicle.motorcycle": "motorcycle",
    "human.pedestrian.adult": "pedestrian", "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone", "vehicle.trailer": "trailer",
    "vehicle.truck": "truck"}
RACK = "static_object.bicycle_rack"
RANGE_M = {"car": 50.0, "truck": 50.0, "bus": 50.0, "trailer": 50.0, "construction_vehicle": 50.0,
           "pedestrian": 40.0, "motorcycle": 40.0, "bicycle": 40.0, "traffic_cone": 30.0,
           "barrier": 30.0, IGNORED: 0.0}
MAX_STEP_NS = 1_500_000_000  # between annotations that a velocity is taken from
# By level of visibility: occlusion (0 visible, 1 partly, 2 mostly hidden), share that is seen.
LEVELS = {"v0-40": (2, 0.2), "v40-60": (1, 0.5), "v60-80": (1, 0.7), "v80-100": (0, 0.9)}
NO_LEVEL = (0, 1.0)


def velocities(scene: Scene) -> np.ndarray:
    """(A, 2) float64 [m/s] in the global frame; NaN where the annotations do not say.

    From the object's annotation before to the one after; at either end from or to its own.
    """
    rows = scene.annotations
    if len(rows) == 0:
        return np.zeros((0, 2))
    order = np.lexsort((rows["sample"], rows["instance"]))
    instance, centre = rows["instance"][order], rows["centre"][order, :2]
    stamp = np.array(scene.sample_ns, np.int64)[rows["sample"][order]]
    place = np.arange(len(order))
    same = instance[1:] == instance[:-1]
    first, last = place - np.append(False, same), place + np.append(same, False)
    step = stamp[last] - stamp[first]
    limit = MAX_STEP_NS * np.maximum(last - first, 1)
    good = (step > 0) & (step <= limit)
    result = np.full((len(order), 2), np.nan)
    moved = centre[last[good]] - centre[first[good]]
    result[order[good]] = moved / (step[good, None] * 1e-9)
    return result


@dataclass(frozen=True)
class Labels:
    """Annotations of one time, in the global frame."""

    rows: np.ndarray  # (A,) ANNOTATION
    velocity: np.ndarray  # (A, 2) float64 [m/s]
    certain: np.ndarray  # (A,) bool; what is not is of the class IGNORED


def at_key_frame(scene: Scene, sample: int, velocity: np.ndarray) -> Labels:
    """velocity: of the whole scene, as `velocities` gives it."""
    begin, end = np.searchsorted(scene.annotations["sample"], (sample, sample + 1))
    return Labels(scene.annotations[begin:end], velocity[begin:end], np.ones(end - begin, bool))


def between(before: Labels, after: Labels, fraction: float, seconds: float) -> Labels:
    """Interpolated as in the devkit's `get_boxes`: straight on, turning evenly.

    What is annotated at one of the two key frames only may or may not have been there: it is
    moved by its velocity and uncertain. Counts of points are the lower of the two.
    """
    _, ours, theirs = np.intersect1d(before.rows["instance"], after.rows["instance"],
                                     return_indices=True)
    rows = before.rows[ours].copy()
    first, last = before.rows[ours], after.rows[theirs]
    rows["centre"] += fraction * (last["centre"] - first["centre"])
    rows["rotation"] = [_turned(a, b, fraction) for a, b in
                        zip(first["rotation"], last["rotation"], strict=True)]
    for name in ("lidar_points", "radar_returns"):
        rows[name] = np.minimum(first[name], last[name])
    mean = (1 - fraction) * before.velocity[ours] + fraction * after.velocity[theirs]
    lone = [_carried(before, ours, fraction * seconds),
            _carried(after, theirs, (fraction - 1) * seconds)]
    return Labels(np.concatenate([rows, *(part.rows for part in lone)]),
                  np.concatenate([mean, *(part.velocity for part in lone)]),
                  np.concatenate([np.ones(len(rows), bool), *(part.certain for part in lone)]))


def _turned(first: np.ndarray, last: np.ndarray, fraction: float) -> np.ndarray:
    """Quaternion between two, x y z w."""
    nowhere = np.zeros(3)
    return SE3.from_quaternion(nowhere, first).interpolate(
        SE3.from_quaternion(nowhere, last), fraction).quaternion


def _carried(labels: Labels, paired: np.ndarray, seconds: float) -> Labels:
    """The labels that have no partner, moved on."""
    alone = np.setdiff1d(np.arange(len(labels.rows)), paired)
    rows, velocity = labels.rows[alone].copy(), labels.velocity[alone]
    rows["centre"][:, :2] += seconds * np.nan_to_num(velocity)
    return Labels(rows, velocity, np.zeros(len(alone), bool))


def truth(scene: Scene, labels: Labels, base_from_global: SE3, calibration: Calibration,
          with_ignored: bool = False) -> Truth:
    """Labels of one time as truth in base_link of that time."""
    rows, velocity = labels.rows, labels.velocity
    categories = np.array([scene.categories[i] for i in rows["category"]], object)
    racks = rows[categories == RACK]
    classes = (*CLASSES, IGNORED) if with_ignored else CLASSES
    names = [CLASS_OF.get(category, IGNORED) if certain else IGNORED
             for category, certain in zip(categories, labels.certain, strict=True)]
    kept = np.array([name in classes for name in names], bool)
    label = np.array([classes.index(name) for name in names if name in classes], np.int32)
    boxes = _boxes(rows[kept], velocity[kept], label, classes, base_from_global)
    levels = [LEVELS.get(scene.visibility[i], NO_LEVEL) if i >= 0 else NO_LEVEL
              for i in rows["visibility"][kept]]
    share = np.array([seen for _, seen in levels], np.float64)
    visible = Visibility(rows["lidar_points"][kept], rows["radar_returns"][kept],
                         _pixels(boxes, calibration, share))
    return Truth(boxes, np.array([hidden for hidden, _ in levels], np.int32),
                 _counted(boxes, visible, _in_racks(rows[kept]["centre"], racks)),
                 rows["instance"][kept].astype(np.int64), visible)


def _boxes(rows: np.ndarray, velocity: np.ndarray, label: np.ndarray, classes: tuple[str, ...],
           base_from_global: SE3) -> Boxes3D:
    turn = base_from_global.rotation
    forward = np.array([turn @ rotation_from_quaternion(q)[:, 0] for q in rows["rotation"]],
                       np.float64).reshape(-1, 3)
    return Boxes3D(
        centre=base_from_global.apply(rows["centre"]).astype(np.float32),
        size=rows["size"].astype(np.float32),
        yaw=np.arctan2(forward[:, 1], forward[:, 0]).astype(np.float32),
        score=np.ones(len(rows), np.float32), label=label, classes=classes,
        velocity=(velocity @ turn[:2, :2].T).astype(np.float32))


def _counted(boxes: Boxes3D, seen: Visibility, racked: np.ndarray) -> np.ndarray:
    """(N,) bool: what the detection task counts."""
    names = np.array([boxes.classes[i] for i in boxes.label], object)
    reach = np.array([RANGE_M[name] for name in names])
    near = np.linalg.norm(boxes.centre[:, :2], axis=1) < reach
    cycle = (names == "bicycle") | (names == "motorcycle")
    return near & (seen.lidar_points + seen.radar_returns > 0) & ~(cycle & racked)


def _in_racks(centre: np.ndarray, racks: np.ndarray) -> np.ndarray:
    """(N, 3) global centres -> (N,) bool: inside one of the racks."""
    inside = np.zeros(len(centre), bool)
    for rack in racks:
        local = (centre - rack["centre"]) @ rotation_from_quaternion(rack["rotation"])
        inside |= (np.abs(local) <= rack["size"] / 2).all(axis=1)
    return inside


def _pixels(boxes: Boxes3D, calibration: Calibration, share: np.ndarray) -> np.ndarray:
    """(N,) int32, an estimate: the set says which share of a box is visible, not how many pixels.

    That share of the rectangle round the projected corners, in all cameras, without their own
    times; a box that reaches behind a camera is not seen by it.
    """
    corners = boxes.corners().astype(np.float64)
    total = np.zeros(len(boxes))
    for name, lens in calibration.camera_models.items():
        camera_from_base = calibration.base_from_sensor[name].inverse()
        pixel, depth = lens.project(camera_from_base.apply(corners.reshape(-1, 3)))
        pixel = np.clip(pixel.reshape(-1, 8, 2), 0, (lens.width, lens.height))
        extent = pixel.max(axis=1) - pixel.min(axis=1)
        in_front = (depth.reshape(-1, 8) > 0.1).all(axis=1)
        total += np.where(in_front, extent.prod(axis=1), 0.0)
    return np.round(total * share).astype(np.int32)
