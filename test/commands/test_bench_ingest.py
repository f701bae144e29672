"""Commands: `bev bench ingest`. The figures are of this computer; here it is how they are made."""

import argparse
import dataclasses
import json

import pytest

from perception_bev import resources
from perception_bev.commands import bench_ingest
from perception_bev.errors import ConfigError, PerceptionError
from perception_bev.rig import load_rig

SIM6 = resources.path("config/rigs/sim6.yaml")


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench_ingest.add_arguments(parser)
    return parser.parse_args(words)


def found(**changes) -> dict:
    return {"received": {"cam": 10, "top": 10}, "refused": {"bad_size": 1}, "rate": 20.0,
            "seconds": 1.0, "locked_ms": 0.1, "unlocked_ms": 0.2, "waits": 1.0, "cpu_share": 0.05,
            "notes": [], **changes}


def test_rounds_are_added_up_and_written(tmp_path, monkeypatch, capsys):
    asked = []

    def trial(name, rig, seconds):
        asked.append(name)
        return found(locked_ms=1.0 if "rclpy" in name else 0.1 * len(asked))

    monkeypatch.setattr(bench_ingest, "_trial", trial)
    out = tmp_path / "ingest.json"
    assert bench_ingest.run(parse("--rounds", "2", "--only", "unlocked", "--json", str(out))) == 0
    report = json.loads(out.read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert sorted(asked) == sorted(list(rows) * 2) and len(rows) == 2
    ours = rows["ours, bytes, unlocked"]
    assert ours["received"] == ours["expected"] == 40 and ours["refused"] == {"bad_size": 2}
    assert ours["locked_ms"] == pytest.approx(sum(ours["rounds"]["locked_ms"]) / 2)
    theirs = rows["rclpy's executor, bytes, unlocked"]
    assert theirs["locked_ms"] == 1.0 and not theirs["within_limit"]
    assert "sim6.yaml" in capsys.readouterr().out


def test_a_probe_that_heard_nothing_has_no_figures(capsys):
    row = bench_ingest.Row()
    bench_ingest.add(row, found(received={}, notes=["not all was heard"]))
    values = bench_ingest.as_dict("ours, typed", row)
    assert values["locked_ms"] is None and not values["within_limit"]
    bench_ingest.show({"machine": "m", "rig": "r", "rows": [values]},
                      bench_ingest.Console(width=150))
    assert "n/a" in capsys.readouterr().out


def test_unknown_variants_are_refused():
    with pytest.raises(PerceptionError, match="ours, typed"):
        bench_ingest.run(parse("--only", "nothing"))


@pytest.mark.ros
class TestLoad:
    """What is published."""

    @pytest.fixture
    def load(self):
        pytest.importorskip("rclpy", reason="rclpy is not installed")
        from perception_bev.nodes import ingest_load
        return ingest_load

    def test_every_sensor_has_its_rate_and_can_be_read(self, load):
        from perception_bev.messages import read

        rig = load_rig(SIM6)
        rates = load.rates(rig)
        assert sum(rates.values()) == pytest.approx(6 * 10 + 10 + 5 * 20 + 50)
        streams = {stream.topic: stream for stream in load.streams(rig, 5_000_000_007)}
        assert len(streams) == len(rates)
        for name, sensor in rig.sensors.items():
            stream = streams[sensor.topic]
            assert stream.period_s == pytest.approx(1 / rates[name])
            frame = (read.read_compressed_image if name in rig.cameras else read.read_cloud)(
                stream.message)
            assert (frame.stamp_ns, frame.frame_id) == (5_000_000_007, sensor.frame_id)

    def test_what_it_cannot_send_is_said(self, load):
        camera = next(iter(load_rig(SIM6).cameras.values()))
        with pytest.raises(ConfigError, match="only compressed"):
            load._frame(dataclasses.replace(camera, transport="raw"), 5)


@pytest.mark.ros
def test_the_probe_counts_what_comes(monkeypatch):
    """The product's variant, for as long as it takes to hear all."""
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from ros_bench import DOMAIN

    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    monkeypatch.setattr(bench_ingest, "VARIANTS", {"ours": {"executor": "lean",
                                                            "taking": "unlocked"}})
    row = bench_ingest._trial("ours", SIM6, 0.5)
    assert set(row["received"]) == {*load_rig(SIM6).sensors, "odometry"}
    assert not row["refused"] and not row["notes"]
    assert row["locked_ms"] > 0 and row["unlocked_ms"] > 0 and row["waits"] > 0
