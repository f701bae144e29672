"""Sync: the deadline collector against streams of sensors, with injected clocks."""

import copy
from itertools import pairwise

import numpy as np
import pytest

from perception_bev.contracts import CameraFrame
from perception_bev.geometry import SE3
from perception_bev.sync.clock import MS, SECOND, Now
from perception_bev.sync.collector import Collector
from perception_bev.sync.scenario import (
    START_NS,
    Arrival,
    Stream,
    arrivals,
    drive,
    frame_of,
    rig_of,
)

WAIT_MS = 25.0
LIDAR_FIRST = Stream("lidar", "lidar")
LIDAR_LAST = Stream("lidar", "lidar", phase_ms=88)


def cameras(first_ms: float = 0.0, **settings) -> list[Stream]:
    return [Stream(f"cam{i}", phase_ms=first_ms + 11 * i, **settings) for i in range(8)]


def collect(streams, seconds=3.0, reference="lidar", seed=0, **rig):
    """(bundles with their moments, the collector) of a drive."""
    collector = Collector(rig_of(streams, reference, **{"wait_ms": WAIT_MS, **rig}))
    end = START_NS + round(seconds * SECOND)
    return list(drive(collector, arrivals(streams, seconds, seed), end)), collector


def ages_ms(closed, name):
    return [None if (age := c.bundle.slots[name].age_ns) is None else age / MS for c in closed]


def reasons(closed, name):
    return [c.bundle.slots[name].reason for c in closed]


def gaps_ms(closed):
    stamps = [c.bundle.t_ref_ns for c in closed]
    return [(b - a) / MS for a, b in pairwise(stamps)]


def now_at(ms: float, rate: float = 1.0) -> Now:
    return Now(round(ms * MS), START_NS + round(ms * MS), rate)


def push(collector, name, stamp_ms, at_ms):
    """One frame; all bundles that close at that moment."""
    modality = collector._tracks[name].modality
    collector.push(name, frame_of(modality, START_NS + round(stamp_ms * MS)), now_at(at_ms))
    return poll(collector, at_ms)


def poll(collector, at_ms):
    made = []
    while (bundle := collector.poll(now_at(at_ms))) is not None:
        made.append(bundle)
    return made


class TestStaggered:
    def test_reference_last_makes_one_bundle_per_cycle(self):
        closed, collector = collect([*cameras(), LIDAR_LAST])
        assert len(closed) == 29 and set(gaps_ms(closed)) == {100.0}
        assert {c.bundle.closed_by for c in closed} == {"complete"}
        for i in range(8):
            assert set(ages_ms(closed, f"cam{i}")) == {88.0 - 11 * i}
        assert {c.latency_ns for c in closed} == {5 * MS}, "closes when the reference arrives"
        assert not collector.drops

    def test_reference_first_gives_the_previous_frames_with_their_age(self):
        closed, collector = collect([LIDAR_FIRST, *cameras(first_ms=11)])
        assert len(closed) == 30 and set(gaps_ms(closed)) == {100.0}
        for i in range(8):
            assert set(ages_ms(closed[1:], f"cam{i}")) == {89.0 - 11 * i}
            assert set(reasons(closed[1:], f"cam{i}")) == {"ok"}
        assert {c.latency_ns for c in closed} == {5 * MS}
        assert not collector.drops

    def test_first_bundle_does_not_wait_for_sensors_that_nobody_has_seen(self):
        closed, _ = collect([LIDAR_FIRST, *cameras(first_ms=11)])
        assert reasons(closed[:1], "cam0") == ["missing"]


