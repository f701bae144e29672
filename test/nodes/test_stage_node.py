"""Stages on another host: a real stage node beside engines of this process that call it."""

import array
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytestmark = pytest.mark.ros

import rclpy  # noqa: E402
import yaml  # noqa: E402
from driving import wait_for  # noqa: E402
from ros_bench import DOMAIN, NodeProcess, Vehicle, after, newest  # noqa: E402
from small_car import description  # noqa: E402
from std_msgs.msg import UInt8MultiArray  # noqa: E402

from perception_bev.deployment import Deployment, Remote  # noqa: E402
from perception_bev.engines import golden  # noqa: E402
from perception_bev.errors import EngineMismatch, WorkerLost  # noqa: E402
from perception_bev.manifest import load_manifest  # noqa: E402
from perception_bev.messages import features  # noqa: E402
from perception_bev.nodes import table  # noqa: E402
from perception_bev.nodes.dds_engine import DdsEngine, DdsLink  # noqa: E402
from perception_bev.nodes.feature_topics import QOS  # noqa: E402
from perception_bev.pipeline.stages import open_engines  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SPACE = "rear_box"
QUICK = Deployment(threads=1, check_golden=False, remote={
    "decide": Remote(SPACE, timeout_ms=60_000.0), "extract_lidar": Remote(SPACE, half=True,
                                                                           timeout_ms=60_000.0)})


class StageProcess:
    """`python -m perception_bev.nodes.stage_node`."""

    def __init__(self, log: Path, model: Path, stages: str = "['decide', 'extract_lidar']") -> None:
        self.log = log
        words = [sys.executable, "-m", "perception_bev.nodes.stage_node", "--ros-args",
                 "-r", f"__ns:=/{SPACE}", "-p", f"model:='{model}'", "-p", f"stages:={stages}"]
        environment = {**os.environ, **table.environment(), "ROS_DOMAIN_ID": str(DOMAIN),
                       "ROS_LOG_DIR": str(log.parent)}
        with log.open("w") as out:
            self.process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=out,
                                            stderr=subprocess.STDOUT)

    def says(self, text: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return text in self.log.read_text()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="module")
