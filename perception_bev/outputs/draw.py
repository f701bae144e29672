"""Outputs: pictures for people. Boxes and points in bird's-eye view, boxes over camera images.

All images are (H, W, 3) uint8 RGB. In bird's-eye view x (forward) points up and y (left) points
left, as one looks at the road from above. Boxes are in base_link.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from perception_bev.contracts import Boxes3D, check_array
from perception_bev.geometry import SE3, CameraModel
from perception_bev.grid import BevGrid
from perception_bev.rig import Calibration

Colour = tuple[int, int, int]  # RGB

CLASS_COLOURS: dict[str, Colour] = {
    "car": (70, 160, 255), "truck": (255, 140, 40), "bus": (255, 210, 60),
    "trailer": (200, 110, 70), "construction_vehicle": (170, 130, 20),
    "pedestrian": (255, 80, 110), "person": (255, 80, 110), "bicycle": (90, 220, 120),
    "cyclist": (90, 220, 120), "motorcycle": (60, 200, 200), "traffic_cone": (255, 110, 0),
    "barrier": (150, 150, 220),
}
OTHER_COLOURS: tuple[Colour, ...] = ((190, 120, 255), (255, 120, 210), (140, 220, 60),
                                     (120, 200, 255), (230, 190, 150))
TRUTH: Colour = (245, 245, 245)
BACKGROUND: Colour = (18, 20, 24)
GRID_LINE: Colour = (48, 52, 60)
AXIS: Colour = (90, 96, 108)
TEXT: Colour = (170, 176, 188)
LIDAR: Colour = (110, 118, 130)
RADAR: Colour = (240, 220, 90)

NEAR_M = 0.1  # edges of boxes are cut where they come nearer to the camera than this
SMALL_PX = 480  # narrower pictures get smaller letters
EDGE_PIECES = 12  # a straight edge is curved in the picture of a real lens
FONT = cv2.FONT_HERSHEY_SIMPLEX

_BOX_EDGES = np.array([(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4),
                       (0, 4), (1, 5), (2, 6), (3, 7)])
_FRONT_CROSS = np.array([(0, 7), (3, 4)])  # diagonals of the face that drives ahead
_SEGMENTS = np.concatenate([_BOX_EDGES, _FRONT_CROSS])


def class_colour(name: str) -> Colour:
    """The colour of a class; the same name has the same colour in every run."""
    known = CLASS_COLOURS.get(name.lower())
    return known or OTHER_COLOURS[sum(name.encode()) % len(OTHER_COLOURS)]


class BevCanvas:
    """A picture of a grid's rectangle from above, to be drawn on layer by layer."""

    def __init__(self, grid: BevGrid, pixels_per_metre: float = 8.0, step_m: float = 10.0) -> None:
        self._grid, self._scale = grid, pixels_per_metre
        height = max(1, round((grid.x_max - grid.x_min) * pixels_per_metre))
        width = max(1, round((grid.y_max - grid.y_min) * pixels_per_metre))
        self.image = np.full((height, width, 3), BACKGROUND, np.uint8)
        self._draw_grid(step_m)

    def pixels(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2+) x, y [m] -> (..., 2) float: column, row."""
        column = (self._grid.y_max - xy[..., 1]) * self._scale
        row = (self._grid.x_max - xy[..., 0]) * self._scale
        return np.stack([column, row], axis=-1)

    def points(self, points: np.ndarray, colour: Colour, size_px: int = 1) -> None:
        """Points (N, 2+) [m]; those outside the grid are left out."""
        inside = points[self._grid.contains(points[:, :2])]
        corner = np.floor(self.pixels(inside)).astype(int) - (size_px - 1) // 2
        height, width = self.image.shape[:2]
        for dy in range(size_px):
            for dx in range(size_px):
                rows = np.clip(corner[:, 1] + dy, 0, height - 1)
                self.image[rows, np.clip(corner[:, 0] + dx, 0, width - 1)] = colour

    def boxes(self, boxes: Boxes3D, colour: Colour | None = None,
              labels: bool | Sequence[str] = True) -> None:
        """Outlines with a line from the centre to the front, and a second's way as velocity.

        labels: a text for each, or whether to write its score.
        """
        outlines = self.pixels(boxes.corners()[:, :4])
        centres = self.pixels(boxes.centre)
        for i, outline in enumerate(outlines):
            paint = colour or class_colour(boxes.classes[boxes.label[i]])
            self._lines([outline], paint, closed=True)
            self._lines([np.stack([centres[i], (outline[0] + outline[3]) / 2])], paint)
            self._velocity(boxes, i, centres[i], paint)
            if labels:
                text = f"{boxes.score[i]:.2f}" if labels is True else labels[i]
                self.text(text, outline.max(axis=0), paint)

    def trail(self, xy: np.ndarray, colour: Colour) -> None:
        """Where something was: (N, 2+) [m], oldest first."""
        self._lines([self.pixels(xy)], colour)

    def pose(self, base_from_sensor: SE3, forward: np.ndarray, colour: Colour) -> np.ndarray:
        """A sensor: a dot, an arrow of 2 m along `forward` (3,) in its own frame. Gives its tip."""
        start = base_from_sensor.translation
        tip = base_from_sensor.apply(2.0 * np.asarray(forward, np.float64))
        a, b = (tuple(int(v) for v in self.pixels(p)) for p in (start, tip))
        cv2.arrowedLine(self.image, a, b, colour, 2, cv2.LINE_AA, tipLength=0.25)
        cv2.circle(self.image, a, 4, colour, -1, cv2.LINE_AA)
        return np.array(b)

    def text(self, text: str, at: np.ndarray, colour: Colour = TEXT, scale: float = 0.4) -> None:
        """`at`: column and row of the text's lower left corner."""
        place = tuple(int(v) for v in np.clip(at, -1e4, 1e4))
        cv2.putText(self.image, text, place, FONT, scale, colour, 1, cv2.LINE_AA)

    def _draw_grid(self, step: float) -> None:
        g = self._grid
        for x in _multiples(g.x_min, g.x_max, step):
            line = self.pixels(np.array([[x, g.y_min], [x, g.y_max]]))
            self._lines([line], AXIS if x == 0 else GRID_LINE)
            self.text(f"{x:g}", line[1] + (3, -3))
        for y in _multiples(g.y_min, g.y_max, step):
            line = self.pixels(np.array([[g.x_min, y], [g.x_max, y]]))
            self._lines([line], AXIS if y == 0 else GRID_LINE)
            self.text(f"{y:g}", line[0] + (3, -3))
        self.text("x [m] up, y [m] left", np.array([4, 14]))

    def _velocity(self, boxes: Boxes3D, i: int, centre: np.ndarray, colour: Colour) -> None:
        velocity = boxes.velocity[i]
        if np.isfinite(velocity).all() and np.hypot(*velocity) > 0.3:
            tip = self.pixels(boxes.centre[i, :2] + velocity)
            a, b = (tuple(int(v) for v in p) for p in (centre, np.clip(tip, -1e4, 1e4)))
            cv2.arrowedLine(self.image, a, b, colour, 1, cv2.LINE_AA, tipLength=0.2)

    def _lines(self, lines: Iterable[np.ndarray], colour: Colour, closed: bool = False) -> None:
        rounded = [np.clip(np.round(line), -1e4, 1e4).astype(np.int32) for line in lines]
        cv2.polylines(self.image, rounded, closed, colour, 1, cv2.LINE_AA)