class TestMissing:
    @pytest.mark.parametrize("missing", ["lidar", *(f"cam{i}" for i in range(8))])
    @pytest.mark.parametrize("until_s", [0.0, 1.0])
    def test_one_of_nine(self, missing, until_s):
        """Never there, or dying after a second: a bundle every cycle, masked, in time."""
        streams = [Stream(s.name, s.modality, phase_ms=s.phase_ms,
                          until_s=until_s if s.name == missing else 1e9)
                   for s in [LIDAR_FIRST, *cameras(first_ms=11)]]
        closed, _ = collect(streams)
        assert 28 <= len(closed) <= 30
        assert all(abs(gap - 100.0) < 1e-3 for gap in gaps_ms(closed))
        assert all(c.latency_ns <= WAIT_MS * MS for c in closed)
        masked = [not c.bundle.slots[missing].present for c in closed]
        if until_s == 0.0:
            assert all(masked)
        else:
            assert not any(masked[1:10]) and all(masked[12:])
        assert set(reasons(closed[15:], missing)) == {"missing"}

    def test_dead_sensors_are_not_waited_for(self):
        lost = Stream("cam", phase_ms=0, delay_ms=20, until_s=1.0)
        closed, _ = collect([LIDAR_FIRST, lost])
        waits = [c.latency_ns / MS for c in closed]
        assert all(w >= 20 for w in waits[1:10]), "while it lives, it is waited for"
        assert all(w == 5 for w in waits[14:])
        assert waits.index(5.0, 10) <= 13, "three missed frames are enough"

    def test_the_references_loss_costs_the_wait_only_until_it_counts_as_dead(self):
        lost = Stream("lidar", "lidar", until_s=1.0)
        closed, _ = collect([lost, Stream("cam", phase_ms=90)])
        assert [c.latency_ns / MS for c in closed[10:13]] == [25.0] * 3
        assert all(c.latency_ns / MS < 10 for c in closed[14:])
        assert {c.bundle.closed_by for c in closed[10:]} == {"predicted"}

    def test_reference_is_masked_not_reused(self):
        closed, _ = collect([Stream("lidar", "lidar", until_s=1.0), Stream("cam")])
        assert all(not c.bundle.slots["lidar"].present for c in closed[10:])

    def test_a_reference_that_comes_late_takes_over(self):
        streams = [Stream("lidar", "lidar", phase_ms=37, from_s=1.5), *cameras()]
        closed, _ = collect(streams)
        stamps = [(c.bundle.t_ref_ns - START_NS) / MS for c in closed]
        assert all(50 <= gap <= 150 for gap in gaps_ms(closed))
        assert all(abs(s % 100 - 37) < 1e-3 for s in stamps[-10:])
        assert {c.bundle.closed_by for c in closed[-10:-1]} == {"complete"}

    def test_a_lost_frame_is_reused_and_flagged_while_its_age_fits(self):
        collector = Collector(rig_of([LIDAR_FIRST, Stream("cam")], "lidar"))
        for k in range(3):
            push(collector, "cam", 100 * k - 10, 100 * k + 1)
            push(collector, "lidar", 100 * k, 100 * k + 2)
        poll(collector, 200 + WAIT_MS)
        (bundle,) = push(collector, "lidar", 300, 302) or poll(collector, 325)
        slot = bundle.slots["cam"]
        assert (slot.reason, slot.age_ns, len(slot.frames)) == ("reused", 110 * MS, 1)
        (bundle,) = push(collector, "lidar", 400, 402) or poll(collector, 425)
        assert bundle.slots["cam"].reason == "late" and not bundle.slots["cam"].present

    def test_silence_of_all_ends_the_output_and_what_follows_is_a_new_epoch(self):
        streams = [Stream(s.name, s.modality, phase_ms=s.phase_ms, until_s=1.0)
                   for s in (LIDAR_LAST, *cameras())]
        again = [Stream(s.name, s.modality, phase_ms=s.phase_ms, from_s=6.0)
                 for s in (LIDAR_LAST, *cameras())]
        collector = Collector(rig_of(streams, "lidar"))
        events = arrivals(streams, 1.0) + arrivals(again, 8.0)
        closed = list(drive(collector, events, START_NS + 8 * SECOND))
        stamps = [(c.bundle.t_ref_ns - START_NS) / SECOND for c in closed]
        assert not [s for s in stamps if 2.2 < s < 6.0]
        assert closed[-1].bundle.epoch == 1
        assert "nothing came for" in collector.epoch_reason


