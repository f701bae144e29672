"""Commands: the demo's video, plot and terminal."""

import io

import cv2
import numpy as np
import pytest
from live_rows import CLASSES, row, stamp, truth
from rich.console import Console
from small_car import frames

from perception_bev import resources
from perception_bev.commands import demo_video
from perception_bev.commands.demo_live import Display
from perception_bev.commands.demo_plot import plot_latency
from perception_bev.commands.demo_scene import Scene
from perception_bev.commands.demo_truth import Moment
from perception_bev.errors import RecordingError
from perception_bev.nodes.live_figures import LiveCounter, LiveFigures, digest, parse
from perception_bev.outputs import draw
from perception_bev.rig import load_rig, resolve
from perception_bev.temporal.ego import EgoMotion

# -- video -------------------------------------------------------------------------------------


def grey(level: int) -> np.ndarray:
    return np.full((64, 96, 3), level, np.uint8)


def test_a_video_is_read_as_it_was_written(tmp_path):
    levels = [20, 90, 160, 230]
    file = demo_video.write_video(tmp_path / "a.mp4", map(grey, levels), 5.0)
    video = cv2.VideoCapture(str(file))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0)
    for level in levels:
        assert abs(video.read()[1].mean() - level) < 6
    assert demo_video.frames_in(file) == len(levels)
    assert [each.name for each in tmp_path.iterdir()] == ["a.mp4"]


def test_a_video_that_cannot_be_read_is_an_error_and_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_video, "frames_in", lambda file: 1)
    with pytest.raises(RecordingError, match="2 frames were written, 1 can be read"):
        demo_video.write_video(tmp_path / "a.mp4", map(grey, [1, 2]), 5.0)
    assert list(tmp_path.iterdir()) == []


def test_no_picture_is_no_video(tmp_path):
    with pytest.raises(RecordingError, match="0 frames"):
        demo_video.write_video(tmp_path / "a.mp4", [], 5.0)


def small_painter(moments):
    from small_car import calibration
    return demo_video.Painter(calibration(), CLASSES, moments)


def scene(k: int, **pictures) -> Scene:
    return Scene(k, stamp(k), pictures, {}, EgoMotion())


def moment(k: int, output: dict | None) -> Moment:
    return Moment(k, truth(k), stamp(k), output)


def test_a_frame_shows_tracks_and_keeps_its_size():
    moments = [moment(0, row(0, truth(0).boxes, (1, 2, 3))), moment(2, None)]
    painter = small_painter(moments)
    picture = frames(stamp(0))["front"]
    found = painter.paint(scene(0, front=picture), moments[0])
    lost = painter.paint(scene(2, front=picture), moments[1])
    assert found.shape == lost.shape and found.dtype == np.uint8
    assert not any(side % 2 for side in found.shape[:2]), "a video wants even sizes"
    car = draw.CLASS_COLOURS["car"]
    assert (found[:, :720] == car).all(axis=-1).any()
    assert not (lost[:, :720] == car).all(axis=-1).any()
    assert (lost == demo_video.LOST).all(axis=-1).any(), "the lost output's bar"


def test_a_camera_that_did_not_contribute_says_why():
    output = row(0, truth(0).boxes, (1, 2, 3))
    fine = small_painter([moment(0, output)]).paint(scene(0), moment(0, output))
    output["status"]["sensor.front"] = "missing"
    missing = small_painter([moment(0, output)]).paint(scene(0), moment(0, output))
    assert not (fine == demo_video.LOST).all(axis=-1).any()
    assert (missing == demo_video.LOST).all(axis=-1).any()


def test_a_track_leaves_a_way_where_the_motion_is_known():
    from perception_bev.geometry import SE3

    ego = EgoMotion()
    ego.push(stamp(0), SE3.identity(), np.zeros(3), np.zeros(3))
    painter = small_painter([])
    canvas = draw.BevCanvas(demo_video.GRID, 7.0)
    for k in range(3):
        ego.push(stamp(k + 1), SE3.identity(), np.zeros(3), np.zeros(3))
        before = canvas.image.copy()
        painter._trails(canvas, Scene(k, stamp(k), {}, {}, ego), truth(4 * k).boxes,
                        np.array([1, 2, 3]))
    assert (canvas.image != before).any() and len(painter._ways[1]) == 3
    painter._trails(canvas, Scene(3, stamp(3), {}, {}, ego), truth(3).boxes[:1], np.array([1]))
    assert set(painter._ways) == {1}, "what is gone is forgotten"


