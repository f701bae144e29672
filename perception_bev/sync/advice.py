"""Sync: what in the rig file keeps the collector from its best, with figures and the cure."""

from __future__ import annotations

from collections.abc import Mapping

from perception_bev.rig import Rig

MS = 1_000_000  # [ns]
FEW = 3  # stale frames that are an accident


def advise(rig: Rig, output_ms: float, delays_ns: Mapping[str, float],
           drops: Mapping[tuple[str, str], int]) -> tuple[str, ...]:
    """Findings for status and `bev doctor`; empty when nothing is to be said.

    delays_ns: smoothed arrival - stamp of every sensor that was heard.
    """
    found = [_rate(rig, output_ms), _reference(rig, delays_ns.get(rig.reference.sensor))]
    found += [_stale(rig, name, delays_ns[name]) for name in rig.sensors
              if name in delays_ns and drops.get((name, "stale"), 0) >= FEW
              and name != rig.reference.sensor]
    return tuple(text for text in found if text is not None)


def _rate(rig: Rig, output_ms: float) -> str | None:
    asked = rig.reference.period_ms
    if 0.95 <= output_ms / asked <= 1.05:
        return None
    return (f"reference '{rig.reference.sensor}': its sweeps make an output every "
            f"{output_ms:.1f} ms, reference.period_ms asks for {asked:.1f} ms; choose a reference "
            "whose period divides it, or state this one")


def _reference(rig: Rig, delay_ns: float | None) -> str | None:
    wait_ms = rig.reference.wait_ms
    if delay_ns is None or delay_ns / MS <= wait_ms:
        return None
    return (f"reference '{rig.reference.sensor}' arrives {delay_ns / MS:.0f} ms after its stamp, "
            f"reference.wait_ms is {wait_ms:.0f}: every bundle closes without its sweep; "
            "shorten the transport, or raise wait_ms as far as the budget allows")


def _stale(rig: Rig, name: str, delay_ns: float) -> str | None:
    sensor = rig.sensors[name]
    limit_ms = sensor.age_limit_ns / MS
    oldest_ms = delay_ns / MS - rig.reference.wait_ms + sensor.period_ms
    if oldest_ms <= limit_ms:
        return None
    return (f"{name}: arrives {delay_ns / MS:.0f} ms after its stamp, so its newest frame can be "
            f"{oldest_ms:.0f} ms old at t_ref, max_age_ms is {limit_ms:.0f}: "
            f"set max_age_ms: {oldest_ms + 5:.0f}, or shorten the transport")