class TestDelays:
    def test_constant_110_ms_is_used_every_cycle(self):
        closed, _ = collect([LIDAR_FIRST, Stream("cam", delay_ms=110)])
        assert ages_ms(closed[2:], "cam") == [100.0] * 28
        assert set(reasons(closed[2:], "cam")) == {"ok"}
        assert all(c.latency_ns <= WAIT_MS * MS for c in closed)

    @pytest.mark.parametrize("settings", [{}, {"max_age_ms": 190.0}])
    @pytest.mark.parametrize("phase_ms", range(0, 100, 7))
    def test_any_phase_of_a_slow_camera_fits_the_default_and_what_advice_names(self, phase_ms,
                                                                               settings):
        slow = Stream("cam", phase_ms=phase_ms, delay_ms=110, settings=settings)
        closed, _ = collect([LIDAR_FIRST, slow])
        assert all(age is not None and 85 <= age <= 185.1 for age in ages_ms(closed[4:], "cam"))
        assert set(reasons(closed[4:], "cam")) == {"ok"}

    def test_advice_names_an_age_limit_that_can_never_be_met(self):
        closed, collector = collect([LIDAR_FIRST, Stream(
            "cam", phase_ms=40, delay_ms=110, settings={"max_age_ms": 150.0})])
        assert set(reasons(closed[4:], "cam")) == {"stale"}
        (text,) = collector.advice()
        assert "cam: arrives 110 ms after its stamp" in text and "set max_age_ms: 190" in text

    def test_advice_names_a_reference_that_is_always_late(self):
        closed, collector = collect([Stream("lidar", "lidar", delay_ms=40), Stream("cam")])
        assert {c.bundle.closed_by for c in closed[1:]} == {"predicted"}
        assert ages_ms(closed[2:], "lidar") == [100.0] * 28, "it still serves, with its age"
        (text,) = collector.advice()
        assert "arrives 40 ms after its stamp, reference.wait_ms is 25" in text

    def test_waits_for_a_frame_that_belongs_to_t_ref_and_no_longer(self):
        closed, _ = collect([LIDAR_FIRST, Stream("cam", delay_ms=18)])
        assert ages_ms(closed[1:], "cam") == [0.0] * 29
        assert {c.latency_ns / MS for c in closed[1:]} == {18.0}
        assert {c.bundle.closed_by for c in closed[1:]} == {"complete"}

    def test_does_not_wait_for_a_frame_that_comes_after_the_wait(self):
        closed, _ = collect([LIDAR_FIRST, Stream("cam", delay_ms=60)])
        assert {c.latency_ns / MS for c in closed} == {5.0}
        assert ages_ms(closed[2:], "cam") == [100.0] * 28

    def test_a_single_lost_frame_is_given_up_before_the_deadline(self):
        streams = [LIDAR_FIRST, Stream("cam", delay_ms=8)]
        events = [e for e in arrivals(streams, 3.0)
                  if (e.name, e.stamp_ns) != ("cam", START_NS + 2 * SECOND)]
        closed = list(drive(Collector(rig_of(streams, "lidar")), events))
        (bundle,) = [c for c in closed if c.bundle.t_ref_ns == START_NS + 2 * SECOND]
        assert bundle.bundle.closed_by == "deadline"
        assert 8 * MS < bundle.latency_ns < 15 * MS, "by its usual delay, not by the wait"
        assert bundle.bundle.slots["cam"].reason == "reused"

    def test_without_waiting_every_bundle_closes_with_the_reference(self):
        closed, _ = collect([LIDAR_FIRST, Stream("cam", delay_ms=18)], wait_ms=0.0)
        assert all(c.latency_ns <= 5 * MS for c in closed)

    def test_recovers_from_a_hiccup_at_once(self):
        """Everything is held up for 300 ms and comes in a burst; then all is as before."""
        streams = [LIDAR_FIRST, *cameras(first_ms=11)]
        stall, end = START_NS + 1000 * MS, START_NS + 1300 * MS
        events = sorted((Arrival(end, e.stamp_ns, e.name, e.modality) if stall <= e.at_ns < end
                         else e for e in arrivals(streams, 3.0)), key=lambda e: e.at_ns)
        closed = list(drive(Collector(rig_of(streams, "lidar")), events))
        assert all(abs(gap - 100) < 1e-3 for gap in gaps_ms(closed)), "also while nothing came"
        after = [c for c in closed if c.bundle.t_ref_ns >= START_NS + 1400 * MS]
        assert {c.latency_ns for c in after} == {5 * MS}
        assert set(ages_ms(after, "cam7")) == {12.0}


