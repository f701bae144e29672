"""Laws of the rig: a file with holes, a calibration that is complete or says what is missing."""

import numpy as np
import pytest

from perception_bev import config, resources, rig
from perception_bev.errors import CalibrationError, ConfigError
from perception_bev.geometry import SE3, CameraModel
from perception_bev.rig import Camera, Doppler, Rig, load_rig, resolve

PLACE = {"translation": [1.0, 0.0, 1.5], "rotation_rpy_deg": [0, 0, 90]}
LENS = {"width": 640, "height": 480, "k": [500, 500, 320, 240]}


def description(**changes) -> dict:
    return {
        "name": "test", "reference": {"sensor": "top"},
        "cameras": {"front": {"topic": "camera/front/image/compressed", "frame_id": "front",
                              "extrinsics": PLACE, "intrinsics": LENS}},
        "lidars": {"top": {"topic": "lidar/top/points", "frame_id": "top", "extrinsics": PLACE}},
        "radars": {"bumper": {"topic": "radar/bumper/points", "frame_id": "bumper",
                              "extrinsics": PLACE}}} | changes


def made(**changes) -> Rig:
    return config.build(Rig, description(**changes), "rig.yaml")


class Tree:
    """Transforms by frame; remembers what it was asked."""

    def __init__(self, frames: dict[str, SE3]) -> None:
        self.frames, self.asked = frames, []

    def lookup(self, target: str, source: str) -> SE3 | None:
        self.asked.append((target, source))
        return self.frames.get(source)


@pytest.mark.parametrize("path", sorted(resources.path("config/rigs").glob("*.yaml")),
                         ids=lambda p: p.stem)
def test_every_rig_that_is_shipped_loads(path):
    shipped = load_rig(path)
    assert shipped.reference.sensor in shipped.sensors


def test_a_complete_file_resolves_alone():
    calibration = resolve(made())
    assert set(calibration.base_from_sensor) == {"front", "top", "bumper"}
    assert np.allclose(calibration.base_from_sensor["top"].apply(np.array([[2.0, 0, 0]])),
                       [[1, 2, 1.5]])
    assert calibration.camera_models["front"].k[0, 2] == 320


def test_holes_are_filled_from_tf_and_camera_info():
    holes = description()
    holes["cameras"]["front"] |= {"extrinsics": "from_tf", "intrinsics": "from_camera_info"}
    holes["lidars"]["top"]["extrinsics"] = "from_tf"
    rig_with_holes = config.build(Rig, holes | {"base_frame": "car"}, "rig.yaml")
    tree = Tree({"front": SE3.identity(), "top": SE3.identity()})
    lens = CameraModel(64, 48, np.eye(3))
    calibration = resolve(rig_with_holes, tree, {"front": lens})
    assert tree.asked == [("car", "front"), ("car", "top")]
    assert calibration.camera_models["front"] is lens


def test_everything_that_is_missing_is_listed_at_once_with_the_cure():
    holes = description()
    holes["cameras"]["front"] |= {"extrinsics": "from_tf", "intrinsics": "from_camera_info"}
    holes["lidars"]["top"]["extrinsics"] = "TODO"
    holes["cameras"]["rear"] = dict(holes["cameras"]["front"], intrinsics="TODO", frame_id="rear")
    with pytest.raises(CalibrationError) as err:
        resolve(config.build(Rig, holes, "rig.yaml"))
    for part in ("front: no transform base_link <- front", "front: no CameraInfo on "
                 "camera/front/camera_info", "top: extrinsics are TODO",
                 "rear: intrinsics are TODO", "write extrinsics"):
        assert part in str(err.value)


@pytest.mark.parametrize(("change", "text"), [
    ({"reference": {"sensor": "none"}}, "'none' is none of the sensors: front, top, bumper"),
    ({"radars": {"top": {"topic": "t", "frame_id": "f", "extrinsics": PLACE}}}, "twice: top"),
    ({"cameras": {}, "lidars": {}, "radars": {}}, "there are none"),
])
def test_names_must_fit(change, text):
    with pytest.raises(ConfigError, match=text):
        made(**change)


@pytest.mark.parametrize("place", [
    {"translation": [0, 0, 0]},
    {"translation": [0, 0, 0], "rotation_xyzw": [0, 0, 0, 1], "rotation_rpy_deg": [0, 0, 0]},
    {"translation": [0, 0, 0], "rotation_xyzw": [0, 0, 0, 0]},
    {"translation": [0, 0, float("nan")], "rotation_xyzw": [0, 0, 0, 1]},
    {"translation": [0, 0], "rotation_xyzw": [0, 0, 0, 1]}])
def test_a_wrong_place_is_an_error_of_the_file_that_names_the_sensor(place):
    with pytest.raises(ConfigError, match=r"lidars\.top"):
        made(lidars={"top": {"topic": "t", "frame_id": "f", "extrinsics": place}})


def test_a_wrong_lens_is_an_error_of_the_file_that_names_the_sensor():
    front = description()["cameras"]["front"] | {"intrinsics": LENS | {"model": "plumb_bob"}}
    with pytest.raises(ConfigError, match=r"cameras\.front.*takes 5"):
        made(cameras={"front": front})


def test_kinds_of_sensors():
    some = made()
    assert [some.modality(n) for n in some.sensors] == ["camera", "lidar", "radar"]


def test_a_frame_may_be_one_and_a_half_periods_old_if_nothing_is_said():
    common = {"topic": "t", "frame_id": "f", "extrinsics": "from_tf"}
    assert rig.Lidar(**common, period_ms=50.0).age_limit_ns == 100_000_000
    assert rig.Lidar(**common, max_age_ms=20.0).age_limit_ns == 20_000_000


@pytest.mark.parametrize(("topic", "info"), [
    ("camera/front/image/compressed", "camera/front/camera_info"),
    ("camera/front/image_raw", "camera/front/camera_info"),
    ("camera/front/image_raw/compressed", "camera/front/camera_info"),
    ("image", "camera_info")])
def test_camera_info_is_the_topic_s_sibling(topic, info):
    assert Camera(topic=topic, frame_id="f", extrinsics="from_tf").info_topic == info


def test_doppler_limits_follow_the_sign():
    assert Doppler(min=-5.0, max=7.0).away_interval == (-5.0, 7.0)
    assert Doppler(min=-5.0, max=7.0, positive="towards").away_interval == (-7.0, 5.0)
    assert Doppler().away_interval is None
    for wrong in ({"min": 1.0}, {"max": 1.0}, {"min": 1.0, "max": 1.0}, {"min": 2.0, "max": 1.0}):
        with pytest.raises(ConfigError, match="doppler"):
            Doppler(**wrong)
