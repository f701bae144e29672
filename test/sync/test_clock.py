"""Sync: the two clocks, epochs, and whose clock the stamps are of."""

import pytest

from perception_bev.rig import Camera, Lidar
from perception_bev.sync.clock import MS, NEVER_NS, SECOND, ClockWatch, Now, StampMonitor

T0 = 1_700_000_000 * SECOND


def at(ms: float, rate: float = 1.0, offset_ms: float = 0.0) -> Now:
    """`ms` on the monotonic clock after the start; ROS time differs by a constant."""
    return Now(round(ms * MS), T0 + round((ms * rate + offset_ms) * MS), rate)


class TestDeadline:
    def test_is_the_rest_of_the_budget_on_the_monotonic_clock(self):
        now, t_ref = at(1000), T0 + 990 * MS
        assert ClockWatch().mono_deadline(now, t_ref + 80 * MS) == (1000 + 70) * MS

    @pytest.mark.parametrize("rate, wall_ms", [(0.5, 140), (2.0, 35)])
    def test_scales_with_the_rate_of_ros_time(self, rate, wall_ms):
        now = Now(1000 * MS, T0, rate)
        assert ClockWatch().mono_deadline(now, T0 + 70 * MS) == (1000 + wall_ms) * MS

    def test_never_comes_while_ros_time_is_paused(self):
        paused = Now(1000 * MS, T0, 0.0)
        assert ClockWatch().mono_deadline(paused, T0 + 70 * MS) == NEVER_NS
        assert ClockWatch().mono_deadline(paused, T0 - 1) == paused.mono_ns


class TestEpochs:
    def test_clocks_that_run_on_are_no_event(self):
        watch = ClockWatch()
        assert all(watch.observe(at(10 * k)) is None for k in range(100))

    def test_backward_jump(self):
        watch = ClockWatch()
        watch.observe(at(0))
        assert "back 5.000 s" in watch.observe(at(10, offset_ms=-5010))

    def test_a_small_step_back_is_none(self):
        watch = ClockWatch()
        watch.observe(at(0))
        assert watch.observe(at(10, offset_ms=-60)) is None

    def test_forward_jump_is_measured_against_the_monotonic_clock(self):
        watch = ClockWatch()
        watch.observe(at(0))
        assert watch.observe(at(5000)) is None, "a silence is no jump"
        assert "forward 30.000 s" in watch.observe(at(5010, offset_ms=30_000))

    def test_fast_replay_and_pause_are_no_jumps(self):
        watch = ClockWatch()
        assert all(watch.observe(at(100 * k, rate=20.0)) is None for k in range(10))
        frozen = at(900, rate=20.0).ros_ns
        assert watch.observe(Now(3_600_000 * MS, frozen, 0.0)) is None
        assert watch.observe(Now(3_600_100 * MS, frozen + 100 * MS, 1.0)) is None

    def test_a_reading_handed_in_late_by_another_thread_is_ignored(self):
        watch = ClockWatch()
        watch.observe(at(1000))
        assert watch.observe(at(400)) is None
        assert watch.observe(at(1010)) is None

    def test_reference_going_back_more_than_a_second(self):
        watch = ClockWatch()
        assert watch.reference(at(0), T0) is None
        assert watch.reference(at(10), T0 - 900 * MS) is None
        assert "went back 1.500 s" in watch.reference(at(20), T0 - 1500 * MS)
        assert watch.reference(at(30), T0 - 1400 * MS) is None

    def test_slow_creep_backwards_adds_up(self):
        watch = ClockWatch()
        reasons = [watch.reference(at(k), T0 - k * 300 * MS) for k in range(5)]
        assert [r is not None for r in reasons] == [False, False, False, False, True]


class TestWhoseClock:
    """9 sensors every 100 ms; each hears with its own offset of clock [ms]."""

    @staticmethod
    def run(offsets_ms, seconds=2.0, watch=None):
        watch = watch or ClockWatch()
        reasons = []
        for k in range(int(seconds * 10)):
            for i, offset in enumerate(offsets_ms):
                now = at(k * 100 + i)
                stamp = now.ros_ns - 10 * MS + round(offset * MS)
                reasons.append(watch.hear(f"s{i}", now, stamp, i == 0))
        return watch, [r for r in reasons if r]

    def test_ros_time_is_the_rule(self):
        watch, reasons = self.run([0] * 9)
        assert (watch.shift_ns, reasons) == (0, [])

    def test_one_wrong_clock_is_that_sensors_fault(self):
        watch, reasons = self.run([37_000] + [0] * 8)
        assert (watch.shift_ns, reasons) == (0, [])

    @pytest.mark.parametrize("offset_ms", [37_000, 200, -5 * 365 * 86_400_000])
    def test_where_all_agree_theirs_is_taken_once(self, offset_ms):
        watch, reasons = self.run([offset_ms] * 9)
        assert len(reasons) == 1
        assert abs(watch.shift_ns + offset_ms * MS) <= 15 * MS
        now = at(5000)
        assert abs(watch.stamp_time(now) - (now.ros_ns + offset_ms * MS)) <= 15 * MS

    def test_majority_wins_and_a_tie_stays(self):
        assert self.run([500] * 5 + [0] * 4)[0].shift_ns != 0
        assert self.run([500] * 4 + [0] * 4)[0].shift_ns == 0

    def test_late_frames_are_not_taken_for_another_clock(self):
        watch, reasons = self.run([-600] * 9)
        assert (watch.shift_ns, reasons) == (0, [])

    def test_back_to_ros_time_when_the_sensors_are_synchronised(self):
        watch, _ = self.run([37_000] * 9)
        reasons = [watch.hear(f"s{i}", at(2100 + i), at(2090 + i).ros_ns) for i in range(9)]
        assert watch.shift_ns == 0
        assert [r for r in reasons if r] == ["stamps are of this clock again"]

    def test_drift_is_followed(self):
        watch, _ = self.run([-10_000] * 2)
        for k in range(400):  # a bag at half the rate, without --clock: 50 ms a cycle
            now = at(2000 + 100 * k)
            stamp = now.ros_ns - 10_010 * MS - 50 * k * MS
            assert watch.hear("s0", now, stamp, True) is None
            assert watch.hear("s1", now, stamp) is None

    def test_a_loop_of_shifted_stamps_is_dated_at_once(self):
        watch, _ = self.run([-10_000] * 9)
        now = at(2100)
        watch.reference(now, now.ros_ns - 10_010 * MS)
        assert watch.reference(at(2200), at(2200).ros_ns - 70_000 * MS) is not None
        assert watch.lag_ns(at(2200), at(2200).ros_ns - 70_000 * MS) == 0


