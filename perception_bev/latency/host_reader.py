"""Latency: reads what this computer says about itself: psutil, sysfs (Jetson's too), NVML.

What is not there is left out; reading never raises. A reading takes some milliseconds of file
access: it belongs into the watchdog, not into the process that keeps the contract.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from perception_bev.latency.host import HostState, Temperature
from perception_bev.latency.nvml import Gpu, Nvml

PASSIVE = "passive"  # the trip point at which the kernel begins to throttle
HOTTEST = 150.0  # [°C] and above, or -50 and below, are sensors that are not connected
COLDEST = -50.0
THROTTLES = ("-throttle-alert", "hot-surface-alert")  # Jetson: cooling devices that say it
CLOCKED = ("cpufreq", "thermal-cpufreq", "devfreq", "processor")  # held down by a trip point
TOTALS = ("VDD_IN", "5V_IN", "POM_5V_IN")  # Jetson: the rail that feeds the others


class HostReader:
    """read() one HostState. One thread."""

    def __init__(self, root: str | Path = "/", nvml: Nvml | None = None) -> None:
        """root: for tests; below it lie sys/ and proc/. nvml: default: the driver's, if any."""
        self._sys, self._proc = Path(root) / "sys", Path(root) / "proc"
        self._nvml = Nvml() if nvml is None else nvml
        _psutil()  # load is counted from here; the very first figure of psutil is a false 0

    def read(self) -> HostState:
        gpus = self._nvml.read()
        load, free_mb = _psutil()
        return HostState(
            temperatures=(*self._temperatures(), *_gpu_temperatures(gpus)),
            throttled=(*self._throttled(), *(f"{gpu.name}: {why}" for gpu in gpus
                                             for why in gpu.throttled)),
            throttle_events=self._events(),
            power_w={**self._rails(), **{gpu.name: gpu.power_w for gpu in gpus
                                         if gpu.power_w is not None}},
            cpu_load=load, cpu_pressure=self._pressure(), cpu_cap=self._cap(),
            gpu_load=max((gpu.load for gpu in gpus if gpu.load is not None),
                         default=self._jetson_load()),
            memory_free_mb=free_mb)

    def close(self) -> None:
        self._nvml.close()

    # -- sysfs -----------------------------------------------------------------------------------

    def _temperatures(self) -> Iterator[Temperature]:
        """Thermal zones in milli-degrees, with their own passive trip points."""
        for zone in _sorted(self._sys / "class/thermal", "thermal_zone*"):
            celsius = _scaled(zone / "temp", 1e-3)
            if celsius is not None and COLDEST < celsius < HOTTEST:
                yield Temperature(_text(zone / "type") or zone.name, celsius, _passive(zone))

    def _throttled(self) -> list[str]:
        found = []
        for device in _sorted(self._sys / "class/thermal", "cooling_device*"):
            kind = _text(device / "type") or ""
            slows = kind.endswith(THROTTLES) or kind.lower().startswith(CLOCKED)
            if slows and (_scaled(device / "cur_state") or 0) > 0:
                found.append(kind)
        return sorted(set(found))

    def _events(self) -> int | None:
        """x86: thermal throttling by core; Jetson: over-current events."""
        counters = [*_sorted(self._sys / "devices/system/cpu",
                             "cpu[0-9]*/thermal_throttle/core_throttle_count"),
                    *_sorted(self._sys / "class/hwmon", "hwmon*/oc*_event_cnt")]
        counts = [int(n) for path in counters if (n := _scaled(path)) is not None]
        return sum(counts) if counts else None

    def _rails(self) -> dict[str, float]:
        """hwmon: volts times amperes by labelled rail (INA3221), or microwatts where given."""
        rails: dict[str, float] = {}
        for path in _sorted(self._sys / "class/hwmon", "hwmon*/curr[0-9]_input"):
            number = path.name[4]
            label = _text(path.with_name(f"in{number}_label")) or ""
            volts = _scaled(path.with_name(f"in{number}_input"), 1e-3)
            amperes = _scaled(path, 1e-3)
            if label and "shunt" not in label and volts is not None and amperes is not None:
                rails[label] = volts * amperes
        total = next((name for name in TOTALS if name in rails), None)
        return rails if total is None else {total: rails[total]}

    def _pressure(self) -> float | None:
        """Pressure stall information: the share of time that some task waited for a core."""
        for word in (_text(self._proc / "pressure/cpu") or "").split():
            if word.startswith("avg10="):
                return _number(word.removeprefix("avg10="), 1e-2)
        return None

    def _cap(self) -> float | None:
        """The lowest of the cores' allowed clocks, as a share of what each could."""
        shares = []
        for folder in _sorted(self._sys / "devices/system/cpu", "cpu[0-9]*/cpufreq"):
            allowed = _scaled(folder / "scaling_max_freq")
            highest = _scaled(folder / "cpuinfo_max_freq")
            if allowed is not None and highest:
                shares.append(allowed / highest)
        return min(shares, default=None)

    def _jetson_load(self) -> float | None:
        """The integrated GPU's load in tenths of a percent."""
        for path in (*_sorted(self._sys / "devices/platform", "*gpu*/load"),
                     *_sorted(self._sys / "devices", "gpu.0/load")):
            if (load := _scaled(path, 1e-3)) is not None:
                return load
        return None


def _passive(zone: Path) -> float | None:
    trips = [celsius for path in _sorted(zone, "trip_point_*_type") if _text(path) == PASSIVE
             and (celsius := _scaled(path.with_name(path.name.replace("_type", "_temp")), 1e-3))
             is not None and celsius > 0]
    return min(trips, default=None)


def _gpu_temperatures(gpus: tuple[Gpu, ...]) -> Iterator[Temperature]:
    return (Temperature(gpu.name, gpu.celsius, gpu.throttles_at) for gpu in gpus
            if gpu.celsius is not None)


def _psutil() -> tuple[float | None, float | None]:
    """CPU load since the last call [0..1], and free memory [MB]; None without psutil."""
    try:
        import psutil
    except ImportError:
        return None, None
    try:
        return psutil.cpu_percent(None) / 100, psutil.virtual_memory().available / 1e6
    except (OSError, RuntimeError):  # a container may hide /proc
        return None, None


def _sorted(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:  # not there, not allowed, or the driver is asleep
        return None


def _scaled(path: Path, factor: float = 1.0) -> float | None:
    return _number(_text(path), factor)


def _number(text: str | None, factor: float = 1.0) -> float | None:
    try:
        return None if text is None else float(text) * factor
    except ValueError:
        return None
