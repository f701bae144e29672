"""What a computer says about itself, read from made-up files and a made-up driver."""

from __future__ import annotations

import ctypes
import sys

import pytest

from perception_bev.latency.host import HostState, Temperature
from perception_bev.latency.host_reader import HostReader
from perception_bev.latency.nvml import Gpu, Nvml


class NoGpu(Nvml):
    def __init__(self) -> None:
        super().__init__(lambda: None)


@pytest.fixture
def write(tmp_path):
    def write(path: str, text: object) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"{text}\n")
    return write


@pytest.fixture
def read(tmp_path):
    return lambda nvml=None: HostReader(tmp_path, nvml or NoGpu()).read()


def zone(write, number: int, kind: str, temp: object, *trips: tuple[str, int]) -> None:
    folder = f"sys/class/thermal/thermal_zone{number}"
    write(f"{folder}/type", kind)
    write(f"{folder}/temp", temp)
    for i, (kind, milli) in enumerate(trips):
        write(f"{folder}/trip_point_{i}_type", kind)
        write(f"{folder}/trip_point_{i}_temp", milli)


def test_an_empty_computer_says_nothing(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert read() == HostState()


def test_this_computer_can_be_read():
    state = HostReader().read()
    assert state.cpu_load is None or 0 <= state.cpu_load <= 1
    assert state.memory_free_mb is None or state.memory_free_mb > 0


def test_temperatures_with_the_point_at_which_the_kernel_throttles(read, write):
    zone(write, 0, "cpu-thermal", 61500, ("critical", 104500), ("passive", 99000), ("active", 1))
    zone(write, 1, "gpu-thermal", 58000)
    assert read().temperatures == (Temperature("cpu-thermal", 61.5, 99.0),
                                   Temperature("gpu-thermal", 58.0, None))


@pytest.mark.parametrize("temp", ["", "what", -256000, 200000])
def test_sensors_that_are_not_connected_are_left_out(read, write, temp):
    zone(write, 0, "cv0-thermal", temp)
    assert read().temperatures == ()


@pytest.mark.parametrize("kind, state, found", [
    ("cpu-throttle-alert", 1, True), ("cpu-throttle-alert", 0, False), ("cpufreq-cpu0", 3, True),
    ("Processor", 2, True), ("devfreq-gpu", 1, True), ("pwm-fan", 3, False)])
def test_a_fan_is_no_throttling(read, write, kind, state, found):
    write("sys/class/thermal/cooling_device0/type", kind)
    write("sys/class/thermal/cooling_device0/cur_state", state)
    assert read().throttled == ((kind,) if found else ())


def test_throttle_events_are_those_of_all_cores_and_over_current(read, write):
    for core, count in ((0, 2), (1, 3), (10, 4)):
        write(f"sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count", count)
    write("sys/class/hwmon/hwmon2/oc1_event_cnt", 5)
    assert read().throttle_events == 14


def rail(write, number: int, label: str, millivolts: int, milliamperes: int | None) -> None:
    write(f"sys/class/hwmon/hwmon1/in{number}_label", label)
    write(f"sys/class/hwmon/hwmon1/in{number}_input", millivolts)
    if milliamperes is not None:
        write(f"sys/class/hwmon/hwmon1/curr{number}_input", milliamperes)


def test_rails_are_volts_times_amperes(read, write):
    rail(write, 1, "VDD_CPU", 5000, 1200)
    rail(write, 2, "VDD_GPU", 5000, 800)
    rail(write, 7, "sum of shunt voltages", 5000, 100)
    rail(write, 3, "VDD_SOC", 5000, None)
    assert read().power_w == pytest.approx({"VDD_CPU": 6.0, "VDD_GPU": 4.0})


def test_the_rail_that_feeds_the_others_is_not_added_to_them(read, write):
    rail(write, 1, "VDD_IN", 19000, 1000)
    rail(write, 2, "VDD_CPU_GPU_CV", 19000, 400)
    assert read().power_w == pytest.approx({"VDD_IN": 19.0})


def test_the_lowest_allowed_clock_counts(read, write):
    for core, allowed in ((0, 2_000_000), (1, 1_500_000)):
        write(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_max_freq", allowed)
        write(f"sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq", 2_000_000)
    assert read().cpu_cap == 0.75


def test_pressure_is_a_share(read, write):
    write("proc/pressure/cpu", "some avg10=12.50 avg60=1.00 avg300=0.00 total=5")
    assert read().cpu_pressure == 0.125


def test_the_load_of_an_integrated_gpu(read, write):
    write("sys/devices/platform/17000000.gpu/load", 437)
    assert read().gpu_load == 0.437


def test_files_that_cannot_be_read_are_left_out(read, tmp_path):
    (tmp_path / "sys/class/thermal/thermal_zone0/temp").mkdir(parents=True)
    assert read().temperatures == ()


# -- NVML ------------------------------------------------------------------------------------------

class Driver:
    """Stands in for the library: what it knows by function; others answer "not supported"."""

    def __init__(self, **known) -> None:
        self._known = {"nvmlInit_v2": None, "nvmlShutdown": None, "nvmlDeviceGetCount_v2": 1,
                       "nvmlDeviceGetHandleByIndex_v2": 1234, **known}
        self.called: list[str] = []

    def __getattr__(self, name: str):
        def call(*arguments) -> int:
            self.called.append(name)
            if name not in self._known:
                return 3
            if (value := self._known[name]) is not None:
                target = arguments[-1]._obj
                if isinstance(target, ctypes.Structure):
                    target.gpu = value
                else:
                    target.value = value
            return 0
        return call


def test_a_gpu_as_its_driver_sees_it():
    driver = Driver(nvmlDeviceGetTemperature=71, nvmlDeviceGetTemperatureThreshold=88,
                    nvmlDeviceGetPowerUsage=42_500, nvmlDeviceGetUtilizationRates=63,
                    nvmlDeviceGetCurrentClocksThrottleReasons=0x01 | 0x04 | 0x40)
    nvml = Nvml(lambda: driver)
    assert nvml.read() == (Gpu("gpu 0", 71.0, 88.0, 42.5, 0.63, ("heat (hardware)",)),)
    nvml.close()
    assert driver.called[-1] == "nvmlShutdown" and nvml.read() == ()


def test_what_a_device_does_not_support_is_left_out():
    assert Nvml(lambda: Driver()).read() == (Gpu("gpu 0"),)


def test_a_device_that_cannot_be_had_is_left_out():
    driver = Driver()
    del driver._known["nvmlDeviceGetHandleByIndex_v2"]
    assert Nvml(lambda: driver).read() == ()


def test_a_driver_that_does_not_start_is_none():
    driver = Driver()
    del driver._known["nvmlInit_v2"]
    assert Nvml(lambda: driver).read() == ()


def test_no_driver_is_none():
    assert Nvml(lambda: None).read() == ()


def test_a_gpu_is_part_of_the_computer(read, write):
    zone(write, 0, "cpu", 50_000)
    driver = Driver(nvmlDeviceGetTemperature=71, nvmlDeviceGetPowerUsage=42_500,
                    nvmlDeviceGetUtilizationRates=63,
                    nvmlDeviceGetCurrentClocksThrottleReasons=0x20)
    state = read(Nvml(lambda: driver))
    assert [t.name for t in state.temperatures] == ["cpu", "gpu 0"]
    assert state.power_w == {"gpu 0": 42.5} and state.gpu_load == 0.63
    assert state.throttled == ("gpu 0: heat (driver)",)