def test_cameras_lie_as_one_looks_around():
    calibration = resolve(load_rig(resources.path("config/rigs/sim6.yaml")))
    assert draw.ring(calibration) == ["cam_front_left", "cam_front", "cam_front_right",
                                      "cam_back_left", "cam_back", "cam_back_right"]


def test_boxes_are_carried_by_their_own_motion_and_the_vehicles():
    from perception_bev.geometry import SE3

    boxes = truth(0).boxes
    now_from_then = SE3.from_rpy(np.array([-1.0, 0, 0]), np.zeros(3))  # the vehicle drove 1 m
    carried = draw.carried(boxes, now_from_then, 0.1)
    assert carried.centre[0, 0] == pytest.approx(boxes.centre[0, 0] + 0.5 - 1.0)
    assert carried.centre[1, 0] == pytest.approx(boxes.centre[1, 0] - 1.0)
    turned = draw.carried(boxes, SE3.from_rpy(np.zeros(3), np.array([0, 0, np.pi / 2])), 0.0)
    assert turned.velocity[0] == pytest.approx([0.0, 5.0], abs=1e-5)
    assert turned.yaw[0] == pytest.approx(np.pi / 2)


# -- plot and terminal -------------------------------------------------------------------------


def test_the_latency_plot_is_a_picture(tmp_path):
    rows = [row(k, truth(k).boxes, latency_ms=40.0 + k) for k in range(30)]
    picture = cv2.imread(str(plot_latency(tmp_path / "latency.png", rows, 1.0, "a run")))
    assert picture.shape[1] > 800 and picture.std() > 5


def figures_after(cycles: int) -> LiveFigures:
    counter = LiveCounter()
    for k in range(cycles):
        counter.objects(stamp(k), 3, 500.0 if k <= 10 else 40.0)
        counter.tracks(2)
        counter.status("degraded (x)", {"sensor.front": "missing", "sensor.top": "reused",
                                        "drops.top": "late 3, stale 1", "latency.total_ms": "1"})
    return counter.figures()


def test_live_figures_are_of_the_settled_run():
    figures = figures_after(30)
    assert figures.outputs == 30 and figures.rate_hz == pytest.approx(10.0)
    assert figures.p50_ms == figures.p99_ms == 40.0, "the first second is not timed"
    assert figures.missing == ("front",) and figures.drops == {"top": "late 3, stale 1"}


def test_a_line_of_figures_is_read_back_and_others_are_not():
    figures = figures_after(30)
    assert parse(f"[measure_node] {figures.line()}") == figures
    assert parse("[measure_node] -- started, process 7") is None


def test_before_the_first_output_there_are_no_numbers():
    assert "nan" not in repr(Display(1.0).table(LiveCounter().figures()).columns[1]._cells)


def test_without_a_terminal_there_are_lines_every_two_seconds():
    out = io.StringIO()
    with Display(3.0, Console(file=out, width=200)) as display:
        for cycles in range(1, 31):
            display.show(figures_after(cycles))
    lines = out.getvalue().splitlines()
    assert [line.split("s:")[0].strip() for line in lines] == ["0.0", "2.0"]
    assert "10.0 Hz" in lines[1] and "4 drops" in lines[1] and "degraded (x)" in lines[1]


def test_on_a_terminal_there_is_one_table():
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True)
    with Display(3.0, console) as display:
        display.show(figures_after(30))
    assert "2.9 of 3.0 s" in out.getvalue() and "top: late 3, stale 1" in out.getvalue()


def test_a_digest_tells_contents_apart():
    assert digest(b"abc") == digest(np.frombuffer(b"abc", np.uint8)) != digest(b"abd")
