"""Passes over drives and what is reported of them, with a detector whose abilities are known."""

import json

import numpy as np
import pytest
from test_hidden import sample

from perception_bev.errors import RecordingError
from perception_bev.eval import tracking
from perception_bev.eval.drive_report import (
    Pass,
    collected,
    evaluate_drives,
    hidden_figures,
    passes_of,
)
from perception_bev.eval.nuscenes_protocol import CLASSES

pytest.importorskip("motrics", reason="tracking figures need motrics")
ALL = ("camera", "lidar", "radar")
CAMERAS = ("front", "back")
X = [10.0, 15.0, 20.0, 25.0, 30.0, 35.0]
SAMPLES = [sample(t, X, [1, 1, 1, 1, 1, t % 4 != 3]) for t in range(12)]


def knowing(each: Pass):
    """Finds car 0 with anything, 1 with lidar, 2 with radar, 3 with every camera, 4 always too,
    and 5 while it is seen or with memory; without memory all velocities are off."""
    able = [True, "lidar" in each.sensors, "radar" in each.sensors,
            "camera" in each.sensors and not each.lost, True]
    for made in SAMPLES:
        seen = made.truth.seen.lidar_points[5] > 0
        boxes = made.truth.boxes[np.array([*able, seen or each.memory])]
        speed = np.full((len(boxes), 2), 0.0 if each.memory else 0.5, np.float32)
        yield made, type(boxes)(boxes.centre, boxes.size, boxes.yaw, boxes.score, boxes.label,
                                CLASSES, speed)


@pytest.fixture(scope="module")
def report():
    for made in SAMPLES:
        made.truth.boxes.velocity[:] = 0.0
    return evaluate_drives(passes_of(ALL, CAMERAS, True, True), knowing, len(SAMPLES), 0.2)


def test_passes():
    names = [each.name for each in passes_of(ALL, CAMERAS, True, True)]
    assert names == ["camera+lidar+radar", "without memory", "camera", "lidar", "radar",
                     "camera+lidar", "camera+radar", "lidar+radar", "without front",
                     "without back"]
    assert [each.name for each in passes_of(ALL, CAMERAS, False, True)] == names[:2]
    assert [each.name for each in passes_of(("lidar",), CAMERAS, True, False)] == ["lidar"]
    assert passes_of(ALL, CAMERAS, True, True)[-1].lost == ("back",)


def test_the_tracker_is_set_as_on_the_vehicle(monkeypatch):
    """There, boxes from the published score on are sure ones."""
    given, track = [], tracking.track
    monkeypatch.setattr(tracking, "track", lambda *args: given.append(args[1]) or track(*args))
    evaluate_drives(passes_of(ALL, CAMERAS, False, True), knowing, len(SAMPLES), 0.34)
    assert [(each.sure_score, each.faint_score) for each in given] == [(0.34, 0.17)]


def test_every_required_key_is_there(report):
    plain = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert {"mAP", "NDS", "mAVE", "per_class"} <= set(plain)
    assert {"mAP", "NDS", "mAVE"} <= set(plain["without_memory"])
    assert set(plain["subsets"]) == {"camera", "lidar", "radar", "camera+lidar", "camera+radar",
                                     "lidar+radar", "camera+lidar+radar"}
    assert set(plain["cameras_lost"]) == set(CAMERAS)
    assert plain["subsets"]["camera+lidar+radar"]["mAP"] == plain["mAP"]
    assert plain["baseline"] is None and plain["tracking"]["all"]["id_switches"] == 0


def test_figures_are_of_their_passes(report):
    aps = {name: each.per_class["car"].ap for name, each in report.subsets.items()}
    assert aps["camera+lidar+radar"] == max(aps.values()) > aps["camera+lidar"] > aps["lidar"]
    assert aps["lidar"] == aps["radar"] == aps["camera"]
    assert report.shares["lidar_lost"] == pytest.approx(aps["camera+radar"]
                                                        / aps["camera+lidar+radar"])
    assert set(report.shares) == {"camera_lost", "lidar_lost", "radar_lost", "front_lost",
                                  "back_lost"}
    assert report.adds["radar"]["mAP"] == pytest.approx(
        report.whole.mean_ap - report.subsets["camera+lidar"].mean_ap)


def test_memory_is_measured(report):
    figures = report.as_json()
    assert figures["memory_adds"]["mAVE"] < 0 and 0 < figures["memory_adds"]["mAVE_lower_by"] < 1
    hidden = figures["hidden"]
    assert hidden["objects"] == 3
    for point in ("at_published_score", "at_equal_boxes"):
        assert hidden[point]["with_memory"]["recall"] == 1
        assert hidden[point]["without_memory"]["recall"] == 0


def test_a_model_without_memory_has_no_second_pass():
    report = evaluate_drives(passes_of(("lidar",), (), False, False), knowing, len(SAMPLES), 0.2)
    plain = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert plain["without_memory"] is None and plain["memory_adds"] is None
    assert plain["shares_of_full_mAP"] == {} and plain["cameras_lost"] == {}
    assert set(plain["hidden"]["at_equal_boxes"]) == {"with_memory"}


def test_equal_boxes_are_as_many_as_objects():
    """A run with many faint inventions is cut where it has as many boxes as there are objects."""
    runs = {True: list(knowing(Pass("all", ALL)))}
    point = hidden_figures(runs, 0.2)["at_equal_boxes"]["with_memory"]
    assert point["boxes_per_sample"] == pytest.approx(6)


def test_missing_samples_are_said():
    with pytest.raises(RecordingError, match="11 of 12 samples"):
        collected(list(knowing(Pass("all", ALL)))[:-1], 12)
