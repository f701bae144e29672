"""What workers are told survives its way; every engine has exactly one home."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from perception_bev.deployment import Deployment
from perception_bev.engines.base import TensorSpec
from perception_bev.errors import ConfigError, EngineMismatch
from perception_bev.pipeline import realtime, slow
from perception_bev.pipeline.groups import GROUPS, jobs_of
from perception_bev.pipeline.job import (
    EngineJob,
    GoldenJob,
    Job,
    job_of,
    specs_of,
    specs_to_json,
)
from perception_bev.pipeline.shared import Place


def test_a_job_survives_its_way():
    job = Job({"fuse": EngineJob("fuse.onnx", 3), "echo": EngineJob(echo_bytes=7)},
              {"engine": "onnxruntime", "realtime": {"worker_nice": 3}},
              GoldenJob("g", 0.5, 12), (0, 1))
    place = Place("/root", "prefix_")
    assert job_of(job.to_json(place)) == (job, place)
    assert job_of(Job({}).to_json(place)) == (Job({}), place)


def test_specs_survive_their_way():
    specs = (TensorSpec("a", (1, 2), np.dtype(np.float32)), TensorSpec("b", (), np.dtype(bool)),
             TensorSpec("c", (3,), np.dtype(np.uint8)))
    assert specs_of(specs_to_json(specs)) == specs


def test_every_engine_of_a_model_has_a_worker(remembering_model):
    jobs = jobs_of(remembering_model, Deployment(threads=2, stage_threads={"fuse": 1}))
    assert list(jobs) == list(GROUPS)
    assert set(jobs["extract"].engines) == {"extract_camera", "extract_lidar", "extract_radar"}
    assert {e.threads for e in jobs["fuse"].engines.values()} == {1}
    assert {e.threads for e in jobs["extract"].engines.values()} == {2}
    assert all(os.path.isabs(e.file) for job in jobs.values() for e in job.engines.values())


def test_an_engine_that_nobody_runs_is_an_error(remembering_model):
    with pytest.raises(ConfigError, match="nobody runs decide"):
        jobs_of(remembering_model, Deployment(), {k: v for k, v in GROUPS.items() if k != "decide"})


def test_a_damaged_file_is_refused_before_any_process(tiny_model, tmp_path):
    import shutil
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    with (folder / "decide.fp32.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(EngineMismatch, match="SHA-256"):
        jobs_of(folder, Deployment())


def test_a_slowed_engine_sleeps_as_long_as_the_newest_word_says(tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(slow.time, "sleep", slept.append)
    switch = slow.Switch(tmp_path, "fuse")
    switch.wait()
    for ms in (60, 5.5):
        slow.slow_down(tmp_path, "fuse", ms)
        switch.wait()
    slow.slow_down(tmp_path, "decide", 9)
    slow.slow_down(tmp_path, "fuse", 0)
    slow.slow_down(tmp_path, "fuse", 0)
    switch.wait()
    assert slept == [0.06, 0.0055]


def test_nonsense_in_the_file_slows_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(slow.time, "sleep", lambda _: pytest.fail("slept"))
    (tmp_path / "fuse.slow_ms").write_text("much")
    slow.Switch(tmp_path, "fuse").wait()


def test_the_folder_of_a_process_is_found_by_its_id(tmp_path):
    (tmp_path / "perception_bev.12.ab").mkdir()
    (tmp_path / "perception_bev.12.ab.lock").touch()
    (tmp_path / "perception_bev.123.cd").mkdir()
    assert slow.folder_of(12, tmp_path).name == "perception_bev.12.ab"
    with pytest.raises(ConfigError, match="process 1 has no workers"):
        slow.folder_of(1, tmp_path)


def test_nothing_asked_for_is_nothing_to_say():
    assert [realtime.pin(()), realtime.first_in_first_out(0), realtime.be_nice(0),
            realtime.lock_memory(False)] == [None] * 4


ASK = ("from perception_bev.pipeline import realtime as r\n"
       "print(r.pin([4095]), r.be_nice(3), r.first_in_first_out(500), sep='|')")


def test_what_is_not_permitted_is_said_and_left_out():
    said = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    cores, nice, fifo = said.stdout.strip().split("|")
    assert cores.startswith("cores 4095: ") and nice == "None"
    assert fifo.startswith("SCHED_FIFO 500: ")


def test_a_worker_without_a_supervisor_ends():
    import socket
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with subprocess.Popen([sys.executable, "-m", "perception_bev.pipeline.worker",
                           str(theirs.fileno()), "x"], pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        ours.close()
        assert process.wait(60) == 0


def test_ctrl_c_is_left_to_the_supervisor(tmp_path):
    pytest.importorskip("iceoryx2")
    from workers import LIMITS, call, echoes

    from perception_bev.pipeline.supervisor import Supervisor

    supervisor = Supervisor({"solo": echoes("alone")}, LIMITS)
    try:
        os.kill(supervisor.states()["solo"].pid, signal.SIGINT)
        call(supervisor.engines["alone"])
        assert supervisor.states()["solo"].restarts == 0
    finally:
        supervisor.close()
