"""`bev bench workers` measures what it says it does, on a small model."""

import json

import pytest

from perception_bev.commands import bench_workers
from perception_bev.commands.main import main

pytest.importorskip("iceoryx2")


def test_every_figure_is_there(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_workers, "SIZES", (1000, 20_000))
    monkeypatch.setattr(bench_workers, "IDLE_S", 0.05)
    out = tmp_path / "workers.json"
    assert main(["bench", "workers", "--model", str(tiny_model), "--calls", "8", "--kills", "2",
                 "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == report
    assert set(report["way"]) == {"0.001 MB", "0.02 MB"}
    assert all(engine["same_bits"] for engine in report["engines"].values())
    assert report["kept"]["before"] == report["kept"]["after_kills"]
    for how in ("killed", "stopped"):
        assert report[how]["times"] == 2
        assert 0 < report[how]["known_ms"]["p50"] < report[how]["serving_again_ms"]["p50"]


def test_figures():
    assert bench_workers.figures([1.0, 2.0, 3.0]) == {"p50": 2.0, "p99": 2.98, "max": 3.0}
