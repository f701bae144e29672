"""Commands: figures of a live run, from rows as the measure node writes them."""

import math
import sys

import pytest

from perception_bev.commands import demo_astyx as demo
from perception_bev.commands import live_run
from perception_bev.commands.live_run import LiveRun, summary

MS = 1_000_000


def row(cycle: int, latency_ms: float, **status: float) -> dict:
    """One output: published `total` after t_ref, of which `overhead` is the node's own."""
    values = {"latency.total_ms": "40.0", "latency.overhead_ms": "3.0", "latency.wait_ms": "5.0",
              "received.top": str(cycle), **{k: str(v) for k, v in status.items()}}
    return {"t_ref_ns": cycle * 100 * MS, "latency_ms": latency_ms, "mode": "full (x)",
            "status": values, "boxes": []}


@pytest.fixture
def run() -> LiveRun:
    rows = [row(k, 500.0 if k < 5 else 42.0) for k in range(30)]
    return LiveRun(rows, {"/lidar/top/points": 30}, 2.0, 400.0, {})


def test_the_first_second_is_not_timed(run):
    assert run.latency_ms() == {"p50": 42.0, "p95": 42.0, "p99": 42.0, "max": 42.0}


def test_overhead_is_the_nodes_own_and_the_way_to_the_subscriber(run):
    assert run.overhead_ms()["p50"] == pytest.approx(42.0 - 40.0 + 3.0)


def test_an_output_stamped_in_the_future_has_no_latency(run):
    """A clock that was set 30 s forward makes no output quick."""
    run.outputs[:] = [{**r, "latency_ms": r["latency_ms"] - 30_000.0} if k >= 20 else r
                      for k, r in enumerate(run.outputs)]
    report = demo.figures(run)
    assert report["latency_ms"]["p50"] == 42.0 and report["without_latency"] == 10
    assert report["overhead_ms"]["p50"] == pytest.approx(5.0)
    late = [{**r, "latency_ms": 5_000.0} for r in run.outputs]
    assert LiveRun(late, {}, 2.0, 400.0, {}).latency_ms()["p50"] == 5_000.0, "late is not unknown"


def test_a_last_row_without_status_is_no_trouble(run):
    run.outputs.append({"t_ref_ns": 9_000 * MS, "latency_ms": 41.0})
    report = demo.figures(run)
    assert report["received"] == {"top": 29}
    assert report["modes"] == {"full": report["outputs"]}
    assert report["rate_hz"] == pytest.approx(10.0)


def test_nothing_measured_is_nan_and_not_zero():
    assert all(math.isnan(value) for value in summary([]).values())


def test_children_are_nodes_of_this_package_with_their_parameters():
    child = live_run._child("replay_node", {"bag": "b", "loop": True, "rate": 1.0})
    assert child.command[:3] == [sys.executable, "-m", "perception_bev.nodes.replay_node"]
    assert "loop:=true" in child.command and "bag:='b'" in child.command




def test_a_cycle_without_objects_is_counted(run):
    assert run.missed() == 0
    del run.outputs[20:23]
    run.outputs.insert(15, {**run.outputs[14], "t_ref_ns": run.outputs[14]["t_ref_ns"] + 30 * MS})
    assert run.missed() == 3, "and a seam of the recording does not make up for it"


def test_the_nodes_stay_on_this_computer_unless_one_says_otherwise(monkeypatch):
    for name in live_run.DISCOVERY:
        monkeypatch.delenv(name, raising=False)
    assert live_run.environment()["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "0")
    assert "ROS_AUTOMATIC_DISCOVERY_RANGE" not in live_run.environment()
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    assert live_run.environment()["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"
