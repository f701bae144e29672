"""Cameras: ground-truth boxes cover what is seen of their objects; sparse casting costs edges."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import sim_worlds
from test_caster import cast_plainly

from perception_bev.geometry import CameraModel
from perception_bev.sim import weather
from perception_bev.sim.camera import CameraSimulator, jpeg
from perception_bev.sim.caster import Caster

TIME_S = 0.7
LENSES = {
    "wide": CameraModel(121, 66, np.array([[60.0, 0, 60], [0, 60, 33], [0, 0, 1]])),
    "plumb_bob": CameraModel(120, 80, np.array([[100.0, 0, 60], [0, 100, 40], [0, 0, 1]]),
                             "plumb_bob", np.array([-0.25, 0.06, 1e-3, -1e-3, 0.0])),
    "rational": CameraModel(120, 80, np.array([[100.0, 0, 60], [0, 100, 40], [0, 0, 1]]),
                            "rational_polynomial",
                            np.array([0.3, 0.1, 0, 0, 0.01, 0.6, 0.2, 0.02])),
    "fisheye": CameraModel(160, 120, np.array([[60.0, 0, 80], [0, 60, 60], [0, 0, 1]]),
                           "equidistant", np.array([-0.02, 0.003, 0, 0])),
    "one pixel": CameraModel(1, 1, np.array([[60.0, 0, 0], [0, 60, 0], [0, 0, 1]]))}


def placed(drive, name: str = "cam_front"):
    """world_from_camera."""
    base = sim_worlds.world_from_base(drive.world.traffic, TIME_S)
    return base @ drive.calibration_of(0).base_from_sensor[name]


def made(drive, model: CameraModel, kind: str = "day") -> CameraSimulator:
    air = weather.drawn(kind, np.random.default_rng(0))
    return CameraSimulator(model, drive.world, Caster(drive.world), air)


@pytest.fixture(scope="module")
def looks(drive):
    """{camera: (rays, hits, owner of each pixel)} of the whole ring."""
    out = {}
    for name, camera in drive.cameras.items():
        rays, hits = camera.cast(placed(drive, name), TIME_S)
        out[name] = rays, hits, np.append(drive.world.surfaces.owner, -1)[hits.surface]
    return out


def boxes_at(drive):
    """xy, yaw, size of all actors."""
    world, poses = drive.world, drive.world.traffic.poses(TIME_S)
    return (np.concatenate([poses.xy, world.parked_xy]),
            np.concatenate([poses.yaw, world.parked_yaw]),
            np.array([actor.size for actor in world.actors]))


def test_seen_surfaces_lie_in_the_boxes_of_their_actors(drive, looks):
    xy, yaw, size = boxes_at(drive)
    actors = 0
    for rays, hits, owner in looks.values():
        for k in np.unique(owner[owner >= 0]):
            mine = owner == k
            points = rays.origins[0] + rays.directions[mine] * hits.distance[mine][:, None]
            inside = np.abs(sim_worlds.in_box(points, xy[k], yaw[k], size[k]))
            assert ((inside - 1) * size[k] / 2).max() < 0.05, "m; planes between samples may bend"
            actors += 1
    assert actors > 20


def test_projected_boxes_cover_the_pixels_that_are_counted(drive, looks):
    xy, yaw, size = boxes_at(drive)
    actors = 0
    for name, (_, _, owner) in looks.items():
        lens = drive.calibration_of(0).camera_models[name]
        camera_from_world = placed(drive, name).inverse()
        for k in np.unique(owner[owner >= 0]):
            feet = sim_worlds.footprint(xy[k], yaw[k], size[k])
            corners = np.vstack([np.column_stack([feet, np.full(4, z)]) for z in (0, size[k][2])])
            pixels, depth = lens.project(camera_from_world.apply(corners))
            if depth.min() < 0.5:
                continue
            v, u = np.nonzero(owner == k)
            low, high = pixels.min(axis=0) - 0.01, pixels.max(axis=0) + 0.01
            assert low[0] <= u.min() and u.max() <= high[0]
            assert low[1] <= v.min() and v.max() <= high[1]
            actors += 1
    assert actors > 15


def test_counts_are_of_the_pixels(drive, looks):
    image, pixels = drive.cameras["cam_front"].picture(placed(drive), TIME_S, 3)
    owner = looks["cam_front"][2]
    assert np.array_equal(pixels, np.bincount(owner[owner >= 0], minlength=len(pixels)))
    assert image.shape == (396, 704, 3) and image.dtype == np.uint8


def test_sparse_casting_differs_from_casting_every_pixel_at_few_edges(drive, looks):
    rays, hits, _ = looks["cam_front"]
    distance, surface = cast_plainly(drive.world, rays)
    same = hits.surface == surface
    assert 1 - same.mean() < 0.005
    near = same & np.isfinite(distance)
    off = np.abs(hits.distance[near] - distance[near])
    assert np.quantile(off, 0.999) < 0.02 and (off > 0.05).mean() < 1e-4


@pytest.mark.parametrize("name", LENSES)
def test_any_size_and_any_lens(drive, name):
    """What a pixel sees projects back to it."""
    model = LENSES[name]
    camera = made(drive, model)
    image, pixels = camera.picture(placed(drive), TIME_S, 1)
    rays, hits = camera.cast(placed(drive), TIME_S)
    assert image.shape == (model.height, model.width, 3)
    seen = hits.surface >= 0
    points = rays.origins[0] + rays.directions * np.where(seen, hits.distance, 1)[..., None]
    back, depth = model.project(placed(drive).inverse().apply(points[seen].astype(np.float64)))
    v, u = np.nonzero(seen)
    assert (depth > 0).all() and np.abs(back - np.stack([u, v], axis=1)).max() < 0.6
    assert pixels.sum() <= seen.sum()


def test_what_a_lens_does_not_see_is_black(drive):
    whole = LENSES["fisheye"]
    model = replace(whole, width=500, height=400,
                    k=np.array([[60.0, 0, 250], [0, 60, 200], [0, 0, 1]]))
    image, pixels = made(drive, model).picture(placed(drive), TIME_S, 1)
    assert (image[0, 0] == 0).all() and (image[200, 250] > 0).any()
    assert (image.max(axis=2) == 0).mean() > 0.2 and pixels.sum() >= 0


def test_a_seed_is_one_exposure_and_one_noise(drive):
    camera = made(drive, LENSES["wide"])
    one, again, other = (camera.picture(placed(drive), TIME_S, seed)[0].astype(float)
                         for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert 0.5 < np.abs(one - other).mean() < 30, "the same scene all the same"


def test_noise_has_the_spread_that_the_weather_says(drive):
    camera = made(drive, LENSES["wide"], "night")
    sky = np.zeros((0,))
    for seed in range(3):
        image, _ = camera.picture(placed(drive), TIME_S, seed)
        _, hits = camera.cast(placed(drive), TIME_S)
        smooth = cv2.blur(image[..., 1].astype(float), (5, 5))
        inner = cv2.erode((hits.surface < 0).astype(np.uint8), np.ones((5, 5))) > 0
        sky = np.append(sky, (image[..., 1] - smooth)[inner])
    assert len(sky) > 200 and 4 < sky.std() / np.sqrt(24 / 25) < 9, "7 grey levels"


def test_weather_shows(drive):
    """In the light of all, and in the contrast of what is far away."""
    cameras = {kind: made(drive, LENSES["wide"], kind) for kind in weather.WEATHERS}
    pictures = {kind: camera.picture(placed(drive), TIME_S, 1)[0].astype(float)
                for kind, camera in cameras.items()}
    _, hits = cameras["day"].cast(placed(drive), TIME_S)
    far = (hits.distance > 40) & (hits.surface >= 0)
    mean = {kind: image.mean() for kind, image in pictures.items()}
    contrast = {kind: image[far].std() for kind, image in pictures.items()}
    assert far.sum() > 100 and mean["night"] < 0.85 * mean["dusk"] < 0.7 * mean["day"]
    assert contrast["fog"] < 0.8 * contrast["rain"] < 0.6 * contrast["day"]


def test_jpeg_gives_the_picture_back(drive):
    image, _ = made(drive, LENSES["wide"]).picture(placed(drive), TIME_S, 1)
    back = cv2.imdecode(jpeg(image), cv2.IMREAD_COLOR)
    assert np.abs(back.astype(int) - image).mean() < 6
