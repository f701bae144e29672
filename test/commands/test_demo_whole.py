"""Commands: the whole demo on a small rig: a simulated drive through the real nodes."""

import json
import re

import pytest
import yaml

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("open3d", reason="the simulator needs Open3D")

import os

from perception_bev import resources
from perception_bev.commands import demo_scene, demo_video
from perception_bev.commands.demo_sim import Demo
from perception_bev.commands.demo_truth import read_truths
from perception_bev.rig import load_rig
from perception_bev.sim.scenario import load_scenario

pytestmark = [pytest.mark.ros, pytest.mark.slow]

DOMAIN = 20 + os.getpid() % 80  # so that runs beside each other do not hear each other
SECONDS, CYCLES = 2.0, 20
BY_NAME = ("modes", "played", "received", "drops", "repeated", "compute_ms", "faults", "AP")
SCENARIO = """
name: two_faults
what: The camera is off for a while, the radar sees ghosts.
faults:
  - {kind: "off", sensor: cam_front, from_s: 1.0}
  - {kind: ghosts, sensor: radar_front, count: 40}
"""


@pytest.fixture(scope="module")
def rig_file(tmp_path_factory):
    """The simulated rig with one small camera, the lidar and one radar."""
    content = yaml.safe_load(resources.path("config/rigs/sim6.yaml").read_text())
    content["name"] = "sim1"
    camera = content["cameras"]["cam_front"]
    camera["intrinsics"] = {"width": 128, "height": 64, "k": [92.0, 92.0, 63.5, 31.5]}
    content["cameras"] = {"cam_front": camera}
    content["radars"] = {"radar_front": content["radars"]["radar_front"]}
    file = tmp_path_factory.mktemp("rig") / "sim1.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture(scope="module")
def played(rig_file, tiny_model, tmp_path_factory):
    """The demo's folder after one run with a scenario."""
    folder = tmp_path_factory.mktemp("demo")
    scenario = folder / "two_faults.yaml"
    scenario.write_text(SCENARIO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
        patch.setenv("ROS_LOG_DIR", str(folder / "log"))
        demo = Demo(tiny_model, SECONDS, 3, str(scenario), folder, rig_file=rig_file)
        assert demo.run() == 0
    return folder


@pytest.fixture(scope="module")
def report(played):
    return json.loads((played / "demo" / "report.json").read_text())


def test_every_ground_truth_was_played_and_found_again(report):
    assert report["frames"]["played"] == CYCLES
    assert report["frames"]["answered"] + report["frames"]["lost"] == CYCLES
    assert report["live"]["played"]["/lidar/lidar_top/points"] == CYCLES


def test_the_scenario_befell_the_messages(report):
    topics = report["faults"]["off"]
    assert topics["/camera/cam_front/image/compressed"] == pytest.approx(CYCLES / 2, abs=2)
    assert report["drive"]["scenario"] == "two_faults"


def test_the_video_has_every_second_frame(played, report):
    assert report["files"] == ["latency.png", "bev.mp4"]
    assert demo_video.frames_in(played / "demo" / "bev.mp4") == CYCLES / demo_video.EVERY


def test_every_key_of_the_report_is_documented(report):
    text = (resources.path("docs/demo.md")).read_text()
    missing = [path for path in paths(report)
               if not re.search(rf"[`.]{path.split('.')[-1]}(\.\*)?`", text)]
    assert not missing


def paths(value: dict, before: str = ""):
    """Keys that mean something, with those before them; not the names of topics and classes."""
    for key, item in value.items():
        if isinstance(item, dict) and key not in BY_NAME:
            yield from paths(item, f"{before}{key}.")
        else:
            yield before + key


def test_pictures_are_drawn_as_they_arrived(played, rig_file):
    bag, = (played / "drives").iterdir()
    scenario = load_scenario(played / "two_faults.yaml")
    clean = list(demo_scene.scenes(bag, load_rig(rig_file), lambda i: True))
    faulty = list(demo_scene.scenes(bag, load_rig(rig_file), lambda i: True, scenario, 3))
    assert [s.index for s in clean] == [s.index for s in faulty] == list(range(CYCLES))
    assert all(s.pictures for s in clean) and not any(s.pictures for s in faulty[-5:])
    more = [len(b.clouds["radar_front"].points) - len(a.clouds["radar_front"].points)
            for a, b in zip(clean, faulty, strict=True)]
    assert min(more) > 20
    assert [s.t_ref_ns for s in clean] == [each.stamp_ns for each in read_truths(bag)]
    assert clean[-1].ego.at(clean[-1].t_ref_ns) is not None