class TestRates:
    def test_12_20_and_30_hz_fit(self):
        streams = [LIDAR_FIRST, Stream("c12", period_ms=1000 / 12, phase_ms=3),
                   Stream("c20", period_ms=50, phase_ms=7),
                   Stream("c30", period_ms=1000 / 30, phase_ms=9),
                   Stream("radar", "radar", period_ms=1000 / 13, phase_ms=5)]
        closed, collector = collect(streams, 10.0)
        assert len(closed) == 100 and set(gaps_ms(closed)) == {100.0}
        for name, oldest in (("c12", 95), ("c20", 50), ("c30", 40), ("radar", 95)):
            assert all(-5 <= age <= oldest for age in ages_ms(closed[1:], name)), name
            assert set(reasons(closed[1:], name)) == {"ok"}, name
        late = {key: n for key, n in collector.drops.items() if key[1] != "superseded"}
        assert late == {("c12", "late"): 1}, "the first bundle knew nothing of it yet"

    def test_20_hz_lidar_closes_every_second_sweep_with_both(self):
        closed, collector = collect([Stream("lidar", "lidar", period_ms=50), Stream("cam")])
        assert set(gaps_ms(closed)) == {100.0}
        for c in closed[1:]:
            sweeps = [c.bundle.t_ref_ns - f.stamp_ns for f in c.bundle.slots["lidar"].frames]
            assert sweeps == [50 * MS, 0]
        assert not collector.drops

    def test_20_hz_lidar_that_loses_its_grid_sweep(self):
        streams = [Stream("lidar", "lidar", period_ms=50), Stream("cam")]
        events = [e for e in arrivals(streams, 3.0)
                  if (e.name, e.stamp_ns) != ("lidar", START_NS + 2 * SECOND)]
        closed = list(drive(Collector(rig_of(streams, "lidar")), events))
        (c,) = [c for c in closed if abs(c.bundle.t_ref_ns - START_NS - 2 * SECOND) < MS]
        assert c.bundle.closed_by == "predicted"
        assert ages_ms([c], "lidar") == pytest.approx([50.0]), "the sweep between serves"
        assert all(abs(gap - 100) < 1 for gap in gaps_ms(closed))

    def test_second_lidar_at_30_hz_gives_three_sweeps(self):
        side = Stream("side", "lidar", period_ms=1000 / 30, phase_ms=2,
                      settings={"max_age_ms": 110.0})
        closed, _ = collect([LIDAR_FIRST, side])
        assert {len(c.bundle.slots["side"].frames) for c in closed[2:]} == {3}

    def test_radar_gives_all_scans_of_the_window_each_once(self):
        radar = Stream("radar", "radar", period_ms=20, phase_ms=3, settings={"max_age_ms": 100.0})
        closed, collector = collect([LIDAR_FIRST, radar])
        seen = [f.stamp_ns for c in closed for f in c.bundle.slots["radar"].frames]
        assert len(seen) == len(set(seen)) and len(seen) >= 145
        assert not collector.drops

    def test_reference_at_12_hz_sets_the_pace(self):
        closed, collector = collect([Stream("lidar", "lidar", period_ms=1000 / 12), Stream("cam")])
        assert all(abs(gap - 1000 / 12) < 0.01 for gap in gaps_ms(closed))
        assert "every 83.3 ms" in collector.advice()[0]

    def test_rig_that_states_another_rate_still_gives_10_hz(self):
        wrong = Stream("lidar", "lidar", period_ms=50)
        collector = Collector(rig_of([LIDAR_FIRST, Stream("cam")], "lidar"))
        closed = list(drive(collector, arrivals([wrong, Stream("cam")], 3.0)))
        assert 28 <= len(closed) <= 32


