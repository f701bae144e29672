"""Sync: laws that the collector keeps whatever arrives, in whatever order."""

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev.sync.clock import MS, SECOND, Now
from perception_bev.sync.collector import Collector
from perception_bev.sync.scenario import (
    MONO_NS,
    START_NS,
    Closed,
    Stream,
    arrivals,
    drive,
    frame_of,
    rig_of,
)

SECONDS = 1.5

REPEATABLE = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def streams(draw) -> list[Stream]:
    """A lidar as the reference and up to five other sensors, with delays, jitter and losses."""
    def one(name, modality, periods):
        return Stream(
            name, modality, period_ms=draw(st.sampled_from(periods)),
            phase_ms=draw(st.floats(0, 99)), delay_ms=draw(st.floats(0, 150)),
            jitter_ms=draw(st.sampled_from([0, 0, 3, 40])),
            lost=draw(st.sampled_from([0, 0.1, 0.6])),
            from_s=draw(st.sampled_from([0, 0, 0.7])), until_s=draw(st.sampled_from([1e9, 0.8])),
            settings={"max_age_ms": draw(st.sampled_from([None, 40.0, 300.0])),
                      "max_lead_ms": draw(st.sampled_from([0.0, 5.0, 30.0]))})
    others = [one(f"s{i}", draw(st.sampled_from(["camera", "radar", "lidar"])),
                  [100, 1000 / 12, 50, 1000 / 30, 20]) for i in range(draw(st.integers(0, 5)))]
    return [one("ref", "lidar", [100, 50, 1000 / 12]), *others]


def frames_of(closed: list[Closed], name: str, reused: bool) -> list[int]:
    slots = [c.bundle.slots[name] for c in closed]
    return [id(f) for s in slots if (s.reason == "reused") == reused for f in s.frames]


def check_laws(collector: Collector, closed: list[Closed], pushed: Counter) -> None:
    for a, b in pairwise(closed):
        assert b.bundle.sequence == a.bundle.sequence + 1
        assert b.bundle.epoch >= a.bundle.epoch
        assert b.bundle.epoch > a.bundle.epoch or b.bundle.t_ref_ns > a.bundle.t_ref_ns
    for c in closed:
        check_slots(collector, c)
    for name, track in collector._tracks.items():
        used = frames_of(closed, name, reused=False)
        assert len(used) == len(set(used)), "no frame serves two bundles unless flagged"
        assert set(frames_of(closed, name, reused=True)) <= set(used)
        lost = sum(n for (sensor, _), n in collector.drops.items() if sensor == name)
        assert pushed[name] == len(used) + lost + len(track.frames), "every frame is accounted for"


def check_slots(collector: Collector, c: Closed) -> None:
    assert list(c.bundle.slots) == list(collector._tracks)
    for name, slot in c.bundle.slots.items():
        track = collector._tracks[name]
        stamps = [f.stamp_ns for f in slot.frames]
        assert stamps == sorted(set(stamps))
        assert all(-track.lead_ns <= c.bundle.t_ref_ns - s <= track.age_limit_ns for s in stamps)
        assert slot.present == (slot.reason in ("ok", "reused")) == (slot.age_ns is not None)
        assert not slot.present or slot.age_ns == c.bundle.t_ref_ns - stamps[-1]


@REPEATABLE
@given(streams(), st.sampled_from([0.0, 25.0, 60.0]), st.integers(0, 9))
def test_laws_of_streams(made, wait_ms, seed):
    collector = Collector(rig_of(made, "ref", wait_ms=wait_ms))
    events = arrivals(made, SECONDS, seed)
    closed = list(drive(collector, events, START_NS + round(SECONDS * SECOND)))
    check_laws(collector, closed, Counter(e.name for e in events))
    sweeps = [e.stamp_ns for e in events if e.name == "ref"]
    gaps = sum(b - a > 340 * MS for a, b in pairwise(sweeps))
    check_punctual(closed, wait_ms, phases=1 + gaps)
    assert collector.waiting <= sum(t.capacity for t in collector._tracks.values())


def check_punctual(closed: list[Closed], wait_ms: float, phases: int) -> None:
    """After the first of an epoch: a bundle every cycle, closed by t_ref + wait.

    Where the reference comes (back) with a new phase, one bundle may be half a period late.
    """
    late = 0
    for a, b in pairwise(closed):
        if b.bundle.epoch == a.bundle.epoch:
            assert b.bundle.t_ref_ns - a.bundle.t_ref_ns <= 151 * MS
            assert b.latency_ns <= (wait_ms + 51) * MS
            late += b.latency_ns > (wait_ms + 1) * MS
    assert late <= phases


@settings(REPEATABLE, max_examples=80)
@given(st.lists(st.tuples(
    st.integers(0, 60),  # ms until the next event
    st.sampled_from(["ref", "cam", "radar", "poll", "bad", "jump"]),
    st.sampled_from([0, 0, 0, 5, 40, 110, 160, 400, -30, -200, 5_000, -37_000, 1e9]),  # lag [ms]
    st.sampled_from([1.0, 1.0, 1.0, 0.0, 0.5])), max_size=120))
def test_laws_of_chaos(steps):
    """Any stamps, jumps of ROS time, pauses, refusals: the state stays whole."""
    rig = rig_of([Stream("ref", "lidar"), Stream("cam"), Stream("radar", "radar", period_ms=50)],
                 "ref")
    collector, closed, pushed = Collector(rig), [], Counter()
    mono, ros = MONO_NS, START_NS
    for step_ms, what, lag_ms, rate in steps:
        mono, ros = mono + step_ms * MS, ros + round(step_ms * rate) * MS
        if what == "jump":
            ros = max(ros - round(lag_ms * MS), 0)
        now = Now(mono, ros, rate)
        if what == "bad":
            collector.drop("cam", "truncated", now)
            pushed["cam"] += 1
        elif what in ("ref", "cam", "radar"):
            modality = {"ref": "lidar", "cam": "camera", "radar": "radar"}[what]
            collector.push(what, frame_of(modality, ros - round(lag_ms * MS)), now)
            pushed[what] += 1
        for _ in range(20):
            bundle = collector.poll(now)
            if bundle is None:
                break
            closed.append(Closed(bundle, now))
        else:
            raise AssertionError("poll does not come to an end")
        wake = collector.next_wakeup_ns()
        assert wake is None or wake > mono, "after polling nothing is overdue"
    check_laws(collector, closed, pushed)
