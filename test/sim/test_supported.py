"""Which rigs can be simulated; all that cannot be is said at once."""

from dataclasses import replace

import pytest
import sim_worlds

from perception_bev.errors import CalibrationError, ConfigError
from perception_bev.rig import FROM_TF, Doppler, Reference
from perception_bev.sim import supported
from perception_bev.sim.drive import SimRecording

RIG = sim_worlds.rig()
LIDAR = RIG.lidars["lidar_top"]


def with_lidar(**changes):
    return replace(RIG, lidars={"lidar_top": replace(LIDAR, **changes)})


def with_radar(**changes):
    radar = replace(RIG.radars["radar_front"], **changes)
    return replace(RIG, radars={**RIG.radars, "radar_front": radar})


@pytest.mark.parametrize("rig, words", [
    (replace(RIG, lidars={**RIG.lidars, "second": LIDAR}), "one lidar.*there are 2"),
    (replace(RIG, lidars={}, reference=Reference("cam_front")), "one lidar.*there are 0"),
    (replace(RIG, reference=Reference("cam_front")), "as the reference.*camera 'cam_front'"),
    (replace(RIG, traffic="left"), "drives on the right"),
    (with_lidar(period_ms=70.0), "not a multiple of the lidar's 70"),
    (with_lidar(period_ms=200.0), "not a multiple"),
    (with_lidar(clock_offset_ms=5.0), "lidar_top: clock_offset_ms"),
    (with_radar(message="radar_scan"), "radar_front: message: radar_scan"),
    (with_radar(doppler=Doppler("rcs")), "radar_front: .*rcs")])
def test_what_cannot_be_simulated_is_named(rig, words):
    with pytest.raises(ConfigError, match=words):
        supported.check(rig)


def test_all_of_it_is_named_at_once():
    rig = replace(with_radar(message="radar_scan"), traffic="left")
    with pytest.raises(ConfigError, match=r"sim6.*drives on the right.*radar_scan"):
        SimRecording(rig, 1)


@pytest.mark.parametrize("rig", [
    RIG, with_lidar(period_ms=50.0), with_radar(doppler=None), with_radar(message="cloud_vxvy"),
    replace(RIG, cameras={}), replace(RIG, radars={}), sim_worlds.small_rig()])
def test_what_can_be_simulated_is_let_through(rig):
    supported.check(rig)


def test_a_rig_with_holes_is_an_error():
    with pytest.raises(CalibrationError, match="lidar_top"):
        SimRecording(with_lidar(extrinsics=FROM_TF), 1)


def test_a_drive_of_one_sweep_is_too_short():
    with pytest.raises(ConfigError, match="shorter than two sweeps"):
        SimRecording(RIG, 1, seconds=0.1)
