"""Commands: `bev bench sync`."""

import argparse
import json
from dataclasses import replace

from perception_bev.commands import bench_sync
from perception_bev.sync.collector import Collector


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench_sync.add_arguments(parser)
    return parser.parse_args(words)


def test_all_scenarios_keep_their_promises_and_the_figures_are_written(tmp_path, capsys):
    out = tmp_path / "sync.json"
    assert bench_sync.run(parse("--seconds", "3", "--json", str(out))) == 0
    figures = json.loads(out.read_text())
    assert figures["passed"] and len(figures["scenarios"]) == len(bench_sync.scenarios())
    for name, r in figures["scenarios"].items():
        assert r["bundles"] >= r["cycles"] - 4 and r["cost_us"]["push"] > 0, name
    assert "reference last" in capsys.readouterr().out
    slow = figures["scenarios"]["camera with 110 ms transport"]
    assert slow["worst_age_ms"] == 100.0


def test_a_collector_that_waits_for_all_fails():
    """The bench can fail: here nothing is emitted while a sensor is missing."""
    class WaitsForAll(Collector):
        def poll(self, now):
            bundle = super().poll(now)
            return bundle if bundle is None or all(
                s.present for s in bundle.slots.values()) else None

    by_name = {s.name: s for s in bench_sync.scenarios()}
    result = bench_sync.measure(by_name["without cam0"], 3.0, WaitsForAll)
    assert result.bundles == 0 and result.failures
    figures = bench_sync.as_dict([result], "test")
    assert not figures["passed"]
    json.dumps(figures, allow_nan=False)


def test_ages_are_judged():
    (scenario,) = [s for s in bench_sync.scenarios() if s.name.startswith("reference last")]
    wrong = replace(scenario, age_ms=(0.0, 10.0))
    assert not bench_sync.measure(scenario, 3.0).failures
    assert "cam0 is 88.0 to 88.0 ms old" in bench_sync.measure(wrong, 3.0).failures
