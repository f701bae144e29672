"""`bev bench trace`: what it measures, and that it can fail."""

from __future__ import annotations

import json

import pytest

from perception_bev import resources
from perception_bev.commands import bench_trace
from perception_bev.commands import main as bev
from perception_bev.latency.trace import IDLE, kind
from perception_bev.rig import load_rig

RIG = load_rig(resources.path("config/rigs/sim6.yaml"))


def clock_of(tick_us: int):
    """A clock that goes on by so much whenever it is read."""
    state = [0]

    def read() -> int:
        state[0] += tick_us * 1000
        return state[0]

    return read


@pytest.mark.parametrize("tick_us, passed", [(1, True), (16, True), (17, False), (1000, False)])
def test_three_parts_of_a_frame_have_fifty_microseconds(tick_us, passed):
    report = bench_trace.measure(RIG, 12, clock_of(tick_us))
    assert report["passed"] is passed
    assert report["frame_us"] == {"p50": 3 * tick_us, "p99": 3 * tick_us}
    assert all(cost["p50"] == tick_us for cost in report["cost_us"].values())
    assert report["written"] == 12 and not report["lost"]


def test_the_spans_are_those_of_the_rig():
    names = bench_trace.span_names(RIG)
    assert len(names) == len(bench_trace.STEPS) + 2 * len(RIG.sensors) + len(RIG.cameras)
    assert {kind(name) for name in names} >= (IDLE - {"wait"}) | {"decode", "fuse", "decide"}


def test_the_command_writes_its_figures(tmp_path, capsys):
    out = tmp_path / "trace.json"
    code = bev.main(["bench", "trace", "--frames", "20", "--json", str(out)])
    report = json.loads(out.read_text())
    assert code == (0 if report["passed"] else 1)
    assert report["frames"] == report["written"] == 20 and report["machine"]
    assert set(report["cost_us"]) == {"record", "figures", "hand_over", "write"}
    assert "hand over" in capsys.readouterr().out
