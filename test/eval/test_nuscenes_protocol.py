"""The detection task of nuScenes: equal to nuscenes-devkit, and by hand."""

import json
from pathlib import Path

import devkit_cases
import numpy as np
import pytest
from eval_scenes import boxes

from perception_bev.contracts import Boxes3D
from perception_bev.errors import ConfigError, ShapeMismatch
from perception_bev.eval.nuscenes_protocol import (
    CLASSES,
    NuscenesReport,
    SampleResult,
    check_classes,
    evaluate,
)
from perception_bev.recordings.base import Truth, Visibility

ORACLE = json.loads((Path(__file__).parent / "devkit_oracle.json").read_text())["cases"]
CASES = devkit_cases.cases()
ERROR_NAMES = {"trans_err": "ATE", "scale_err": "ASE", "orient_err": "AOE", "vel_err": "AVE",
               "attr_err": "AAE"}
TOLERANCE = 1e-6


def sample(found: Boxes3D, true: Boxes3D, points=None) -> SampleResult:
    n = len(true)
    points = np.ones(n, np.int32) if points is None else np.asarray(points, np.int32)
    return SampleResult(found, Truth(true, np.zeros(n, np.int32), np.ones(n, bool), None,
                                     Visibility(points, points * 0, points)))


def cars(x, **options) -> Boxes3D:
    return boxes(x, CLASSES, **options)


def flat(report: NuscenesReport) -> dict[str, float]:
    """Every figure under one name, as `expected` names them."""
    figures = {"mAP": report.mean_ap, "NDS": report.nds, **report.mean_errors}
    for name, of in report.per_class.items():
        figures |= {f"{name} AP {d}": ap for d, ap in of.ap_at.items()}
        figures |= {f"{name} {error}": value for error, value in of.errors.items()}
    return figures


def expected(of: dict) -> dict[str, float]:
    """The devkit's figures under our names."""
    figures = {"mAP": of["mean_ap"], "NDS": of["nd_score"]}
    figures |= {f"m{ERROR_NAMES[k]}": v for k, v in of["tp_errors"].items()}
    for name in CLASSES:
        figures |= {f"{name} AP {float(d):g}": ap for d, ap in of["label_aps"][name].items()}
        figures |= {f"{name} {ERROR_NAMES[k]}": float("nan") if v is None else v
                    for k, v in of["label_tp_errors"][name].items()}
    return figures


# -- the published evaluation ----------------------------------------------------------------------

@pytest.mark.parametrize("name", CASES)
def test_equals_nuscenes_devkit(name):
    assert devkit_cases.digest(CASES[name]) == ORACLE[name]["inputs_sha256"], "other inputs"
    ours, theirs = flat(evaluate(CASES[name])), expected(ORACLE[name])
    assert ours.keys() == theirs.keys() and len(ours) == 2 + 5 + 10 * (4 + 5)
    wrong = {key: (ours[key], theirs[key]) for key in ours
             if not np.isclose(ours[key], theirs[key], rtol=0, atol=TOLERANCE, equal_nan=True)}
    assert not wrong


def test_the_oracle_has_every_case_and_tells_them_apart():
    assert set(ORACLE) == set(CASES)
    assert len({round(case["nd_score"], 6) for case in ORACLE.values()}) == len(ORACLE)


@pytest.mark.parametrize("spoil", [
    lambda s: devkit_cases.changed(s, score=np.sqrt(s.score)[::-1].copy()),
    lambda s: devkit_cases.changed(s, centre=s.centre + np.float32(0.01)),
    lambda s: devkit_cases.changed(s, yaw=s.yaw + np.float32(0.01)),
    lambda s: devkit_cases.changed(s, velocity=s.velocity * np.float32(1.01)),
    lambda s: s[:-1]])
def test_the_comparison_can_fail(spoil):
    made = [devkit_cases.with_boxes(s, spoil(s.predictions)) for s in CASES["ordinary"]]
    ours, theirs = flat(evaluate(made)), expected(ORACLE["ordinary"])
    assert any(abs(ours[key] - theirs[key]) > TOLERANCE for key in ours if key.startswith("m"))


def test_equal_scores_are_sorted_as_published():
    """The order of the input matters only where scores are equal."""
    backwards = [devkit_cases.with_boxes(s, s.predictions[::-1]) for s in CASES["one_score"]]
    assert evaluate(backwards).mean_ap != evaluate(CASES["one_score"]).mean_ap
    backwards = [devkit_cases.with_boxes(s, s.predictions[::-1]) for s in CASES["ordinary"]]
    assert flat(evaluate(backwards)) == pytest.approx(flat(evaluate(CASES["ordinary"])),
                                                      nan_ok=True)


# -- by hand ---------------------------------------------------------------------------------------

def test_truth_scores_everything_but_attributes():
    every = cars(np.arange(10.0) * 2.5, names=list(CLASSES))
    velocity = np.ones((10, 2), np.float32)
    every = Boxes3D(every.centre, every.size, every.yaw, every.score, every.label, CLASSES,
                    velocity)
    report = evaluate([sample(every, every)])
    assert report.mean_ap == pytest.approx(1) and report.nds == pytest.approx(0.9)
    assert report.mean_errors == {"mATE": 0, "mASE": 0, "mAOE": 0, "mAVE": 0, "mAAE": 1}
    assert report.classes_without_truth == ()