def bev_image(grid: BevGrid, boxes: Boxes3D | None = None, *, truth: Boxes3D | None = None,
              lidar: np.ndarray | None = None, radar: np.ndarray | None = None,
              title: str = "", pixels_per_metre: float = 8.0) -> np.ndarray:
    """What was measured and found, from above; `lidar` and `radar` (N, 2+) [m] in base_link."""
    canvas = BevCanvas(grid, pixels_per_metre)
    if lidar is not None:
        canvas.points(lidar, LIDAR)
    if radar is not None:
        canvas.points(radar, RADAR, size_px=3)
    if truth is not None:
        canvas.boxes(truth, TRUTH, labels=False)
    if boxes is not None:
        canvas.boxes(boxes)
    canvas.text(title, np.array([4, 30]), TRUTH)
    return canvas.image


def rig_image(calibration: Calibration, pixels_per_metre: float = 60.0) -> np.ndarray:
    """Where the sensors of a rig sit and look; cameras look along z, the others along x."""
    places = calibration.base_from_sensor
    reach = max([3.0, *(float(np.abs(p.translation[:2]).max()) + 2.5 for p in places.values())])
    size = float(np.ceil(reach))
    canvas = BevCanvas(BevGrid(-size, size, -size, size, 1.0), pixels_per_metre, step_m=1.0)
    looks = {"camera": ((0, 0, 1), CLASS_COLOURS["car"]), "lidar": ((1, 0, 0), OTHER_COLOURS[0]),
             "radar": ((1, 0, 0), RADAR)}
    tips: list[np.ndarray] = []
    for name, place in places.items():
        forward, colour = looks[calibration.rig.modality(name)]
        tips.append(canvas.pose(place, np.array(forward), colour))
        above = sum(np.abs(tip - tips[-1]).max() < 40 for tip in tips[:-1])
        canvas.text(f"{name} z={place.translation[2]:.2f}", tips[-1] + (6, 14 * above), colour)
    return canvas.image


