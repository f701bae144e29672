"""Commands: `bev bench guard`. The figures are of this computer; here it is how they are made."""

import argparse
import json
from types import SimpleNamespace

import pytest

from perception_bev.commands import bench_guard
from perception_bev.errors import PerceptionError
from perception_bev.nodes import wake_ups


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench_guard.add_arguments(parser)
    return parser.parse_args(words)


def found(delay_ms: float = 1.0, **changes) -> dict:
    return {"delays_ns": [round(delay_ms * 1e6)] * 100, "control_ns": [100_000] * 100,
            "received": {"cam0": 9, "top": 10}, "refused": {"bad_size": 1}, "seconds": 1.0,
            "cpu_share": 0.2, "locked_ms": 0.5, "unlocked_ms": 1.5, "collections": 1,
            "longest_collection_ms": 3.0, "notes": [], **changes}


def test_a_thread_that_is_held_up_is_late_at_every_due_time():
    """A wait that ends 35 ms late: the three due times that passed meanwhile are late, too."""
    clock = SimpleNamespace(now=0, waits=0)

    def wait(seconds):
        clock.waits += 1
        clock.now += round(seconds * 1e9) + (35_000_000 if clock.waits == 2 else 0)

    late = wake_ups.delays_ns(7, lambda: clock.now, wait)
    assert [ns / 1e6 for ns in late] == [0, 35, 25, 15, 5, 0, 0]


def test_a_wait_that_ends_early_goes_on():
    clock = SimpleNamespace(now=0)

    def wait(seconds):
        clock.now += max(1, round(seconds * 1e9) // 2)

    assert wake_ups.delays_ns(2, lambda: clock.now, wait) == [0, 0]


def test_rounds_are_added_up_and_written(tmp_path, monkeypatch, capsys):
    asked = []

    def trial(variant, seconds):
        asked.append(variant.name)
        return found(12.0 if "typed" in variant.name else 1.0)

    monkeypatch.setattr(bench_guard, "_trial", trial)
    out = tmp_path / "guard.json"
    assert bench_guard.run(parse("--rounds", "2", "--only", "5 ms", "--json", str(out))) == 0
    report = json.loads(out.read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert sorted(asked) == sorted(list(rows) * 2)
    typed, unlocked = (rows[f"{name}, switch interval 5 ms"] for name in ("typed", "unlocked"))
    assert not typed["within_limit"] and unlocked["within_limit"]
    assert unlocked["delay_ms"] == {"p50": 1, "p99": 1, "p99_9": 1, "max": 1, "count": 200}
    assert (unlocked["received"], unlocked["expected"]) == (38, 40)
    assert unlocked["refused"] == {"bad_size": 2} and unlocked["locked_ms"] == 0.5
    assert "12.00" in capsys.readouterr().out


def test_without_figures_nothing_is_claimed():
    row = bench_guard.Row()
    bench_guard.add(row, found(delays_ns=[], control_ns=[], received={}, notes=["not heard"]))
    shown = bench_guard.as_dict(bench_guard.variants()[0], row)
    assert not shown["within_limit"] and shown["delay_ms"]["p99_9"] is None
    assert shown["notes"] == ["not heard"]
    json.dumps(shown, allow_nan=False)


def test_an_unknown_variant_lists_the_known():
    with pytest.raises(PerceptionError, match="there are: idle"):
        bench_guard.run(parse("--only", "of no name"))


def test_every_variant_is_a_trial_of_the_probe():
    probe = pytest.importorskip("perception_bev.nodes.guard_probe", reason="rclpy")
    for variant in bench_guard.variants():
        probe.Trial(**variant.trial)


@pytest.mark.ros
def test_newest_frames_are_decoded_and_counted():
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from perception_bev.messages import cdr
    from perception_bev.nodes import guard_probe, sensor_load

    decoding = guard_probe.Decoding()
    sent = sensor_load.messages(5_000_000_000)
    try:
        for name, data in sent.items():
            reader = cdr.read_cloud if name == "top" else cdr.read_image
            decoding.push(name, reader(data), None)
    finally:
        decoding.close()
    assert decoding.complete and len(sent["cam0"]) > 4_320_000 and len(sent["top"]) > 560_000