class TestBundle:
    def test_closed_bundle_never_changes(self):
        streams = [LIDAR_FIRST, Stream("cam"), Stream("radar", "radar", period_ms=50)]
        collector = Collector(rig_of(streams, "lidar"))
        events = arrivals(streams, 3.0)
        running, kept = drive(collector, events), []
        for closed in running:
            kept.append((closed.bundle, copy.copy(dict(closed.bundle.slots))))
        assert len(kept) > 25
        for bundle, slots in kept:
            assert dict(bundle.slots) == slots
            assert all(bundle.slots[n] is slots[n] for n in slots)
        with pytest.raises(TypeError):
            kept[0][0].slots["cam"] = None
        with pytest.raises(AttributeError):
            kept[0][0].t_ref_ns = 0

    def test_every_sensor_of_the_rig_has_a_slot(self):
        closed, _ = collect([LIDAR_FIRST, *cameras(first_ms=11, until_s=0)])
        assert all(len(c.bundle.slots) == 9 for c in closed)

    def test_sequence_counts_on_and_epoch_is_there(self):
        closed, _ = collect([LIDAR_FIRST])
        assert [c.bundle.sequence for c in closed] == list(range(len(closed)))

    def test_ego_pose_is_that_of_t_ref(self):
        asked = []

        def ego(stamp):
            asked.append(stamp)
            return SE3.identity()

        collector = Collector(rig_of([LIDAR_FIRST], "lidar"), ego=ego)
        (bundle,) = push(collector, "lidar", 0, 5)
        assert asked == [bundle.t_ref_ns] and bundle.odom_from_base is not None

    def test_lead_belongs_to_this_bundle_and_more_to_the_next(self):
        collector = Collector(rig_of([LIDAR_FIRST, Stream("a"), Stream("b")], "lidar"))
        push(collector, "a", 104, 110)
        push(collector, "b", 106, 110)
        (bundle,) = push(collector, "lidar", 100, 111)
        assert bundle.slots["a"].age_ns == -4 * MS
        assert not bundle.slots["b"].present


