"""When sensors measure: locked to the sweep or free, each measurement with a chance of its own."""

import numpy as np
import pytest
import sim_worlds

from perception_bev.rig import resolve
from perception_bev.sim import timing
from perception_bev.sim.timing import Place, Schedule, beam_share, stamp_ns

SWEEP = 0.1
T_REF = [0.2 + SWEEP * k for k in range(20)]


def moments(period_s: float, phase_s: float = 0.03, place: Place | None = None):
    schedule = Schedule(7, place or timing.radar_place(0), phase_s, period_s, SWEEP)
    return [schedule.of(index, t_ref) for index, t_ref in enumerate(T_REF)]


@pytest.mark.parametrize("period, count", [(0.1, 1), (0.05, 2), (0.025, 4), (0.02, 5)])
def test_periods_that_divide_the_sweep_keep_their_places(period, count):
    for group, t_ref in zip(moments(period), T_REF, strict=True):
        assert len(group) == count and group[-1].time_s == pytest.approx(t_ref - 0.03)
        assert np.allclose(np.diff([m.time_s for m in group]), period)


@pytest.mark.parametrize("period", [0.0833, 0.072, 0.03, 0.2, 0.25, 1.0])
def test_other_periods_run_free(period):
    groups = moments(period)
    assert all(groups), "at least the newest one"
    times = sorted({moment.time_s for group in groups for moment in group})
    assert np.allclose(np.diff(times), period), "none is left out, none is made up"
    for group, t_ref in zip(groups, T_REF, strict=True):
        newest = group[-1].time_s
        assert t_ref - max(period, SWEEP) - 1e-9 <= newest <= t_ref + 1e-9
        assert len(group) == 1 or group[0].time_s > t_ref - SWEEP - 1e-9


@pytest.mark.parametrize("period", [0.1, 0.05, 0.02, 0.0833, 0.25])
def test_one_measurement_has_one_chance(period):
    """The same whenever it is asked for, and no two share one."""
    chances: dict[str, set[float]] = {}
    places = [timing.camera_place(k) for k in (0, 1, 29, 30, 40)] + [
        timing.radar_place(k) for k in (0, 1, 7, 8, 30)] + [timing.LIDAR_PLACE]
    for place in places:
        for group in moments(period, place=place):
            for moment in group:
                key = f"{place.first} {moment.time_s:.6f}"
                chances.setdefault(repr(moment.seed), set()).add(key)
                np.random.default_rng(moment.seed)
    assert all(len(keys) == 1 for keys in chances.values())


def test_cameras_see_what_the_beam_passes():
    """Clockwise from behind: left at a quarter of the sweep, ahead at a half, right at three."""
    places = resolve(sim_worlds.rig()).base_from_sensor
    share = {name: beam_share(places[name]) for name in sim_worlds.rig().cameras}
    assert share["cam_front"] == pytest.approx(0.5) and share["cam_back"] == pytest.approx(0)
    order = ["cam_back", "cam_back_left", "cam_front_left", "cam_front", "cam_front_right",
             "cam_back_right"]
    assert sorted(share, key=share.get) == order
    assert share["cam_back_left"] == pytest.approx((180 - 110) / 360, abs=0.01)


def test_stamps_are_whole_microseconds():
    assert stamp_ns(0.0) == timing.START_NS and stamp_ns(1.2345678) % 1000 == 0
