"""Sync: puts a name and a cure to what a sensor's stamps show on the first day on a vehicle."""

from __future__ import annotations

from typing import Literal

MS = 1_000_000  # [ns]
SECOND = 1_000_000_000  # [ns]

FUTURE_NS = 5 * MS  # arrival cannot precede the measurement; the rest is clock jitter
OLD_NS = 300 * MS  # no transport that could be used takes so long
TRANSPORT_NS = 300 * MS  # a whole second of offset plus a delay of up to this
BOOT_NS = 1_000_000_000 * SECOND  # stamps before September 2001 count from the sensor's start
RECORDED_NS = 86_400 * SECOND
QUARTER_HOUR = 900  # [s], the raster of time zones

WHOLE_SECONDS = {37: "TAI: its PTP master distributes TAI and the UTC offset is not applied",
                 18: "GPS time, which has no leap seconds",
                 19: "one of TAI and GPS time taken for the other"}


def name_offset(min_delay_ns: int, spread_ns: int, stamp_ns: int,
                configured_ms: float = 0.0) -> str | None:
    """From the least (arrival - stamp), its spread and the newest stamp; None: plausible."""
    if stamp_ns < BOOT_NS and min_delay_ns > RECORDED_NS:  # else a simulation's clock is young
        return ("the header stamp is 0 or counts from the sensor's start, not since 1970; "
                "set stamp_source: arrival, or synchronise the sensor (PTP)")
    if -FUTURE_NS <= min_delay_ns <= OLD_NS:
        return None
    if min_delay_ns > RECORDED_NS:
        return (f"stamps are {min_delay_ns / SECOND / 86_400:.1f} days old: recorded data? "
                "play it with --clock and set use_sim_time")
    return _offset(min_delay_ns, spread_ns, configured_ms)


def _offset(min_delay_ns: int, spread_ns: int, configured_ms: float) -> str:
    ahead = min_delay_ns < 0
    side = "in the future" if ahead else "old"
    cure_ms = round(configured_ms + min_delay_ns / MS)
    seconds = whole_seconds(min_delay_ns)
    if seconds is not None and ahead and seconds in WHOLE_SECONDS:
        return (f"stamps are {seconds} s {side}: this clock is {WHOLE_SECONDS[seconds]}; correct "
                f"it there, or set clock_offset_ms: {round(configured_ms) - seconds * 1000}")
    if seconds is not None and seconds % QUARTER_HOUR == 0:
        return (f"stamps are {seconds / 3600:g} h {side}: this clock shows local time, not UTC; "
                "correct it there")
    if seconds is not None:
        sign = -1 if ahead else 1
        return (f"stamps are {seconds} whole seconds {side} (leap seconds?); correct the clock, "
                f"or set clock_offset_ms: {round(configured_ms) + sign * seconds * 1000}")
    if spread_ns > OLD_NS:
        return (f"stamps are {abs(min_delay_ns) / MS:.0f} ms {side} and that varies by "
                f"{spread_ns / MS:.0f} ms: this clock is not synchronised; "
                "synchronise it (PTP, NTP), or set stamp_source: arrival")
    return (f"stamps are constantly {abs(min_delay_ns) / MS:.0f} ms {side} (spread "
            f"{spread_ns / MS:.0f} ms); synchronise the clock (PTP, NTP), or set "
            f"clock_offset_ms: {cure_ms} less the least transport")


def whole_seconds(min_delay_ns: int) -> int | None:
    """The whole seconds of an offset, allowing for transport on top; None: it is not whole."""
    seconds = -(min_delay_ns // SECOND) if min_delay_ns < 0 else min_delay_ns // SECOND
    transport = min_delay_ns % SECOND
    return int(seconds) if seconds != 0 and transport < TRANSPORT_NS else None


def name_sweep_origin(min_delay_ns: int, period_ns: float,
                      stamp: Literal["start", "end"]) -> str | None:
    """A sweep can be sent only once it is complete, so its age tells start from end of it."""
    periods = min_delay_ns / period_ns
    if stamp == "end" and 0.95 <= periods <= 1.3:
        return (f"every sweep arrives at least {min_delay_ns / MS:.0f} ms, one period, after its "
                "stamp: probably the stamp is the sweep's start; set stamp: start")
    if stamp == "start" and periods < 0.6:
        return (f"a sweep arrives {min_delay_ns / MS:.0f} ms after its stamp, before it could be "
                "complete: the stamp is not the sweep's start; set stamp: end")
    return None


def name_period(measured_ns: int | None, period_ns: float) -> str | None:
    """The rate that came against the rate that the rig states."""
    if measured_ns is None or 0.75 * period_ns < measured_ns < 1.33 * period_ns:
        return None
    return (f"comes every {measured_ns / MS:.1f} ms, the rig says {period_ns / MS:.1f} ms; "
            "set period_ms")
