"""Tracking figures on scenes whose figures are known."""

import builtins

import numpy as np
import pytest
import track_cases
from eval_scenes import boxes

from perception_bev.errors import PerceptionError, RecordingError, ShapeMismatch
from perception_bev.eval.nuscenes_protocol import CLASSES
from perception_bev.eval.tracking import TrackedSample, evaluate_tracks, figures_of
from perception_bev.recordings.base import Truth, Visibility

pytest.importorskip("motrics", reason="tracking figures need motrics")

# What TrackEval 1.3.0 says of track_cases: HOTA, DetA, AssA, MOTA, IDF1, id switches,
# fragmentations, mostly tracked, mostly lost.
TRACKEVAL = {
    "chance 0": (0.107695773, 0.231552675, 0.05076486, -0.643076923, 0.183060109,
        128, 66, 0, 0),
    "chance 1": (0.091693821, 0.194422765, 0.043949674, -0.612794613, 0.153110048,
        100, 47, 0, 0),
    "chance 2": (0.097224716, 0.196326023, 0.048678476, -0.928301887, 0.157503715,
        104, 68, 0, 0),
    "chance 3": (0.114918677, 0.255511922, 0.052164737, -0.567073171, 0.176066025,
        133, 65, 0, 0),
    "street 1 m": (0.522379235, 0.677711082, 0.402708166, 0.598794063, 0.740437158,
        215, 381, 21, 0),
    "street 3 m": (0.565653982, 0.671764343, 0.476392764, 0.620593692, 0.737249545,
        140, 389, 24, 0),
    "street 8 m": (0.597872504, 0.662387795, 0.539685073, 0.640074212, 0.735883424,
        74, 412, 23, 0)}


@pytest.mark.parametrize("name", TRACKEVAL)
def test_equals_trackeval(name):
    of = figures_of(*track_cases.cases()[name])
    ours = (of.HOTA, of.DetA, of.AssA, of.MOTA, of.IDF1, of.id_switches, of.fragmentations,
            of.mostly_tracked, of.mostly_lost)
    assert ours == pytest.approx(TRACKEVAL[name], abs=1e-8)


def drive(true_x, found_x, ids, unseen=(), names=None, sequence=0) -> list[TrackedSample]:
    """Samples of objects at x = 0, 10, 20, ... or found_x[t], None: not there."""
    samples = []
    for t in range(len(found_x)):
        hidden = np.array([i in dict(unseen).get(t, ()) for i in range(len(true_x))])
        points = np.where(hidden, 0, 5).astype(np.int32)
        n = len(true_x)
        truth = Truth(boxes(true_x, CLASSES, names), points * 0, points >= 0,
                      np.arange(n) + 7, Visibility(points, points * 0, points))
        there = [i for i, x in enumerate(found_x[t]) if x is not None]
        samples.append(TrackedSample(
            sequence, boxes([found_x[t][i] for i in there], CLASSES,
                            None if names is None else [names[i] for i in there]),
            np.array([ids[t][i] for i in there], np.int64), truth))
    return samples


X = [0, 10, 20]


def all_of(samples) -> dict:
    return evaluate_tracks(samples)["all"]


def test_truth_is_perfect():
    figures = evaluate_tracks(drive(X, [X] * 5, [[1, 2, 3]] * 5))
    of = figures["all"]
    assert [of[k] for k in ("HOTA", "DetA", "AssA", "MOTA", "IDF1")] == pytest.approx([1] * 5)
    assert of["id_switches"] == of["fragmentations"] == of["mostly_lost"] == 0
    assert of["mostly_tracked"] == of["objects"] == of["tracks"] == 3
    assert figures["car"] == of and set(figures) == {"all", "car"}


def test_nothing_tracked():
    of = all_of(drive(X, [[None] * 3] * 4, [[0] * 3] * 4))
    assert of["HOTA"] == of["MOTA"] == of["IDF1"] == 0 and of["mostly_lost"] == 3
    assert all_of([])["objects"] == 0


