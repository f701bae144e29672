"""The sensor-loss matrix, on a made-up recording and on the real one."""

import os

import numpy as np
import pytest
from eval_scenes import TwoFrames, found

from perception_bev.contracts import Boxes3D
from perception_bev.errors import RecordingError
from perception_bev.eval.matrix import frame_results, sensor_loss_matrix
from perception_bev.eval.subsets import subsets_of
from perception_bev.recordings.astyx import AstyxRecording
from perception_bev.recordings.base import Sample

ALL = ("camera", "lidar", "radar")


def test_each_subset_has_its_own_figures():
    recording = TwoFrames()

    def detect(subset):
        """Without lidar only the nearer car is found."""
        for sample, x in zip(recording.samples, (20, 30), strict=True):
            yield sample, found([x] if "lidar" in subset or x < 25 else [])

    reports = sensor_loss_matrix(recording, detect, subsets_of(ALL))
    expected = {name: 100.0 if "lidar" in name else 50.0 for name in reports}
    assert {name: r.car_ap_3d["easy"] for name, r in reports.items()} == pytest.approx(expected)
    assert len(reports) == 7 and all(r.frames == 2 for r in reports.values())


def test_field_of_view_is_that_of_the_calibration():
    """Ahead; behind; beyond the range; beside the picture."""
    recording = TwoFrames()
    recording.samples = recording.samples[:1]
    where = np.array([[20, 0, 1], [-20, 0, 1], [90, 0, 1], [10, 20, 1]], np.float32)
    template = found([0, 0, 0, 0])
    boxes = Boxes3D(where, template.size, template.yaw, template.score, template.label,
                    template.classes)
    result, = frame_results(recording, [(recording.samples[0], boxes)])
    assert result.predicted_in_view.tolist() == [True, False, False, False]


def test_missing_samples_and_labels_are_said():
    recording = TwoFrames()
    with pytest.raises(RecordingError, match="1 of 2 samples"):
        frame_results(recording, [(recording.samples[0], found([20]))])
    with pytest.raises(RecordingError, match="nameless: it has no labels"):
        frame_results(recording, [(Sample("nameless", 0, 0, {}), found([20]))])


@pytest.mark.data
def test_truth_of_the_real_set_scores_100():
    root = os.environ.get("PERCEPTION_BEV_ASTYX")
    if not root:
        pytest.skip("PERCEPTION_BEV_ASTYX does not name a folder of the Astyx data set")
    recording = AstyxRecording(root)
    recording = AstyxRecording(root, recording.names[::60])

    def detect(subset):
        """The annotated cars, whole set, shifted sideways without radar."""
        for i in range(len(recording)):
            sample = recording[i]
            cars = sample.truth.boxes[sample.truth.boxes.label == 0]
            shift = np.array([0, 0 if "radar" in subset else 1.5, 0], np.float32)
            yield sample, Boxes3D(cars.centre + shift, cars.size, cars.yaw, cars.score, cars.label,
                                  ("car",))

    reports = sensor_loss_matrix(recording, detect, [("lidar",), ALL])
    whole, shifted = reports["camera+lidar+radar"], reports["lidar"]
    assert [*whole.car_ap_3d.values(), *whole.car_ap_bev.values()] == pytest.approx([100.0] * 6)
    assert whole.cars["hard"] >= whole.cars["easy"] > 0 and whole.errors["heading_right"] == 1
    assert shifted.car_ap_bev["hard"] < 50 and shifted.errors["translation"] == pytest.approx(1.5,
                                                                                              abs=0.3)
