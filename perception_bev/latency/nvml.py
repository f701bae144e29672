"""Latency: NVIDIA GPUs as their driver sees them, through its own library (NVML), if there is one.

By ctypes: the library comes with the driver, so nothing has to be installed. Calls that a device
does not support (a Jetson's, most of them) leave their figure out.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

LIBRARY = "libnvidia-ml.so.1"
SUCCESS = 0
GPU_SENSOR = 0  # nvmlTemperatureSensors_t
SLOWDOWN = 1  # nvmlTemperatureThresholds_t
# nvmlClocksEventReasons. Not the power cap (0x04): a GPU that works may sit at it for ever, and
# what that costs is in the costs.
REASONS = {0x08: "hardware slowdown", 0x20: "heat (driver)", 0x40: "heat (hardware)",
           0x80: "power brake"}


@dataclass(frozen=True, slots=True)
class Gpu:
    """One reading of one device; None: it does not say."""

    name: str  # "gpu 0"
    celsius: float | None = None
    throttles_at: float | None = None  # [°C]
    power_w: float | None = None
    load: float | None = None  # [0..1]
    throttled: tuple[str, ...] = ()


class _Utilisation(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


def _load() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        return None


class Nvml:
    """read() all devices; none where there is no driver."""

    def __init__(self, load: Callable[[], ctypes.CDLL | None] = _load) -> None:
        self._library = load()
        if self._library is not None and self._call("nvmlInit_v2") is None:
            self._library = None

    def read(self) -> tuple[Gpu, ...]:
        if self._library is None:
            return ()
        count = ctypes.c_uint(0)
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        return tuple(gpu for i in range(count.value) if (gpu := self._gpu(i)) is not None)

    def close(self) -> None:
        if self._library is not None:
            self._call("nvmlShutdown")
            self._library = None

    def _gpu(self, index: int) -> Gpu | None:
        device = ctypes.c_void_p()
        found = self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index),
                           ctypes.byref(device))
        if found is None:
            return None
        milliwatts = self._uint("nvmlDeviceGetPowerUsage", device)
        load = _Utilisation()
        measured = self._call("nvmlDeviceGetUtilizationRates", device, ctypes.byref(load))
        return Gpu(f"gpu {index}", self._uint("nvmlDeviceGetTemperature", device, GPU_SENSOR),
                   self._uint("nvmlDeviceGetTemperatureThreshold", device, SLOWDOWN),
                   None if milliwatts is None else milliwatts / 1e3,
                   None if measured is None else load.gpu / 100, self._throttled(device))

    def _throttled(self, device: ctypes.c_void_p) -> tuple[str, ...]:
        bits = ctypes.c_ulonglong(0)
        if self._call("nvmlDeviceGetCurrentClocksThrottleReasons", device,
                      ctypes.byref(bits)) is None:
            return ()
        return tuple(text for bit, text in REASONS.items() if bits.value & bit)

    def _uint(self, name: str, device: ctypes.c_void_p, *which: int) -> float | None:
        value = ctypes.c_uint(0)
        done = self._call(name, device, *map(ctypes.c_uint, which), ctypes.byref(value))
        return None if done is None else float(value.value)

    def _call(self, name: str, *arguments: object) -> bool | None:
        """True, or None when the library or the device cannot."""
        function = getattr(self._library, name, None)
        return True if function is not None and function(*arguments) == SUCCESS else None