class TestJumps:
    STREAMS = (LIDAR_FIRST, *cameras(first_ms=11))

    def loop(self, rate=1.0, clock_first=True):
        """Two laps of a bag of two seconds, the second on rewound ROS time."""
        collector = Collector(rig_of(self.STREAMS, "lidar"))
        lap = arrivals(self.STREAMS, 2.0)
        first = list(drive(collector, lap, rate=rate))
        second = list(drive(collector, lap, rate=rate, mono_ns=first[-1].now.mono_ns + 50 * MS))
        return first, second, collector

    def test_bag_loop_is_one_new_epoch(self):
        first, second, collector = self.loop()
        assert {c.bundle.epoch for c in first} == {0}
        assert {c.bundle.epoch for c in second} == {1}
        assert collector.epoch == 1 and len(second) == len(first)
        assert "back" in collector.epoch_reason
        ages = [ages_ms(second, f"cam{i}")[0] for i in range(8)]
        assert ages == [None] * 8, "nothing of the first lap is in the second"

    def test_loop_seen_by_the_reference_before_the_clock_counts_once(self):
        collector = Collector(rig_of(self.STREAMS, "lidar"))
        lap = arrivals(self.STREAMS, 2.0)
        last = list(drive(collector, lap))[-1].now
        late = Now(last.mono_ns + 20 * MS, last.ros_ns + 20 * MS)
        collector.push("lidar", frame_of("lidar", START_NS), late)
        again = list(drive(collector, lap, mono_ns=late.mono_ns + 1))
        assert collector.epoch == 1
        assert {c.bundle.epoch for c in again} == {1}

    @pytest.mark.parametrize("jump_s", [-3600.0, -0.5, 5.0, 3600.0])
    def test_clock_jump_is_a_new_epoch(self, jump_s):
        collector = Collector(rig_of(self.STREAMS, "lidar"))
        first = list(drive(collector, arrivals(self.STREAMS, 2.0)))
        start = START_NS + round((2 + jump_s) * SECOND)
        second = list(drive(collector, arrivals(self.STREAMS, 2.0, start_ns=start),
                            start_ns=start, mono_ns=first[-1].now.mono_ns + 50 * MS))
        assert collector.epoch == 1 and {c.bundle.epoch for c in second} == {1}
        assert len(second) >= 19

    def test_one_sensor_going_back_is_its_own_fault(self):
        streams = [*self.STREAMS[:-1], Stream("cam7", phase_ms=88, until_s=1.0)]
        back = Stream("cam7", phase_ms=88, clock_ms=-700, from_s=1.0)
        collector = Collector(rig_of(streams, "lidar"))
        events = sorted(arrivals(streams, 3.0) + arrivals([back], 3.0))
        closed = list(drive(collector, events))
        assert collector.epoch == 0
        assert not any(c.bundle.slots["cam7"].present for c in closed[13:])
        assert all(c.bundle.slots["cam6"].present for c in closed[1:])
        assert {reason for name, reason in collector.drops if name == "cam7"} == {"stale"}

    def test_a_sensor_set_back_a_little_is_taken_again_after_three_frames(self):
        streams = [LIDAR_FIRST, Stream("cam", period_ms=10, clock_ms=40, until_s=1.0)]
        right = Stream("cam", period_ms=10, from_s=1.0)
        collector = Collector(rig_of(streams, "lidar"))
        events = sorted(arrivals(streams, 3.0) + arrivals([right], 3.0))
        closed = list(drive(collector, events))
        assert collector.drops["cam", "backward"] >= 2
        assert all(c.bundle.slots["cam"].present for c in closed[12:])

    def test_announced_epoch(self):
        collector = Collector(rig_of([LIDAR_FIRST, Stream("cam")], "lidar"))
        push(collector, "cam", 0, 2)
        collector.new_epoch("replay seeks")
        assert push(collector, "lidar", 5, 7) == []  # the camera may come, as it did before
        (bundle,) = poll(collector, 5 + WAIT_MS)
        assert (bundle.epoch, collector.epoch_reason) == (1, "replay seeks")
        assert not bundle.slots["cam"].present
        assert collector.drops["cam", "epoch"] == 1

    def test_all_stamps_of_another_clock_are_collected_all_the_same(self):
        """A bag without --clock: stamps are five years old; or all sensors follow TAI."""
        for clock_ms in (-5 * 365 * 86_400_000, 37_000):
            streams = [Stream(s.name, s.modality, phase_ms=s.phase_ms, clock_ms=clock_ms)
                       for s in self.STREAMS]
            closed, collector = collect(streams)
            assert len(closed) >= 25 and collector.clock.shift_ns != 0
            assert set(gaps_ms(closed)) == {100.0}
            assert all(c.bundle.slots["cam7"].present for c in closed[1:])

    def test_a_reference_of_another_clock_is_masked(self):
        streams = [Stream("lidar", "lidar", clock_ms=37_000), *self.STREAMS[1:]]
        closed, collector = collect(streams)
        assert len(closed) >= 27 and all(abs(gap - 100) < 1e-3 for gap in gaps_ms(closed))
        assert set(reasons(closed, "lidar")) <= {"future", "missing"}
        assert collector.drops["lidar", "future"] == 30
        assert collector.clock.shift_ns == 0

    def test_one_wild_stamp_of_the_reference_does_not_block_the_output(self):
        collector = Collector(rig_of(self.STREAMS, "lidar"))
        events = [Arrival(e.at_ns, e.stamp_ns + 5 * SECOND, e.name, e.modality)
                  if (e.name, e.stamp_ns) == ("lidar", START_NS + SECOND) else e
                  for e in arrivals(self.STREAMS, 3.0)]
        closed = list(drive(collector, events))
        assert all(abs(gap - 100) < 1e-3 for gap in gaps_ms(closed))
        assert collector.epoch == 0


