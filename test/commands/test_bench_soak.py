"""Commands: `bev bench soak`: the report of a run, its keys, and its picture."""

import json

import pytest
from rich.console import Console
from test_live_bench_count import MONO, START, pair, receipt

from perception_bev.commands import bench_soak, main
from perception_bev.commands.live_bench_control import Stall
from perception_bev.commands.live_bench_count import MS, Contract
from perception_bev.commands.live_bench_memory import Memory
from perception_bev.commands.live_bench_soak import overhead_to_engines, recent, report, show
from perception_bev.commands.live_bench_stack import LiveResult, LiveStack, Progress, _pids
from perception_bev.nodes.table import Choices

KEYS = ["periods", "without_output", "older_than_budget", "full_share", "rss_growth_mb",
        "latency_ms", "overhead_ms", "predicted", "safe_state", "machine_stalls"]
DESCRIBED = {"machine": "made up", "runner": "threads"}


def live(n: int = 1200, stalls: tuple = (), fast: bool = False) -> LiveResult:
    """Two minutes with something of everything, or, `fast`, a second."""
    receipts = []
    for k in range(10 if fast else n):
        if k in (300, 301):
            continue
        if 500 <= k < 520:
            receipts += pair(k, 70, f"predicted ({k - 499} frames)", 1)
        elif 520 <= k < 525:
            receipts.append(receipt("status", k, 70, "no output: safe state", 2))
        elif k == 700:
            receipts += pair(k, 95)
        else:
            receipts += pair(k, 50)
    seconds = 1 if fast else n // 10
    memory = [Memory(float(s), {"perception": 480.0 + 0.05 * s}) for s in range(seconds)]
    return LiveResult(receipts, START, START + seconds * 10**9, list(stalls), [], memory, {}, 0,
                      Contract())


def test_the_report_has_the_benchmarks_keys():
    figures = report(live(), DESCRIBED)
    assert list(figures) == [*KEYS, "details"]
    assert list(figures["latency_ms"]) == ["p50", "p95", "p99", "max"]
    assert list(figures["overhead_ms"]) == ["p50", "p99"]
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_what_happened_in_stalls_is_counted_apart_and_nowhere_lost():
    stalls = (Stall(MONO + 70_010 * MS, MONO + 70_070 * MS), Stall(MONO + 30_010 * MS,
                                                                   MONO + 30_050 * MS))
    plain, apart = report(live(), DESCRIBED), report(live(stalls=stalls), DESCRIBED)
    assert (plain["periods"], apart["periods"], apart["machine_stalls"]) == (1200, 1200, 2)
    within = apart["details"]["in_machine_stalls"]
    for key, count in (("without_output", 7), ("older_than_budget", 1), ("predicted", 20),
                       ("safe_state", 5)):
        assert plain[key] == count == apart[key] + within[key]
    assert (within["without_output"], within["older_than_budget"]) == (1, 1)
    assert plain["full_share"] == pytest.approx((1200 - 7 - 1 - 20) / 1200, abs=1e-5)
    assert apart["full_share"] == pytest.approx((1200 - 7 - 1 - 20) / 1198, abs=1e-5)


def test_what_a_short_run_cannot_know_is_null():
    figures = report(live(fast=True), DESCRIBED)
    assert figures["rss_growth_mb"] is None and figures["periods"] == 10
    assert report(live(), DESCRIBED)["rss_growth_mb"] == pytest.approx(0.05 * 50, abs=0.05)


def test_overhead_beside_the_engines():
    from perception_bev.commands.live_bench_count import Count

    values = {"latency.total_ms": "40", "latency.overhead_ms": "4", "latency.fuse_ms": "20",
              "latency.decide_ms": "5"}
    receipts = [r for k in range(10) for r in (receipt("tracks", k, 40.0),
                                               receipt("status", k, 40.0, values=values))]
    run = LiveResult(receipts, START, START + 10**9, [], [], [], {}, 0, Contract())
    assert overhead_to_engines(run, Count.of(run.periods(), run.contract)) == 4 / 25


@pytest.mark.parametrize("fast", [True, False])
def test_a_run_can_be_shown_and_drawn(tmp_path, fast):
    from perception_bev.commands.live_bench_plot import plot_soak

    run = live(stalls=(Stall(MONO, MONO + 50 * MS),), fast=fast)
    figures, console = report(run, DESCRIBED), Console(record=True, width=100)
    show(figures, console)
    assert "without_output" in console.export_text()
    assert plot_soak(tmp_path / "out.png", run, figures).stat().st_size > 10_000


def test_a_run_without_any_output_can_be_drawn(tmp_path):
    from perception_bev.commands.live_bench_plot import plot_soak

    silent = [receipt("status", k, 70, "no output: safe state", 2) for k in range(10)]
    run = LiveResult(silent, START, START + 10**9, [], [], [], {}, None, Contract())
    figures = report(run, DESCRIBED)
    assert (figures["safe_state"], figures["without_output"], figures["full_share"]) == (10, 10, 0)
    assert plot_soak(tmp_path / "out.png", run, figures).exists()


def test_the_bar_says_what_came_last():
    progress = Progress([r for k in range(5) for r in pair(k, 42, "degraded (front: missing)")])
    assert recent(progress) == " p50 42 max 42 ms, degraded (front: missing)"
    assert "no tracks" in recent(Progress())


def test_the_stack_is_that_of_the_node_table_and_each_who_counts_is_a_process(tmp_path):
    from perception_bev import resources
    from perception_bev.nodes import table

    choices = Choices(rig=str(resources.path("config/rigs/sim6.yaml")), model="m")
    stack = LiveStack(tmp_path, choices, tmp_path / "bag", Contract())
    assert [child.name for child in stack.stack] == [p.entry.name for p in table.plan(choices)]
    modules = [child.command[2] for child in stack._children]
    assert modules.count("perception_bev.commands.live_bench_control") >= 1
    assert "perception_bev.nodes.contract_monitor" in modules
    (replay,) = (c for c in stack._children if c.name == "replay_node")
    assert "endless:=true" in replay.command and "stamps:='fresh'" in replay.command
    assert _pids(stack.stack) == {}, "nothing runs before run()"


def test_the_verbs_are_there(capsys):
    for verb in ("soak", "pipeline"):
        with pytest.raises(SystemExit) as ended:
            main.main(["bench", verb, "--help"])
        assert ended.value.code == 0 and "docs/benchmarks.md" in capsys.readouterr().out


def test_period_and_budget_are_those_of_rig_and_deployment(tmp_path):
    from argparse import Namespace

    file = tmp_path / "deployment.yaml"
    file.write_text("budget_ms: 60\n")
    args = Namespace(rig=None, deployment=file)
    assert bench_soak.contract_of(args) == Contract(100 * MS, 60 * MS)