def test_an_exchange_of_ids_is_two_switches():
    ids = [[1, 2, 3]] * 3 + [[2, 1, 3]] * 3
    of = all_of(drive(X, [X] * 6, ids))
    assert of["id_switches"] == 2 and of["DetA"] == pytest.approx(1) and of["AssA"] < 0.8
    assert of["MOTA"] == pytest.approx(1 - 2 / 18)


def test_an_id_that_comes_back_is_no_switch_and_a_new_one_is():
    gap = [X, X, [0, None, 20], [0, None, 20], X, X]
    same = all_of(drive(X, gap, [[1, 2, 3]] * 6))
    new = all_of(drive(X, gap, [[1, 2, 3]] * 4 + [[1, 9, 3]] * 2))
    assert (same["id_switches"], new["id_switches"]) == (0, 1)
    assert same["fragmentations"] == 1 and same["IDF1"] > new["IDF1"]


def test_what_no_sensor_sees_is_neither_missed_nor_wrong():
    unseen = {2: (1,), 3: (1,)}
    coasting = all_of(drive(X, [X] * 6, [[1, 2, 3]] * 6, unseen))
    silent = all_of(drive(X, [X, X, [0, None, 20], [0, None, 20], X, X], [[1, 2, 3]] * 6, unseen))
    assert coasting == silent and coasting["MOTA"] == coasting["HOTA"] == pytest.approx(1)
    other = all_of(drive(X, [X] * 6, [[1, 2, 3]] * 4 + [[1, 9, 3]] * 2, unseen))
    assert other["id_switches"] == 1


def test_two_metres_are_the_limit():
    near = all_of(drive([0], [[1.99]] * 3, [[1]] * 3))
    far = all_of(drive([0], [[2.05]] * 3, [[1]] * 3))
    assert near["MOTA"] == pytest.approx(1) and far["MOTA"] == pytest.approx(-1)


def test_classes_do_not_match_each_other():
    names = ["car", "pedestrian", "traffic_cone"]
    samples = drive(X, [X] * 3, [[1, 2, 3]] * 3, names=names)
    figures = evaluate_tracks(samples)
    assert set(figures) == {"all", "car", "pedestrian"} and figures["all"]["objects"] == 2
    mixed = [TrackedSample(0, boxes(X, CLASSES, ["pedestrian", "car", "car"]), s.id, s.truth)
             for s in samples]
    assert all_of(mixed)["HOTA"] == 0


def test_ids_of_other_drives_are_others():
    one, two = (drive(X, [X] * 4, [[1, 2, 3]] * 4, sequence=i) for i in (0, 1))
    again = drive(X, [X] * 4, [[3, 1, 2]] * 4, sequence=1)
    assert all_of(one + two) == all_of(one + again)
    assert all_of(one + again)["objects"] == 6 and all_of(one + again)["HOTA"] == pytest.approx(1)


def test_a_drive_of_chance_equals_its_two_halves_counted_together():
    """Counts add up over drives."""
    rng = np.random.default_rng(0)

    def made(sequence):
        found = [[x + rng.normal(0, 1.2) if rng.random() > 0.2 else None for x in X]
                 for _ in range(30)]
        return drive(X, found, rng.integers(0, 5, (30, 3)).tolist(), sequence=sequence)
    drives = made(0), made(1)
    a, b = map(all_of, drives)
    both = all_of(drives[0] + drives[1])
    for key in ("id_switches", "fragmentations", "mostly_tracked", "objects", "tracks"):
        assert both[key] == a[key] + b[key]
    assert min(a["HOTA"], b["HOTA"]) < both["HOTA"] < max(a["HOTA"], b["HOTA"])


def test_missing_library_and_truth_are_said(monkeypatch):
    truth = Truth(boxes(X, CLASSES), np.zeros(3, np.int32), np.ones(3, bool))
    with pytest.raises(RecordingError, match="no tracks"):
        TrackedSample(0, boxes(X, CLASSES), np.arange(3), truth)
    with pytest.raises(ShapeMismatch, match=r"TrackedSample\.id"):
        TrackedSample(0, boxes(X, CLASSES), np.arange(2), truth)
    real = builtins.__import__

    def without(name, *args, **options):
        if name == "motrics":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PerceptionError, match="need motrics: make setup"):
        evaluate_tracks([])
