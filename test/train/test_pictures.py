"""Laws of the pictures' own heat maps: peaks lie where the lens shows the objects."""

from dataclasses import replace

import numpy as np
import torch
from tiny import bundle, manifest, truth, vehicle, without

from perception_bev.contracts import Boxes3D
from perception_bev.train.pictures import picture_heat, picture_loss
from perception_bev.train.samples import Labelled

MODEL, CAR = manifest(), vehicle()
CLASSES = {"Car": "car", "Person": "pedestrian", "Tram": None}


def ahead_of(name: str, label: int = 0, distance: float = 12.0) -> Labelled:
    """One object on a camera's axis; the vehicle stands."""
    place = CAR.base_from_sensor[name]
    centre = place.apply(np.array([[0.0, 0.0, distance]])).astype(np.float32)
    boxes = Boxes3D(centre, np.ones((1, 3), np.float32), np.zeros(1, np.float32),
                    np.ones(1, np.float32), np.array([label], np.int32), tuple(CLASSES))
    known = replace(truth(tuple(CLASSES), n=1), boxes=boxes, occlusion=np.zeros(1, np.int32),
                    counted=np.ones(1, bool), track=None, seen=None)
    return Labelled("one", bundle(CAR), CAR, known)


def heat_of(item: Labelled, mirrored: bool = False) -> np.ndarray:
    return picture_heat(item, MODEL, CLASSES, mirrored)


def test_an_object_on_the_axis_peaks_at_the_principal_point_in_its_class():
    for slot, name in enumerate(CAR.rig.cameras):
        heat = heat_of(ahead_of(name))
        lens = CAR.camera_models[name].pinhole_resized(MODEL.camera.width, MODEL.camera.height)
        row, column = np.unravel_index(heat[slot, 0].argmax(), heat[slot, 0].shape)
        stride = MODEL.camera.stride
        assert abs(column - ((lens.k[0, 2] + 0.5) / stride - 0.5)) <= 1
        assert abs(row - ((lens.k[1, 2] + 0.5) / stride - 0.5)) <= 1
        assert heat[slot, 0].max() == 1.0 and not heat[slot, 1].any()


def test_a_mirrored_picture_has_mirrored_peaks():
    name = next(iter(CAR.rig.cameras))
    item = ahead_of(name)
    moved = item.truth.boxes.centre + CAR.base_from_sensor[name].rotation[:, 0] * 1.5
    boxes = replace(item.truth.boxes, centre=moved.astype(np.float32))
    item = replace(item, truth=replace(item.truth, boxes=boxes))
    plain, flipped = heat_of(item)[0, 0], heat_of(item, True)[0, 0]
    column = np.unravel_index(plain.argmax(), plain.shape)[1]
    other = np.unravel_index(flipped.argmax(), flipped.shape)[1]
    assert abs(column + other - (plain.shape[1] - 1)) <= 1 and column != other


def test_what_is_behind_lost_or_not_learned_has_no_peak():
    name = next(iter(CAR.rig.cameras))
    assert not heat_of(ahead_of(name, distance=-8.0))[0].any()
    assert not heat_of(ahead_of(name, label=2)).any()
    item = ahead_of(name)
    assert not heat_of(replace(item, bundle=without(item.bundle, name)))[0].any()


def test_the_loss_falls_towards_the_heat():
    heat = heat_of(ahead_of(next(iter(CAR.rig.cameras))))
    right = torch.from_numpy(np.where(heat == 1.0, 6.0, -6.0).astype(np.float32))
    assert picture_loss(right, heat) < 0.1 * picture_loss(torch.zeros_like(right), heat)
    assert picture_loss(-right, heat) > picture_loss(torch.zeros_like(right), heat)
