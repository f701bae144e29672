"""Commands: the demo's video: what was published from above, over lidar, radars and ground truth,
beside the cameras all round with the same boxes. Made after the run, from its bag and outputs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from perception_bev.commands.demo_scene import Scene, scenes
from perception_bev.commands.demo_truth import Moment, objects_of, tracks_of
from perception_bev.contracts import Boxes3D, LidarSweep
from perception_bev.errors import RecordingError
from perception_bev.grid import BevGrid
from perception_bev.inputs.motion import now_from_then, sweep_in_base
from perception_bev.outputs import draw
from perception_bev.raw import EncodedImage
from perception_bev.rig import Calibration
from perception_bev.sim.scenario import Scenario

GRID = BevGrid(-51.2, 51.2, -51.2, 51.2, 0.4)
BEV_PX = 720  # the picture from above is a square
TILE = (352, 198)  # of a camera: half a simulated picture
COLUMNS = 3
EVERY = 2  # of the ground truths one is drawn
TRAIL = 12  # drawn frames that a track's way reaches back
LOST = (230, 70, 70)
DEADLINE_MS = 80.0


def make_video(file: Path, bag: Path, calibration: Calibration, classes: tuple[str, ...],
               moments: Sequence[Moment], scenario: Scenario | None = None, seed: int = 0,
               progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """The video of a live run, five frames a second; the file that was written."""
    by_index = {moment.index: moment for moment in moments}
    total = sum(index % EVERY == 0 for index in by_index)
    painter = Painter(calibration, classes, moments)

    def pictures():
        wanted = scenes(bag, calibration.rig, lambda i: i % EVERY == 0 and i in by_index, scenario,
                        seed)
        for drawn, scene in enumerate(wanted, 1):
            yield painter.paint(scene, by_index[scene.index])
            progress(drawn, total)

    return write_video(file, pictures(), 1e3 / calibration.rig.reference.period_ms / EVERY)


def write_video(file: Path, pictures: Iterable[np.ndarray], fps: float) -> Path:
    """(H, W, 3) uint8 RGB pictures of one even size, as MPEG-4; read again before it is believed.

    RecordingError where this OpenCV cannot write or read it.
    """
    part = file.with_name(f"{file.stem}_part{file.suffix}")
    writer, written = None, 0
    for picture in pictures:
        if writer is None:
            height, width = picture.shape[:2]
            writer = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*"mp4v"), fps,
                                     (width, height))
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        written += 1
    if writer is not None:
        writer.release()
    readable = frames_in(part)
    if not written or readable != written:
        part.unlink(missing_ok=True)
        raise RecordingError(f"{file}: {written} frames were written, {readable} can be read: "
                             "this OpenCV has no MPEG-4; the demo does without: --no-video")
    return part.replace(file)


def frames_in(file: Path) -> int:
    """How many frames of a video can be read."""
    video, count = cv2.VideoCapture(str(file)), 0
    while video.grab():
        count += 1
    video.release()
    return count


class Painter:
    """One picture a scene; remembers the tracks' ways from picture to picture."""

    def __init__(self, calibration: Calibration, classes: tuple[str, ...],
                 moments: Sequence[Moment]) -> None:
        self._calibration, self._classes = calibration, classes
        self._cameras = draw.ring(calibration)
        self._tracked = any("tracks" in (moment.output or {}) for moment in moments)
        self._ways: dict[int, deque[np.ndarray]] = {}  # by id, in odom
        self._latency = [(moment.index, (moment.output or {}).get("latency_ms"))
                         for moment in moments]

    def paint(self, scene: Scene, moment: Moment) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        output = moment.output or {}
        tracks, ids = tracks_of(output, self._classes)
        boxes = tracks if self._tracked else objects_of(output, self._classes)
        labels = [str(i) for i in ids] if self._tracked else [f"{s:.2f}" for s in boxes.score]
        above = self._from_above(scene, moment, boxes, labels, ids)
        tiles = [self._tile(name, scene, moment, boxes, labels) for name in self._cameras]
        rows = [np.hstack(_filled(tiles[i:i + COLUMNS])) for i in range(0, len(tiles), COLUMNS)]
        side = np.vstack(rows)
        panel = self._panel(side.shape[1], max(above.shape[0] - side.shape[0], 160), moment,
                            len(boxes) if self._tracked else None)
        side = np.vstack([side, panel])
        above = np.pad(above, ((0, side.shape[0] - above.shape[0]), (0, 0), (0, 0)))
        return np.ascontiguousarray(np.hstack([above, side]))

    # -- from above ----------------------------------------------------------------------------

    def _from_above(self, scene: Scene, moment: Moment, boxes: Boxes3D, labels: Sequence[str],
                    ids: np.ndarray) -> np.ndarray:
        canvas = draw.BevCanvas(GRID, BEV_PX / (GRID.x_max - GRID.x_min))
        for name, cloud in scene.clouds.items():
            lidar = isinstance(cloud, LidarSweep)
            canvas.points(self._in_base(scene, name, cloud), draw.LIDAR if lidar else draw.RADAR,
                          1 if lidar else 3)
        canvas.boxes(moment.truth.boxes[moment.truth.counted], draw.TRUTH, labels=False)
        self._trails(canvas, scene, boxes, ids)
        canvas.boxes(boxes, labels=labels)
        return canvas.image

    def _in_base(self, scene: Scene, name: str, cloud) -> np.ndarray:
        """(N, 3+) points in base_link at t_ref."""
        place = self._calibration.base_from_sensor[name]
        if isinstance(cloud, LidarSweep):
            buffer = np.empty((len(cloud.points), 4), np.float32)
            return sweep_in_base(cloud, place, scene.ego, scene.t_ref_ns, buffer)
        return (now_from_then(scene.ego, scene.t_ref_ns, cloud.stamp_ns) @ place).apply(
            cloud.points)

    def _trails(self, canvas: draw.BevCanvas, scene: Scene, boxes: Boxes3D,
                ids: np.ndarray) -> None:
        """The ways of the tracks that are there, as seen from where the vehicle is now."""
        odom_from_base = scene.ego.at(scene.t_ref_ns)
        if odom_from_base is None:
            self._ways.clear()
            return
        here = odom_from_base.apply(boxes.centre.astype(np.float64))
        ways = {}
        for track, label, place in zip(ids, boxes.label, here, strict=False):
            way = ways[int(track)] = self._ways.get(int(track), deque(maxlen=TRAIL))
            way.append(place)
            colour = draw.class_colour(boxes.classes[label])
            canvas.trail(odom_from_base.inverse().apply(np.array(way)), colour)
        self._ways = ways

    # -- cameras -------------------------------------------------------------------------------

    def _tile(self, name: str, scene: Scene, moment: Moment, boxes: Boxes3D,
              labels: Sequence[str]) -> np.ndarray:
        raw = scene.pictures.get(name)
        image = None if raw is None else decoded(raw)
        reason = (moment.output or {}).get("status", {}).get(f"sensor.{name}", "ok")
        if image is None:
            image = np.full((TILE[1], TILE[0], 3), draw.BACKGROUND, np.uint8)
        else:
            image = self._overlaid(name, image, raw.stamp_ns, scene, moment, boxes, labels)
        text = name if reason == "ok" else f"{name}: {reason}"
        colour = draw.TRUTH if reason == "ok" else LOST
        (wide, _), _ = cv2.getTextSize(text, draw.FONT, 0.42, 1)
        cv2.rectangle(image, (0, 0), (wide + 12, 20), draw.BACKGROUND, -1)
        cv2.putText(image, text, (6, 14), draw.FONT, 0.42, colour, 1, cv2.LINE_AA)
        return image

    def _overlaid(self, name: str, image: np.ndarray, stamp_ns: int, scene: Scene, moment: Moment,
                  boxes: Boxes3D, labels: Sequence[str]) -> np.ndarray:
        """Boxes where they were when the picture was taken."""
        then_from_now = now_from_then(scene.ego, stamp_ns, scene.t_ref_ns)
        seconds = (stamp_ns - scene.t_ref_ns) * 1e-9
        found, true = (draw.carried(each, then_from_now, seconds)
                       for each in (boxes, moment.truth.boxes[moment.truth.counted]))
        return draw.camera_overlay(
            image, self._calibration.base_from_sensor[name].inverse(),
            self._calibration.camera_models[name], found, true, labels)

    # -- figures -------------------------------------------------------------------------------

    def _panel(self, width: int, height: int, moment: Moment, tracks: int | None) -> np.ndarray:
        """Words about the output, and the latency so far."""
        panel = np.full((height, width, 3), draw.BACKGROUND, np.uint8)
        output = moment.output or {}
        late = output.get("latency_ms")
        words = ["white: ground truth   coloured: "
                 + ("tracks, their numbers, velocities and ways" if tracks is not None
                    else "objects and their scores"),
                 f"mode {output.get('mode', 'no output')[:110]}",
                 f"objects {len(output.get('boxes', ()))}   "
                 f"tracks {'-' if tracks is None else tracks}   "
                 f"latency {'-' if late is None else f'{late:.0f} ms'}"]
        for line, text in enumerate(words):
            cv2.putText(panel, text, (12, 24 + 22 * line), draw.FONT, 0.5, draw.TEXT, 1,
                        cv2.LINE_AA)
        self._strip(panel[90:], moment.index)
        return panel

    def _strip(self, area: np.ndarray, until: int) -> None:
        """Latency over the run as bars, up to this moment; the line is the deadline."""
        height, width = area.shape[:2]
        step = width / max(len(self._latency), 1)
        deadline = round(height * (1 - DEADLINE_MS / 160))
        cv2.line(area, (0, deadline), (width, deadline), draw.AXIS, 1)
        cv2.putText(area, f"{DEADLINE_MS:g} ms", (4, deadline - 4), draw.FONT, 0.4, draw.TEXT, 1,
                    cv2.LINE_AA)
        for place, (index, latency) in enumerate(self._latency):
            if index <= until:
                tall = height if latency is None else round(height * min(latency / 160, 1.0))
                bad = latency is None or latency > DEADLINE_MS
                left, right = round(place * step), round((place + 1) * step) - 2
                cv2.rectangle(area, (left, height - tall), (max(left, right), height),
                              LOST if bad else draw.CLASS_COLOURS["car"], -1)


def decoded(raw) -> np.ndarray | None:
    """A compressed picture as RGB at the tile's size; None where it cannot be read."""
    if not isinstance(raw, EncodedImage):
        return None
    image = cv2.imdecode(np.asarray(raw.data), cv2.IMREAD_REDUCED_COLOR_2)
    if image is None:
        return None
    if (image.shape[1], image.shape[0]) != TILE:
        image = cv2.resize(image, TILE, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _filled(tiles: list[np.ndarray]) -> list[np.ndarray]:
    """COLUMNS tiles, the missing ones black."""
    return tiles + [np.zeros_like(tiles[0])] * (COLUMNS - len(tiles))