def owner():
    """The perception node's place is taken by a node of this process."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("perception", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture(scope="module")
def stage(tiny_model, tmp_path_factory):
    made = StageProcess(tmp_path_factory.mktemp("stage") / "log.txt", tiny_model)
    yield made
    made.kill()


@pytest.fixture(scope="module")
def link(owner, stage, tiny_model):
    made = DdsLink(owner, tiny_model, QUICK)
    wait_for(lambda: not made.absent, "the stage node")
    yield made
    made.close()


@pytest.fixture(scope="module")
def local(tiny_model):
    return open_engines(tiny_model, load_manifest(tiny_model).variant("fp32"), QUICK)


def feeds_of(engine, name: str = "decide") -> dict:
    return golden.inputs_of(name, engine.inputs, 1)


def test_only_what_the_deployment_names_is_remote(link):
    assert set(link.engines) == {"decide", "extract_lidar"}


@pytest.mark.parametrize("name", ["decide", "extract_lidar"])
def test_a_stage_node_gives_the_same_bits_as_this_process(link, local, name):
    engine = link.engines[name]
    assert (engine.inputs, engine.outputs) == (local[name].inputs, local[name].outputs)
    feeds = feeds_of(engine, name)
    here, there = local[name].infer(feeds), engine.infer(feeds)
    assert set(here) == set(there)
    assert all(here[k].tobytes() == there[k].tobytes() for k in here)
    assert engine.hop_ms > 0 and engine.counts["answers"] >= 1


def test_halved_tensors_are_near_and_only_where_the_deployment_says_so(link, local):
    link.compress()
    try:
        assert [link.engines[n].half for n in ("decide", "extract_lidar")] == [False, True]
        engine = link.engines["extract_lidar"]
        feeds = feeds_of(engine, "extract_lidar")
        here, there = (e.infer(feeds)["lidar"] for e in (local["extract_lidar"], engine))
        assert here.tobytes() != there.tobytes()
        np.testing.assert_allclose(there, here, atol=4e-3 * np.abs(here).max())
    finally:
        link.engines["extract_lidar"].half = False


def test_two_engines_are_called_at_the_same_time(link, local):
    wrong: list[str] = []

    def call(name: str) -> None:
        feeds = feeds_of(link.engines[name], name)
        wanted = local[name].infer(feeds)
        for _ in range(20):
            got = link.engines[name].infer(feeds)
            wrong.extend(k for k in wanted if wanted[k].tobytes() != got[k].tobytes())

    threads = [threading.Thread(target=call, args=(name,)) for name in link.engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert not wrong


def test_a_caller_with_another_model_is_refused_and_told_why(owner, link, stage):
    known = link.engines["decide"]
    other = features.identity_of("decide", "another file", [known.inputs, known.outputs])
    engine = DdsEngine(link._node, "decide", Remote(SPACE, timeout_ms=60_000.0), other,
                       known.inputs, known.outputs)
    try:
        wait_for(lambda: engine.present, "the stage node")
        with pytest.raises(EngineMismatch, match="both hosts need the same model"):
            engine.infer(feeds_of(known))
        assert engine.counts["refused"] == 1
        wait_for(lambda: stage.says("both hosts need the same model"), "its log")
        known.infer(feeds_of(known))  # the others are served
        assert known.counts["late"] == 0, "answers for another caller are nobody's here"
    finally:
        engine.release()
        engine.destroy()


def test_after_anything_else_on_the_topic_the_next_request_is_served(owner, link):
    publisher = owner.create_publisher(UInt8MultiArray, f"/{SPACE}/features/decide/request", QOS)
    wait_for(lambda: publisher.get_subscription_count() == 1, "the stage node")
    for data in (b"", b"nonsense", bytes(100)):
        publisher.publish(UInt8MultiArray(data=array.array("B", data)))
        link.engines["decide"].infer(feeds_of(link.engines["decide"]))
    owner.destroy_publisher(publisher)


def test_a_stage_of_another_version_is_refused_by_both_ends(link, monkeypatch):
    engine = link.engines["decide"]
    monkeypatch.setattr(features, "VERSION", 2)
    with pytest.raises(Exception, match="version 1 .* this is version 2"):
        engine.infer(feeds_of(engine))
    assert engine.counts["foreign_version"] == 1


def test_a_stage_node_that_stops_dies_and_comes_back(link, stage, tiny_model, local, tmp_path):
    engine = link.engines["decide"]
    feeds = feeds_of(engine)
    engine._timeout_s = 0.2
    stage.process.send_signal(signal.SIGSTOP)
    with pytest.raises(WorkerLost, match="no answer|went away"):
        engine.infer(feeds)
    wait_for(lambda: not engine.present, "the end of its lease")
    with pytest.raises(WorkerLost, match="no stage node serves /rear_box/features/decide"):
        engine.infer(feeds)
    stage.process.send_signal(signal.SIGCONT)
    wait_for(lambda: engine.present, "its return")
    stage.kill()
    wait_for(lambda: not engine.present, "its death")
    again = StageProcess(tmp_path / "log.txt", tiny_model, "['decide']")
    try:
        wait_for(lambda: engine.present, "the next one")
        link.prove()
        wanted = local["decide"].infer(feeds)
        assert all(wanted[k].tobytes() == v.tobytes() for k, v in engine.infer(feeds).items())
        link.serve()
    finally:
        again.kill()


def test_a_perception_node_waits_for_its_stage_node_survives_it_and_takes_the_next(
        tiny_model, tmp_path, monkeypatch):
    for name, value in table.environment().items():
        monkeypatch.setenv(name, value)
    rig = description(**{name: {"max_age_ms": 1000} for name in ("front", "top", "nose")})
    rig["reference"]["wait_ms"] = 60
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(rig))
    (tmp_path / "here.yaml").write_text(yaml.safe_dump(
        {"budget_ms": 10_000.0, "remote": {"decide": {"namespace": SPACE, "timeout_ms": 300.0}}}))
    vehicle = Vehicle(50)
    status = vehicle.subscribe("status", "diagnostic_msgs/msg/DiagnosticArray")
    processes = [NodeProcess(tmp_path / "perception", rig=tmp_path / "rig.yaml", model=tiny_model,
                             deployment=tmp_path / "here.yaml")]
    try:
        vehicle.active = {"front", "top", "nose", "odometry"}
        after(status, lambda s: "waiting for stage nodes that serve decide" in s["message"],
              "its patience")
        processes.append(StageProcess(tmp_path / "first", tiny_model, "['decide']"))
        made = after(status, lambda s: s["message"] == "full", "an output")
        assert made["remote.decide"].startswith("present, ")
        assert float(made["remote.decide.hop_ms"]) > 0 and "latency.decide_ms" in made
        processes[-1].kill()
        after(status, lambda s: s.get("remote.decide", "").startswith("absent"), "the loss")
        processes.append(StageProcess(tmp_path / "second", tiny_model, "['decide']"))
        after(status, lambda s: s["message"] == "full", "outputs again")
        assert processes[0].alive() and "no stage node serves" in str(newest(status))
    finally:
        for process in processes:
            process.kill()
        vehicle.close()
