"""Latency: one output's trace, ages and drops as the text values of `status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from perception_bev.contracts import SensorBundle
from perception_bev.latency.trace import Trace


def status_values(bundle: SensorBundle, trace: Trace, drops: Mapping[tuple[str, str], int],
                  notes: Mapping[str, str]) -> dict[str, str]:
    """Key -> value: `latency.<span>_ms`, `age.<sensor>_ms`, `sensor.<name>` (why it is missing),
    `drops.<sensor>`."""
    values = {"epoch": str(bundle.epoch), "sequence": str(bundle.sequence),
              "closed_by": bundle.closed_by}
    values |= {f"latency.{name}_ms": f"{ms:.3f}" for name, ms in trace.milliseconds().items()}
    values["latency.overhead_ms"] = f"{trace.overhead_ms():.3f}"
    for name, slot in bundle.slots.items():
        age = "n/a" if slot.age_ns is None else f"{slot.age_ns / 1e6:.1f}"
        values[f"age.{name}_ms"] = age
        values[f"sensor.{name}"] = slot.reason
    by_sensor: dict[str, Counter] = {}
    for (sensor, reason), count in drops.items():
        by_sensor.setdefault(sensor, Counter())[reason] += count
    values |= {f"drops.{sensor}": ", ".join(f"{r} {n}" for r, n in sorted(counts.items()))
               for sensor, counts in by_sensor.items()}
    return values | dict(notes)
