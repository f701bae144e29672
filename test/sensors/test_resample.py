"""Resampling: every pixel shows what the lens model says it sees, at every reduction."""

import numpy as np
import pytest

from perception_bev.errors import ConfigError
from perception_bev.geometry import CameraModel
from perception_bev.sensors.resample import Resampler, reduction, source_pixels

cv2 = pytest.importorskip("cv2")

DISTORTIONS = {
    "pinhole": (),
    "plumb_bob": (-0.25, 0.08, 0.001, -0.002, -0.01),
    "rational_polynomial": (0.4, -0.1, 0.0005, -0.0003, 0.01, 0.7, 0.05, 0.002),
    "equidistant": (0.02, -0.01, 0.003, -0.001),
}


def lens(model="plumb_bob", width=250, height=186):
    k = np.array([[140.0, 0, 0.52 * width], [0, 145.0, 0.47 * height], [0, 0, 1]])
    return CameraModel(width, height, k, model, np.array(DISTORTIONS[model]))


def ramps(width, height):
    """(H, W, 3) float32: the first channel is the column, the second the row."""
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([column, row, np.full_like(row, 99)], axis=-1).astype(np.float32)


def seen_by(model, pinhole):
    """(H, W, 2) pixels of the full picture by OpenCV's own lens models, and whether inside."""
    column, row = np.meshgrid(np.arange(pinhole.width), np.arange(pinhole.height))
    pixels = np.stack([column, row, np.ones_like(row)], axis=-1).reshape(-1, 3)
    rays = pixels @ np.linalg.inv(pinhole.k).T
    zero = np.zeros((3, 1))
    if model.model == "equidistant":
        seen, _ = cv2.fisheye.projectPoints(rays[:, None], zero, zero, model.k, model.distortion)
    else:
        seen, _ = cv2.projectPoints(rays, zero, zero, model.k, model.distortion)
    seen = seen.reshape(pinhole.height, pinhole.width, 2)
    margin = 4
    inside = ((seen > margin) & (seen < [model.width - margin, model.height - margin])).all(-1)
    return seen, inside


@pytest.mark.parametrize("model", DISTORTIONS)
def test_source_pixels_are_opencvs(model):
    camera = lens(model)
    pinhole = camera.pinhole_resized(100, 60)
    seen, inside = seen_by(camera, pinhole)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(source_pixels(camera, pinhole, 1)[inside], seen[inside], atol=1e-3)


@pytest.mark.parametrize("model", DISTORTIONS)
@pytest.mark.parametrize("width, height", [(250, 186), (124, 92), (63, 47), (62, 40), (300, 200)])
def test_pixels_show_what_the_lens_model_says(model, width, height):
    camera = lens(model)
    resampler = Resampler(camera, width, height)
    shown = resampler.from_full(ramps(250, 186))
    seen, inside = seen_by(camera, resampler.pinhole)
    assert shown.shape == (height, width, 3)
    fixed_point = resampler.reduction / 32  # [px] resolution of the maps
    assert np.abs(shown[..., :2] - seen)[inside].max() < fixed_point
    np.testing.assert_allclose(shown[..., 2][inside], 99, rtol=1e-6)


@pytest.mark.parametrize("model", ["pinhole", "plumb_bob"])
@pytest.mark.parametrize("width, height", [(125, 93), (63, 47), (60, 40), (30, 20)])
def test_a_jpeg_decoded_at_scale_shows_the_same(model, width, height):
    camera = lens(model)
    resampler = Resampler(camera, width, height)
    flag = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
            8: cv2.IMREAD_REDUCED_COLOR_8}[resampler.reduction]
    sent = ramps(250, 186).astype(np.uint8)
    picture = cv2.imencode(".jpg", sent, [cv2.IMWRITE_JPEG_QUALITY, 100])[1]
    reduced = cv2.imdecode(picture, flag)
    assert reduced.shape[1::-1] == resampler.reduced_size
    shown = resampler.from_reduced(reduced).astype(float)
    seen, inside = seen_by(camera, resampler.pinhole)
    assert np.abs((shown[..., :2] - seen)[inside].mean(axis=0)).max() < 0.35
    assert np.abs(shown[..., :2] - seen)[inside].max() < 5  # JPEG's own errors


def test_reduction_leaves_enough_pixels():
    camera = CameraModel(2048, 618, np.array([[1800.0, 0, 1040], [0, 1800, 319], [0, 0, 1]]))
    assert reduction(camera, 512, 152) == 4
    assert reduction(camera, 512, 155) == 4
    assert reduction(camera, 512, 156) == 2
    assert reduction(camera, 256, 77) == 8
    assert reduction(camera, 1025, 152) == 1
    assert reduction(camera, 4096, 152) == 1


def test_what_the_lens_did_not_see_is_black():
    camera = lens("plumb_bob")
    pincushion = CameraModel(camera.width, camera.height, camera.k, "plumb_bob",
                             np.array([0.4, 0, 0, 0, 0]))
    shown = Resampler(pincushion, 125, 93).from_full(np.full((186, 250, 3), 200, np.uint8))
    assert (shown[0, 0] == 0).all() and (shown[46, 62] == 200).all()


def test_areas_are_averaged_not_sampled():
    stripes = np.zeros((186, 250), np.uint8)
    stripes[:, ::2] = 200  # finer than the output can show
    for model in DISTORTIONS:
        camera = lens(model)
        resampler = Resampler(camera, 62, 46)
        _, inside = seen_by(camera, resampler.pinhole)
        assert np.abs(resampler.from_full(stripes)[inside].astype(float) - 100).max() <= 26


@pytest.mark.parametrize("coefficients", [(1e30,) * 5, (-1e300, 1e300, 0, 0, 1e300)])
def test_absurd_coefficients_give_black_not_a_crash(coefficients):
    camera = CameraModel(250, 186, lens().k, "plumb_bob", np.array(coefficients))
    shown = Resampler(camera, 62, 46).from_full(ramps(250, 186))
    assert shown.shape == (46, 62, 3) and (shown[0, 0] == 0).all()


@pytest.mark.parametrize("width, height, target", [(60_000, 60_000, 512), (40_000, 100, 40_000)])
def test_absurd_sizes_are_refused_before_any_map_is_made(width, height, target):
    with pytest.raises(ConfigError, match="pixels"):
        Resampler(CameraModel(width, height, lens().k), target, 100)