def test_saying_nothing_scores_nothing():
    report = evaluate([sample(Boxes3D.empty(CLASSES), cars([10]))])
    assert report.mean_ap == report.nds == 0 and set(report.mean_errors.values()) == {1}
    assert evaluate([]).nds == 0


def test_nothing_true_is_said_and_counts_as_zero():
    report = evaluate([sample(cars([10]), cars([10]))])
    assert report.per_class["car"].ap == pytest.approx(1)
    assert report.mean_ap == pytest.approx(0.1) and report.mean_ap_of_present == pytest.approx(1)
    assert set(report.classes_without_truth) == set(CLASSES) - {"car"}


@pytest.mark.parametrize("name, reach", [("car", 50), ("pedestrian", 40), ("barrier", 30)])
def test_ranges(name, reach):
    """What is at the range or beyond is not there, for truth and for predictions."""
    inside, outside = reach - 0.01, float(reach)
    true = cars([inside, outside], names=[name] * 2)
    of = evaluate([sample(cars([inside, outside + 5], names=[name] * 2), true)]).per_class[name]
    assert (of.ground_truths, of.predictions) == (1, 1) and of.ap == pytest.approx(1)


def test_truth_that_no_sensor_has_is_nothing():
    """A box on it is an invention, as for the published task."""
    found = cars([10, 20], score=[0.5, 0.9])
    hidden = evaluate([sample(found, cars([10, 20]), points=[1, 0])]).per_class["car"]
    absent = evaluate([sample(found, cars([10]))]).per_class["car"]
    assert hidden.ground_truths == 1 and hidden.ap == absent.ap < 0.5


def test_without_visibility_the_recording_says_what_counts():
    true = cars([10, 20])
    counted = Truth(true, np.zeros(2, np.int32), np.array([True, False]))
    assert evaluate([SampleResult(cars([10]), counted)]).per_class["car"].ground_truths == 1


def test_distances():
    of = evaluate([sample(cars([10.7]), cars([10]))]).per_class["car"]
    assert of.ap_at == pytest.approx({"0.5": 0, "1": 1, "2": 1, "4": 1})
    assert of.errors["ATE"] == pytest.approx(0.7, abs=1e-5)
    of = evaluate([sample(cars([12]), cars([10]))]).per_class["car"]
    assert of.ap_at == pytest.approx({"0.5": 0, "1": 0, "2": 0, "4": 1}), "2 m is not within 2 m"


@pytest.mark.parametrize("name, turned, error", [
    ("car", np.pi, np.pi), ("car", 0.3, 0.3), ("car", -0.3, 0.3), ("pedestrian", np.pi, np.pi),
    ("barrier", np.pi, 0), ("barrier", np.pi / 2, np.pi / 2), ("barrier", np.pi - 0.3, 0.3)])
def test_heading_has_a_front_except_for_barriers(name, turned, error):
    found = cars([10], names=[name], yaw=turned)
    of = evaluate([sample(found, cars([10], names=[name]))]).per_class[name]
    assert of.errors["AOE"] == pytest.approx(error, abs=1e-5)


def test_cones_and_barriers_lack_errors():
    report = evaluate([sample(cars([10]), cars([10]))])
    missing = {name: [error for error, value in of.errors.items() if np.isnan(value)]
               for name, of in report.per_class.items()}
    assert missing.pop("traffic_cone") == ["AOE", "AVE", "AAE"]
    assert missing.pop("barrier") == ["AVE", "AAE"]
    assert not any(missing.values())


def test_a_model_without_velocity_has_an_error_of_one():
    report = evaluate([sample(cars([10]), CASES["ordinary"][0].truth.boxes)])
    assert report.mean_errors["mAVE"] == 1


def test_names_are_compared_without_case():
    found = boxes([10], ("Car", "Lorry"))
    assert evaluate([sample(found, cars([10]))]).per_class["car"].ap == pytest.approx(1)
    with pytest.raises(ConfigError, match="none of the classes Lorry is one of nuScenes'"):
        check_classes(["Lorry"])
    check_classes(["Lorry", "Bus"])


def test_json_has_every_figure_and_no_nan():
    plain = json.loads(json.dumps(evaluate(CASES["ordinary"]).as_json(), allow_nan=False))
    assert {"mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE", "per_class"} <= set(plain)
    assert plain["per_class"]["traffic_cone"]["AVE"] is None
    assert set(plain["per_class"]) == set(CLASSES) and plain["samples"] == 30


def test_bad_input_is_refused():
    with pytest.raises(ShapeMismatch, match="finite"):
        sample(cars([np.nan]), cars([10]))
    with pytest.raises(ShapeMismatch, match="finite"):
        sample(cars([10], score=[np.nan]), cars([10]))
    with pytest.raises(ShapeMismatch, match="501 boxes; the task takes 500"):
        sample(cars(np.zeros(501)), cars([10]))
    flatter = cars([10])
    with pytest.raises(ShapeMismatch, match="size"):
        sample(devkit_cases.changed(flatter, size=flatter.size * 0), cars([10]))
