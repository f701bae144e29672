"""Laws of model.yaml: what it states fits together, what does not is refused when it is read."""

import copy

import pytest
import yaml

from perception_bev import config, resources
from perception_bev.errors import ConfigError
from perception_bev.grid import BevGrid
from perception_bev.manifest import MANIFEST, Manifest, load_manifest

SHIPPED = resources.path("config/models/astyx.yaml")


def description() -> dict:
    return yaml.safe_load(SHIPPED.read_text())


def changed(path: str, value) -> Manifest:
    described = copy.deepcopy(description())
    *folders, name = path.split(".")
    place = described
    for folder in folders:
        place = place[folder]
    place[name] = value
    return config.build(Manifest, described, "model.yaml")


def test_the_shipped_model_is_read_from_its_file_or_folder(tmp_path):
    (tmp_path / MANIFEST).write_text(SHIPPED.read_text())
    assert load_manifest(tmp_path) == load_manifest(tmp_path / MANIFEST) == load_manifest(SHIPPED)


def test_shapes_follow_from_what_is_stated():
    manifest = load_manifest(SHIPPED)
    assert manifest.lidar.channels == len(manifest.lidar.height_bins) - 1 + 4
    assert manifest.lift_grid == BevGrid(0, 80, -26, 26, 1.0)
    assert manifest.output_grid.shape == (160, 104)
    assert manifest.camera.feature_shape == (38, 128)


@pytest.mark.parametrize(("height", "width", "shape"), [
    (152, 512, (38, 128)), (153, 509, (39, 128)), (8, 5, (2, 2))])
def test_features_cover_the_whole_picture(height, width, shape):
    manifest = changed("camera.height", height)
    camera = type(manifest.camera)(**{
        name: getattr(manifest.camera, name) for name in manifest.camera.__dataclass_fields__}
        | {"height": height, "width": width})
    assert camera.feature_shape == shape


def test_an_unknown_variant_is_refused_with_those_that_there_are():
    manifest = load_manifest(SHIPPED)
    with pytest.raises(ConfigError, match=r"none \(export it first"):
        manifest.variant("fp32")
    other = changed("variants", {"fp16": {"engines": {}}})
    assert other.variant("fp16").engines == {}
    with pytest.raises(ConfigError, match="it has: fp16"):
        other.variant("fp32")


@pytest.mark.parametrize(("path", "value"), [
    ("camera.slots", 0), ("camera.height", 4), ("camera.lift_heights", []),
    ("heads.stride", 0), ("heads.nms_iou", 1.5), ("fused_channels", 0),
    ("grid.cell", 0.3), ("classes", "car"), ("provenance.commercial_use", "no"),
    ("lidar.height_bins", [0.5]), ("lidar.height_bins", [0.0, 1.0, 0.5]),
    ("lidar.max_height", 0.0), ("lidar.log_points", 0), ("radar.log_points", 0),
    ("radar.intensity_scale", 0), ("radar.doppler_scale", 0), ("radar.max_height", 0),
    ("grid.x_max", 80.25), ("classes", []), ("classes", ["car", "car"]),
])
def test_a_value_that_no_network_can_have_is_refused(path, value):
    with pytest.raises(ConfigError, match=r"model\.yaml"):
        changed(path, value)