def ring(calibration: Calibration) -> list[str]:
    """Cameras as they are laid out: those ahead from left to right, then those behind, seen from
    inside, too."""
    def bearing(name: str) -> float:
        axis = calibration.base_from_sensor[name].rotation[:, 2]
        return float(np.arctan2(axis[1], axis[0]))

    names = list(calibration.camera_models)
    ahead = sorted((n for n in names if abs(bearing(n)) <= np.pi / 2), key=bearing, reverse=True)
    behind = sorted((n for n in names if n not in ahead),
                    key=lambda n: bearing(n) % (2 * np.pi))
    return ahead + behind


def camera_overlay(image: np.ndarray, camera_from_base: SE3, model: CameraModel, boxes: Boxes3D,
                   truth: Boxes3D | None = None, labels: Sequence[str] | None = None) -> np.ndarray:
    """A copy of the picture with the boxes' edges over it; a cross marks the front face.

    `image` (H, W, 3) uint8 RGB, of any scale of `model`'s picture and with its distortion.
    `labels`: a text for each box, default: class and score.
    """
    check_array("camera_overlay.image", image, (None, None, 3), np.uint8)
    drawn = np.ascontiguousarray(image).copy()
    scale = np.array([image.shape[1] / model.width, image.shape[0] / model.height])
    if truth is not None:
        _draw_boxes(drawn, camera_from_base, model, truth, scale, TRUTH)
    texts = labels or [f"{boxes.classes[label]} {score:.2f}"
                       for label, score in zip(boxes.label, boxes.score, strict=True)]
    _draw_boxes(drawn, camera_from_base, model, boxes, scale, None, texts)
    return drawn


def carried(boxes: Boxes3D, now_from_then: SE3, seconds: float) -> Boxes3D:
    """Boxes in base_link then, as they lie in base_link `seconds` later if they keep their
    velocity (over ground, in base_link then); those without one stand still."""
    way = np.nan_to_num(boxes.velocity) * np.float32(seconds)
    centre = boxes.centre + np.pad(way, ((0, 0), (0, 1)))
    turn = now_from_then.rotation[:2, :2].astype(np.float32)
    return replace(boxes, centre=now_from_then.apply(centre),
                   yaw=(boxes.yaw + np.float32(now_from_then.yaw)).astype(np.float32),
                   velocity=boxes.velocity @ turn.T)


def project_boxes(camera_from_base: SE3, model: CameraModel,
                  boxes: Boxes3D) -> tuple[np.ndarray, np.ndarray]:
    """Edges and front cross of each box as polylines of the picture.

    Returns pixels (N, 14, P, 2) float and which of them can be seen (N, 14, P) bool: cut at
    `NEAR_M` before the camera, and where the lens model no longer holds.
    """
    corners = camera_from_base.apply(boxes.corners().astype(np.float64))
    ends = corners[:, _SEGMENTS]  # (N, 14, 2, 3)
    first, last = _clip(ends[:, :, 0], ends[:, :, 1], _view_planes(model))
    at = first[..., None] + np.linspace(0, 1, EDGE_PIECES) * (last - first)[..., None]
    points = ends[:, :, :1] + at[..., None] * (ends[:, :, 1:] - ends[:, :, :1])
    pixels, depth = model.project(points.reshape(-1, 3))
    rays = np.hypot(points[..., 0], points[..., 1]) / np.maximum(points[..., 2], 1e-6)
    seen = ((first < last)[..., None] & (depth.reshape(rays.shape) > 0)
            & (rays <= _lens_limit(model)))
    return pixels.reshape(*rays.shape, 2), seen


