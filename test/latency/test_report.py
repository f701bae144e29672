"""What `status` says of an output: every figure by a name of its own."""

from collections import Counter

import numpy as np

from perception_bev.contracts import RadarScan, SensorBundle, Slot
from perception_bev.latency.report import status_values
from perception_bev.latency.trace import Trace

MS = 1_000_000
SCAN = RadarScan(0, np.zeros((0, 3), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32))


def values(**notes: str) -> dict[str, str]:
    bundle = SensorBundle(12 * MS, 3, 42, {
        "nose": Slot((SCAN,), 12 * MS), "tail": Slot((SCAN,), -2 * MS, "reused"),
        "top": Slot(reason="late")}, "deadline")
    trace = Trace(0, 20 * MS, [("fuse", 20 * MS, 35 * MS)], published=40 * MS)
    drops = Counter({("top", "late"): 2, ("top", "backward"): 1, ("nose", "truncated"): 4})
    return status_values(bundle, trace, drops, notes)


def test_whole_status():
    assert values(objects="7") == {
        "epoch": "3", "sequence": "42", "closed_by": "deadline",
        "latency.wait_ms": "20.000", "latency.fuse_ms": "15.000", "latency.total_ms": "40.000",
        "latency.overhead_ms": "5.000",
        "age.nose_ms": "12.0", "sensor.nose": "ok", "age.tail_ms": "-2.0",
        "sensor.tail": "reused", "age.top_ms": "n/a", "sensor.top": "late",
        "drops.top": "backward 1, late 2", "drops.nose": "truncated 4", "objects": "7"}


def test_all_values_are_text():
    assert all(isinstance(k, str) and isinstance(v, str) for k, v in values().items())


def test_notes_win():
    assert values(epoch="n/a")["epoch"] == "n/a"