class TestReplay:
    @pytest.mark.parametrize("rate", [0.1, 0.5, 3.0, 10.0])
    def test_any_rate_gives_the_same_bundles(self, rate):
        streams = [LIDAR_FIRST, *cameras(first_ms=11, until_s=1.0)]
        events = arrivals(streams, 2.5)
        runs = [list(drive(Collector(rig_of(streams, "lidar")), events, rate=r))
                for r in (1.0, rate)]
        a, b = ([(c.bundle.t_ref_ns, c.bundle.closed_by, tuple(c.bundle.slots.values()))
                 for c in run] for run in runs)
        assert a == b

    def test_pause_stops_the_deadline(self):
        collector = Collector(rig_of([LIDAR_FIRST, Stream("cam")], "lidar"))
        for k in range(3):
            push(collector, "lidar", 100 * k, 100 * k + 5)
        frozen = START_NS + 290 * MS
        for k in range(50):
            assert collector.poll(Now((290 + 100 * k) * MS, frozen, 0.0)) is None
        assert collector.next_wakeup_ns() is None
        resumed = Now(10_000 * MS, frozen, 1.0)
        assert collector.poll(resumed) is None
        assert collector.next_wakeup_ns() == (10_000 + 35) * MS
        assert collector.poll(Now(10_035 * MS, START_NS + 325 * MS)).closed_by == "predicted"

    def test_a_step_of_system_time_does_not_move_a_deadline_that_stands(self):
        collector = Collector(rig_of([LIDAR_FIRST, Stream("cam")], "lidar"))
        for k in range(3):
            push(collector, "lidar", 100 * k, 100 * k + 5)
        assert collector.next_wakeup_ns() == 325 * MS
        assert collector.poll(Now(300 * MS, START_NS + 380 * MS)) is None
        assert collector.next_wakeup_ns() == 325 * MS


class TestRefusals:
    @pytest.fixture
    def collector(self):
        young = Stream("cam", settings={"max_age_ms": 150.0})
        made = Collector(rig_of([LIDAR_FIRST, young], "lidar"))
        for k in range(3):
            push(made, "cam", 100 * k, 100 * k + 4)
            push(made, "lidar", 100 * k, 100 * k + 5)
        return made

    def test_what_the_decoder_refused_is_said_in_the_slot(self, collector):
        collector.drop("cam", "truncated", now_at(304))
        (bundle,) = push(collector, "lidar", 300, 305)
        assert bundle.slots["cam"].reason == "reused"
        collector.drop("cam", "truncated", now_at(404))
        (bundle,) = push(collector, "lidar", 400, 405)
        assert bundle.slots["cam"].reason == "bad: truncated"
        assert collector.drops["cam", "truncated"] == 2

    def test_a_refused_sweep_of_the_reference_is_not_waited_for(self, collector):
        push(collector, "cam", 300, 304)
        collector.drop("lidar", "bad_layout", now_at(305))
        (bundle,) = poll(collector, 305)
        assert bundle.closed_by == "predicted" and bundle.slots["cam"].age_ns == 0
        assert bundle.slots["lidar"].reason == "bad: bad_layout"

    @pytest.mark.parametrize("stamp_ms, reason", [(200, "duplicate"), (150, "backward"),
                                                  (400, "future"), (-500, "stale")])
    def test_stamps_that_cannot_be_used_are_counted(self, collector, stamp_ms, reason):
        push(collector, "cam", stamp_ms, 210)
        assert collector.drops == {("cam", reason): 1}

    def test_a_duplicate_does_not_stop_the_wait(self, collector):
        push(collector, "cam", 200, 206)
        assert push(collector, "lidar", 300, 301) == []
        (bundle,) = push(collector, "cam", 300, 304)
        assert bundle.slots["cam"].age_ns == 0

    def test_unknown_sensor_and_wrong_modality(self, collector):
        collector.push("nobody", frame_of("camera", START_NS), now_at(210))
        collector.push("cam", frame_of("radar", START_NS + 205 * MS), now_at(210))
        collector.drop("nobody", "truncated", now_at(210))
        assert collector.drops == {("nobody", "unknown_sensor"): 1, ("cam", "wrong_modality"): 1,
                                   ("nobody", "truncated"): 1}


