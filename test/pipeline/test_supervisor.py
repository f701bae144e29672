"""Real worker processes: killed, stopped, hanging, failing; what they share goes with them."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import workers
from workers import BYTES, LIMITS, answer, call, echoes, lives, wait_for

from perception_bev.engines import golden
from perception_bev.errors import EngineMismatch, ShapeMismatch, WorkerLost
from perception_bev.pipeline import child, slow
from perception_bev.pipeline.job import EngineJob, Job
from perception_bev.pipeline.supervisor import Supervisor
from perception_bev.pipeline.vitals import Limits

pytest.importorskip("iceoryx2")

CORE = min(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def shared():
    """Two workers, one of them with two engines; tests may kill them."""
    supervisor = Supervisor({"pair": echoes("left", "right", cores=(CORE,)),
                             "solo": echoes("alone", cores=(4095,))}, LIMITS)
    yield supervisor
    supervisor.close()


@pytest.fixture
def supervisor(shared):
    """With both workers serving."""
    for name in ("left", "alone"):
        answer(shared.engines[name])
    yield shared
    for name in shared.engines:
        shared.slow(name, 0)


def test_what_goes_in_comes_out(supervisor):
    for engine in supervisor.engines.values():
        np.testing.assert_array_equal(call(engine), BYTES)
        np.testing.assert_array_equal(call(engine, 255 - BYTES), 255 - BYTES)


def test_other_feeds_are_refused_before_they_travel(supervisor):
    with pytest.raises(ShapeMismatch, match="'bytes'"):
        supervisor.engines["alone"].infer({"bytes": BYTES[:-1]})


def test_engines_of_one_worker_compute_at_the_same_time(supervisor):
    def left() -> None:
        with pytest.raises(WorkerLost):
            call(supervisor.engines["left"])

    supervisor.slow("left", 5000)
    waiting = threading.Thread(target=left)
    waiting.start()
    for _ in range(10):
        np.testing.assert_array_equal(call(supervisor.engines["right"]), BYTES)
    assert waiting.is_alive()
    os.kill(supervisor.states()["pair"].pid, signal.SIGKILL)
    waiting.join(4)  # sooner than it would have answered
    assert not waiting.is_alive()


def test_a_kill_is_known_at_once_and_named_and_the_other_worker_does_not_notice(supervisor):
    before = supervisor.states()
    os.kill(before["solo"].pid, signal.SIGKILL)
    with pytest.raises(WorkerLost, match=r"engine alone: worker 'solo' (died|is starting)"):
        while True:
            call(supervisor.engines["alone"])
    np.testing.assert_array_equal(call(supervisor.engines["left"]), BYTES)
    np.testing.assert_array_equal(answer(supervisor.engines["alone"]), BYTES)
    after = supervisor.states()
    assert after["solo"].restarts == before["solo"].restarts + 1
    assert after["solo"].pid != before["solo"].pid
    assert "died (killed by SIGKILL)" in after["solo"].reason
    assert (after["pair"].pid, after["pair"].restarts) == (before["pair"].pid,
                                                           before["pair"].restarts)


def test_calls_fail_fast_with_the_reason_while_the_next_one_starts(supervisor):
    os.kill(supervisor.states()["solo"].pid, signal.SIGKILL)
    heard = set()
    while not any("the next one is starting" in text for text in heard):
        try:
            call(supervisor.engines["alone"])
        except WorkerLost as err:
            heard.add(str(err))
    assert supervisor.states()["solo"].state == "starting"


def test_a_stopped_worker_is_found_killed_and_replaced(supervisor):
    stopped = supervisor.states()["solo"].pid
    os.kill(stopped, signal.SIGSTOP)
    with pytest.raises(WorkerLost, match="stopped"):  # long before the call's own limit
        while True:
            call(supervisor.engines["alone"])
    wait_for(lambda: not lives(stopped))
    np.testing.assert_array_equal(answer(supervisor.engines["alone"]), BYTES)


def test_the_state_says_who_serves_and_how_fresh_its_heartbeat_is(supervisor):
    states = supervisor.states()
    assert set(states) == {"pair", "solo"}
    assert states["pair"].engines == ("left", "right")
    for state in states.values():
        assert state.state == "running" and lives(state.pid)
        assert 0 <= state.last_beat_age_ms < 10_000


def test_workers_keep_to_their_cores_and_say_when_they_may_not(supervisor):
    assert os.sched_getaffinity(supervisor.states()["pair"].pid) == {CORE}
    assert "cores 4095: " in supervisor.states()["solo"].reason


def test_an_engine_is_slowed_down_while_it_runs_and_recovers(supervisor):
    alone = supervisor.engines["alone"]
    slow.slow_down(slow.folder_of(os.getpid()), "alone", 150.0)  # as another process does it
    start = time.monotonic()
    call(alone)
    assert time.monotonic() - start >= 0.15
    supervisor.slow("alone", 0)
    assert not list(supervisor.folder.glob("*.slow_ms"))


def test_twenty_kills_leave_memory_and_descriptors_as_they_were(supervisor):
    alone, name = supervisor.engines["alone"], supervisor.folder.name

    def kept() -> tuple[int, ...]:
        return (workers.shared_names(os.getpid()), workers.listed(supervisor.folder),
                workers.descriptors(), workers.shared_maps(name))

    os.kill(supervisor.states()["solo"].pid, signal.SIGKILL)
    answer(alone)
    before = workers.lowest(kept)
    for round_ in range(20):
        os.kill(supervisor.states()["solo"].pid, signal.SIGKILL)
        if round_ % 2:  # a call is on its way
            with pytest.raises(WorkerLost):
                call(alone)
        np.testing.assert_array_equal(answer(alone), BYTES)
    assert workers.lowest(kept) == before


def test_a_hang_ends_at_the_time_limit_of_a_call():
    supervisor = Supervisor({"solo": echoes("alone")}, Limits(call_s=0.2))
    try:
        alone, first = supervisor.engines["alone"], supervisor.states()["solo"].pid
        supervisor.slow("alone", 60_000)
        with pytest.raises(WorkerLost, match="hangs: no answer in 200 ms"):
            call(alone)
        supervisor.slow("alone", 0)
        wait_for(lambda: not lives(first))
        wait_for(lambda: supervisor.states()["solo"].state == "running")
        answer(alone)
        assert "hangs" in supervisor.states()["solo"].reason
    finally:
        supervisor.close()


def test_nothing_is_left_after_the_end():
    def kept() -> tuple[int, ...]:
        return workers.shared_names(os.getpid()), workers.descriptors()

    before = workers.lowest(kept)
    supervisor = Supervisor({"solo": echoes("alone")}, LIMITS)
    pid, folder = supervisor.states()["solo"].pid, supervisor.folder
    call(supervisor.engines["alone"])
    supervisor.close()
    supervisor.close()  # twice does no harm
    assert not lives(pid) and not folder.exists()
    assert workers.lowest(kept) == before
    with pytest.raises(WorkerLost, match="closed"):
        call(supervisor.engines["alone"])


def test_a_file_that_cannot_be_loaded_is_an_error_at_the_start(tmp_path):
    names = workers.shared_names(os.getpid())
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(EngineMismatch, match=r"bad\.onnx: ONNX Runtime cannot load it"):
        Supervisor({"fine": echoes("alone"),
                    "broken": Job({"bad": EngineJob(str(tmp_path / "bad.onnx"))})}, LIMITS)
    assert workers.shared_names(os.getpid()) == names


def test_a_worker_that_dies_without_a_word_is_an_error_too(monkeypatch):
    monkeypatch.setattr(child, "ENTRY", "this")  # prints a poem and ends
    with pytest.raises(WorkerLost, match=r"worker 'solo' died \(exit code 0\)"):
        Supervisor({"solo": echoes("alone")}, LIMITS)


def test_one_that_cannot_come_back_is_given_up(monkeypatch):
    supervisor = Supervisor({"solo": echoes("alone")}, Limits(
        call_s=5.0, second_wait_s=0.01, longest_wait_s=0.01, give_up_after=2))
    try:
        monkeypatch.setattr(child, "ENTRY", "no_such_module")
        os.kill(supervisor.states()["solo"].pid, signal.SIGKILL)
        state = wait_for(lambda: (s := supervisor.states()["solo"]).restarts == 3 and s)
        assert state.state == "lost" and state.pid is None and "given up after 3" in state.reason
        with pytest.raises(WorkerLost, match="given up"):
            call(supervisor.engines["alone"])
    finally:
        supervisor.close()


PARENT = """
import sys, time
import workers
from perception_bev.pipeline.supervisor import Supervisor
supervisor = Supervisor({"a": workers.echoes("left"), "b": workers.echoes("right")})
print(*(s.pid for s in supervisor.states().values()), supervisor.folder, flush=True)
time.sleep(60)
"""


def test_workers_die_with_their_parent_and_the_next_start_cleans_up(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True,
                          env=environment) as parent:
        *pids, folder = parent.stdout.readline().split()
        assert all(lives(int(pid)) for pid in pids)
        parent.kill()
    wait_for(lambda: not any(lives(int(pid)) for pid in pids))
    assert os.path.isdir(folder)
    Supervisor({"solo": echoes("alone")}, LIMITS).close()
    assert workers.shared_names(parent.pid) == 0


def test_a_model_computes_bit_for_bit_the_same(remembering_model):
    from perception_bev.deployment import Deployment
    from perception_bev.manifest import load_manifest
    from perception_bev.pipeline.stages import open_engines

    deployment = Deployment(threads=1)
    manifest = load_manifest(remembering_model)
    here = open_engines(remembering_model, manifest.variant("fp32"), deployment)
    there = Supervisor.of_model(remembering_model, deployment)
    try:
        assert set(there.engines) == set(here)
        for name, engine in here.items():
            assert (there.engines[name].inputs, there.engines[name].outputs) == (
                engine.inputs, engine.outputs)
            feeds = golden.inputs_of(name, engine.inputs, manifest.feature_rows)
            expected, got = engine.infer(feeds), there.engines[name].infer(feeds)
            for output, array in expected.items():
                assert got[output].tobytes() == array.tobytes(), (name, output)
    finally:
        there.close()


def test_what_fails_inside_an_engine_keeps_its_worker_and_says_why(remembering_model):
    from perception_bev.deployment import Deployment
    from perception_bev.errors import EngineFailed

    supervisor = Supervisor.of_model(remembering_model, Deployment(threads=1, check_golden=False))
    try:
        fuse = supervisor.engines["fuse"]
        feeds = golden.inputs_of("fuse", fuse.inputs, 1)
        wrong = {**feeds, "lift_index": np.full_like(feeds["lift_index"], 10**8)}
        with pytest.raises(EngineFailed, match="out of data bounds") as caught:
            fuse.infer(wrong)
        assert not isinstance(caught.value, WorkerLost)
        assert set(fuse.infer(feeds)) == {spec.name for spec in fuse.outputs}
        assert supervisor.states()["fuse"].restarts == 0
    finally:
        supervisor.close()
