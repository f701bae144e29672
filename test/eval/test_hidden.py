"""Hidden objects and their recall, on scenes whose figures are known."""

from dataclasses import replace

import numpy as np
import pytest
from eval_scenes import boxes

from perception_bev.contracts import Boxes3D
from perception_bev.errors import RecordingError
from perception_bev.eval import hidden
from perception_bev.eval.nuscenes_protocol import CLASSES
from perception_bev.recordings.base import Sample, Truth, Visibility

PERIOD_NS = 100_000_000


def sample(t: int, x, seen, names=None, sequence: int = 0, sensor: str = "lidar_points") -> Sample:
    n = len(x)
    none = np.zeros(n, np.int32)
    visible = {"lidar_points": none, "radar_returns": none, "pixels": none,
               sensor: np.asarray(seen, np.int32)}
    truth = Truth(boxes(x, CLASSES, names), none, np.ones(n, bool), np.arange(n),
                  Visibility(**visible))
    return Sample(str(t), sequence, t * PERIOD_NS, {}, truth)


def hidden_at(samples) -> list[list[int]]:
    return [np.flatnonzero(each).tolist() for each in hidden.hidden_now(samples)]


def cars(x, score=None) -> Boxes3D:
    return boxes(x, CLASSES, score=score)


@pytest.mark.parametrize("sensor", ["lidar_points", "radar_returns", "pixels"])
def test_hidden_is_unseen_now_and_seen_lately(sensor):
    seen = [1, 0, 0, 3, 0]
    assert hidden_at([sample(t, [10], [s], sensor=sensor) for t, s in enumerate(seen)]) == [
        [], [0], [0], [], [0]]


def test_after_a_second_it_is_gone():
    samples = [sample(t, [10], [t == 0]) for t in range(14)]
    assert [bool(each) for each in hidden_at(samples)] == [False] + [True] * 10 + [False] * 3


def test_never_seen_is_not_hidden_nor_is_what_another_drive_saw():
    assert hidden_at([sample(0, [10], [0]), sample(1, [10], [0])]) == [[], []]
    assert hidden_at([sample(0, [10], [1]), sample(1, [10], [0], sequence=1)]) == [[], []]


def test_out_of_range_does_not_count():
    """A pedestrian's range ends at 40 m, a car's at 50 m."""
    names = ["car", "pedestrian", "car"]
    samples = [sample(t, [45, 45, 55], [t == 0] * 3, names) for t in range(2)]
    assert hidden_at(samples) == [[], [0]]


def test_recall_counts_hidden_objects_only():
    samples = [sample(0, [10, 20, 30], [1, 1, 1]), sample(1, [10, 20, 30], [1, 0, 0])]
    wanted = hidden.hidden_now(samples)
    found = [cars([10, 20, 30]), cars([10, 21])]
    of = hidden.recall(samples, found, wanted, 0.0)
    assert (of.found, of.of, of.share, of.boxes_per_sample) == (1, 2, 0.5, 2.5)


def test_the_box_of_a_seen_neighbour_is_not_the_hidden_ones():
    samples = [sample(t, [10, 11.5], [1, t == 0]) for t in range(2)]
    wanted = hidden.hidden_now(samples)
    assert hidden.recall(samples, [cars([]), cars([10.1])], wanted, 0.0).found == 0
    assert hidden.recall(samples, [cars([]), cars([10.1, 11.4])], wanted, 0.0).found == 1
    assert hidden.recall(samples, [cars([]), cars([11.4])], wanted, 0.0).found == 1


def test_score_and_class_and_distance_matter():
    samples = [sample(t, [10], [t == 0]) for t in range(2)]
    wanted = hidden.hidden_now(samples)
    for box, score, hits in ((cars([10], [0.3]), 0.3, 1), (cars([10], [0.29]), 0.3, 0),
                             (cars([12.01]), 0.0, 0),
                             (boxes([10], CLASSES, ["truck"]), 0.0, 0)):
        assert hidden.recall(samples, [cars([]), box], wanted, score).found == hits


def test_equal_numbers_of_boxes():
    found = [cars([10, 20, 90], [0.9, 0.5, 0.99]), cars([10, 20], [0.8, 0.1])]
    for per_sample in (0.5, 1.0, 1.5):
        score = hidden.score_of(found, per_sample)
        kept = sum(int((each.score >= np.float32(score)).sum()) for each in found)
        assert kept == 2 * per_sample + 1, "and the one beyond the range, which does not count"
    assert hidden.score_of(found, 9.0) == 0.0 and hidden.score_of([], 9.0) == 0.0


def test_a_perfect_model_has_as_many_boxes_as_there_are_objects():
    samples = [sample(0, [10, 20, 90], [1, 0, 1]), sample(1, [10, 20, 90], [0, 0, 1])]
    assert hidden.objects_per_sample(samples, hidden.hidden_now(samples)) == 1.0


def test_nothing_hidden_has_no_recall():
    samples = [sample(0, [10], [1])]
    of = hidden.recall(samples, [cars([10])], hidden.hidden_now(samples), 0.0)
    assert of.of == 0 and np.isnan(of.share)


def test_truth_without_tracks_or_visibility_is_said():
    whole = sample(0, [10], [1])
    for lacking in (None, replace(whole.truth, track=None), replace(whole.truth, seen=None)):
        with pytest.raises(RecordingError, match="need tracks and what each sensor saw"):
            hidden.hidden_now([replace(whole, truth=lacking)])