class TestConsumer:
    def test_an_exception_in_a_consumer_leaves_it_working(self):
        streams = [LIDAR_FIRST, *cameras(first_ms=11)]
        collector, seen = Collector(rig_of(streams, "lidar")), []

        def consumer(bundle):
            seen.append(bundle.t_ref_ns)
            raise RuntimeError("consumer is broken")

        for event in arrivals(streams, 2.0):
            now = Now(event.at_ns - START_NS, event.at_ns)
            collector.push(event.name, frame_of(event.modality, event.stamp_ns), now)
            while (bundle := collector.poll(now)) is not None:
                with pytest.raises(RuntimeError):
                    consumer(bundle)
        assert len(seen) == 20

    def test_an_exception_of_the_ego_source_costs_one_bundle(self):
        calls = []

        def ego(stamp):
            calls.append(stamp)
            if len(calls) == 2:
                raise RuntimeError("odometry is broken")

        collector = Collector(rig_of([LIDAR_FIRST], "lidar"), ego=ego)
        assert len(push(collector, "lidar", 0, 5)) == 1
        with pytest.raises(RuntimeError):
            push(collector, "lidar", 100, 105)
        assert len(push(collector, "lidar", 200, 205)) == 1

    def test_a_consumer_that_did_not_poll_gets_the_newest_cycle(self):
        collector = Collector(rig_of([LIDAR_FIRST, Stream("cam")], "lidar"))
        assert len(push(collector, "lidar", 0, 5)) == 1
        for k in range(1, 10):
            now = now_at(100 * k + 5)
            collector.push("lidar", frame_of("lidar", START_NS + 100 * k * MS), now)
        (bundle,) = poll(collector, 906)
        assert bundle.t_ref_ns == START_NS + 900 * MS
        assert collector.skipped_cycles == 8

    def test_memory_is_bounded_without_any_poll(self):
        streams = [LIDAR_FIRST, *cameras(), Stream("radar", "radar", period_ms=20)]
        collector = Collector(rig_of(streams, "lidar"))
        for event in arrivals(streams, 8.0):
            now = Now(event.at_ns - START_NS, event.at_ns)
            collector.push(event.name, frame_of(event.modality, event.stamp_ns), now)
        assert collector.waiting <= sum(t.capacity for t in collector._tracks.values())
        assert max(t.capacity for t in collector._tracks.values()) <= 16
        assert collector.drops["cam0", "overflow"] > 70

    def test_nothing_to_wake_up_for_before_the_first_frame(self):
        collector = Collector(rig_of([LIDAR_FIRST], "lidar"))
        assert collector.next_wakeup_ns() is None
        assert collector.poll(now_at(0)) is None


def test_pixels_are_handed_on_untouched():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    collector = Collector(rig_of([LIDAR_FIRST, Stream("cam")], "lidar"))
    collector.push("cam", CameraFrame(START_NS, picture), now_at(2))
    (bundle,) = push(collector, "lidar", 0, 5)
    assert bundle.slots["cam"].newest.image is picture


def test_the_first_bundle_of_an_epoch_waits_for_sensors_that_lived():
    """The radar's frame comes 3 ms after the lidar's; an announced epoch forgets its rhythm."""
    streams = [Stream("lidar", "lidar"), Stream("radar", "radar")]
    collector = Collector(rig_of(streams, "lidar"))
    for cycle in range(6):
        at = 100.0 * cycle
        if cycle == 5:
            collector.new_epoch("announced")
        early = push(collector, "lidar", at, at + 1)
        bundles = early + push(collector, "radar", at, at + 4)
        if cycle > 0:
            assert not early
            assert bundles[0].slots["radar"].reason == "ok"


def test_a_new_epoch_does_not_wait_for_a_sensor_that_was_dead():
    streams = [Stream("lidar", "lidar"), Stream("radar", "radar")]
    collector = Collector(rig_of(streams, "lidar"))
    for cycle in range(8):
        at = 100.0 * cycle
        if cycle < 2:
            push(collector, "radar", at, at + 1)
        if cycle == 7:
            collector.new_epoch("announced")
        bundles = push(collector, "lidar", at, at + 4)
    assert len(bundles) == 1
    assert bundles[0].slots["radar"].reason == "missing"
