"""Commands: outputs find the ground truth of their time, and the score is what they deserve."""

import numpy as np
import pytest
from live_rows import CLASSES, row, stamp, truth

from perception_bev.commands import demo_truth
from perception_bev.commands.demo_score import score
from perception_bev.commands.demo_truth import BagTruth, moments, played_as
from perception_bev.recordings.convert import convert

IDS = (11, 12, 13)
CYCLES = 30


def bag(count: int = CYCLES, **changes) -> list[BagTruth]:
    return [BagTruth(10**9 * k, f"digest {k}", truth(k, **changes)) for k in range(count)]


def received(count: int = CYCLES) -> list[tuple[int, str]]:
    return [(stamp(k), f"digest {k}") for k in range(count)]


def perfect(k: int, ids=IDS) -> dict:
    return row(k, truth(k).boxes, ids)


def scored(rows: list[dict], **changes) -> dict:
    return score(moments(bag(**changes), received(), rows), CLASSES)


# -- which truth -------------------------------------------------------------------------------


def test_a_played_truth_is_known_by_its_content():
    assert played_as(bag(4), [(1, "digest 1"), (2, "digest 3")]) == [(1, 1), (3, 2)]


def test_what_stands_still_is_taken_in_turn():
    still = [BagTruth(k, "same", truth(0)) for k in range(3)]
    assert played_as(still, [(7, "same"), (8, "same"), (9, "other")]) == [(0, 7), (1, 8)]


def test_an_output_belongs_to_the_truth_of_its_time():
    near, far = perfect(1), perfect(2)
    near["t_ref_ns"] += 4_000_000
    far["t_ref_ns"] += 6_000_000
    found = moments(bag(3), received(3), [perfect(0), near, far])
    assert [m.output and m.output["t_ref_ns"] for m in found] == [stamp(0), stamp(1) + 4_000_000,
                                                                  None]


def test_a_status_without_objects_is_no_output():
    only_status = {"t_ref_ns": stamp(0), "status": {}, "mode": "no output"}
    assert moments(bag(1), received(1), [only_status])[0].output is None


def test_truths_of_a_bag_are_read_with_their_content(tmp_path):
    from bag_scenes import SmallRecording

    recording = SmallRecording((3,))
    convert(recording, tmp_path / "bag")
    found = demo_truth.read_truths(tmp_path / "bag")
    assert len(found) == 3
    for k, each in enumerate(found):
        assert each.stamp_ns == recording[k].t_ref_ns
        assert np.allclose(each.truth.boxes.centre, recording[k].truth.boxes.centre)
    different = {each.digest for each, k in zip(found, range(3), strict=True)
                 if len(recording[k].truth.boxes)}
    assert len(different) == sum(len(recording[k].truth.boxes) > 0 for k in range(3))


def test_objects_of_a_class_that_the_model_lacks_are_left_out():
    boxes = demo_truth.objects_of({"boxes": [[0, 0, 0, 1, 1, 1, 0, 0.5, "tram"],
                                             [5, 0, 0, 1, 1, 1, 0, 0.5, "car"]]}, CLASSES)
    assert boxes.centre[:, 0].tolist() == [5] and boxes.label.tolist() == [0]


# -- what they deserve -------------------------------------------------------------------------


def test_a_perfect_run():
    report = scored([perfect(k) for k in range(CYCLES)])
    for name in ("objects", "tracks"):
        figures = report[name]
        assert figures["recall_2m"] == figures["precision_2m"] == 1.0
        assert figures["mAP_of_present_classes"] == pytest.approx(1.0)
        assert figures["mAP"] == pytest.approx(0.2), "two of ten classes are there"
    assert report["tracks"]["velocity_error_mps"] == pytest.approx(0.0)
    assert report["tracks"]["id_switches"] == 0 and report["tracks"]["objects"] == 3


def test_objects_have_no_velocity_and_that_is_no_number():
    assert scored([perfect(0)])["objects"]["velocity_error_mps"] is None


def test_without_tracks_there_are_no_figures_of_them():
    assert scored([row(k, truth(k).boxes) for k in range(CYCLES)])["tracks"] is None


def test_a_lost_output_is_one_that_found_nothing():
    report = scored([perfect(k) for k in range(0, CYCLES, 2)])["objects"]
    assert report["recall_2m"] == pytest.approx(0.5) and report["precision_2m"] == 1.0


def test_another_number_is_a_switch():
    rows = [perfect(k, IDS if k < 15 else (12, 11, 13)) for k in range(CYCLES)]
    assert scored(rows)["tracks"]["id_switches"] == 2


def test_a_wrong_velocity_is_measured_and_of_moving_objects_apart():
    rows = []
    for k in range(CYCLES):
        rows.append(perfect(k))
        rows[-1]["tracks"][0][8] += 3.0  # vx of the car that drives
    report = scored(rows)["tracks"]
    assert report["velocity_error_mps"] == pytest.approx(1.0)
    assert report["velocity_error_moving_mps"] == pytest.approx(3.0)


def test_a_box_beside_everything_is_wrong():
    made = []
    for k in range(CYCLES):
        boxes = truth(k).boxes
        boxes.centre[1, 1] += 3.0
        made.append(row(k, boxes))
    report = scored(made)["objects"]
    assert report["recall_2m"] == pytest.approx(2 / 3) == report["precision_2m"]


def test_a_box_on_what_no_sensor_sees_is_neither_right_nor_wrong():
    report = scored([perfect(k) for k in range(CYCLES)], seen=(9, 0, 9))["objects"]
    assert report["truths"] == report["found"] == 2 * CYCLES and report["wrong"] == 0
