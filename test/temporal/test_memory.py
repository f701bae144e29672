"""Laws of the memory: what is recalled has the age, the place and the time that it says."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_bev import manifest
from perception_bev.errors import ShapeMismatch
from perception_bev.geometry import SE3
from perception_bev.grid import BevGrid
from perception_bev.temporal.memory import (
    ALONE,
    FAR,
    NEAR,
    BevMemory,
    Moment,
    NoMemory,
)
from perception_bev.temporal.warp import warp_theta

GRID = BevGrid(-8.0, 8.0, -4.0, 12.0, 0.5)
SPEC = manifest.Memory(ages_s=(0.2, 0.5, 1.0), channels=3)
MS, T0 = 1_000_000, 1_700_000_000_000_000_000
SHAPE = (1, 4, 8, 8)


def memory(spec: manifest.Memory = SPEC) -> BevMemory:
    return BevMemory(spec, GRID)


def moment(ms: float, x: float = 0.0, era: tuple[int, ...] = (0,)) -> Moment:
    yaw = 0.01 * x
    return Moment(T0 + round(ms * MS),
                  SE3.from_rpy(np.array([x, 0.1 * x, 0.0]), np.array([0, 0, yaw])), era)


def a_map(value: float) -> dict[str, np.ndarray]:
    return {"remember": np.full(SHAPE, value, np.float32)}


def driven(times_ms, of: BevMemory | None = None) -> BevMemory:
    """Maps at these times; each is filled with its own time [ms], counted from 1."""
    of = of or memory()
    for ms in times_ms:
        of.recall(moment(ms, ms / 100))
        of.store(moment(ms, ms / 100), a_map(ms + 1))
    return of


def recalled(of: BevMemory, now: Moment) -> list[float | None]:
    """The time [ms] of the map in every slot; None: empty. The ages are checked on the way."""
    recall = of.recall(now)
    feeds, found = recall.feeds, []
    for slot in range(feeds["memory"].shape[1]):
        remembered, age = feeds["memory"][0, slot], feeds["memory_age"][0, slot]
        assert np.unique(remembered).size == 1, "one whole map"
        then_ms = float(remembered.flat[0]) - 1
        if then_ms < 0:
            assert age == 0 and not feeds["memory_warp"][0, slot].any(), "empty is all zeros"
            found.append(None)
        else:
            assert age == pytest.approx((now.t_ref_ns - T0) / 1e9 - then_ms / 1e3, abs=1e-5)
            found.append(then_ms)
    assert recall.history_s == (None if not any(f is not None for f in found) else
                                pytest.approx(feeds["memory_age"].max()))
    return found


def test_shapes_are_those_of_the_contract():
    feeds = memory().recall(moment(0)).feeds
    assert {name: (array.shape, array.dtype) for name, array in feeds.items()} == {
        "memory": ((1, 3, 4, 8, 8), np.float32), "memory_warp": ((1, 3, 2, 3), np.float32),
        "memory_age": ((1, 3), np.float32)}


def test_at_10_hz_the_wanted_ages_are_recalled_exactly():
    assert recalled(driven(range(0, 2000, 100)), moment(2000)) == [1800, 1500, 1000]


def test_history_grows_from_nothing():
    of = memory()
    grown = []
    for ms in range(0, 1200, 100):
        grown.append(recalled(of, moment(ms)))
        of.store(moment(ms), a_map(ms + 1))
    assert grown[0] == [None, None, None], "no map is its own past"
    assert grown[1] == [0, None, None]
    assert grown[3] == [100, 0, None]
    assert grown[11] == [900, 600, 100]


@settings(max_examples=60)
@given(steps=st.lists(st.floats(15, 700), min_size=1, max_size=40), ahead=st.floats(15, 700))
def test_whatever_the_rate_each_age_gets_its_nearest_map_once(steps, ahead):
    times = np.round(np.cumsum(steps))
    of, now_ms = driven(times), times[-1] + round(ahead)
    found = recalled(of, moment(now_ms, now_ms / 100))
    used = [then for then in found if then is not None]
    assert len(set(used)) == len(used), "no map twice"
    free = {round((kept.t_ref_ns - T0) / MS) for kept, _ in of._kept}
    for wanted, then in zip((200, 500, 1000), found, strict=True):
        ages = [now_ms - t for t in free if NEAR * wanted <= now_ms - t <= FAR * wanted]
        assert (then is None) == (not ages)
        if ages:
            assert abs(now_ms - then - wanted) == min(abs(age - wanted) for age in ages)
            free.discard(then)


@pytest.mark.parametrize("hz", [5, 10, 12.5, 20, 30, 50])
def test_at_every_output_rate_there_is_a_whole_history(hz):
    """The memory is bounded, and reaches back its longest age nevertheless."""
    period = 1000 / hz
    of = driven(np.arange(0, 5000, period))
    found = recalled(of, moment(5000))
    assert all(then is not None for then in found)
    for wanted, then in zip((200, 500, 1000), found, strict=True):
        assert abs(5000 - then - wanted) <= max(period, 200 / 3 + period) / 2 + 1
    assert len(of) <= len(of._maps) < 30


def test_the_motion_is_from_the_pose_then_to_the_pose_now():
    of = driven([0, 300, 600])
    now = moment(800, 9.0)
    warps = of.recall(now).feeds["memory_warp"][0]
    for warp, then in zip(warps, (moment(600, 6), moment(300, 3)), strict=False):
        expected = warp_theta(GRID, then.odom_from_base.inverse() @ now.odom_from_base)
        assert np.array_equal(warp, expected)


def test_a_frame_without_a_pose_recalls_and_stores_nothing_and_forgets_nothing():
    of = driven(range(0, 1000, 100))
    for lost in (dataclasses.replace(moment(1000), odom_from_base=None), ALONE):
        recall = of.recall(lost)
        assert recall.history_s is None
        assert not any(array.any() for array in recall.feeds.values())
        of.store(lost, a_map(-5))
    assert recalled(of, moment(1100)) == [900, 600, 100]


@pytest.mark.parametrize("now", [moment(1000, era=(1,)), moment(1000, era=(0, 1)), moment(899)])
def test_nothing_is_remembered_across_eras_and_when_time_goes_back(now):
    of = driven(range(0, 1000, 100))
    assert recalled(of, now) == [None] * 3
    assert len(of) == 0
    of.store(now, a_map(now.t_ref_ns / MS - T0 / MS + 1))
    later = dataclasses.replace(now, t_ref_ns=now.t_ref_ns + 200 * MS)
    assert sum(then is not None for then in recalled(of, later)) == 1, "it begins anew"


def test_a_store_alone_sees_the_new_era_too():
    of = driven(range(0, 1000, 100))
    of.store(moment(1000, era=(1,)), a_map(1001))
    assert recalled(of, moment(1200, era=(1,))) == [1000, None, None]


def test_the_same_frame_twice_is_one_map():
    of = driven([0, 100, 100, 100])
    assert recalled(of, moment(300)) == [100, 0, None]


def test_a_gap_forgets_by_itself():
    of = driven(range(0, 1000, 100))
    assert recalled(of, moment(900 + 1600)) == [None, None, 900]
    assert recalled(of, moment(900 + 1601)) == [None] * 3
    assert len(of) == 0


def test_what_was_in_a_slot_before_is_gone():
    of = driven(range(0, 1000, 100))
    assert None not in recalled(of, moment(1000))
    assert recalled(of, moment(1700)) == [None, 900, 700]
    of.reset()
    assert recalled(of, moment(1800)) == [None] * 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_is_counted_and_not_kept(bad):
    of = driven([0])
    spoilt = a_map(101)
    spoilt["remember"][0, 1, 2, 3] = bad
    of.store(moment(100), spoilt)
    assert of.drops == {"not_finite": 1}
    assert recalled(of, moment(200)) == [0, None, None]


def test_a_map_of_another_shape_is_refused():
    with pytest.raises(ShapeMismatch, match="remember"):
        memory().store(moment(0), {"remember": np.zeros((1, 4, 8, 9), np.float32)})


def test_the_caller_s_array_is_copied():
    of, made = memory(), a_map(1)
    of.store(moment(0), made)
    made["remember"][:] = 77
    assert recalled(of, moment(200)) == [0, None, None]


def test_no_memory_asks_for_nothing_and_keeps_nothing():
    none = NoMemory()
    none.store(moment(0), {})
    none.reset()
    recall = none.recall(moment(100))
    assert recall.feeds == {} and recall.history_s is None


def test_two_slots_near_each_other_share_no_map():
    of = memory(manifest.Memory(ages_s=(0.2, 0.25), channels=3))
    of.store(moment(0), a_map(1))
    assert recalled(of, moment(220)) == [0, None]
