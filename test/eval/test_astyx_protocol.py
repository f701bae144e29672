"""The protocol on scenes whose figures are known."""

import json

import numpy as np
import pytest
from eval_scenes import MODEL_CLASSES, boxes, found, frame, truth

from perception_bev.contracts import Boxes3D
from perception_bev.errors import ConfigError, ShapeMismatch
from perception_bev.eval.astyx_protocol import FrameResult, evaluate_cars


def all_aps(report) -> list[float]:
    return [*report.car_ap_3d.values(), *report.car_ap_bev.values(),
            *report.centre_distance_ap.values()]


def random_frames(n: int, seed: int) -> list[FrameResult]:
    """Cars 10 m apart, most of them found, some inventions, every role of truth."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        x = np.arange(8) * 10.0
        t = truth(x, rng.choice(["Car", "Car", "Car", "Truck", "Person"], 8).tolist(),
                  rng.integers(0, 3, 8), rng.random(8) > 0.1)
        p = found(np.append(x + rng.normal(0, 0.8, 8), rng.uniform(0, 80, 4)),
                  score=rng.random(12))
        frames.append(frame(p, t, rng.random(12) > 0.1))
    return frames


def test_truth_scores_everything():
    t = truth([10, 20, 30], occlusion=[0, 1, 2])
    report = evaluate_cars([frame(found([10, 20, 30]), t)])
    assert all_aps(report) == pytest.approx([100.0] * 10)
    assert report.cars == {"easy": 1, "moderate": 2, "hard": 3} and report.frames == 1
    assert report.errors == {"translation": 0, "scale": 0, "yaw": 0, "heading_right": 1,
                             "true_positives": 3, "heading_of": 3}


def test_saying_nothing_scores_nothing():
    report = evaluate_cars([frame(Boxes3D.empty(MODEL_CLASSES), truth([10]))])
    assert all_aps(report) == [0.0] * 10
    assert np.isnan(report.errors["translation"]) and np.isnan(report.errors["heading_right"])


def test_boxes_that_face_the_wrong_way_cost_no_ap():
    report = evaluate_cars([frame(found([10, 20], yaw=np.pi), truth([10, 20]))])
    assert all_aps(report) == pytest.approx([100.0] * 10)
    assert report.errors["heading_right"] == 0
    assert report.errors["yaw"] == pytest.approx(0, abs=1e-6)


def test_iou_threshold():
    """Shift s along 4 m: IoU (4 - s) / (4 + s), 0.5 at 4/3 m."""
    near = evaluate_cars([frame(found([11.32]), truth([10]))])
    far = evaluate_cars([frame(found([11.35]), truth([10]))])
    assert near.car_ap_bev["easy"] == near.car_ap_3d["easy"] == 100
    assert far.car_ap_bev["easy"] == far.car_ap_3d["easy"] == 0


def test_height_costs_3d_only():
    report = evaluate_cars([frame(found([10], z=1.0), truth([10]))])
    assert report.car_ap_bev["hard"] == 100 and report.car_ap_3d["hard"] == 0
    assert report.centre_distance_ap["0.5"] == 100


def test_centre_distance():
    report = evaluate_cars([frame(found([10.7]), truth([10]))])
    assert report.centre_distance_ap == {"0.5": 0, "1": pytest.approx(100), "2": pytest.approx(100),
                                         "4": pytest.approx(100)}
    assert report.errors["translation"] == pytest.approx(0.7, abs=1e-5)


def test_invention_with_the_highest_score_halves_precision():
    report = evaluate_cars([frame(found([10, 40], score=[0.5, 0.9]), truth([10]))])
    assert report.car_ap_3d["easy"] == report.car_ap_bev["easy"] == pytest.approx(50)


@pytest.mark.parametrize("other", [
    {"names": ["Car", "Truck"]},  # another vehicle
    {"occlusion": [0, 3]},  # harder than hard
    {"counted": [True, False]},  # outside of range or image
])
def test_ignored_truth_is_neither_missed_nor_a_false_positive(other):
    t = truth([10, 40], **other)
    both = evaluate_cars([frame(found([10, 40], score=[0.5, 0.9]), t)])
    one = evaluate_cars([frame(found([10]), t)])
    assert all_aps(both) == all_aps(one) == pytest.approx([100.0] * 10)
    assert both.errors["true_positives"] == both.errors["heading_of"] == 1


def test_harder_cars_count_where_they_belong():
    """The found car is moderate, the easy one is missed."""
    report = evaluate_cars([frame(found([40]), truth([10, 40], occlusion=[0, 1]))])
    assert report.car_ap_3d == {"easy": 0, "moderate": pytest.approx(50), "hard": pytest.approx(50)}


def test_car_found_on_a_person_is_an_invention():
    t = truth([10, 40], ["Car", "Person"])
    report = evaluate_cars([frame(found([10, 40], score=[0.5, 0.9]), t)])
    assert report.car_ap_bev["easy"] == pytest.approx(50)


def test_other_classes_of_the_model_are_not_scored():
    p = found([10, 10, 40], names=["car", "truck", "truck"], score=[0.5, 0.9, 0.9])
    assert all_aps(evaluate_cars([frame(p, truth([10]))])) == pytest.approx([100.0] * 10)


def test_invention_outside_the_region_is_not_scored():
    p, t = found([10, 90], score=[0.5, 0.9]), truth([10])
    assert all_aps(evaluate_cars([frame(p, t, in_view=[1, 0])])) == pytest.approx([100.0] * 10)
    assert evaluate_cars([frame(p, t)]).car_ap_3d["easy"] == pytest.approx(50)


def test_second_box_on_a_car_is_a_false_positive():
    p = found([10, 10.2, 40], score=[0.9, 0.8, 0.7])
    report = evaluate_cars([frame(p, truth([10, 40]))])
    assert report.car_ap_bev["easy"] == pytest.approx((20 + 20 * 2 / 3) / 40 * 100)


def test_scores_are_compared_across_frames():
    """The invention in one frame outranks the find in the other."""
    frames = [frame(found([10], score=[0.5]), truth([10])),
              frame(found([10], score=[0.9]), truth([]))]
    assert evaluate_cars(frames).car_ap_3d["easy"] == pytest.approx(50)


def test_order_of_frames_and_boxes_does_not_matter():
    frames = random_frames(20, seed=0)
    report = evaluate_cars(frames)
    assert 5 < report.car_ap_3d["hard"] < 95
    rng = np.random.default_rng(1)
    mixed = []
    for i in rng.permutation(20):
        order = rng.permutation(12)
        mixed.append(FrameResult(frames[i].predictions[order], frames[i].truth,
                                 frames[i].predicted_in_view[order]))
    assert all_aps(evaluate_cars(mixed)) == pytest.approx(all_aps(report))


def test_wider_thresholds_and_more_distance_find_more():
    report = evaluate_cars(random_frames(20, seed=2))
    assert list(report.centre_distance_ap.values()) == sorted(report.centre_distance_ap.values())
    assert all(report.car_ap_3d[d] <= report.car_ap_bev[d] + 1e-9 for d in report.car_ap_3d)


def test_json_has_null_where_nothing_was_to_be_found():
    report = evaluate_cars([frame(found([10]), truth([], []))])
    plain = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert plain["car_ap_3d"] == {"easy": None, "moderate": None, "hard": None}
    assert plain["centre_distance_ap"] == {"0.5": None, "1": None, "2": None, "4": None}
    assert plain["errors"]["yaw"] is None and plain["frames"] == 1


def test_no_frames():
    report = evaluate_cars([], resamples=5)
    assert report.frames == 0 and all(np.isnan(all_aps(report)))


def test_intervals_enclose_the_figure_and_repeat():
    frames = random_frames(30, seed=3)
    report = evaluate_cars(frames, resamples=50)
    for table in ("car_ap_3d", "car_ap_bev", "centre_distance_ap"):
        for column, value in getattr(report, table).items():
            low, high = report.interval_90[table][column]
            assert low < value < high
    assert evaluate_cars(frames, resamples=50).interval_90 == report.interval_90
    assert evaluate_cars(frames, resamples=50, seed=1).interval_90 != report.interval_90
    assert evaluate_cars(frames).interval_90 == {}


def test_frames_of_one_group_are_drawn_together():
    """Copies of a frame are no news: the interval of 4 groups of 10 copies is that of 4 frames."""
    few = random_frames(4, seed=4)
    copies = [f for f in few for _ in range(10)]
    grouped = evaluate_cars(copies, 80, groups=np.repeat([3, 1, 8, 5], 10)).interval_90
    alone = evaluate_cars(copies, 80).interval_90
    (low, high), (near, far) = grouped["car_ap_bev"]["hard"], alone["car_ap_bev"]["hard"]
    assert high - low > 1.5 * (far - near)


def test_interval_without_anything_to_find():
    report = evaluate_cars([frame(found([10]), truth([]))], resamples=3)
    assert report.as_json()["interval_90"]["car_ap_3d"]["easy"] == [None, None]


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="no class 'car'; it has: pedestrian"):
        frame(boxes([], ("pedestrian",), []), truth([10]))
    with pytest.raises(ShapeMismatch, match="finite"):
        frame(found([np.nan]), truth([10]))
    with pytest.raises(ShapeMismatch, match="predicted_in_view"):
        frame(found([10]), truth([10]), in_view=[1, 1])
    with pytest.raises(ShapeMismatch, match="2 groups for 1 frames"):
        evaluate_cars([frame(found([10]), truth([10]))], groups=[0, 1])