def camera(**settings) -> Camera:
    return Camera(topic="t", frame_id="f", extrinsics="from_tf", **settings)


def lidar(**settings) -> Lidar:
    return Lidar(topic="t", frame_id="f", extrinsics="from_tf", **settings)


def monitored(sensor, delay_ms=10.0, jitter_ms=(0,), period_ms=None, count=40, is_lidar=False):
    """A monitor that saw `count` frames; stamp = arrival - delay - jitter."""
    monitor = StampMonitor("front", sensor, is_lidar)
    for k in range(count):
        now = at(k * (period_ms or sensor.period_ms))
        jitter = jitter_ms[k % len(jitter_ms)]
        monitor.correct(now.ros_ns - round((delay_ms + jitter) * MS), now)
    return monitor


class TestStampMonitor:
    def test_corrects_by_the_rigs_offset(self):
        monitor = StampMonitor("front", camera(clock_offset_ms=-37_000))
        assert monitor.correct(T0 + 37 * SECOND, at(5)) == T0

    def test_arrival_replaces_the_header(self):
        monitor = StampMonitor("front", camera(stamp_source="arrival", clock_offset_ms=-20))
        assert monitor.correct(12345, at(50)) == T0 + 30 * MS

    def test_measures_least_delay_spread_and_period(self):
        monitor = monitored(camera(), delay_ms=10, jitter_ms=(0, 1, 2, 3))
        assert monitor.min_delay_ns == 10 * MS
        assert 2 * MS <= monitor.spread_ns <= 3 * MS
        assert abs(monitor.period_ns - 100 * MS) <= 3 * MS

    def test_says_nothing_of_a_good_clock_or_of_few_frames(self):
        assert monitored(camera()).fault() is None
        assert monitored(camera(), delay_ms=-37_000, count=9).fault() is None

    @pytest.mark.parametrize("delay_ms, words", [
        (-36_990, ("37 s", "TAI", "clock_offset_ms: -37000")),
        (-17_990, ("18 s", "GPS time")),
        (-2 * 3_600_000 + 12, ("2 h in the future", "local time")),
        (19_800_012, ("5.5 h old", "local time")),
        (-4_990, ("5 whole seconds", "clock_offset_ms: -5000")),
        (-200, ("200 ms in the future", "clock_offset_ms: -200")),
        (512, ("constantly 512 ms old",)),
        (5 * 365 * 86_400_000, ("days old", "--clock", "use_sim_time")),
    ])
    def test_names_the_fault_and_the_cure(self, delay_ms, words):
        text = monitored(camera(), delay_ms=delay_ms).fault()
        assert text.startswith("front: ")
        assert all(word in text for word in words), text

    def test_the_cure_removes_the_fault(self):
        assert monitored(camera(clock_offset_ms=-37_000), delay_ms=-36_990).fault() is None

    def test_names_stamps_that_do_not_count_from_1970(self):
        monitor = StampMonitor("front", camera())
        for k in range(20):
            monitor.correct(0, at(100 * k))
        assert "stamp_source: arrival" in monitor.fault()

    def test_a_young_simulation_clock_is_none(self):
        monitor = StampMonitor("front", camera())
        for k in range(20):
            now = Now(k * 100 * MS, k * 100 * MS + 10 * MS)
            monitor.correct(k * 100 * MS, now)
        assert monitor.fault() is None

    def test_names_a_clock_that_is_not_synchronised(self):
        text = monitored(camera(), delay_ms=700, jitter_ms=(0, 200, 400, 600)).fault()
        assert "not synchronised" in text

    def test_names_sweep_start_and_end(self):
        assert "stamp: start" in monitored(lidar(), delay_ms=104, is_lidar=True).fault()
        assert "stamp: end" in monitored(lidar(stamp="start"), delay_ms=8, is_lidar=True).fault()
        assert monitored(lidar(stamp="start"), delay_ms=108, is_lidar=True).fault() is None
        assert monitored(camera(), delay_ms=104).fault() is None, "cameras may be this slow"

    def test_names_another_rate_than_the_rigs(self):
        assert "comes every 50.0 ms, the rig says 100.0 ms" in monitored(
            camera(), period_ms=50).fault()

    def test_arrival_stamps_have_no_offset_to_name(self):
        assert monitored(camera(stamp_source="arrival"), delay_ms=-37_000).fault() is None

    def test_forgets_and_is_bounded(self):
        monitor = monitored(camera(), count=1000)
        assert len(monitor._delays) == len(monitor._stamps) == 100
        monitor.reset()
        assert (monitor.min_delay_ns, monitor.spread_ns, monitor.period_ns) == (None, None, None)