def _draw_boxes(image: np.ndarray, camera_from_base: SE3, model: CameraModel, boxes: Boxes3D,
                scale: np.ndarray, colour: Colour | None, texts: Sequence[str] = ()) -> None:
    """Without a `colour`, in those of the classes, thick, and with texts."""
    size = 0.45 if image.shape[1] >= SMALL_PX else 0.32
    pixels, seen = project_boxes(camera_from_base, model, boxes)
    pixels = np.where(seen[..., None], (pixels + 0.5) * scale - 0.5, 0.0)
    inside = seen & (pixels >= 0).all(axis=-1) & (pixels < image.shape[1::-1]).all(axis=-1)
    far_first = np.argsort(-camera_from_base.apply(boxes.centre)[:, 2])
    for i in far_first[inside.any(axis=(1, 2))[far_first]]:
        paint = colour or class_colour(boxes.classes[boxes.label[i]])
        pieces = _pieces(pixels[i], seen[i])
        cv2.polylines(image, pieces, False, paint, 2 if colour is None else 1, cv2.LINE_AA)
        if colour is None:
            corner = np.concatenate(pieces).min(axis=0)
            place = tuple(int(v) for v in np.clip(corner, 0, [image.shape[1], image.shape[0]]))
            cv2.putText(image, texts[i], place, FONT, size, paint, 1, cv2.LINE_AA)


def _pieces(pixels: np.ndarray, seen: np.ndarray) -> list[np.ndarray]:
    """Polylines (n, 2) int32 of the visible parts of (S, P, 2) pixels."""
    pieces = []
    whole = seen.all(axis=1)
    for line, visible, all_of_it in zip(np.round(pixels).astype(np.int32), seen, whole,
                                        strict=True):
        if all_of_it:
            pieces.append(line)
            continue
        breaks = np.flatnonzero(np.diff(visible.astype(np.int8))) + 1
        runs = np.split(np.arange(len(line)), breaks)
        pieces += [line[run] for run in runs if visible[run[0]] and len(run) > 1]
    return pieces


def _view_planes(model: CameraModel) -> np.ndarray:
    """(5, 4): half-spaces n·p + c >= 0 around what can be in the picture, half of it on each side.

    Cutting there keeps the pixels of near boxes small enough to be drawn.
    """
    near = [0.0, 0.0, 1.0, -NEAR_M]
    if model.model == "equidistant":  # a fisheye's pixels stay small by themselves
        return np.array([near])
    fx, fy, cx, cy = model.k[0, 0], model.k[1, 1], model.k[0, 2], model.k[1, 2]
    left, right = (-0.5 * model.width - cx) / fx, (1.5 * model.width - cx) / fx
    top, bottom = (-0.5 * model.height - cy) / fy, (1.5 * model.height - cy) / fy
    return np.array([near, [1, 0, -left, 0], [-1, 0, right, 0], [0, 1, -top, 0],
                     [0, -1, bottom, 0]])


def _lens_limit(model: CameraModel) -> float:
    """The largest tan(angle from the axis) up to which the lens polynomial still grows.

    Beyond it the polynomial folds back: points far outside the view would land in the picture.
    """
    rays = np.tan(np.linspace(0, np.deg2rad(89), 512))
    points = np.stack([rays, np.zeros_like(rays), np.ones_like(rays)], axis=1)
    growth = np.diff(model.project(points)[0][:, 0])
    folded = np.flatnonzero(growth <= 0)
    return float(rays[folded[0]]) if len(folded) else np.inf


def _clip(start: np.ndarray, end: np.ndarray, planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fractions (...,) of segments (..., 3) inside all planes, first < last where any is left.

    Liang and Barsky, "A new concept and method for line clipping", TOG 1984, in 3D.
    """
    d0 = start @ planes[:, :3].T + planes[:, 3]
    d1 = end @ planes[:, :3].T + planes[:, 3]
    crossing = d0 / np.where(d0 == d1, 1.0, d0 - d1)
    first = np.where(d0 < 0, np.where(d1 < 0, 2.0, crossing), 0.0).max(axis=-1)
    last = np.where(d1 < 0, np.where(d0 < 0, -1.0, crossing), 1.0).min(axis=-1)
    return first, last


def _multiples(low: float, high: float, step: float) -> np.ndarray:
    return np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
